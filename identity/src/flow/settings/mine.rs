//! Whose settings they are: the session that may see them, and what it is shown.

use cardea_storage::{Consistency, StoreError, Timestamp, Transaction};
use futures::join;

use super::SettingsRejection;
use crate::{
    Service,
    flow::{Flow, Purpose},
    identity::factors::Factors,
    model::{FlowId, Identity, IdentityId, Scope, json_of},
    session::{Proof, check::Found},
    table::{FlowRecord, IdentityRecord, id_of},
    ui::forms,
};

impl Service {
    /// Whether a session is all that is asked of one for settings.
    pub(crate) fn may_see_settings(&self, me: &Found) -> bool {
        let view = me.view(Timestamp(me.session.authenticated_at));
        view.satisfies(self.settings.settings_required_aal)
    }

    /// A settings flow, with the session of a proof that may see it; what that needs is read
    /// in a view.
    pub(super) async fn my_settings(
        &self,
        view: &Transaction,
        (scope, id): (Scope, FlowId),
        proof: Option<&Proof>,
    ) -> Result<(FlowRecord, Found), SettingsRejection> {
        let me = async {
            match proof {
                Some(proof) => self.me_in(view, scope, proof).await,
                None => Ok(None),
            }
        };
        let (record, me) = join!(self.latest_flow(scope, Purpose::Settings, id), me);
        let record = record?;
        let me = me?.ok_or(SettingsRejection::NoSession)?;
        if me.identity_id != id_of(&record.subject) {
            return Err(SettingsRejection::IdentityMismatch);
        }
        if !self.may_see_settings(&me) {
            return Err(SettingsRejection::SecondFactorRequired);
        }
        Ok((record, me))
    }

    /// The session of a proof, if it is accepted now.
    pub(crate) async fn me(
        &self,
        scope: Scope,
        proof: &Proof,
    ) -> Result<Option<Found>, StoreError> {
        self.me_in(&self.store.view(Consistency::Strong), scope, proof).await
    }

    /// The same, read in a view: what is read in it next of where the identity lives asks
    /// nobody again.
    pub(crate) async fn me_in(
        &self,
        view: &Transaction,
        scope: Scope,
        proof: &Proof,
    ) -> Result<Option<Found>, StoreError> {
        let found = self.find_session(view, scope, proof, false).await?;
        let now = view.judged_at();
        Ok(found.filter(|found| found.accepted(now).is_some()))
    }

    pub(crate) fn is_privileged(&self, me: &Found, now: Timestamp) -> bool {
        let age = now.since(Timestamp(me.session.authenticated_at));
        age <= self.settings.privileged_session_max_age
    }

    /// The flow with a form of what the identity says now.
    pub(in crate::flow) fn show_settings(
        &self,
        id: FlowId,
        record: &FlowRecord,
        identity: &IdentityRecord,
        factors: &Factors,
    ) -> Flow {
        let mut flow = self.show_flow(id, record);
        if let Some(schema) = self.schema(&identity.schema_id).or_else(|| self.schema("")) {
            let traits = json_of(&identity.traits);
            let offered = self.settings_form(record, identity, factors);
            flow.ui = forms::settings(&flow.ui.action, &schema, &traits, &offered);
            self.withhold_ways_in(identity, &mut flow.ui);
        }
        let owner = IdentityId(id_of(&record.subject));
        flow.identity = Some(Identity::public(owner, identity));
        flow
    }
}
