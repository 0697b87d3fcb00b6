//! The texts of messages. A mail has a subject, a plain body and one in HTML, a text
//! message has one body; the included ones come in every [`Language`], and an
//! operator's replace them, in all languages or in one. A template names what it is
//! filled with as Kratos's do: `{{ .RecoveryCode }}`, and by its path what whoever asked
//! for the message sent along: `{{ .TransientPayload.campaign }}`, which is empty if it
//! sent no such thing. Nothing else of that language is understood, and a template that
//! uses more, or names what it is not given, is refused when it is read.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::words::included;
use crate::language::Language;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Template {
    /// The code that recovers an account.
    RecoveryCode,
    /// The code that verifies an address.
    VerificationCode,
    /// The code that logs somebody in.
    LoginCode,
    /// The code that signs somebody up.
    RegistrationCode,
    /// The link that recovers an account.
    RecoveryLink,
    /// The link that verifies an address.
    VerificationLink,
    /// That how one logs in has changed.
    CredentialChanged,
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RecoveryCode,
        Self::VerificationCode,
        Self::LoginCode,
        Self::RegistrationCode,
        Self::RecoveryLink,
        Self::VerificationLink,
        Self::CredentialChanged,
    ];

    /// The name on the wire and on disk (`template_type`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecoveryCode => "recovery_code_valid",
            Self::VerificationCode => "verification_code_valid",
            Self::LoginCode => "login_code_valid",
            Self::RegistrationCode => "registration_code_valid",
            Self::RecoveryLink => "recovery_valid",
            Self::VerificationLink => "verification_valid",
            Self::CredentialChanged => "credential_changed",
        }
    }

    /// The name that clients of Ory's read, which refuse those that they do not know.
    pub const fn ory_name(self) -> &'static str {
        match self {
            Self::CredentialChanged => "stub",
            known => known.name(),
        }
    }

    /// Reads the name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.name() == name)
    }

    /// The folder of an operator's own texts, as Kratos has it.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::RecoveryCode => "recovery_code/valid",
            Self::VerificationCode => "verification_code/valid",
            Self::LoginCode => "login_code/valid",
            Self::RegistrationCode => "registration_code/valid",
            Self::RecoveryLink => "recovery/valid",
            Self::VerificationLink => "verification/valid",
            Self::CredentialChanged => "credential_changed",
        }
    }

    /// Whether it brings a link, which is followed, and not typed.
    pub(crate) const fn is_link(self) -> bool {
        matches!(self, Self::RecoveryLink | Self::VerificationLink)
    }

    /// What the code or the link is called that it brings; `""` if it brings none.
    pub(crate) const fn proof_field(self) -> &'static str {
        match self {
            Self::RecoveryCode => "RecoveryCode",
            Self::VerificationCode => "VerificationCode",
            Self::LoginCode => "LoginCode",
            Self::RegistrationCode => "RegistrationCode",
            Self::RecoveryLink => "RecoveryURL",
            Self::VerificationLink => "VerificationURL",
            Self::CredentialChanged => "",
        }
    }

    /// What it may name.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::RecoveryCode => &["To", "RecoveryCode", MINUTES, LASTING, DOMAIN],
            Self::VerificationCode => &["To", "VerificationCode", MINUTES, LASTING, DOMAIN],
            Self::LoginCode => &["To", "LoginCode", MINUTES, LASTING, DOMAIN],
            Self::RegistrationCode => &["To", "RegistrationCode", MINUTES, LASTING, DOMAIN],
            Self::RecoveryLink => &["To", "RecoveryURL", MINUTES, LASTING, DOMAIN],
            Self::VerificationLink => &["To", "VerificationURL", MINUTES, LASTING, DOMAIN],
            Self::CredentialChanged => &["To", "Change", "At"],
        }
    }
}

/// What whoever asks for a message sends along: an object, of which paths name parts.
const TRANSIENT: &str = "TransientPayload";
/// How long the code or the link is good: a number, as Kratos gives it.
const MINUTES: &str = "ExpiresInMinutes";
/// The same in words of the message's language: `1 hour`. No model has it.
const LASTING: &str = "ExpiresIn";
/// The host of the public API.
const DOMAIN: &str = "RequestURLDomain";

/// The parts of a message, and the files of an operator's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// One line.
    Subject,
    /// The body as plain text.
    Text,
    /// The body in HTML.
    Html,
    /// A text message.
    Sms,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Subject, Self::Text, Self::Html, Self::Sms];

    /// The name of an operator's own file: for one language `email.subject.de.gotmpl`,
    /// for all others `email.subject.gotmpl`.
    pub fn file(self, language: Option<Language>) -> String {
        let name = match self {
            Self::Subject => "email.subject",
            Self::Text => "email.body.plaintext",
            Self::Html => "email.body",
            Self::Sms => "sms.body",
        };
        match language {
            Some(language) => format!("{name}.{}.gotmpl", language.tag()),
            None => format!("{name}.gotmpl"),
        }
    }
}

