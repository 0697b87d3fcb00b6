//! The languages that pages and messages come in, and which of them somebody reads.

/// A language of the included texts. The numbers are kept on disk and never reused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Language {
    /// English.
    #[default]
    English = 1,
    /// German.
    German = 2,
    /// French.
    French = 3,
    /// Spanish.
    Spanish = 4,
    /// Japanese.
    Japanese = 5,
    /// Chinese, in simplified characters.
    Chinese = 6,
}

/// Entries of a header that are looked at; more are ignored.
const RANGES_MAX: usize = 32;

impl Language {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::English, Self::German, Self::French, Self::Spanish, Self::Japanese, Self::Chinese];

    /// Its tag (RFC 5646), as `lang` attributes and configurations have it.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::French => "fr",
            Self::Spanish => "es",
            Self::Japanese => "ja",
            Self::Chinese => "zh",
        }
    }

    /// The number on disk.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Reads the number on disk.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.number() == number)
    }

    /// The language of a tag, whatever region or script follows (`de-CH`).
    pub fn parse(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    /// For how long something is good, in words: whole hours where it is whole hours, else
    /// minutes.
    pub fn lasting(self, minutes: u64) -> String {
        let (number, hours) = match minutes {
            0 => (0, false),
            whole if whole % 60 == 0 => (whole / 60, true),
            _ => (minutes, false),
        };
        let one = number == 1;
        let unit = match (self, hours) {
            (Self::English, false) => [" minutes", " minute"][usize::from(one)],
            (Self::English, true) => [" hours", " hour"][usize::from(one)],
            (Self::German, false) => [" Minuten", " Minute"][usize::from(one)],
            (Self::German, true) => [" Stunden", " Stunde"][usize::from(one)],
            (Self::French, false) => ["\u{a0}minutes", "\u{a0}minute"][usize::from(one)],
            (Self::French, true) => ["\u{a0}heures", "\u{a0}heure"][usize::from(one)],
            (Self::Spanish, false) => [" minutos", " minuto"][usize::from(one)],
            (Self::Spanish, true) => [" horas", " hora"][usize::from(one)],
            (Self::Japanese, false) => " 分",
            (Self::Japanese, true) => " 時間",
            (Self::Chinese, false) => " 分钟",
            (Self::Chinese, true) => " 小时",
        };
        format!("{number}{unit}")
    }

    /// The one that an `Accept-Language` header likes best (RFC 9110 section 12.5.4);
    /// `None` if it names none of these. What is malformed is passed over.
    pub fn accepted(header: &str) -> Option<Self> {
        let mut best = None;
        for range in header.split(',').take(RANGES_MAX) {
            let mut parts = range.split(';');
            let Some(language) = parts.next().and_then(Self::parse) else { continue };
            let weight = parts.find_map(|part| part.trim().strip_prefix("q="));
            let Some(weight) = weight.map_or(Some(1000), thousandths) else { continue };
            // Of equals the first.
            if weight > best.map_or(0, |(weight, _)| weight) {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }
}

/// A weight (`0.8`), in thousandths.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    if part.len() > 3 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    match (whole, part) {
        ("0", part) => Some(part),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Language::*, *};

    #[test]
    fn whole_hours_are_told_in_hours_and_one_is_one() {
        let told = |language: Language| [0, 1, 15, 60, 90, 1440].map(|m| language.lasting(m));
        let wanted = ["0 minutes", "1 minute", "15 minutes", "1 hour", "90 minutes", "24 hours"];
        assert_eq!(told(English), wanted);
        assert_eq!(told(German)[1..4], ["1 Minute", "15 Minuten", "1 Stunde"]);
        assert_eq!(told(Japanese)[2..4], ["15 分", "1 時間"]);
        for language in Language::ALL {
            let all = std::collections::BTreeSet::from(told(language));
            assert_eq!(all.len(), 6, "{language:?}");
        }
    }

    #[test]
    fn header_is_read_by_its_weights() {
        for (header, wanted) in [
            ("", None),
            ("*", None),
            ("nl", None),
            ("de", Some(German)),
            ("de-CH,de;q=0.9,en;q=0.8", Some(German)),
            ("nl,en;q=0.5,fr;q=0.7", Some(French)),
            ("en;q=0,ja;q=0.001", Some(Japanese)),
            ("en;q=0", None),
            ("ZH-Hans-CN", Some(Chinese)),
            ("es;q=1.000, de", Some(Spanish)),
            ("de;q=2,fr;q=0.1", Some(French)),
            ("de;q=0.12345,fr;q=0.1", Some(French)),
            (";;;,,,q=1,es", Some(Spanish)),
        ] {
            assert_eq!(Language::accepted(header), wanted, "{header:?}");
        }
        let long = "nl,".repeat(100) + "de";
        assert_eq!(Language::accepted(&long), None, "no more than a bounded part is looked at");
    }

    #[test]
    fn numbers_and_tags_are_frozen() {
        let frozen = [(1, "en"), (2, "de"), (3, "fr"), (4, "es"), (5, "ja"), (6, "zh")];
        for (number, tag) in frozen {
            let language = Language::from_number(number).unwrap();
            assert_eq!((language.tag(), Language::parse(tag)), (tag, Some(language)));
        }
        assert_eq!(Language::ALL.len(), frozen.len());
        assert_eq!(Language::from_number(0), None);
    }
}
