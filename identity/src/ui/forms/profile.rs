//! The nodes of traits: what the identity schema asks for.

use super::button;
use crate::{
    schema::{Field, IdentitySchema},
    ui::{Group, Node, Text},
};

pub(super) fn registration(schema: &IdentitySchema) -> impl Iterator<Item = Node> {
    schema.fields().iter().map(Field::node)
}

pub(super) fn settings(schema: &IdentitySchema) -> impl Iterator<Item = Node> {
    let fields = schema.fields().iter().map(|field| Node { group: Group::Profile, ..field.node() });
    fields.chain([button(Group::Profile, "profile", Text::label_save())])
}
