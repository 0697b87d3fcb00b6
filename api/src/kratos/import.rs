//! Bringing identities along from Ory Kratos; ours, for `createIdentity` gives new ids.
//! Each is written as Kratos shows it to administrators, credentials included
//! (`include_credential`), and is a transaction of its own.

use axum::{extract::State, response::Response};
use cardea_identity::{
    IdentityId, Scope,
    identity::{
        BringRejection, ForeignAddress, ForeignIdentity, ForeignPassword, ForeignSession,
        OtherCredentials,
    },
    model::IdentityState,
    schema::Channel,
    session::{Aal, AuthenticationMethod, CredentialKind},
    social::claims::Upstream,
    time::parse_rfc3339,
};
use cardea_storage::{Secret, Timestamp};
use futures::{StreamExt as _, stream};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json as value};
use uuid::Uuid;

use super::Kratos;
use crate::{
    answer::json,
    body::Sent,
    error::ApiError,
    request::{Caller, is_uuid},
};

/// Most identities of a request.
const ITEMS_MAX: usize = 500;
/// Identities under way at once.
const AT_ONCE: usize = 16;

/// Kinds of credentials that are brought beside [`OtherCredentials`], and those that say
/// nothing that would have to be.
const BROUGHT: [&str; 2] = ["password", "code"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    identities: Vec<Value>,
    #[serde(default)]
    dry_run: bool,
}

/// `identity`, as Kratos shows it. What is not known is ignored: newer versions show
/// more.
#[derive(Deserialize)]
struct ForeignBody {
    id: String,
    schema_id: Option<String>,
    state: Option<String>,
    state_changed_at: Option<String>,
    traits: Option<Value>,
    metadata_public: Option<Value>,
    metadata_admin: Option<Value>,
    organization_id: Option<String>,
    external_id: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
    #[serde(default)]
    verifiable_addresses: Vec<AddressBody>,
    #[serde(default)]
    recovery_addresses: Vec<AddressBody>,
    #[serde(default)]
    credentials: Map<String, Value>,
    /// With their tokens, which Kratos itself shows to nobody.
    #[serde(default)]
    sessions: Vec<SessionBody>,
}

