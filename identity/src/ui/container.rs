//! The form as a whole (`uiContainer`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    node::{Group, InputAttributes, InputType, Node},
    text::Text,
};

/// How a form is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FormMethod {
    /// In the body of a `POST`.
    Post,
}

/// A form: where it goes, its nodes in order, and what concerns all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Where the form is sent.
    pub action: String,
    /// How it is sent.
    pub method: FormMethod,
    /// Its nodes, in the order in which they are shown.
    pub nodes: Vec<Node>,
    /// What concerns the form as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Text>,
}

impl Container {
    /// A form without nodes.
    pub fn new(action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            method: FormMethod::Post,
            nodes: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// The node of that name.
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name() == name)
    }

    /// Says something of the whole form, unless it says so already.
    pub fn say_once(&mut self, text: Text) {
        if self.messages.iter().all(|said| said.id != text.id) {
            self.messages.push(text);
        }
    }

    /// Adds a message to the field of that name, or to the form if the name is
    /// empty. A field that is not there is added, as Kratos does.
    pub fn say(&mut self, name: &str, text: Text) {
        if name.is_empty() {
            self.messages.push(text);
            return;
        }
        if let Some(node) = self.nodes.iter_mut().find(|node| node.name() == name) {
            node.messages.push(text);
            return;
        }
        let mut node =
            Node::input(Group::Default, InputAttributes::new(name, InputType::Text), None);
        node.messages.push(text);
        self.nodes.push(node);
    }

    /// Fills in the field of that name, if it is there.
    pub fn fill(&mut self, name: &str, value: Value) {
        let node = self.nodes.iter_mut().find(|node| node.name() == name);
        if let Some(input) = node.and_then(Node::input_mut) {
            input.value = Some(value);
        }
    }
}

/// The name of the field at an instance pointer: `#/traits/name/first` becomes
/// `traits.name.first`, the root becomes nothing.
pub fn field_of_pointer(pointer: &str) -> String {
    pointer
        .trim_start_matches('#')
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| part.replace("~1", "/").replace("~0", "~").replace('.', "\\."))
        .collect::<Vec<_>>()
        .join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_become_field_names() {
        let table = [
            ("#/", ""),
            ("#", ""),
            ("#/password", "password"),
            ("#/traits/name/first", "traits.name.first"),
            ("#/traits/a~1b", "traits.a/b"),
            ("#/traits/a.b", "traits.a\\.b"),
        ];
        for (pointer, name) in table {
            assert_eq!(field_of_pointer(pointer), name, "{pointer}");
        }
    }

    #[test]
    fn message_to_a_field_that_is_not_there_adds_it() {
        let mut form = Container::new("/");
        form.say("traits.x", Text::generic("no"));
        form.say("", Text::generic("all"));
        assert_eq!(form.find("traits.x").unwrap().messages.len(), 1);
        assert_eq!(form.messages.len(), 1);
    }
}
