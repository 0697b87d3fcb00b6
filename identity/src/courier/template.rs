//! The texts of messages. Each has a subject, a plain body and one in HTML, in English
//! until an operator's replace them. A template names what it is filled with as
//! Kratos's do: `{{ .RecoveryCode }}`. Nothing else of that language is understood, and
//! a template that uses more, or names what it is not given, is refused when it is
//! read.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Template {
    /// The code that recovers an account.
    RecoveryCode,
    /// The code that verifies an address.
    VerificationCode,
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::RecoveryCode, Self::VerificationCode];

    /// The name on the wire and on disk (`template_type`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecoveryCode => "recovery_code_valid",
            Self::VerificationCode => "verification_code_valid",
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
        }
    }

    /// What it may name.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::RecoveryCode => &["To", "RecoveryCode", "ExpiresInMinutes"],
            Self::VerificationCode => &["To", "VerificationCode", "ExpiresInMinutes"],
        }
    }

    const fn included(self) -> [&'static str; 3] {
        match self {
            Self::RecoveryCode => [
                "{{ .RecoveryCode }} is your recovery code",
                "Hi,\n\nuse this code to get back into your account:\n\n    {{ .RecoveryCode }}\n\n\
                 It is good for {{ .ExpiresInMinutes }} minutes, once. If you did not ask for it, \
                 ignore this message: nothing has changed.\n",
                include_str!("recovery_code.html"),
            ],
            Self::VerificationCode => [
                "{{ .VerificationCode }} is your verification code",
                "Hi,\n\nuse this code to verify your e-mail address:\n\n    \
                 {{ .VerificationCode }}\n\nIt is good for {{ .ExpiresInMinutes }} minutes, once. \
                 If you did not ask for it, ignore this message.\n",
                include_str!("verification_code.html"),
            ],
        }
    }
}

/// The parts of a message, and the files of an operator's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// One line.
    Subject,
    /// The body as plain text.
    Text,
    /// The body in HTML.
    Html,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Subject, Self::Text, Self::Html];

    /// The name of an operator's own file.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Subject => "email.subject.gotmpl",
            Self::Text => "email.body.plaintext.gotmpl",
            Self::Html => "email.body.gotmpl",
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
}

/// The texts in use.
#[derive(Debug, Clone, Default)]
pub struct Templates(BTreeMap<(Template, Part), String>);

impl Templates {
    /// Replaces a text.
    ///
    /// # Errors
    /// If it is no template.
    pub fn replace(
        &mut self,
        template: Template,
        part: Part,
        text: String,
    ) -> Result<(), TemplateRefused> {
        let fields = template.fields();
        pieces(&text, |field| {
            if fields.contains(&field) {
                return Ok(String::new());
            }
            Err(TemplateRefused::UnknownField(field.to_owned(), fields.join(", ")))
        })?;
        self.0.insert((template, part), text);
        Ok(())
    }

    /// A message filled with what its template names.
    pub fn fill(&self, template: Template, model: &Map<String, Value>) -> Filled {
        let part = |part: Part, index: usize| {
            let own = self.0.get(&(template, part)).map(String::as_str);
            let text = own.unwrap_or(template.included()[index]);
            // Checked when it was read.
            pieces(text, |field| {
                let value = model.get(field).map(shown).unwrap_or_default();
                Ok(if part == Part::Html { escaped(&value) } else { value })
            })
            .unwrap_or_default()
        };
        // A subject is one line: no value may begin another header.
        let subject = part(Part::Subject, 0).split_whitespace().collect::<Vec<_>>().join(" ");
        Filled { subject, text: part(Part::Text, 1), html: part(Part::Html, 2) }
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
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
            .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()))
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
    fn included_texts_are_templates_and_tell_the_code() {
        for template in Template::ALL {
            let mut templates = Templates::default();
            for (part, text) in Part::ALL.into_iter().zip(template.included()) {
                templates.replace(template, part, text.to_owned()).unwrap();
            }
            let filled = Templates::default().fill(
                template,
                &model(json!({"To": "a@b.c", "RecoveryCode": "123456",
                    "VerificationCode": "123456", "ExpiresInMinutes": 60})),
            );
            for text in [&filled.subject, &filled.text, &filled.html] {
                assert!(text.contains("123456") && !text.contains("{{"), "{text}");
            }
            assert!(filled.text.contains("60 minutes"));
        }
    }

    #[test]
    fn what_a_template_cannot_name_is_refused_when_it_is_read() {
        let mut templates = Templates::default();
        let mut read = |text: &str| {
            templates.replace(Template::RecoveryCode, Part::Text, text.to_owned()).is_ok()
        };
        assert!(read("{{ .RecoveryCode }} {{.To}}"));
        for text in ["{{ .Code }}", "{{ .To", "{{ range .To }}", "{{ . }}", "{{}}"] {
            assert!(!read(text), "{text}");
        }
    }

    /// The class of advisories on HTML in mails (Zitadel CVE-2024-28855 and others).
    #[test]
    fn values_are_text_in_html_and_one_line_in_subjects() {
        let mut templates = Templates::default();
        let replace = |t: &mut Templates, part| {
            t.replace(Template::RecoveryCode, part, "{{ .To }}".to_owned()).unwrap();
        };
        replace(&mut templates, Part::Html);
        replace(&mut templates, Part::Subject);
        let filled = templates.fill(
            Template::RecoveryCode,
            &model(json!({"To": "<img src=x onerror='alert(1)'>\r\nBcc: eve@example.org"})),
        );
        assert!(!filled.html.contains('<') && !filled.html.contains('\''), "{}", filled.html);
        assert!(!filled.subject.contains(['\r', '\n']), "{}", filled.subject);
    }
}
