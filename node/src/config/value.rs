//! What a setting may hold: strict forms of durations, sizes, addresses,
//! lists and choices, each with an error that says what was expected.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use cardea_api::kratos::pages::theme::Colour;
use cardea_identity::language::Language;

use super::{cidr::Cidr, web_origin::WebOrigin};

/// A value before its setting gave it a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Bool(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// Text of an environment variable, a flag or a default, which has no type
    /// of its own; a list is separated by commas.
    Loose(String),
}

impl Raw {
    fn kind(&self) -> &'static str {
        match self {
            Raw::Text(_) | Raw::Loose(_) => "a string",
            Raw::Integer(_) => "an integer",
            Raw::Bool(_) => "a boolean",
            Raw::List(_) => "a list",
        }
    }

    fn text(&self, form: &str) -> Result<&str, String> {
        match self {
            Raw::Text(text) | Raw::Loose(text) => Ok(text),
            other => Err(format!("expected {form}, found {}", other.kind())),
        }
    }
}

/// What a setting's type must offer.
pub trait FromRaw: Sized {
    /// What is expected, for errors and `config check`.
    const FORM: &'static str;

    /// Reads the value; the error completes "expected …".
    fn from_raw(raw: &Raw) -> Result<Self, String>;

    /// The effective value as a person would write it.
    fn show(&self) -> String;
}

impl FromRaw for String {
    const FORM: &'static str = "a string";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        raw.text(Self::FORM).map(str::to_owned)
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl FromRaw for bool {
    const FORM: &'static str = "true or false";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Bool(value) => Ok(*value),
            Raw::Loose(text) if text == "true" => Ok(true),
            Raw::Loose(text) if text == "false" => Ok(false),
            Raw::Loose(text) => Err(format!("expected true or false, found \"{text}\"")),
            other => Err(format!("expected true or false, found {}", other.kind())),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromRaw for u32 {
    const FORM: &'static str = "a whole number";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let refuse = |found: String| {
            format!("expected a whole number from 0 to {}, found {found}", u32::MAX)
        };
        match raw {
            Raw::Integer(value) => u32::try_from(*value).map_err(|_| refuse(value.to_string())),
            Raw::Loose(text) => text.parse().map_err(|_| refuse(format!("\"{text}\""))),
            other => Err(refuse(other.kind().to_owned())),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromRaw for SocketAddr {
    const FORM: &'static str = "an address with a port, such as 127.0.0.1:4433 or [::1]:4433";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text(Self::FORM)?;
        // ":7433" is what people write for every interface.
        let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
        full.parse().map_err(|_| format!("expected {}, found \"{text}\"", Self::FORM))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromRaw for Language {
    const FORM: &'static str = "one of en, de, fr, es, ja, zh";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text(Self::FORM)?;
        let known = Language::ALL.into_iter().find(|language| language.tag() == text);
        known.ok_or_else(|| format!("expected {}, found \"{text}\"", Self::FORM))
    }

    fn show(&self) -> String {
        self.tag().to_owned()
    }
}

impl FromRaw for PathBuf {
    const FORM: &'static str = "a path";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw.text(Self::FORM)? {
            "" => Err("expected a path, found an empty string".to_owned()),
            text => Ok(PathBuf::from(text)),
        }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl<T: FromRaw> FromRaw for Option<T> {
    const FORM: &'static str = T::FORM;

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) | Raw::Loose(text) if text.is_empty() => Ok(None),
            raw => T::from_raw(raw).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, T::show)
    }
}

impl<T: FromRaw> FromRaw for Vec<T> {
    const FORM: &'static str = "a list of strings";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let items: Vec<String> = match raw {
            Raw::List(items) => items.clone(),
            Raw::Loose(text) => text
                .split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
            other => return Err(format!("expected a list of strings, found {}", other.kind())),
        };
        items.into_iter().map(|item| T::from_raw(&Raw::Text(item))).collect()
    }

    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(", ")
    }
}

impl FromRaw for Colour {
    const FORM: &'static str = "a colour such as #3b4fd8";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        raw.text(Self::FORM)?.parse()
    }

    fn show(&self) -> String {
        let [red, green, blue] = self.0;
        format!("#{red:02x}{green:02x}{blue:02x}")
    }
}

impl FromRaw for WebOrigin {
    const FORM: &'static str = "an origin such as https://app.example.com";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        raw.text(Self::FORM)?.parse()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromRaw for Cidr {
    const FORM: &'static str = "an address range such as 10.0.0.0/8";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        raw.text(Self::FORM)?.parse()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromRaw for Duration {
    const FORM: &'static str = "a duration such as 250ms, 30s, 5m, 24h or 7d";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        parse_duration(raw.text(Self::FORM)?)
    }

    fn show(&self) -> String {
        show_duration(*self)
    }
}

/// Reads `250ms`, `30s`, `5m`, `24h`, `7d`, or several of them from large to
/// small (`1h30m`). A bare number is refused: it does not say its unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse =
        |why: &str| format!("expected {}, found \"{text}\"{why}", <Duration as FromRaw>::FORM);
    if text.is_empty() {
        return Err(refuse(""));
    }
    let mut rest = text;
    let mut total_ms = 0_u64;
    let mut unit_before = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if digits > 0 => return Err(refuse(" (which unit?)")),
            _ => return Err(refuse("")),
        };
        let number: u64 = number.parse().map_err(|_| refuse(""))?;
        if unit_ms >= unit_before {
            return Err(refuse(" (units go from large to small)"));
        }
        unit_before = unit_ms;
        total_ms = number
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(|| refuse(" (too long)"))?;
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads how long something is to last that is made: for no time nothing is.
pub fn parse_lifespan(text: &str) -> Result<Duration, String> {
    let lifespan = parse_duration(text)?;
    if lifespan.is_zero() { Err("it would be over at once".to_owned()) } else { Ok(lifespan) }
}

