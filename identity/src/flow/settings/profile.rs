//! Changing what an identity says of itself. Where that changes by what it is found or
//! reached, the session must be fresh.

use cardea_storage::StoreError;
use serde_json::Value;

use super::{Change, Changing, Opened, Refusal, SettingsSubmission, Wanted};
use crate::{
    Service,
    identity::{ChangeRejection, IdentityChange},
    model::metadata,
    password::PasswordHash,
    schema::{Rule, Violation},
    session::CredentialKind,
    table::{CredentialKey, Credentials, Identities, IdentityKey, IdentityRecord},
    ui::forms,
};

impl Service {
    pub(super) fn want_profile(opened: &mut Opened, submission: SettingsSubmission) -> Wanted {
        forms::refill_traits(&mut opened.flow.ui, &submission.traits);
        Wanted::Profile(submission.traits)
    }

    pub(super) async fn apply_profile(
        &self,
        changing: &mut Changing<'_>,
        traits: &Value,
    ) -> Result<IdentityRecord, Refusal> {
        let (after, moved) = self.replace_mine(changing, traits.clone(), None).await?;
        if moved {
            changing.need_fresh()?;
            changing.news = Some(Change::Address);
        }
        Ok(after)
    }

    /// Writes traits, and a password with them; says whether the identity is found or
    /// reached elsewhere then.
    pub(super) async fn replace_mine(
        &self,
        changing: &mut Changing<'_>,
        traits: Value,
        hash: Option<&PasswordHash>,
    ) -> Result<(IdentityRecord, bool), Refusal> {
        let Changing { t, scope, me, .. } = changing;
        let key = IdentityKey { tenant: scope.tenant, id: me.identity_id };
        let before = me.identity.clone();
        let change = IdentityChange {
            schema_id: String::new(),
            traits,
            metadata_public: metadata(&before.metadata_public),
            metadata_admin: metadata(&before.metadata_admin),
            ..IdentityChange::default()
        };
        let credential = CredentialKey {
            tenant: scope.tenant,
            identity: me.identity_id,
            kind: CredentialKind::Password.number(),
        };
        let identifiers = async || -> Result<Vec<String>, StoreError> {
            let found = t.get::<Credentials>(&credential).await?;
            Ok(found.map(|entry| entry.record.identifiers).unwrap_or_default())
        };
        let known_as = identifiers().await?;
        let changed = self.become_changed(t, key, before.clone(), &change, hash).await;
        changed.map_err(|rejection| match rejection {
            ChangeRejection::InvalidTraits(violations) => Refusal::Invalid(violations),
            ChangeRejection::DuplicateIdentifier => Refusal::Taken,
            ChangeRejection::Store(error) => Refusal::Store(error),
            other => {
                let rule = Rule::Other { reason: other.to_string() };
                Refusal::Invalid(vec![Violation::new("#", rule)])
            }
        })?;
        let after = match t.get::<Identities>(&key).await? {
            Some(entry) => entry.record,
            None => return Err(Refusal::NoSession),
        };
        if let Some(text) = self.left_behind(&before, &after) {
            return Err(Refusal::Told("", text));
        }
        let moved = is_reached_elsewhere(&before, &after) || known_as != identifiers().await?;
        Ok((after, moved))
    }
}

/// Whether an identity is found or reached by other addresses than before.
pub(in crate::flow) fn is_reached_elsewhere(
    before: &IdentityRecord,
    after: &IdentityRecord,
) -> bool {
    let values = |record: &IdentityRecord| -> Vec<String> {
        let all = record.verifiable.iter().chain(&record.recovery);
        all.map(|address| address.value.clone()).collect()
    };
    values(before) != values(after)
}
