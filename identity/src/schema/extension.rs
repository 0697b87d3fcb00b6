//! The `ory.sh/kratos` keyword: which traits identify somebody, and which are
//! addresses to verify or recover by.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    phone::normalize_phone,
    violation::{Rule, Violation},
};

/// How an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// By e-mail.
    Email,
    /// By text message.
    Sms,
}

impl Channel {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }

    /// That of an address as it is kept: numbers have no `@`, e-mail addresses do.
    pub(crate) fn of_address(value: &str) -> Self {
        if value.starts_with('+') && !value.contains('@') { Self::Sms } else { Self::Email }
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "email" => Some(Self::Email),
            "sms" => Some(Self::Sms),
            _ => None,
        }
    }
}

/// What one place of a schema says in the keyword.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) password_identifier: bool,
    pub(super) code_via: Option<Channel>,
    pub(super) verification: Option<Channel>,
    pub(super) recovery: Option<Channel>,
}

impl Extension {
    pub(super) fn parse(keyword: &Value) -> Result<Self, String> {
        let via = |value: &Value| -> Result<Option<Channel>, String> {
            match value {
                Value::Null => Ok(None),
                Value::String(name) => Channel::parse(name)
                    .map(Some)
                    .ok_or_else(|| format!("via {name:?} is neither \"email\" nor \"sms\"")),
                other => Err(format!("via must be a string, not {other}")),
            }
        };
        if !keyword.is_object() {
            return Err("ory.sh/kratos must be an object".to_owned());
        }
        let credentials = &keyword["credentials"];
        let code = &credentials["code"];
        Ok(Self {
            password_identifier: credentials["password"]["identifier"] == Value::Bool(true),
            code_via: if code["identifier"] == Value::Bool(true) {
                via(&code["via"])?
            } else {
                None
            },
            verification: via(&keyword["verification"]["via"])?,
            recovery: via(&keyword["recovery"]["via"])?,
        })
    }
}

/// Whether a place of a schema says in the keyword that somebody is known or called by it.
pub(super) fn identifies(keyword: &Value) -> bool {
    let credentials = &keyword["credentials"];
    [
        ("password", "identifier"),
        ("webauthn", "identifier"),
        ("code", "identifier"),
        ("passkey", "display_name"),
        ("totp", "account_name"),
    ]
    .iter()
    .any(|(method, member)| credentials[method][member] == Value::Bool(true))
}

/// An address found in traits, normalised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// How it is reached.
    pub via: Channel,
    /// The address.
    pub value: String,
}

/// What the keyword finds in somebody's traits. Every list is free of repeats
/// and in the order of the schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// What the password method knows this person by.
    pub password_identifiers: Vec<String>,
    /// Where the code method sends codes.
    pub code_addresses: Vec<Address>,
    /// Addresses to be verified.
    pub verifiable: Vec<Address>,
    /// Addresses to recover by.
    pub recovery: Vec<Address>,
}

