//! What the included messages say, one file a language. They are templates: see
//! [`template`](super::template).

mod chinese;
mod english;
mod french;
mod german;
mod japanese;
mod spanish;

use super::template::{Part, Template};
use crate::language::Language;

/// The sentences of a message, of which its parts are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    greeting: &'static str,
    subject: &'static str,
    /// What to do.
    lead: &'static str,
    /// What stands out: the code, or the link; empty where there is none.
    shown: &'static str,
    /// What else to know.
    note: &'static str,
    /// All of it, as a text message.
    short: &'static str,
}

const FRAME: &str = include_str!("frame.html");

const fn words(template: Template, language: Language) -> Words {
    match language {
        Language::English => english::words(template),
        Language::German => german::words(template),
        Language::French => french::words(template),
        Language::Spanish => spanish::words(template),
        Language::Japanese => japanese::words(template),
        Language::Chinese => chinese::words(template),
    }
}

/// The included text of a part.
pub(super) fn included(template: Template, part: Part, language: Language) -> String {
    let Words { greeting, subject, lead, shown, note, short } = words(template, language);
    match part {
        Part::Subject => subject.to_owned(),
        Part::Text if shown.is_empty() => format!("{greeting}\n\n{lead}\n\n{note}\n"),
        Part::Sms if shown.is_empty() || template.is_link() => short.to_owned(),
        Part::Text => format!("{greeting}\n\n{lead}\n\n    {shown}\n\n{note}\n"),
        Part::Html => FRAME
            .lines()
            .filter(|line| {
                let is_code = !shown.is_empty() && !template.is_link();
                (is_code || !line.contains("[shown]"))
                    && (template.is_link() || !line.contains("[link]"))
            })
            .fold(String::new(), |text, line| text + line + "\n")
            .replace("[language]", language.tag())
            .replace("[lead]", lead)
            .replace("[shown]", shown)
            .replace("[link]", shown)
            .replace("[note]", note),
        // Phones fill in a code from the last line, for the site that it names alone
        // (the WICG's origin-bound one-time codes).
        Part::Sms => format!("{short}\n\n@{{{{ .RequestURLDomain }}}} #{shown}"),
    }
}
