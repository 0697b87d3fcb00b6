//! The words of pages. They are written in English where they are used, and looked up
//! by that in the reader's language, one file each; messages of flows are looked up by
//! their ids, and filled with their context. What has no translation stays English, so
//! a page never lacks a word; a test holds that what is written here has one. English has
//! a file as well, for what is better put otherwise than the API does, whose words are Ory's.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use cardea_identity::{language::Language, ui::Text};
use maud::{Markup, html};
use serde::Deserialize;

use crate::{kratos::Kratos, request::Caller};

/// What a file of words holds.
#[derive(Debug, Default, Deserialize)]
struct Dictionary {
    #[serde(default)]
    pages: BTreeMap<String, String>,
    messages: BTreeMap<String, String>,
}

impl Dictionary {
    /// The sentence of a message: one for what its context has besides (`id member`), else
    /// that of its id.
    fn message(&self, text: &Text) -> Option<&str> {
        let told = |value: &serde_json::Value| value.as_str() != Some("");
        let more = text.context.iter().flatten().filter(|(_, value)| told(value));
        let mut more =
            more.filter_map(|(name, _)| self.messages.get(&format!("{} {name}", text.id)));
        more.next().or_else(|| self.messages.get(&text.id.to_string())).map(String::as_str)
    }
}

static ENGLISH: LazyLock<Dictionary> = LazyLock::new(|| read(include_str!("en.toml")));
static GERMAN: LazyLock<Dictionary> = LazyLock::new(|| read(include_str!("de.toml")));
static FRENCH: LazyLock<Dictionary> = LazyLock::new(|| read(include_str!("fr.toml")));
static SPANISH: LazyLock<Dictionary> = LazyLock::new(|| read(include_str!("es.toml")));
static JAPANESE: LazyLock<Dictionary> = LazyLock::new(|| read(include_str!("ja.toml")));
static CHINESE: LazyLock<Dictionary> = LazyLock::new(|| read(include_str!("zh.toml")));

/// The files are part of the program, and a test reads each.
fn read(text: &str) -> Dictionary {
    toml::from_str(text).unwrap_or_default()
}

fn dictionary(language: Language) -> &'static Dictionary {
    match language {
        Language::English => &ENGLISH,
        Language::German => &GERMAN,
        Language::French => &FRENCH,
        Language::Spanish => &SPANISH,
        Language::Japanese => &JAPANESE,
        Language::Chinese => &CHINESE,
    }
}

/// The words of one reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Words {
    language: Language,
}

impl Words {
    /// In the language that somebody's browser asks for, else in that of the house.
    pub(super) fn of(kratos: &Kratos, caller: &Caller) -> Self {
        Self::asked_for(kratos, caller.client.language)
    }

    /// In a language that somebody asked for, else in that of the house.
    pub(super) fn asked_for(kratos: &Kratos, language: Option<Language>) -> Self {
        Self::new(language.unwrap_or(kratos.service().settings().language))
    }

    const fn new(language: Language) -> Self {
        Self { language }
    }

    /// The tag of the language, for `lang` attributes.
    pub(super) const fn tag(self) -> &'static str {
        self.language.tag()
    }

    /// A sentence of the pages, or a title of a schema where the pages know it.
    pub(super) fn say(self, english: &str) -> Cow<'_, str> {
        let found = dictionary(self.language).pages.get(english);
        found.map_or(Cow::Borrowed(english), |text| Cow::Owned(text.clone()))
    }

    /// A sentence in which `{name}` stands for something that is shown.
    pub(super) fn fill(self, english: &str, name: &str, value: &Markup) -> Markup {
        let sentence = self.say(english);
        match sentence.split_once(&format!("{{{name}}}")) {
            Some((before, after)) => html! { (before) (value) (after) },
            None => html! { (sentence) },
        }
    }

    /// A message of a flow.
    pub(super) fn text(self, text: &Text) -> Cow<'_, str> {
        let words = dictionary(self.language);
        let found = words.message(text);
        let filled = found.and_then(|sentence| filled(sentence, text, self.language));
        // What a schema calls a field, and what has no id of its own, is known by its words.
        filled
            .or_else(|| words.pages.get(&text.text).cloned())
            .map_or_else(|| Cow::Owned(text.text.clone()), Cow::Owned)
    }
}

