//! What a blocking web hook answers: nothing, a change of the identity, or why not.
//!
//! A change is `{"identity": {…}}` with status 200, of which `traits`, `metadata_public`,
//! `metadata_admin`, `external_id`, `state` and `verifiable_addresses` are taken, as far
//! as the occasion allows. A refusal is a status of 400 or more with
//! `{"messages": [{"instance_ptr": "#/traits/email", "messages": [{"id", "text", "type",
//! "context"}]}]}`, whose messages stand at the fields that they name.

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    flow::Flow,
    model::{Identity, IdentityState},
    outbound::Reply,
    schema::Channel,
    ui::{Text, container::field_of_pointer, text::TextType},
};

/// The most messages that are shown of one answer.
const MESSAGES_MAX: usize = 20;
/// The longest message that is shown, in characters.
const MESSAGE_CHARS_MAX: usize = 1000;
/// The largest context of a message, in bytes of JSON.
const CONTEXT_BYTES_MAX: usize = 4096;
/// The most addresses that an answer may name.
const ADDRESSES_MAX: usize = 32;

/// Why a hook lets something not be done.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum HookFailed {
    /// It refused; in these words, each at a field or, with an empty name, at the form.
    #[error("a web hook refused")]
    Interrupted(Vec<(String, Text)>),
    /// It did not answer in time.
    #[error("the web hook {hook} did not answer in time")]
    TooLate {
        /// Which.
        hook: String,
    },
    /// It did not answer, or not as it must.
    #[error("the web hook {hook} failed: {why}")]
    Failed {
        /// Which.
        hook: String,
        /// How.
        why: String,
    },
}

impl HookFailed {
    pub(super) fn failed(hook: &str, why: impl ToString) -> Self {
        Self::Failed { hook: hook.to_owned(), why: why.to_string() }
    }

    /// Says in a form why it refused; gives back what no form says.
    pub(crate) fn tell(self, flow: &mut Flow) -> Option<Self> {
        match self {
            Self::Interrupted(messages) => {
                for (field, text) in messages {
                    flow.ui.say(&field, text);
                }
                None
            }
            other => Some(other),
        }
    }
}

/// What is to be changed of an identity before it is written; `None`: nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Edits {
    pub(crate) traits: Option<Value>,
    pub(crate) metadata_public: Option<Value>,
    pub(crate) metadata_admin: Option<Value>,
    pub(crate) external_id: Option<String>,
    pub(crate) state: Option<IdentityState>,
    /// Addresses that are verified.
    pub(crate) verified: Vec<(Channel, String)>,
}

#[derive(Deserialize)]
struct Changed {
    #[serde(default)]
    identity: Option<ChangedIdentity>,
}

#[derive(Deserialize)]
struct ChangedIdentity {
    #[serde(default)]
    schema_id: Option<String>,
    #[serde(default)]
    traits: Option<Map<String, Value>>,
    #[serde(default)]
    metadata_public: Option<Value>,
    #[serde(default)]
    metadata_admin: Option<Value>,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    verifiable_addresses: Vec<ChangedAddress>,
}

#[derive(Deserialize)]
struct ChangedAddress {
    value: String,
    via: String,
    #[serde(default)]
    verified: bool,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    messages: Vec<RefusedField>,
}

#[derive(Deserialize)]
struct RefusedField {
    #[serde(default)]
    instance_ptr: String,
    #[serde(default)]
    messages: Vec<RefusedMessage>,
}

#[derive(Deserialize)]
struct RefusedMessage {
    #[serde(default)]
    id: u32,
    #[serde(default)]
    text: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    context: Option<Value>,
}

impl Edits {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        traits: None,
        metadata_public: None,
        metadata_admin: None,
        external_id: None,
        state: None,
        verified: Vec::new(),
    };

    /// Whether there is nothing to change.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Reads an answer; `schema_id` is that of the identity.
    pub(super) fn read(reply: &Reply, schema_id: Option<&str>) -> Result<Self, String> {
        if reply.status != 200 || reply.body.is_empty() {
            return Ok(Self::default());
        }
        let changed: Changed = serde_json::from_slice(&reply.body)
            .map_err(|error| format!("its answer is no change of an identity: {error}"))?;
        let Some(identity) = changed.identity else { return Ok(Self::default()) };
        let other_schema = identity.schema_id.filter(|id| !id.is_empty());
        if other_schema.is_some_and(|id| schema_id.is_some_and(|own| own != id)) {
            return Err("it cannot move an identity to another schema".to_owned());
        }
        if identity.verifiable_addresses.len() > ADDRESSES_MAX {
            return Err(format!("it names more than {ADDRESSES_MAX} addresses"));
        }
        let state = match identity.state.as_deref().filter(|state| !state.is_empty()) {
            None => None,
            Some(name) => Some(
                IdentityState::parse(name)
                    .ok_or_else(|| format!("there is no state \"{name}\""))?,
            ),
        };
        let mut verified = Vec::new();
        for address in identity.verifiable_addresses.into_iter().filter(|a| a.verified) {
            let via = match address.via.as_str() {
                "email" => Channel::Email,
                "sms" => Channel::Sms,
                other => return Err(format!("there is no channel \"{other}\"")),
            };
            verified.push((via, address.value.trim().to_lowercase()));
        }
        Ok(Self {
            traits: identity.traits.filter(|traits| !traits.is_empty()).map(Value::Object),
            metadata_public: identity.metadata_public.filter(|value| !value.is_null()),
            metadata_admin: identity.metadata_admin.filter(|value| !value.is_null()),
            external_id: identity.external_id.filter(|id| !id.is_empty()),
            state,
            verified,
        })
    }

    /// What the next hook is told.
    pub(super) fn show(&self, identity: &mut Identity) {
        if let Some(traits) = &self.traits {
            identity.traits = traits.clone();
        }
        if self.metadata_public.is_some() {
            identity.metadata_public.clone_from(&self.metadata_public);
        }
        if self.metadata_admin.is_some() {
            identity.metadata_admin.clone_from(&self.metadata_admin);
        }
        if self.external_id.is_some() {
            identity.external_id.clone_from(&self.external_id);
        }
        if let Some(state) = self.state {
            identity.state = state;
        }
    }

    /// Adds what a later hook changes, which counts.
    pub(super) fn merge(&mut self, later: Self) {
        let Self { traits, metadata_public, metadata_admin, external_id, state, verified } = later;
        self.traits = traits.or(self.traits.take());
        self.metadata_public = metadata_public.or(self.metadata_public.take());
        self.metadata_admin = metadata_admin.or(self.metadata_admin.take());
        self.external_id = external_id.or(self.external_id.take());
        self.state = state.or(self.state);
        self.verified.extend(verified);
    }
}

