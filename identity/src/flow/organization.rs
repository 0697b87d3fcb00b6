//! Flows of organizations, and the hook `b2b_sso`, which makes them the only way in.
//!
//! A flow may be an organization's: it then offers that organization's providers and
//! nothing else, and no other flow offers those. What the hook adds, after each method
//! that it is named for:
//! - who comes through an organization's provider belongs to the organization from then on,
//!   unless it belongs to one already, which stays its own;
//! - who belongs to an organization that has a provider logs in by no other way. That is
//!   found out once the other way was right, so it tells a stranger nothing;
//! - who signs up with an address of an organization's domain does so through its provider;
//! - who belongs to one that has a provider gets no other way in by its settings either: no
//!   password, no key that counts alone, no account elsewhere. It might outlive the employment.
//!   Nor does it move to an address outside of the organization's domains, which would be
//!   written to, and known by, behind its back; an administrator may do that.
//!
//! Whoever took another way is not refused for good: the flow becomes the organization's.

use bytes::Bytes;
use cardea_storage::StoreError;
use uuid::Uuid;

use super::{Flow, Purpose, begin::BeginRejection, login::Attempt, sent_code::EMAIL};
use crate::{
    Service,
    hook::Action,
    model::{FlowId, Scope, json_of},
    schema::{Channel, Extracted},
    session::{Aal, CredentialKind},
    table::{FlowRecord, IdentityRecord, id_bytes},
    ui::{Container, Group, Text},
};

/// What an identity's organization says of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flow) enum Membership {
    /// Nothing.
    Free,
    /// It belongs to this one from now on.
    Joins(Uuid),
    /// It must come through this one's provider.
    Elsewhere(Uuid),
}

/// The organization that a flow is of.
pub(in crate::flow) fn organization_of(record: &FlowRecord) -> Option<Uuid> {
    Uuid::from_slice(&record.organization).ok()
}

impl Service {
    /// The organization that its people must log in through, if a hook says so after any
    /// method.
    pub(in crate::flow) fn bound_to(&self, organization: Option<Uuid>) -> Option<Uuid> {
        let is_binding = self.settings.hooks.names(Purpose::Login, Action::binds);
        organization.filter(|_| is_binding).filter(|organization| self.signs_in(*organization))
    }

    /// Whether an organization has a provider.
    fn signs_in(&self, organization: Uuid) -> bool {
        self.settings.providers.of(Some(organization)).next().is_some()
    }

    /// Makes a flow that begins an organization's.
    ///
    /// # Errors
    /// [`BeginRejection::UnknownOrganization`] if there is none of that id, or it has no
    /// provider.
    pub(super) fn scope_begun(
        &self,
        record: &mut FlowRecord,
        organization: Option<Uuid>,
    ) -> Result<(), BeginRejection> {
        let Some(organization) = organization else { return Ok(()) };
        if !self.signs_in(organization) {
            return Err(BeginRejection::UnknownOrganization(organization));
        }
        record.organization = id_bytes(&organization);
        Ok(())
    }

    /// What becomes of somebody who has shown a factor.
    pub(super) fn membership(
        &self,
        attempt: &Attempt<'_>,
        identity: &IdentityRecord,
    ) -> Membership {
        if attempt.factor.aal == Aal::Aal2 {
            return Membership::Free;
        }
        let method = attempt.factor.kind.name();
        let binds = self.settings.hooks.runs(Purpose::Login, method, Action::binds);
        let through = organization_of(attempt.flow.1);
        let is_provider = attempt.factor.kind == CredentialKind::Oidc;
        match (through, self.bound_to(identity.organization())) {
            (Some(through), _) if !is_provider => Membership::Elsewhere(through),
            (through, Some(own)) if binds && through != Some(own) => Membership::Elsewhere(own),
            (Some(through), None) if binds && identity.organization.is_empty() => {
                Membership::Joins(through)
            }
            _ => Membership::Free,
        }
    }