/// A sentence with the context of a message in its places, of which `minutes` are told in
/// words; `None` if it lacks one.
fn filled(sentence: &str, text: &Text, language: Language) -> Option<String> {
    let mut out = String::with_capacity(sentence.len());
    let mut rest = sentence;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, tail) = tail.split_once('}')?;
        out.push_str(before);
        let value = text.context.as_ref()?.get(name)?;
        match (value.as_str(), value.as_u64()) {
            (Some(value), _) => out.push_str(value),
            (None, Some(minutes)) if name == "minutes" => out.push_str(&language.lasting(minutes)),
            (None, _) => out.push_str(&value.to_string()),
        }
        rest = tail;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    const OTHERS: [(Language, &str); 5] = [
        (Language::German, include_str!("de.toml")),
        (Language::French, include_str!("fr.toml")),
        (Language::Spanish, include_str!("es.toml")),
        (Language::Japanese, include_str!("ja.toml")),
        (Language::Chinese, include_str!("zh.toml")),
    ];

    fn places(sentence: &str) -> BTreeSet<&str> {
        sentence.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect()
    }

    /// Sources under a folder of the workspace, up to their tests and without comments.
    fn sources(folder: &str) -> Vec<(String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]").next().unwrap().lines();
            let code: Vec<_> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.push((name, code.join("\n")));
        }
        found
    }

    /// The texts in quotation marks in a source, those over several lines included.
    fn quoted(code: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = code;
        while let Some((_, tail)) = rest.split_once('"') {
            let end = tail.match_indices('"').find(|(at, _)| !tail[..*at].ends_with('\\'));
            let Some((end, _)) = end else { break };
            let parts = tail[..end].split("\\\n");
            found.push(
                parts
                    .enumerate()
                    .map(|(n, part)| if n == 0 { part } else { part.trim_start() })
                    .collect(),
            );
            rest = &tail[end + 1..];
        }
        found
    }

    /// The sentences in the sources of the pages: whatever is quoted, and begins with a
    /// capital letter, or is given to `say` or `fill`.
    fn written() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (file, code) in sources("api/src/kratos/pages") {
            for call in ["words.say(", "words.fill("] {
                for rest in code.split(call).skip(1) {
                    if rest.trim_start().starts_with('"') {
                        found.extend(quoted(rest).into_iter().next());
                    }
                }
            }
            // Names of browsers and systems, and how a theme and a drawing are written.
            if ["device.rs", "theme.rs", "layout.rs"].contains(&file.as_str()) {
                continue;
            }
            let capital = |text: &String| text.starts_with(|c: char| c.is_ascii_uppercase());
            found.extend(quoted(&code).into_iter().filter(capital));
        }
        found
    }

    #[test]
    fn every_message_is_translated() {
        // A secret or a code, which is its own text; a schema's title; and what says more
        // in the context.
        let bare = [1_050_006, 1_050_009, 1_050_015, 1_070_002, 4_000_001];
        let mut ids = BTreeSet::new();
        for (_, code) in sources("identity/src/ui/text") {
            for (at, _) in code.match_indices(['1', '4']) {
                let number: String = code[at..].chars().take(9).collect();
                let parts: Vec<_> = number.split('_').map(str::len).collect();
                if parts == [1, 3, 3] && !code[..at].ends_with(|c: char| c.is_ascii_digit()) {
                    ids.extend(number.replace('_', "").parse::<u32>());
                }
            }
        }
        assert!(ids.len() > 60, "{ids:?}");
        for (language, _) in OTHERS {
            let words = dictionary(language);
            let lacking: Vec<_> = ids
                .iter()
                .filter(|id| !bare.contains(*id) && !words.messages.contains_key(&id.to_string()))
                .collect();
            assert!(lacking.is_empty(), "{language:?} lacks {lacking:?}");
        }
    }

    #[test]
    fn accounts_at_one_provider_are_told_apart_in_every_language() {
        let (one, two) = (Text::label_unlink("Acme", "ann"), Text::label_unlink("Acme", "bob"));
        let nameless = Text::label_unlink("Acme", "");
        let wait = Text::come_back_later(std::time::Duration::from_secs(42));
        for (language, _) in OTHERS {
            let words = Words::new(language);
            assert!(words.text(&one).contains("ann"), "{}", words.text(&one));
            assert_ne!(words.text(&one), words.text(&two));
            assert_ne!(words.text(&nameless), nameless.text);
            assert!(words.text(&wait).contains("42") && words.text(&wait) != wait.text);
            let known = Text::generic("This account is not linked.");
            assert_ne!(words.text(&known), known.text);
        }
    }

    #[test]
    fn files_agree_on_what_they_translate_and_on_its_places() {
        let read: Vec<Dictionary> =
            OTHERS.iter().map(|(_, text)| toml::from_str(text).unwrap()).collect();
        for other in &read {
            assert!(other.pages.keys().eq(read[0].pages.keys()));
            assert!(other.messages.keys().eq(read[0].messages.keys()));
            for (english, text) in &other.pages {
                assert_eq!(places(english), places(text), "{english}");
            }
            for (id, text) in &other.messages {
                assert_eq!(places(&read[0].messages[id]), places(text), "{id}");
            }
        }
    }

    #[test]
    fn every_sentence_of_the_pages_is_translated() {
        let written = written();
        assert!(written.len() > 20, "{written:?}");
        for (language, _) in OTHERS {
            let words = dictionary(language);
            let lacking: Vec<_> =
                written.iter().filter(|text| !words.pages.contains_key(*text)).collect();
            assert!(lacking.is_empty(), "{language:?} lacks {lacking:#?}");
        }
    }

    #[test]
    fn time_is_told_in_whole_units_in_every_language() {
        let told = Text::recovered(60);
        assert!(told.text.ends_with("within the next 60.00 minutes."), "as Kratos says it");
        for language in Language::ALL {
            let text = Words::new(language).text(&told).into_owned();
            assert!(text.contains(&language.lasting(60)) && !text.contains("60"), "{text}");
            let text = Words::new(language).text(&Text::recovered(15)).into_owned();
            assert!(text.contains(&language.lasting(15)), "{text}");
        }
    }

    #[test]
    fn messages_are_filled_and_fall_back_to_english() {
        let german = Words::new(Language::German);
        let short = Text::password_too_short(8, 3);
        let told = german.text(&short);
        assert!(told.contains("mindestens 8 Zeichen") && told.contains('3'), "{told}");
        // A context that the sentence wants, and the message does not bring.
        let bare = Text { context: None, ..short.clone() };
        assert_eq!(german.text(&bare), bare.text);
        let unknown = Text { id: 1, ..short.clone() };
        assert_eq!(german.text(&unknown), unknown.text);
        assert_eq!(Words::new(Language::English).text(&short), short.text);
    }

    #[test]
    fn what_is_shown_in_a_sentence_is_escaped() {
        let value = html! { strong { "<b>" } };
        for (language, _) in OTHERS {
            let told = Words::new(language).fill("Signed in as {who}", "who", &value).into_string();
            assert!(told.contains("<strong>&lt;b&gt;</strong>"), "{told}");
        }
    }
}
