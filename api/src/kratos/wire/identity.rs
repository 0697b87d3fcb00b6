//! Identities on the wire (`identity`, `createIdentityBody`, `updateIdentityBody`,
//! `identitySchemaContainer`).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_identity::{
    model::{Address, Credential, Identity, LinkedAccount},
    session::CredentialKind,
    time::rfc3339,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who reads an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Its holder: neither credentials nor what is for administrators.
    Holder,
    /// An administrator.
    Administrator,
}

/// `identity`.
#[derive(Debug, Serialize)]
pub struct IdentityBody<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<BTreeMap<&'static str, CredentialBody<'a>>>,
    schema_id: &'a str,
    schema_url: String,
    state: &'static str,
    state_changed_at: String,
    traits: &'a Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    verifiable_addresses: Vec<VerifiableAddressBody<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recovery_addresses: Vec<RecoveryAddressBody<'a>>,
    metadata_public: &'a Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_admin: Option<&'a Option<Value>>,
    created_at: String,
    updated_at: String,
    organization_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
}

/// `identityCredentials`.
#[derive(Debug, Serialize)]
struct CredentialBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    identifiers: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Value>,
    version: u32,
    created_at: String,
    updated_at: String,
}

/// `verifiableIdentityAddress`.
#[derive(Debug, Serialize)]
struct VerifiableAddressBody<'a> {
    id: String,
    value: &'a str,
    verified: bool,
    via: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified_at: Option<String>,
    created_at: String,
    updated_at: String,
}

/// `recoveryIdentityAddress`.
#[derive(Debug, Serialize)]
struct RecoveryAddressBody<'a> {
    id: String,
    value: &'a str,
    via: &'static str,
    created_at: String,
    updated_at: String,
}

impl<'a> IdentityBody<'a> {
    /// An identity as somebody may see it.
    pub fn of(identity: &'a Identity, reader: Reader, public_url: &str) -> Self {
        let administrator = reader == Reader::Administrator;
        let credentials = administrator && !identity.credentials.is_empty();
        Self {
            id: identity.id.to_string(),
            credentials: credentials.then(|| {
                let entry = |c: &'a Credential| (c.kind.name(), CredentialBody::of(c));
                identity.credentials.iter().map(entry).collect()
            }),
            schema_id: &identity.schema_id,
            schema_url: schema_url(public_url, &identity.schema_id),
            state: identity.state.name(),
            state_changed_at: rfc3339(identity.state_changed_at),
            traits: &identity.traits,
            verifiable_addresses: identity
                .verifiable_addresses
                .iter()
                .map(VerifiableAddressBody::of)
                .collect(),
            recovery_addresses: identity
                .recovery_addresses
                .iter()
                .map(RecoveryAddressBody::of)
                .collect(),
            metadata_public: &identity.metadata_public,
            metadata_admin: administrator.then_some(&identity.metadata_admin),
            created_at: rfc3339(identity.created_at),
            updated_at: rfc3339(identity.updated_at),
            organization_id: identity.organization.map(|id| id.to_string()),
            external_id: identity.external_id.as_deref(),
        }
    }
}

impl<'a> CredentialBody<'a> {
    fn of(credential: &'a Credential) -> Self {
        let hash = credential.password_hash.as_ref();
        Self {
            kind: credential.kind.name(),
            identifiers: &credential.identifiers,
            config: hash
                .map(|hash| json!({"hashed_password": hash.expose()}))
                .or_else(|| providers(&credential.accounts)),
            version: 0,
            created_at: rfc3339(credential.created_at),
            updated_at: rfc3339(credential.updated_at),
        }
    }
}

/// `identityCredentialsOidc`.
fn providers(accounts: &[LinkedAccount]) -> Option<Value> {
    let provider = |account: &LinkedAccount| {
        let mut body = json!({
            "provider": account.provider,
            "subject": account.subject,
            "initial_access_token": account.access_token.expose(),
            "initial_refresh_token": account.refresh_token.expose(),
            "initial_id_token": account.id_token.expose(),
        });
        if let Some(organization) = account.organization {
            body["organization"] = organization.to_string().into();
        }
        body
    };
    let providers: Vec<_> = accounts.iter().map(provider).collect();
    (!providers.is_empty()).then(|| json!({"providers": providers}))
}

