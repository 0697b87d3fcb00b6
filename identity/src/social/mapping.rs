//! From claims to what a new identity says of itself, by the operator's program.
//!
//! The program reads `std.extVar('claims')`, and `std.extVar('identity')` for whom there
//! is already; it gives, as in Ory Kratos:
//! `{identity: {traits: {…}, metadata_public: …, metadata_admin: …,
//! verified_addresses: [{via: 'email', value: …}]}}`.

use serde_json::{Map, Value};

use super::{Provider, Untrusted, claims::Stranger};
use crate::{
    jsonnet::{Failed, Limits, Program},
    schema::Channel,
};

/// Most addresses that a program calls verified.
const ADDRESSES_MAX: usize = 10;

/// The program of a provider without one: the address, if the provider verified it.
const DEFAULT: &str = "local claims = std.extVar('claims');
local email = if claims.email_verified then std.get(claims, 'email');
{
  identity: {
    traits: { [if email != null then 'email']: email },
    verified_addresses: if email != null then [{ via: 'email', value: email }] else [],
  },
}";

/// What a mapping gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapped {
    /// Traits; an object.
    pub traits: Value,
    /// What everybody with a session may see.
    pub metadata_public: Option<Value>,
    /// What administrators alone may see.
    pub metadata_admin: Option<Value>,
    /// Addresses that the provider verified.
    pub verified: Vec<(Channel, String)>,
}

/// The program of a provider without one.
///
/// # Errors
/// None, as long as it is Jsonnet.
pub fn default_program() -> Result<Program, Failed> {
    Program::parse(DEFAULT, Limits::default())
}

/// Maps claims of who is new (`identity` is null), or of whose identity is renewed.
///
/// # Errors
/// If the program fails, or gives something else.
pub async fn map(
    provider: &Provider,
    stranger: &Stranger,
    identity: Value,
) -> Result<Mapped, Untrusted> {
    let variables = variables(provider, stranger, identity);
    read(provider.mapper.run(variables, Value::Null).await?)
}

/// What the program reads.
pub fn variables(
    provider: &Provider,
    stranger: &Stranger,
    identity: Value,
) -> Vec<(String, Value)> {
    vec![
        ("claims".to_owned(), Value::Object(stranger.claims.clone())),
        ("identity".to_owned(), identity),
        ("provider".to_owned(), Value::from(provider.id.as_str())),
    ]
}

/// Reads what a program gave.
///
/// # Errors
/// If it is something else than is understood.
pub fn read(mut given: Value) -> Result<Mapped, Untrusted> {
    let Some(identity) = given.get_mut("identity").and_then(Value::as_object_mut) else {
        return Err(Untrusted::Mapped("no object \"identity\""));
    };
    let mut take = |name: &str| identity.remove(name).filter(|value| !value.is_null());
    let traits = match take("traits") {
        None => Value::Object(Map::new()),
        Some(traits @ Value::Object(_)) => traits,
        Some(_) => return Err(Untrusted::Mapped("traits that are no object")),
    };
    let mut verified = Vec::new();
    if let Some(addresses) = take("verified_addresses") {
        let addresses = addresses.as_array().cloned();
        let addresses = addresses.filter(|addresses| addresses.len() <= ADDRESSES_MAX);
        let wrong = Untrusted::Mapped("verified_addresses that are no short list");
        for address in addresses.ok_or(wrong)? {
            let via = match address["via"].as_str() {
                Some("email") => Channel::Email,
                Some("sms") => Channel::Sms,
                _ => return Err(Untrusted::Mapped("an address that is reached in no way")),
            };
            let value = address["value"].as_str();
            let value = value.ok_or(Untrusted::Mapped("an address without a value"))?;
            verified.push((via, value.to_owned()));
        }
    }
    Ok(Mapped {
        traits,
        metadata_public: take("metadata_public"),
        metadata_admin: take("metadata_admin"),
        verified,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_mapping_gives_is_read_or_refused() {
        let mapped = read(json!({"identity": {
            "traits": {"email": "a@b.c"},
            "metadata_public": null,
            "metadata_admin": {"x": 1},
            "verified_addresses": [{"via": "email", "value": "a@b.c"}],
        }}));
        let mapped = mapped.unwrap();
        assert_eq!(mapped.traits, json!({"email": "a@b.c"}));
        assert_eq!((mapped.metadata_public, mapped.metadata_admin), (None, Some(json!({"x": 1}))));
        assert_eq!(mapped.verified, [(Channel::Email, "a@b.c".to_owned())]);
        assert_eq!(read(json!({"identity": {}})).unwrap().traits, json!({}));
        for garbage in [
            json!(null),
            json!("x"),
            json!([]),
            json!({}),
            json!({"identity": 1}),
            json!({"identity": {"traits": []}}),
            json!({"identity": {"traits": "x"}}),
            json!({"identity": {"verified_addresses": "x"}}),
            json!({"identity": {"verified_addresses": [{"via": "pigeon", "value": "x"}]}}),
            json!({"identity": {"verified_addresses": [{"via": "email"}]}}),
            json!({"identity": {"verified_addresses": vec![json!({"via": "email", "value": "x"}); 11]}}),
        ] {
            assert!(matches!(read(garbage.clone()), Err(Untrusted::Mapped(_))), "{garbage}");
        }
    }
}
