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
    /// A link.
    A,
    /// A picture.
    Img,
    /// A text to be read.
    Text,
    /// A script that other nodes call.
    Script,
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
    /// Security keys.
    Webauthn,
    /// Passkeys.
    Passkey,
    /// Codes that are sent.
    Code,
    /// Links that are sent.
    Link,
    /// Accounts at other providers.
    Oidc,
    /// Time-based codes.
    Totp,
    /// Backup codes.
    LookupSecret,
    /// What tells people from robots; shown with every method.
    Captcha,
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
    /// A button that calls a script.
    Button,
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
    /// A code that was sent.
    OneTimeCode,
    /// The password that is stored.
    CurrentPassword,
    /// A password to be made.
    NewPassword,
    /// A user name, or a passkey that is found by it.
    #[serde(rename = "username webauthn")]
    UsernameWebauthn,
}

/// A function of the script that a page calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trigger {
    /// Uses a security key.
    OryWebAuthnLogin,
    /// Makes a key on a security key.
    OryWebAuthnRegistration,
    /// Uses a passkey.
    OryPasskeyLogin,
    /// Offers passkeys where user names are filled in.
    OryPasskeyLoginAutocompleteInit,
    /// Makes a passkey for somebody who signs up.
    OryPasskeyRegistration,
    /// Makes a passkey for somebody who is signed in.
    OryPasskeySettingsRegistration,
}

impl Trigger {
    /// The name of the function.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OryWebAuthnLogin => "oryWebAuthnLogin",
            Self::OryWebAuthnRegistration => "oryWebAuthnRegistration",
            Self::OryPasskeyLogin => "oryPasskeyLogin",
            Self::OryPasskeyLoginAutocompleteInit => "oryPasskeyLoginAutocompleteInit",
            Self::OryPasskeyRegistration => "oryPasskeyRegistration",
            Self::OryPasskeySettingsRegistration => "oryPasskeySettingsRegistration",
        }
    }
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
    /// What a click calls, as a script; older interfaces run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onclick: Option<String>,
    /// The function that a click calls.
    #[serde(rename = "onclickTrigger", skip_serializing_if = "Option::is_none")]
    pub onclick_trigger: Option<Trigger>,
    /// What is called once the node is there, as a script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onload: Option<String>,
    /// The function that is called once the node is there.
    #[serde(rename = "onloadTrigger", skip_serializing_if = "Option::is_none")]
    pub onload_trigger: Option<Trigger>,
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
            onclick: None,
            onclick_trigger: None,
            onload: None,
            onload_trigger: None,
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
    /// Of a link.
    Anchor(AnchorAttributes),
    /// Of a script.
    Script(ScriptAttributes),
    /// Of a picture.
    Image(ImageAttributes),
    /// Of a text.
    Text(TextAttributes),
}

/// Attributes of a link (`uiNodeAnchorAttributes`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnchorAttributes {
    /// Where it leads.
    pub href: String,
    /// What it says.
    pub title: Text,
    /// Its id in a page.
    pub id: String,
    /// See [`InputAttributes::node_type`].
    pub node_type: NodeType,
}

/// Attributes of a picture (`uiNodeImageAttributes`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageAttributes {
    /// The picture, as a `data:` URL.
    pub src: String,
    /// Its id in a page.
    pub id: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// See [`InputAttributes::node_type`].
    pub node_type: NodeType,
}

/// Attributes of a script (`uiNodeScriptAttributes`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScriptAttributes {
    /// Where it is.
    pub src: String,
    /// Whether a page goes on without it.
    #[serde(rename = "async")]
    pub is_async: bool,
    /// What is told of the page that loads it.
    pub referrerpolicy: String,
    /// How it is asked for from another origin.
    pub crossorigin: String,
    /// The digest that it must have.
    pub integrity: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id in a page.
    pub id: String,
    /// A nonce that a page may use in its own policy.
    pub nonce: String,
    /// See [`InputAttributes::node_type`].
    pub node_type: NodeType,
}

/// Attributes of a text (`uiNodeTextAttributes`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextAttributes {
    /// The text.
    pub text: Text,
    /// Its id in a page.
    pub id: String,
    /// See [`InputAttributes::node_type`].
    pub node_type: NodeType,
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

    /// The name of its field; the id of what is no field.
    pub fn name(&self) -> &str {
        match &self.attributes {
            Attributes::Input(attributes) => &attributes.name,
            Attributes::Anchor(attributes) => &attributes.id,
            Attributes::Script(attributes) => &attributes.id,
            Attributes::Image(attributes) => &attributes.id,
            Attributes::Text(attributes) => &attributes.id,
        }
    }

    /// Its attributes, if it is an input.
    pub fn input_mut(&mut self) -> Option<&mut InputAttributes> {
        match &mut self.attributes {
            Attributes::Input(attributes) => Some(attributes),
            _ => None,
        }
    }

    /// A link without messages.
    pub fn anchor(group: Group, id: &str, href: &str, title: Text) -> Self {
        let attributes = AnchorAttributes {
            href: href.to_owned(),
            title: title.clone(),
            id: id.to_owned(),
            node_type: NodeType::A,
        };
        Self {
            kind: NodeType::A,
            group,
            attributes: Attributes::Anchor(attributes),
            messages: Vec::new(),
            meta: Meta { label: Some(title) },
        }
    }

    /// A text without messages.
    pub fn text(group: Group, id: &str, text: Text, label: Text) -> Self {
        let attributes = TextAttributes { text, id: id.to_owned(), node_type: NodeType::Text };
        Self {
            kind: NodeType::Text,
            group,
            attributes: Attributes::Text(attributes),
            messages: Vec::new(),
            meta: Meta { label: Some(label) },
        }
    }

    /// A square picture without messages.
    pub fn image(group: Group, id: &str, (src, width): (&str, u32), label: Text) -> Self {
        let attributes = ImageAttributes {
            src: src.to_owned(),
            id: id.to_owned(),
            width,
            height: width,
            node_type: NodeType::Img,
        };
        Self {
            kind: NodeType::Img,
            group,
            attributes: Attributes::Image(attributes),
            messages: Vec::new(),
            meta: Meta { label: Some(label) },
        }
    }

    /// A script that is loaded with a digest.
    pub fn script(group: Group, id: &str, src: &str, integrity: &str, nonce: String) -> Self {
        let attributes = ScriptAttributes {
            src: src.to_owned(),
            is_async: true,
            referrerpolicy: "no-referrer".to_owned(),
            crossorigin: "anonymous".to_owned(),
            integrity: integrity.to_owned(),
            kind: "text/javascript".to_owned(),
            id: id.to_owned(),
            nonce,
            node_type: NodeType::Script,
        };
        Self {
            kind: NodeType::Script,
            group,
            attributes: Attributes::Script(attributes),
            messages: Vec::new(),
            meta: Meta { label: None },
        }
    }
}