#[derive(Deserialize)]
struct SessionBody {
    id: String,
    token: String,
    #[serde(default)]
    authentication_methods: Vec<MethodBody>,
    issued_at: Option<String>,
    authenticated_at: Option<String>,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct MethodBody {
    method: Option<String>,
    aal: Option<String>,
    completed_at: Option<String>,
    provider: Option<String>,
    organization: Option<String>,
    upstream_acr: Option<String>,
    upstream_amr: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct AddressBody {
    id: String,
    value: String,
    via: Option<String>,
    status: Option<String>,
    verified: Option<bool>,
    verified_at: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

pub(super) async fn import(
    State(kratos): State<Kratos>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body: ImportBody = sent.json()?;
    if body.identities.len() > ITEMS_MAX {
        return Err(ApiError::bad_request(format!("At most {ITEMS_MAX} identities at once.")));
    }
    let work =
        body.identities.into_iter().map(|item| bring(&kratos, caller.scope, item, body.dry_run));
    let done: Vec<(Value, Option<ApiError>)> = stream::iter(work).buffered(AT_ONCE).collect().await;
    // Where the store answers nobody, the same request is to be sent again.
    if let Some((_, Some(error))) = done.first().filter(|_| done.iter().all(|d| d.1.is_some())) {
        return Err(error.clone());
    }
    let done: Vec<Value> = done.into_iter().map(|(told, _)| told).collect();
    Ok(json(StatusCode::OK, &value!({ "identities": done })))
}

/// What became of an identity, and the error if the store could not say.
async fn bring(
    kratos: &Kratos,
    scope: Scope,
    item: Value,
    rehearse: bool,
) -> (Value, Option<ApiError>) {
    let id = item["id"].clone();
    let refused =
        |reason: String| (value!({"id": id, "outcome": "refused", "reason": reason}), None);
    let (foreign, mut left) = match read(kratos, &item) {
        Ok(read) => read,
        Err(reason) => return refused(reason),
    };
    match kratos.service().bring_identity(scope, &foreign, rehearse).await {
        Ok(done) => {
            if let Some(why) = done.password_left {
                left.push(format!("password: {why}"));
            }
            (value!({"id": id, "outcome": done.outcome.name(), "left": left}), None)
        }
        Err(BringRejection::InvalidTraits(violations)) => {
            let told = violations.iter().map(|v| format!("I[{}] {}", v.pointer, v.text().text));
            refused(told.collect::<Vec<_>>().join("; "))
        }
        Err(BringRejection::Store(error)) => {
            let error = ApiError::from(error);
            let told = value!({"id": id, "outcome": "failed", "error": error.shown()});
            (told, Some(error))
        }
        Err(rejection) => refused(rejection.to_string()),
    }
}

/// An identity, and what of it is left behind.
fn read(kratos: &Kratos, item: &Value) -> Result<(ForeignIdentity, Vec<String>), String> {
    // The same identity is written the same way each time. What is read of it counts too:
    // what a former version left behind is brought by the next run.
    let digest = *blake3::hash(format!("3 {item}").as_bytes()).as_bytes();
    let body: ForeignBody =
        serde_json::from_value(item.clone()).map_err(|error| error.to_string())?;
    let created_at = time(body.created_at.as_deref())?.unwrap_or_default();
    let updated_at = time(body.updated_at.as_deref())?.unwrap_or(created_at);
    let state = match body.state.as_deref() {
        None | Some("") => IdentityState::Active,
        Some(name) => IdentityState::parse(name).ok_or(format!("{name:?} is no state"))?,
    };
    let mut left = Vec::new();
    for (kind, credential) in &body.credentials {
        let config = &credential["config"];
        let is_empty = config.is_null() || config.as_object().is_some_and(Map::is_empty);
        let known = BROUGHT.contains(&kind.as_str()) || OtherCredentials::takes(kind);
        if !known && !is_empty {
            left.push(format!("{kind}: credentials of this type are not brought yet"));
        }
    }
    let (others, refused) = kratos.service().read_other_credentials(&body.credentials);
    left.extend(refused.into_iter().map(|left| format!("{}: {}", left.kind, left.why)));
    let password = password(body.credentials.get("password"), (created_at, updated_at))?;
    let mut sessions = Vec::new();
    for body in body.sessions {
        match session(body)? {
            Some(session) => sessions.push(session),
            None => left.push("session: how its holder was authenticated is not known".to_owned()),
        }
    }
    let foreign = ForeignIdentity {
        id: IdentityId(uuid(&body.id)?),
        schema_id: body.schema_id.unwrap_or_default(),
        traits: body.traits.unwrap_or_else(|| value!({})),
        state,
        state_changed_at: time(body.state_changed_at.as_deref())?.unwrap_or(created_at),
        metadata_public: body.metadata_public,
        metadata_admin: body.metadata_admin,
        organization: match body.organization_id.filter(|id| !id.is_empty()) {
            Some(id) => Some(uuid(&id)?),
            None => None,
        },
        external_id: body.external_id.filter(|id| !id.is_empty()),
        verifiable: addresses(body.verifiable_addresses, created_at)?,
        recovery: addresses(body.recovery_addresses, created_at)?,
        password,
        others,
        sessions,
        created_at,
        updated_at,
        digest,
    };
    Ok((foreign, left))
}

fn password(
    credential: Option<&Value>,
    times: (Timestamp, Timestamp),
) -> Result<Option<ForeignPassword>, String> {
    let Some(credential) = credential else { return Ok(None) };
    let config = &credential["config"];
    let hash = config["hashed_password"].as_str().filter(|hash| !hash.is_empty());
    // Kratos, too, asks no other server once it has a hash.
    if hash.is_none() && config["use_password_migration_hook"] != Value::Bool(true) {
        return Ok(None);
    }
    Ok(Some(ForeignPassword {
        hash: hash.map(|hash| Secret::new(hash.to_owned())),
        created_at: time(credential["created_at"].as_str())?.unwrap_or(times.0),
        updated_at: time(credential["updated_at"].as_str())?.unwrap_or(times.1),
    }))
}

/// A session; `None` if nothing is known here of what its holder has shown.
fn session(body: SessionBody) -> Result<Option<ForeignSession>, String> {
    let issued_at = time(body.issued_at.as_deref())?.unwrap_or_default();
    let authenticated_at = time(body.authenticated_at.as_deref())?.unwrap_or(issued_at);
    let mut methods = Vec::new();
    for shown in &body.authentication_methods {
        let kind = shown.method.as_deref().and_then(CredentialKind::parse);
        let aal = Aal::parse(shown.aal.as_deref().unwrap_or("aal1"));
        let (Some(method), Some(aal)) = (kind, aal) else { continue };
        let completed_at = time(shown.completed_at.as_deref())?.unwrap_or(authenticated_at);
        let organization = shown.organization.as_deref();
        methods.push(AuthenticationMethod {
            method,
            aal,
            completed_at,
            via: None,
            provider: shown.provider.clone().filter(|provider| !provider.is_empty()),
            organization: organization.and_then(|id| id.parse().ok()),
            upstream: Upstream {
                acr: shown.upstream_acr.clone(),
                amr: shown.upstream_amr.clone().unwrap_or_default(),
            },
        });
    }
    if methods.is_empty() {
        return Ok(None);
    }
    Ok(Some(ForeignSession {
        id: uuid(&body.id)?,
        token: Secret::new(body.token),
        methods,
        issued_at,
        authenticated_at,
        expires_at: time(body.expires_at.as_deref())?.unwrap_or_default(),
    }))
}

fn addresses(
    bodies: Vec<AddressBody>,
    created_at: Timestamp,
) -> Result<Vec<ForeignAddress>, String> {
    let read = |body: AddressBody| {
        let created_at = time(body.created_at.as_deref())?.unwrap_or(created_at);
        let verified_at = time(body.verified_at.as_deref())?.unwrap_or(created_at);
        let status = body.status.as_deref();
        let is_verified = body.verified.unwrap_or(status == Some("completed"));
        Ok(ForeignAddress {
            id: uuid(&body.id)?,
            via: match body.via.as_deref() {
                None | Some("" | "email") => Channel::Email,
                Some("sms") => Channel::Sms,
                Some(other) => return Err(format!("an address cannot be reached via {other:?}")),
            },
            value: body.value,
            verified_at: is_verified.then_some(verified_at),
            sent: status == Some("sent"),
            created_at,
            updated_at: time(body.updated_at.as_deref())?.unwrap_or(created_at),
        })
    };
    bodies.into_iter().map(read).collect()
}

fn uuid(text: &str) -> Result<Uuid, String> {
    text.parse().ok().filter(|_| is_uuid(text)).ok_or(format!("{text:?} is no UUID"))
}

/// A time, if there is one: databases write none as null or as the year 1.
fn time(text: Option<&str>) -> Result<Option<Timestamp>, String> {
    match text {
        None | Some("") => Ok(None),
        Some(text) if text.starts_with("0001-") => Ok(None),
        Some(text) => parse_rfc3339(text).map(Some).ok_or(format!("{text:?} is no time")),
    }
}