/// A text that is no template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateRefused {
    /// `{{` without `}}`.
    #[error("\"{{{{\" is not closed")]
    Unclosed,
    /// More than the name of a field.
    #[error("\"{{{{{0}}}}}\" is not understood; only fields are, such as {{{{ .To }}}}")]
    NotUnderstood(String),
    /// A field that the message is not given.
    #[error("there is no field .{0} here; there are {1}")]
    UnknownField(String, String),
}

/// A message, filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// One line.
    pub subject: String,
    /// The body as plain text.
    pub text: String,
    /// The body in HTML.
    pub html: String,
    /// The same as a text message.
    pub sms: String,
}

/// The texts in use.
#[derive(Debug, Clone, Default)]
pub struct Templates(BTreeMap<(Template, Part, Option<Language>), String>);

impl Templates {
    /// Replaces a text, in one language or in all that have none of their own.
    ///
    /// # Errors
    /// If it is no template.
    pub fn replace(
        &mut self,
        template: Template,
        (part, language): (Part, Option<Language>),
        text: String,
    ) -> Result<(), TemplateRefused> {
        let fields = template.fields();
        pieces(&text, |field| {
            let along = field.strip_prefix(TRANSIENT).and_then(|rest| rest.strip_prefix('.'));
            if fields.contains(&field) || (along.is_some() && !template.proof_field().is_empty()) {
                return Ok(String::new());
            }
            Err(TemplateRefused::UnknownField(field.to_owned(), fields.join(", ")))
        })?;
        self.0.insert((template, part, language), text);
        Ok(())
    }

    /// A message filled with what its template names.
    pub fn fill(
        &self,
        template: Template,
        language: Language,
        model: &Map<String, Value>,
    ) -> Filled {
        let own = |part, language| self.0.get(&(template, part, language)).cloned();
        let part = |part: Part| {
            let own = own(part, Some(language)).or_else(|| own(part, None));
            let text = own.unwrap_or_else(|| included(template, part, language));
            // Checked when it was read.
            pieces(&text, |field| {
                let value = match field {
                    LASTING => found(model, MINUTES)
                        .and_then(Value::as_u64)
                        .map(|minutes| language.lasting(minutes)),
                    _ => found(model, field).map(shown),
                };
                let value = value.unwrap_or_default();
                Ok(if part == Part::Html { escaped(&value) } else { value })
            })
            .unwrap_or_default()
        };
        // A subject is one line: no value may begin another header.
        let subject = part(Part::Subject).split_whitespace().collect::<Vec<_>>().join(" ");
        Filled { subject, text: part(Part::Text), html: part(Part::Html), sms: part(Part::Sms) }
    }
}