/// The shortest form that [`parse_duration`] reads back as the same duration.
pub fn show_duration(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0ms".to_owned();
    }
    let mut shown = String::new();
    for (unit, unit_ms) in
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
    {
        // "24h" and "48h" read better than "1d" and "2d".
        if unit == "d" && ms < 3 * unit_ms {
            continue;
        }
        if ms >= unit_ms {
            shown.push_str(&format!("{}{unit}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    shown
}

/// A number of bytes, written `32MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 7] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

impl Size {
    /// The bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The bytes as a length in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZE_UNITS
            .iter()
            .take(4)
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes))
        {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromRaw for Size {
    const FORM: &'static str = "a size such as 512KiB, 32MiB or 1GiB";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text(Self::FORM)?;
        let refuse = |why: &str| format!("expected {}, found \"{text}\"{why}", Self::FORM);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let bytes = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, bytes)) => *bytes,
            None if unit == "B" => 1,
            None if unit.is_empty() && digits > 0 => return Err(refuse(" (which unit?)")),
            None => return Err(refuse("")),
        };
        let number: u64 = number.parse().map_err(|_| refuse(""))?;
        number.checked_mul(bytes).map(Size).ok_or_else(|| refuse(" (too large)"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Declares an enum that is written as one of a few words.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $doc])+ $variant ),+ }

        impl $crate::config::value::FromRaw for $name {
            const FORM: &'static str = concat!("one of" $(, " \"", $word, "\"")+);

            fn from_raw(raw: &$crate::config::value::Raw) -> Result<Self, String> {
                use $crate::config::value::Raw;
                match raw {
                    Raw::Text(text) | Raw::Loose(text) => match text.as_str() {
                        $( $word => Ok(Self::$variant), )+
                        other => Err(format!("expected {}, found \"{other}\"", Self::FORM)),
                    },
                    _ => Err(format!("expected {}", Self::FORM)),
                }
            }

            fn show(&self) -> String {
                match self { $( Self::$variant => $word.to_owned() ),+ }
            }
        }
    };
}
pub(crate) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_strictly() {
        let cases = [
            ("250ms", Ok(250)),
            ("30s", Ok(30_000)),
            ("1h30m", Ok(5_400_000)),
            ("24h", Ok(86_400_000)),
            ("7d", Ok(604_800_000)),
            ("30", Err("which unit?")),
            ("", Err("expected")),
            ("s", Err("expected")),
            ("-1s", Err("expected")),
            ("1.5h", Err("expected")),
            ("30m1h", Err("large to small")),
            ("5 m", Err("which unit?")),
            ("99999999999999999999d", Err("expected")),
            ("999999999999d", Err("too long")),
        ];
        for (text, wanted) in cases {
            match (parse_duration(text), wanted) {
                (Ok(read), Ok(ms)) => assert_eq!(read, Duration::from_millis(ms), "{text}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (read, wanted) => panic!("{text}: {read:?}, wanted {wanted:?}"),
            }
        }
    }

    #[test]
    fn nothing_is_made_that_is_over_at_once() {
        assert_eq!(parse_lifespan("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert!(parse_lifespan("0s").is_err() && parse_lifespan("soon").is_err());
    }

    #[test]
    fn shown_durations_read_back() {
        for ms in [0, 1, 999, 1_000, 61_000, 86_400_000, 604_800_000, 90_061_001] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
        assert_eq!(show_duration(Duration::from_secs(86_400)), "24h");
    }

    #[test]
    fn sizes_are_read_strictly() {
        let cases = [
            ("32MiB", Ok(32 << 20)),
            ("512KiB", Ok(512 << 10)),
            ("1GB", Ok(1_000_000_000)),
            ("7B", Ok(7)),
            ("32", Err("which unit?")),
            ("32mib", Err("expected")),
            ("MiB", Err("expected")),
            ("99999999TiB", Err("too large")),
        ];
        for (text, wanted) in cases {
            match (Size::from_raw(&Raw::Text(text.to_owned())), wanted) {
                (Ok(read), Ok(bytes)) => assert_eq!(read, Size(bytes), "{text}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (read, wanted) => panic!("{text}: {read:?}, wanted {wanted:?}"),
            }
        }
        assert_eq!(Size(32 << 20).to_string(), "32MiB");
    }

    #[test]
    fn types_in_the_file_are_not_guessed_but_the_environments_text_is_read() {
        assert!(u32::from_raw(&Raw::Text("3".to_owned())).is_err());
        assert_eq!(u32::from_raw(&Raw::Loose("3".to_owned())), Ok(3));
        assert!(bool::from_raw(&Raw::Text("true".to_owned())).is_err());
        assert_eq!(bool::from_raw(&Raw::Loose("true".to_owned())), Ok(true));
        assert!(u32::from_raw(&Raw::Integer(-1)).is_err());
        assert_eq!(
            Vec::<String>::from_raw(&Raw::Loose("a, b".to_owned())),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
    }
}
