//! Nodes of a container: fields, buttons and the like (`uiNode`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::Text;

/// What a node is. Members that no flow here shows are left out until one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeType {
    /// A field or button.
    Input,
}

/// Which method a node belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// None: shown with every method.
    Default,
    /// What somebody says of itself.
    Profile,
    /// The password method.
    Password,
    /// Codes that are sent.
    Code,
    /// Time-based codes.
    Totp,
    /// Backup codes.
    LookupSecret,
}

/// The type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputType {
    /// A line of text.
    Text,
    /// A password, not shown.
    Password,
    /// A number.
    Number,
    /// A box to tick.
    Checkbox,
    /// Not shown.
    Hidden,
    /// An e-mail address.
    Email,
    /// A telephone number.
    Tel,
    /// A button that sends the form.
    Submit,
    /// Date and time.
    DatetimeLocal,
    /// A date.
    Date,
    /// A URL.
    Url,
}

/// What a browser may fill in by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Autocomplete {
    /// An e-mail address.
    Email,
    /// A telephone number.
    Tel,
    /// A URL.
    Url,
    /// The password that is stored.
    CurrentPassword,
    /// A password to be made.
    NewPassword,
}

/// Attributes of an input (`uiNodeInputAttributes`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputAttributes {
    /// The name to send it under.
    pub name: String,
    /// The type of the input.
    #[serde(rename = "type")]
    pub kind: InputType,
    /// What it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Whether it must be filled in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What a browser may fill in by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autocomplete: Option<Autocomplete>,
    /// A regular expression that the value must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Whether it may not be changed.
    pub disabled: bool,
    /// The longest value, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maxlength: Option<u64>,
    /// Repeats the node's type, for decoders that need a discriminator.
    pub node_type: NodeType,
}

impl InputAttributes {
    /// An input that is neither required nor disabled and holds nothing.
    pub fn new(name: impl Into<String>, kind: InputType) -> Self {
        Self {
            name: name.into(),
            kind,
            value: None,
            required: false,
            autocomplete: None,
            pattern: None,
            disabled: false,
            maxlength: None,
            node_type: NodeType::Input,
        }
    }
}

/// Attributes of a node (`uiNodeAttributes`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attributes {
    /// Of an input.
    Input(InputAttributes),
}

/// What stands beside a node (`uiNodeMeta`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Text>,
}

/// A node (`uiNode`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: NodeType,
    /// Which method it belongs to.
    pub group: Group,
    /// Its attributes.
    pub attributes: Attributes,
    /// What is wrong with it; never null.
    pub messages: Vec<Text>,
    /// What stands beside it.
    pub meta: Meta,
}

impl Node {
    /// An input node without messages.
    pub fn input(group: Group, attributes: InputAttributes, label: Option<Text>) -> Self {
        Self {
            kind: NodeType::Input,
            group,
            attributes: Attributes::Input(attributes),
            messages: Vec::new(),
            meta: Meta { label },
        }
    }

    /// The name of its field.
    pub fn name(&self) -> &str {
        let Attributes::Input(attributes) = &self.attributes;
        &attributes.name
    }

    /// Its attributes, if it is an input.
    pub fn input_mut(&mut self) -> &mut InputAttributes {
        let Attributes::Input(attributes) = &mut self.attributes;
        attributes
    }
}