    /// The organization that somebody who signs up is to come through instead.
    pub(super) fn signs_up_elsewhere(
        &self,
        record: &FlowRecord,
        kind: CredentialKind,
        found: &Extracted,
    ) -> Option<Uuid> {
        let through = organization_of(record);
        if through.is_some() {
            return through.filter(|_| kind != CredentialKind::Oidc);
        }
        if !self.settings.hooks.runs(Purpose::Registration, kind.name(), Action::binds) {
            return None;
        }
        let addresses = [&found.verifiable, &found.recovery, &found.code_addresses];
        let addresses = addresses.into_iter().flatten().map(|address| &address.value);
        let mut all = addresses.chain(&found.password_identifiers);
        let owner = all.find_map(|value| self.settings.organizations.of_email(value))?;
        Some(owner.id).filter(|organization| self.signs_in(*organization))
    }

    /// The organization that somebody who signs up belongs to.
    pub(super) fn joined_by(&self, record: &FlowRecord, kind: CredentialKind) -> Option<Uuid> {
        let binds = self.settings.hooks.runs(Purpose::Registration, kind.name(), Action::binds);
        organization_of(record).filter(|_| binds && kind == CredentialKind::Oidc)
    }

    /// Makes a flow an organization's; gives its form, which says why.
    pub(super) async fn lead_to_organization(
        &self,
        scope: Scope,
        (id, record): (FlowId, &FlowRecord),
        organization: Uuid,
    ) -> Result<Flow, StoreError> {
        let turned = &FlowRecord {
            organization: id_bytes(&organization),
            state: 0,
            form: Bytes::new(),
            ..record.clone()
        };
        self.rewrite_flow(scope, id, turned).await?;
        let mut flow = self.show_flow(id, turned);
        flow.ui.messages.push(self.managed_by(organization));
        Ok(flow)
    }

    /// Takes out of the settings of somebody whom an organization signs in what would be
    /// another way in. What there is of those may be given up.
    pub(super) fn withhold_ways_in(&self, identity: &IdentityRecord, ui: &mut Container) {
        if self.bound_to(identity.organization()).is_none() {
            return;
        }
        let alone = self.settings.passwordless_keys;
        ui.nodes.retain(|node| match node.group {
            Group::Password => false,
            Group::Passkey => node.name() == "passkey_remove",
            Group::Webauthn if alone => node.name() == "webauthn_remove",
            _ => true,
        });
        ui.say_once(Text::managed_by_organization());
    }

    /// What is said of a change by which somebody leaves an organization whose people it is
    /// to stay among; `None` if it does not. The transaction that makes the change asks.
    pub(super) fn left_behind(
        &self,
        before: &IdentityRecord,
        after: &IdentityRecord,
    ) -> Option<Text> {
        let old = self.mail_addresses(before);
        let new = self.mail_addresses(after).into_iter().filter(|value| !old.contains(value));
        self.outside_of_its_own(before, new)
    }

    /// What is said of addresses that are new to somebody, if one is of none of the domains
    /// of the organization that signs it in.
    pub(super) fn outside_of_its_own(
        &self,
        identity: &IdentityRecord,
        mut new: impl Iterator<Item = String>,
    ) -> Option<Text> {
        let organization = self.bound_to(identity.organization())?;
        let known = self.settings.organizations.get(organization)?;
        if known.domains.is_empty() || new.all(|address| known.has(&address)) {
            return None;
        }
        let reason = format!("An address of people of {} is one of its own domains.", known.label);
        Some(Text::generic_about(&reason, "own_domains", known.label.as_str()))
    }

    /// The e-mail addresses that an identity is written to, and those that it is known by.
    fn mail_addresses(&self, identity: &IdentityRecord) -> Vec<String> {
        let kept = identity.verifiable.iter().chain(&identity.recovery);
        let kept = kept.filter(|address| address.via == EMAIL).map(|a| a.value.clone());
        let schema = self.schema(&identity.schema_id);
        let found = schema.and_then(|schema| schema.check(&json_of(&identity.traits)).ok());
        let found = found.unwrap_or_default();
        let codes = found.code_addresses.into_iter().filter(|a| a.via == Channel::Email);
        let names = found.password_identifiers.into_iter().filter(|name| name.contains('@'));
        kept.chain(codes.map(|address| address.value)).chain(names).collect()
    }

    /// That an organization decides how its people sign in.
    pub(super) fn managed_by(&self, organization: Uuid) -> Text {
        let known = self.settings.organizations.get(organization);
        let label = known.map_or_else(|| organization.to_string(), |known| known.label.clone());
        let reason = format!("{label} signs its people in. Please continue with its own sign-in.");
        Text::generic_about(&reason, "organization", label)
    }
}