/// The words of a refusal; `None` if the answer has none.
pub(super) fn words(reply: &Reply) -> Option<Vec<(String, Text)>> {
    let refused: Refused = serde_json::from_slice(&reply.body).ok()?;
    let mut words = Vec::new();
    for field in refused.messages {
        let name = field_of_pointer(&field.instance_ptr);
        for message in field.messages {
            let kind = match message.kind.as_str() {
                "info" => TextType::Info,
                "success" => TextType::Success,
                _ => TextType::Error,
            };
            let context = message.context.filter(|value| value.is_object());
            let context = context.filter(|value| value.to_string().len() <= CONTEXT_BYTES_MAX);
            let text = Text {
                id: message.id,
                text: message.text.chars().take(MESSAGE_CHARS_MAX).collect(),
                kind,
                context: context.and_then(|value| value.as_object().cloned()),
            };
            words.push((name.clone(), text));
        }
    }
    words.truncate(MESSAGES_MAX);
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod answer_tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, body: body.to_owned().into() }
    }

    #[test]
    fn changes_are_read_and_what_cannot_be_changed_is_refused() {
        let read = |body: &str| Edits::read(&reply(200, body), Some("default"));
        assert!(read("").unwrap().is_empty() && read("{}").unwrap().is_empty());
        assert!(read(r#"{"identity": {}}"#).unwrap().is_empty());
        assert!(Edits::read(&reply(204, "no json"), None).unwrap().is_empty());
        let all = r#"{"identity": {"traits": {"a": 1}, "metadata_public": {"p": 1},
            "metadata_admin": {"q": 1}, "external_id": "x", "state": "inactive",
            "verifiable_addresses": [{"value": "A@b.c ", "via": "email", "verified": true},
                {"value": "d@e.f", "via": "email", "verified": false}]}}"#;
        let edits = read(all).unwrap();
        assert_eq!(edits.verified, [(Channel::Email, "a@b.c".to_owned())]);
        assert_eq!(edits.state, Some(IdentityState::Inactive));
        assert_eq!(edits.external_id.as_deref(), Some("x"));
        for bad in [
            "[",
            r#"{"identity": {"traits": 1}}"#,
            r#"{"identity": {"schema_id": "other"}}"#,
            r#"{"identity": {"state": "asleep"}}"#,
            r#"{"identity": {"verifiable_addresses": [{"value": "x", "via": "post", "verified": true}]}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_later_hook_counts() {
        let edits = |id: &str| Edits { external_id: Some(id.to_owned()), ..Edits::default() };
        let mut first = edits("a");
        first.merge(edits("b"));
        first.merge(Edits::default());
        assert_eq!(first.external_id.as_deref(), Some("b"));
    }

    #[test]
    fn words_of_a_refusal_are_bounded_and_stand_at_their_fields() {
        let body = r##"{"messages": [{"instance_ptr": "#/traits/email", "messages":
            [{"id": 1234, "text": "no", "type": "error", "context": {"x": 1}}]},
            {"messages": [{"text": "all", "type": "info"}]}]}"##;
        let words = words(&reply(400, body)).unwrap();
        assert_eq!(words[0].0, "traits.email");
        assert_eq!((words[0].1.id, words[1].0.as_str()), (1234, ""));
        assert_eq!(words[1].1.kind, TextType::Info);
        let long = "x".repeat(5000);
        let many: Vec<_> = (0..99).map(|_| serde_json::json!({"text": long, "id": 1})).collect();
        let body = serde_json::json!({"messages": [{"messages": many}]}).to_string();
        let words = super::words(&reply(400, &body)).unwrap();
        assert_eq!((words.len(), words[0].1.text.len()), (MESSAGES_MAX, MESSAGE_CHARS_MAX));
        for none in [
            "",
            "{}",
            "oops",
            r#"{"messages": []}"#,
            r#"{"messages": [{"messages": [{"id": -1}]}]}"#,
        ] {
            assert!(super::words(&reply(400, none)).is_none(), "{none}");
        }
    }
}
