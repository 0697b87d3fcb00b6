//! What a user interface is told to show: containers of nodes with messages, in
//! the form that Ory Kratos gives to its clients. Values serialise as they go
//! over the wire; `api` adds nothing to them.

pub mod container;
pub mod forms;
pub mod node;
pub mod text;

pub use container::{Container, FormMethod};
pub use node::{Attributes, Group, InputAttributes, InputType, Meta, Node, NodeType};
pub use text::{Text, TextType};
