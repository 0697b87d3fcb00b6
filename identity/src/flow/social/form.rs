//! The nodes of providers: a button for each, and in settings one for each account.

use cardea_storage::{Consistency, StoreError};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Service,
    flow::{Flow, Purpose},
    model::{FlowId, Scope},
    session::CredentialKind,
    social::Provider,
    table::{CredentialKey, CredentialRecord, Credentials, FlowRecord},
    ui::{Container, Group, InputAttributes, InputType, Node, Text},
};

fn button(name: &str, value: &str, label: Text) -> Node {
    let mut attributes = InputAttributes::new(name, InputType::Submit);
    attributes.value = Some(json!(value));
    Node::input(Group::Oidc, attributes, Some(label))
}

impl Service {
    /// Adds the providers to a form that logs in or signs up. Where a provider has named
    /// somebody who is to sign up, nothing else is asked for than what is missing.
    pub(in crate::flow) fn offer_providers(
        &self,
        ui: &mut Container,
        purpose: Purpose,
        (id, record): (FlowId, &FlowRecord),
    ) {
        let label: fn(&Provider) -> Text = match purpose {
            Purpose::Login => |provider| Text::sign_in_with(&provider.label, &provider.id),
            Purpose::Registration => |provider| Text::sign_up_with(&provider.label, &provider.id),
            _ => return,
        };
        let providers = &self.settings.providers;
        if purpose == Purpose::Registration
            && let Some(pending) = self.pending(id, record)
        {
            ui.nodes.retain(|node| node.group == Group::Default);
            ui.nodes.push(button("provider", &pending.provider, Text::registration_continue()));
            return;
        }
        let buttons = providers.iter().map(|p| button("provider", &p.id, label(p)));
        ui.nodes.extend(buttons);
    }

    /// Adds the accounts of an identity to its settings.
    pub(in crate::flow) async fn show_links(
        &self,
        scope: Scope,
        flow: &mut Flow,
        identity: Uuid,
    ) -> Result<(), StoreError> {
        if !self.offers_social() {
            return Ok(());
        }
        let kind = CredentialKind::Oidc.number();
        let key = CredentialKey { tenant: scope.tenant, identity, kind };
        let found = self.store.view(Consistency::Strong).peek::<Credentials>(&key).await?;
        self.offer_links(&mut flow.ui, found.as_ref().map(|entry| &entry.record));
        Ok(())
    }

    /// Adds the accounts of an identity, and the providers where it may have others.
    pub(in crate::flow) fn offer_links(
        &self,
        ui: &mut Container,
        credential: Option<&CredentialRecord>,
    ) {
        let links = credential.map(|record| record.links.as_slice()).unwrap_or_default();
        for link in links {
            let provider = self.settings.providers.get(&link.provider);
            let name = provider.map_or(link.provider.as_str(), |provider| &provider.label);
            let several = links.iter().filter(|other| other.provider == link.provider).count() > 1;
            // Ory's interfaces send the provider's id.
            let value = if several { link.identifier() } else { link.provider.clone() };
            ui.nodes.push(button("unlink", &value, Text::label_unlink(name, &link.label)));
        }
        for provider in self.settings.providers.iter() {
            ui.nodes.push(button("link", &provider.id, Text::label_link(&provider.label)));
        }
    }
}
