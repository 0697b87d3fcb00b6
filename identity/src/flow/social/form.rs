//! The nodes of providers: a button for each, and in settings one for each account.

use cardea_storage::{StoreError, Transaction};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Service,
    flow::{Flow, Purpose, organization::organization_of},
    model::{FlowId, Scope},
    session::CredentialKind,
    social::Provider,
    table::{CredentialKey, CredentialRecord, Credentials, FlowRecord},
    ui::{Container, Group, InputAttributes, InputType, Node, Text},
};

pub(super) fn button(name: &str, value: &str, label: Text) -> Node {
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
        let organization = organization_of(record);
        if organization.is_some() {
            // Its people come by nothing else.
            ui.nodes.retain(|node| node.name() == "csrf_token");
        }
        let offered = providers.of(organization);
        ui.nodes.extend(offered.map(|p| button("provider", &p.id, label(p))));
    }

    /// Adds the accounts of an identity to its settings, as a view shows them.
    pub(in crate::flow) async fn show_links(
        &self,
        view: &Transaction,
        scope: Scope,
        flow: &mut Flow,
        identity: Uuid,
    ) -> Result<(), StoreError> {
        if !self.offers_social() {
            return Ok(());
        }
        let kind = CredentialKind::Oidc.number();
        let key = CredentialKey { tenant: scope.tenant, identity, kind };
        let found = view.peek::<Credentials>(&key).await?;
        let organization = flow.identity.as_ref().and_then(|identity| identity.organization);
        flow.organization = self.bound_to(organization);
        self.offer_links(flow, found.as_ref().map(|entry| &entry.record));
        Ok(())
    }

    /// Adds the accounts of an identity, and the providers where it may have others.
    pub(in crate::flow) fn offer_links(
        &self,
        Flow { ui, organization, .. }: &mut Flow,
        credential: Option<&CredentialRecord>,
    ) {
        let links = credential.map(|record| record.links.as_slice()).unwrap_or_default();
        for link in links {
            let provider = self.settings.providers.get(&link.provider);
            let name = provider.map_or(link.provider.as_str(), |provider| &provider.label);
            // What an organization links, it alone takes away.
            if organization.is_some() && provider.is_some_and(|p| p.organization == *organization) {
                continue;
            }
            let several = links.iter().filter(|other| other.provider == link.provider).count() > 1;
            // Ory's interfaces send the provider's id.
            let value = if several { link.identifier() } else { link.provider.clone() };
            ui.nodes.push(button("unlink", &value, Text::label_unlink(name, &link.label)));
        }
        // As in Kratos, an organization's providers are not linked here, nor do its people
        // link others.
        for provider in self.settings.providers.of(None).filter(|_| organization.is_none()) {
            ui.nodes.push(button("link", &provider.id, Text::label_link(&provider.label)));
        }
    }
}
