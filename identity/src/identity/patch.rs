//! Changing an identity by JSON Patch (`patchIdentity`, RFC 6902).
//!
//! The document that a patch meets has the members `id`, `schema_id`, `traits`,
//! `state`, `metadata_public`, `metadata_admin`, `external_id` and `organization_id`;
//! all but the id may be changed.
//! Size and depth are bounded after every operation: a few copies of a document
//! into itself would grow it without end.

use json_patch::{Patch, PatchOperation};
use serde_json::{Value, json};
use thiserror::Error;

use super::change::{ChangeRejection, Edit, IdentityChange};
use crate::{
    Service,
    model::{Identity, IdentityId, IdentityState, Scope},
    table::{Identities, IdentityKey},
};

/// Most operations of a patch.
const OPERATIONS_MAX: usize = 100;
/// The largest document between operations, in bytes of JSON.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// The deepest document between operations.
const DEPTH_MAX: usize = 64;
/// What may be changed.
const CHANGEABLE: [&str; 7] = [
    "schema_id",
    "traits",
    "state",
    "metadata_public",
    "metadata_admin",
    "external_id",
    "organization_id",
];

/// Why a patch is not applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatchRefused {
    /// It is no JSON Patch.
    #[error("the body is not a JSON Patch: {0}")]
    Malformed(String),
    /// It has more than 100 operations, or makes the document too large or deep.
    #[error("the patch makes too much of it")]
    TooLarge,
    /// It touches what may not be patched.
    #[error("the path {0:?} may not be patched")]
    PathNotAllowed(String),
    /// An operation does not apply to the identity as it is.
    #[error("the patch does not apply: {0}")]
    NotApplicable(String),
    /// The result is not an identity.
    #[error("the patched identity is not valid: {0}")]
    BadResult(&'static str),
}

impl Service {
    /// Patches an identity.
    ///
    /// # Errors
    /// See [`ChangeRejection`].
    pub async fn patch_identity(
        &self,
        scope: Scope,
        id: IdentityId,
        patch: &Value,
    ) -> Result<Identity, ChangeRejection> {
        let patch = &read(patch)?;
        let done = self
            .store
            .transact(|t| async move {
                let key = IdentityKey { tenant: scope.tenant, id: id.0 };
                let before = t.get::<Identities>(&key).await?.ok_or(ChangeRejection::NotFound)?;
                let change = apply(patch, &Identity::of(id, &before.record))?;
                let was_inactive = before.record.inactive;
                let changed = self.become_changed(&t, key, before.record, &change, None).await?;
                let acts = (was_inactive, change.state, false);
                self.audit_change(&t, scope, id, acts).await?;
                Ok::<_, ChangeRejection>(changed)
            })
            .await?;
        Ok(done.value)
    }
}

/// Reads a patch, and refuses what no identity could make allowed.
fn read(patch: &Value) -> Result<Patch, PatchRefused> {
    let patch: Patch = serde_json::from_value(patch.clone())
        .map_err(|error| PatchRefused::Malformed(error.to_string()))?;
    if patch.0.len() > OPERATIONS_MAX {
        return Err(PatchRefused::TooLarge);
    }
    for operation in &patch.0 {
        let from = match operation {
            PatchOperation::Move(operation) => Some(&*operation.from),
            PatchOperation::Copy(operation) => Some(&*operation.from),
            _ => None,
        };
        let reads_only = matches!(operation, PatchOperation::Test(_));
        for path in [Some(operation.path()), from].into_iter().flatten() {
            let path = path.as_str();
            let member = path.strip_prefix('/').and_then(|rest| rest.split('/').next());
            let allowed = member.is_some_and(|member| {
                CHANGEABLE.contains(&member) || (reads_only && member == "id")
            });
            if !allowed {
                return Err(PatchRefused::PathNotAllowed(path.to_owned()));
            }
        }
    }
    Ok(patch)
}

fn apply(patch: &Patch, identity: &Identity) -> Result<IdentityChange, PatchRefused> {
    let mut document = json!({
        "id": identity.id.to_string(),
        "schema_id": identity.schema_id,
        "traits": identity.traits,
        "state": identity.state.name(),
        "metadata_public": identity.metadata_public,
        "metadata_admin": identity.metadata_admin,
        "external_id": identity.external_id,
        "organization_id": identity.organization.map(|id| id.to_string()),
    });
    for operation in &patch.0 {
        json_patch::patch(&mut document, std::slice::from_ref(operation))
            .map_err(|error| PatchRefused::NotApplicable(error.to_string()))?;
        if is_deeper(&document, DEPTH_MAX) || document.to_string().len() > DOCUMENT_BYTES_MAX {
            return Err(PatchRefused::TooLarge);
        }
    }
    let bad = PatchRefused::BadResult;
    let text = |name: &str| document[name].as_str();
    Ok(IdentityChange {
        schema_id: match text("schema_id") {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => return Err(bad("schema_id is not a string")),
        },
        traits: match &document["traits"] {
            traits @ Value::Object(_) => traits.clone(),
            _ => return Err(bad("traits is not an object")),
        },
        state: match text("state").and_then(IdentityState::parse) {
            None => return Err(bad("state is neither \"active\" nor \"inactive\"")),
            state => state,
        },
        metadata_public: document.get("metadata_public").cloned(),
        metadata_admin: document.get("metadata_admin").cloned(),
        password: None,
        external_id: Edit::Set(match &document["external_id"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            _ => return Err(bad("external_id is not a string")),
        }),
        organization: Edit::Set(match &document["organization_id"] {
            Value::Null => None,
            Value::String(text) => {
                Some(text.parse().map_err(|_| bad("organization_id is no UUID"))?)
            }
            _ => return Err(bad("organization_id is no UUID")),
        }),
    })
}

/// Whether a value is nested deeper than `depth`. Goes no deeper itself.
fn is_deeper(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth == 0 || items.iter().any(|item| is_deeper(item, depth - 1)),
        Value::Object(map) => depth == 0 || map.values().any(|item| is_deeper(item, depth - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_that_could_never_be_applied_are_refused() {
        let malformed = [
            json!({}),
            json!([{"op": "add"}]),
            json!([{"op": "nonsense", "path": "/traits"}]),
            json!([{"op": "add", "path": "no pointer", "value": 1}]),
        ];
        for patch in malformed {
            assert!(matches!(read(&patch), Err(PatchRefused::Malformed(_))), "{patch}");
        }
        let outside = [
            "",
            "/",
            "/id",
            "/credentials",
            "/credentials/oidc",
            "/stateChangedAt",
            "/created_at",
            "/session_epoch",
            "/Traits",
        ];
        for path in outside {
            let patch = json!([{"op": "replace", "path": path, "value": 1}]);
            assert_eq!(read(&patch).err(), Some(PatchRefused::PathNotAllowed(path.to_owned())));
        }
        let from = json!([{"op": "copy", "from": "/credentials", "path": "/metadata_public"}]);
        assert!(matches!(read(&from), Err(PatchRefused::PathNotAllowed(_))));
        let many = json!(vec![json!({"op": "remove", "path": "/traits/x"}); 101]);
        assert_eq!(read(&many).err(), Some(PatchRefused::TooLarge));
    }

    #[test]
    fn depth_is_found_without_going_deeper() {
        let mut value = json!(1);
        for depth in 0..10 {
            assert!(!is_deeper(&value, depth));
            assert!(depth == 0 || is_deeper(&value, depth - 1));
            value = json!([value]);
        }
    }
}