/// What a path leads to.
fn found<'a>(model: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let first = model.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn pieces(
    text: &str,
    mut value: impl FnMut(&str) -> Result<String, TemplateRefused>,
) -> Result<String, TemplateRefused> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once("{{") {
        out.push_str(before);
        let (inner, tail) = tail.split_once("}}").ok_or(TemplateRefused::Unclosed)?;
        let field = inner
            .trim()
            .strip_prefix('.')
            .filter(|path| path.split('.').all(is_name))
            .ok_or_else(|| TemplateRefused::NotUnderstood(inner.to_owned()))?;
        out.push_str(&value(field)?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn included_texts_are_templates_and_tell_the_code_in_every_language() {
        let model = model(json!({"To": "a@b.c", "RecoveryCode": "123456",
            "VerificationCode": "123456", "LoginCode": "123456", "RegistrationCode": "123456",
            "RecoveryURL": "https://id.example/?123456", "VerificationURL": "https://id.example/?123456",
            "ExpiresInMinutes": 60, "RequestURLDomain": "id.example",
            "Change": "Changed 123456.", "At": "60"}));
        let mut subjects = std::collections::BTreeSet::new();
        for template in Template::ALL {
            for language in Language::ALL {
                let mut templates = Templates::default();
                for part in Part::ALL {
                    let text = included(template, part, language);
                    templates.replace(template, (part, None), text).unwrap();
                }
                let filled = Templates::default().fill(template, language, &model);
                assert_eq!(filled, templates.fill(template, language, &model));
                let is_code = !template.is_link() && !template.proof_field().is_empty();
                for text in [&filled.subject, &filled.text, &filled.html, &filled.sms] {
                    let is_subject = text == &filled.subject;
                    assert!(text.contains("123456") || (is_subject && !is_code), "{text}");
                    assert!(!text.contains("{{") && !text.contains("[l"), "{text}");
                    assert!(!text.contains("[shown]") && !text.contains("[link]"), "{text}");
                }
                let lasts = if template == Template::CredentialChanged {
                    "60".to_owned()
                } else {
                    language.lasting(60)
                };
                assert!(filled.text.contains(&lasts) && filled.html.contains(&lasts), "{lasts}");
                assert!(is_code || !filled.sms.contains("60"), "{}", filled.sms);
                if is_code {
                    assert!(filled.sms.contains(&lasts), "{}", filled.sms);
                }
                assert!(filled.html.contains(&format!("lang=\"{}\"", language.tag())));
                let linked = filled.html.contains("href=\"https://id.example/?123456\"");
                assert_eq!(linked, template.is_link(), "{}", filled.html);
                let bound = filled.sms.ends_with("@id.example #123456");
                assert_eq!(bound, is_code, "{}", filled.sms);
                assert!(subjects.insert(filled.subject), "{template:?} {language:?}");
            }
        }
    }

    /// Kratos gives minutes; what the included texts say is for people.
    #[test]
    fn how_long_it_is_good_is_a_number_or_words_as_a_template_wants() {
        let mut templates = Templates::default();
        let text = "{{ .ExpiresInMinutes }} / {{ .ExpiresIn }}".to_owned();
        templates.replace(Template::RecoveryLink, (Part::Sms, None), text).unwrap();
        let told = |language, minutes: u64| {
            let model = model(json!({"ExpiresInMinutes": minutes}));
            templates.fill(Template::RecoveryLink, language, &model).sms
        };
        assert_eq!(told(Language::English, 60), "60 / 1 hour");
        assert_eq!(told(Language::German, 15), "15 / 15 Minuten");
        let nothing = templates.fill(Template::RecoveryLink, Language::English, &model(json!({})));
        assert_eq!(nothing.sms, " / ");
    }

    #[test]
    fn own_text_of_a_language_stands_before_the_own_text_of_all() {
        let mut templates = Templates::default();
        let german = Some(Language::German);
        let replace = |t: &mut Templates, language, text: &str| {
            t.replace(Template::LoginCode, (Part::Subject, language), text.to_owned()).unwrap();
        };
        replace(&mut templates, None, "all");
        replace(&mut templates, german, "deutsch");
        let subject =
            |language| templates.fill(Template::LoginCode, language, &model(json!({}))).subject;
        assert_eq!(subject(Language::German), "deutsch");
        assert_eq!(subject(Language::French), "all");
        assert_eq!(Part::Subject.file(german), "email.subject.de.gotmpl");
        assert_eq!(Part::Sms.file(None), "sms.body.gotmpl");
    }

    #[test]
    fn what_a_template_cannot_name_is_refused_when_it_is_read() {
        let mut templates = Templates::default();
        let mut read = |text: &str| {
            templates.replace(Template::RecoveryCode, (Part::Text, None), text.to_owned()).is_ok()
        };
        assert!(read("{{ .RecoveryCode }} {{.To}}"));
        for text in ["{{ .Code }}", "{{ .To", "{{ range .To }}", "{{ . }}", "{{}}"] {
            assert!(!read(text), "{text}");
        }
    }

    #[test]
    fn what_was_sent_along_is_named_by_its_path_and_is_text_in_html() {
        let mut templates = Templates::default();
        let mut replace = |template, part, text: &str| {
            templates.replace(template, (part, None), text.to_owned()).is_ok()
        };
        let text = "{{ .TransientPayload.shop.name }}|{{ .TransientPayload.n }}|{{ .TransientPayload.x.y }}";
        assert!(replace(Template::LoginCode, Part::Sms, text));
        assert!(replace(Template::LoginCode, Part::Html, "{{ .TransientPayload.shop.name }}"));
        // Nobody asked for a notification, and the whole of it is no text.
        assert!(!replace(Template::CredentialChanged, Part::Sms, text));
        for text in ["{{ .TransientPayload }}", "{{ .TransientPayload. }}", "{{ .To.x }}"] {
            assert!(!replace(Template::LoginCode, Part::Sms, text), "{text}");
        }
        let model = model(json!({"TransientPayload": {"shop": {"name": "<b>A&B</b>"}, "n": 7}}));
        let filled = templates.fill(Template::LoginCode, Language::English, &model);
        assert_eq!(filled.sms, "<b>A&B</b>|7|");
        assert_eq!(filled.html, "&lt;b&gt;A&amp;B&lt;/b&gt;");
        let nothing = json!({"TransientPayload": null}).as_object().cloned().unwrap();
        assert_eq!(templates.fill(Template::LoginCode, Language::English, &nothing).sms, "||");
    }

    /// The class of advisories on HTML in mails (Zitadel CVE-2024-28855 and others).
    #[test]
    fn values_are_text_in_html_and_one_line_in_subjects() {
        let mut templates = Templates::default();
        let replace = |t: &mut Templates, part| {
            t.replace(Template::RecoveryCode, (part, None), "{{ .To }}".to_owned()).unwrap();
        };
        replace(&mut templates, Part::Html);
        replace(&mut templates, Part::Subject);
        let filled = templates.fill(
            Template::RecoveryCode,
            Language::English,
            &model(json!({"To": "<img src=x onerror='alert(1)'>\r\nBcc: eve@example.org"})),
        );
        assert!(!filled.html.contains('<') && !filled.html.contains('\''), "{}", filled.html);
        assert!(!filled.subject.contains(['\r', '\n']), "{}", filled.subject);
    }
}