impl<'a> VerifiableAddressBody<'a> {
    fn of(address: &'a Address) -> Self {
        Self {
            id: address.id.to_string(),
            value: &address.value,
            verified: address.verified_at.is_some(),
            via: address.via.name(),
            status: address.status(),
            verified_at: address.verified_at.map(rfc3339),
            created_at: rfc3339(address.created_at),
            updated_at: rfc3339(address.updated_at),
        }
    }
}

impl<'a> RecoveryAddressBody<'a> {
    fn of(address: &'a Address) -> Self {
        Self {
            id: address.id.to_string(),
            value: &address.value,
            via: address.via.name(),
            created_at: rfc3339(address.created_at),
            updated_at: rfc3339(address.updated_at),
        }
    }
}

/// Where a schema is read: its name may hold any character, so it is encoded.
pub fn schema_url(public_url: &str, schema_id: &str) -> String {
    format!("{public_url}/schemas/{}", URL_SAFE_NO_PAD.encode(schema_id))
}

/// The kinds of credentials that Ory has names for.
pub(crate) const CREDENTIAL_NAMES: [&str; 13] = [
    "password",
    "oidc",
    "totp",
    "lookup_secret",
    "webauthn",
    "code",
    "passkey",
    "profile",
    "saml",
    "deviceauthn",
    "identifier_first",
    "link_recovery",
    "code_recovery",
];

/// Whether a name of Ory's asks for the password's hash.
pub(crate) fn is_password(name: &str) -> bool {
    name == CredentialKind::Password.name()
}

/// `createIdentityBody`. A member that is null is as good as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateIdentityBody {
    pub(crate) schema_id: Option<String>,
    pub(crate) traits: Option<Value>,
    pub(crate) credentials: Option<Value>,
    pub(crate) verifiable_addresses: Option<Vec<ImportedAddressBody>>,
    /// Taken, and not needed: the traits give them.
    #[serde(rename = "recovery_addresses")]
    pub(crate) _recovery_addresses: Option<Vec<Value>>,
    pub(crate) metadata_public: Option<Value>,
    pub(crate) metadata_admin: Option<Value>,
    pub(crate) state: Option<String>,
    pub(crate) organization_id: Option<Value>,
    pub(crate) external_id: Option<String>,
    pub(crate) region: Option<String>,
}

/// What an importer knows of an address.
#[derive(Deserialize)]
pub(crate) struct ImportedAddressBody {
    pub(crate) value: Option<String>,
    pub(crate) verified: Option<bool>,
    pub(crate) via: Option<String>,
    pub(crate) verified_at: Option<String>,
}

/// `updateIdentityBody`.
#[derive(Deserialize)]
pub(crate) struct UpdateIdentityBody {
    pub(crate) schema_id: Option<String>,
    pub(crate) traits: Option<Value>,
    pub(crate) credentials: Option<Value>,
    pub(crate) metadata_public: Option<Value>,
    pub(crate) metadata_admin: Option<Value>,
    pub(crate) state: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) region: Option<String>,
}

/// `identityPatch`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityPatchBody {
    pub(crate) create: Option<Value>,
    pub(crate) patch_id: Option<String>,
}

/// `patchIdentitiesBody`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchIdentitiesBody {
    pub(crate) identities: Option<Vec<IdentityPatchBody>>,
}

/// `identityPatchResponse`.
#[derive(Debug, Serialize)]
pub(crate) struct IdentityPatchAnswer {
    pub(crate) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) patch_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Value>,
}

/// `identitySchemaContainer`.
#[derive(Debug, Serialize)]
pub(crate) struct SchemaBody<'a> {
    pub(crate) id: &'a str,
    pub(crate) schema: &'a Value,
}