impl Extracted {
    pub(super) fn add(
        &mut self,
        extension: &Extension,
        pointer: &str,
        value: &Value,
    ) -> Result<(), Box<Violation>> {
        let Some(text) = value.as_str() else { return Ok(()) };
        if extension.password_identifier {
            let identifier = normalize_identifier(text);
            if !identifier.is_empty() {
                push(&mut self.password_identifiers, identifier);
            }
        }
        for (via, list) in [
            (extension.code_via, &mut self.code_addresses),
            (extension.verification, &mut self.verifiable),
            (extension.recovery, &mut self.recovery),
        ] {
            if let Some(via) = via {
                push(list, Address { via, value: normalize_address(via, pointer, text)? });
            }
        }
        Ok(())
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The form in which a password identifier is kept and looked up: trimmed and in
/// lower case, as Kratos does. Both sides of every comparison go through here.
pub fn normalize_identifier(text: &str) -> String {
    text.trim().to_lowercase()
}

fn normalize_address(via: Channel, pointer: &str, text: &str) -> Result<String, Box<Violation>> {
    let value = text.trim().to_lowercase();
    match via {
        Channel::Email if is_email(&value) => Ok(value),
        Channel::Email => {
            Err(Box::new(Violation::new(pointer, Rule::Email { value: text.to_owned() })))
        }
        Channel::Sms => normalize_phone(&value).ok_or_else(|| {
            Box::new(Violation::new(pointer, Rule::Phone { value: text.to_owned() }))
        }),
    }
}

/// Whether mail could be sent there without guessing what is meant: exactly one
/// `@`, something on both sides, nothing that a header could be broken with
/// (advisories name addresses with two `@` read differently by two parsers).
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    !local.is_empty()
        && !domain.is_empty()
        && text.len() <= 320
        && !domain.contains('@')
        && !domain.starts_with(['.', '-'])
        && !domain.ends_with(['.', '-'])
        && !domain.contains("..")
        && !text.chars().any(|c| c.is_whitespace() || c.is_control() || "<>,;:\"()[]\\".contains(c))
}

/// What somebody typed as an address: with an `@` an e-mail address, else a number if it
/// looks like one.
///
/// # Errors
/// What it looks like, and is not.
pub(crate) fn read_address(text: &str) -> Result<Address, Channel> {
    let value = normalize_identifier(text);
    let like_number = |c: char| c.is_ascii_digit() || " -().+/".contains(c);
    if !value.is_empty() && value.chars().all(like_number) {
        let value = normalize_phone(&value).ok_or(Channel::Sms)?;
        return Ok(Address { via: Channel::Sms, value });
    }
    let via = Channel::Email;
    if is_email(&value) { Ok(Address { via, value }) } else { Err(via) }
}

/// The channels that a schema names for what `of` takes out of the keyword.
pub(super) fn channels(
    document: &Value,
    of: fn(&Extension) -> Option<Channel>,
) -> BTreeSet<Channel> {
    let mut found = BTreeSet::new();
    let mut left = vec![document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(members) => {
                let keyword = members.get("ory.sh/kratos").map(Extension::parse);
                found.extend(keyword.and_then(Result::ok).as_ref().and_then(of));
                left.extend(members.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_trimmed_and_lower_cased() {
        let table = [(" Ann@Example.ORG ", "ann@example.org"), ("ÄNN", "änn"), ("  ", "")];
        for (text, normal) in table {
            assert_eq!(normalize_identifier(text), normal);
        }
    }

    #[test]
    fn addresses_that_two_parsers_read_differently_are_refused() {
        for good in ["a@b", "a.b+c@example.org", "o'hara@example.org", "ä@bücher.example"] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b.",
            "a@.b",
            "a@b..c",
            "<a@b>",
            "a@b\r\nBcc: c@d",
            "a@b,c@d",
            "\"a\"@b",
            "a@[127.0.0.1]",
            "a@-b",
        ] {
            assert!(!is_email(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_is_typed_is_read_as_what_it_looks_like() {
        let read = |text: &str| read_address(text).map(|found| (found.via, found.value));
        let mail = |text: &str| Ok((Channel::Email, text.to_owned()));
        assert_eq!(read(" Ann@Example.org"), mail("ann@example.org"));
        assert_eq!(read("+49@example.org"), mail("+49@example.org"));
        assert_eq!(read("+49 (30) 901820"), Ok((Channel::Sms, "+4930901820".to_owned())));
        for number in ["030/901820", "+49", "12345678", "+999123456789"] {
            assert_eq!(read(number), Err(Channel::Sms), "{number}");
        }
        for neither in ["ann", "", "+49x", "ann@", "a@b@c"] {
            assert_eq!(read(neither), Err(Channel::Email), "{neither}");
        }
    }

    #[test]
    fn channels_of_a_schema_are_found_wherever_it_names_them() {
        let document = serde_json::json!({"properties": {"traits": {"properties": {
            "email": {"ory.sh/kratos": {"recovery": {"via": "email"}}},
            "phones": {"items": {"ory.sh/kratos": {"verification": {"via": "sms"}}}},
        }}}});
        let of = |of: fn(&Extension) -> Option<Channel>| -> Vec<Channel> {
            channels(&document, of).into_iter().collect()
        };
        assert_eq!(of(|found| found.recovery), [Channel::Email]);
        assert_eq!(of(|found| found.verification), [Channel::Sms]);
        assert_eq!(of(|found| found.code_via), []);
    }
}
