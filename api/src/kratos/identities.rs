//! `createIdentity`, `getIdentity`, `getIdentityByExternalID`, `listIdentities`,
//! `updateIdentity`, `patchIdentity`, `deleteIdentity`, `deleteIdentityCredentials`.

use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use cardea_identity::{
    IdentityId, PageRequest, Scope,
    identity::{
        CredentialDetail, CredentialsRefused, Edit, IdentityChange, ImportedAddress, ListFilter,
        NewIdentity, NewPassword, OtherCredentials, ReadRejection, RemoveRejection,
    },
    model::{Identity, IdentityState, Page},
    schema::Channel,
    session::CredentialKind,
    time::parse_rfc3339,
};
use cardea_storage::{Consistency, Timestamp};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderValue, StatusCode, Uri, header};
use serde_json::{Map, Value};

use super::{
    Kratos,
    wire::identity::{
        CREDENTIAL_NAMES, CreateIdentityBody, IdentityBody, ImportedAddressBody, Reader,
        UpdateIdentityBody, is_password,
    },
};
use crate::{
    answer::{json, no_content},
    body::Sent,
    consistency::Wanted,
    error::ApiError,
    paging::{LEGACY_ITEMS_MAX, Paging, link_by_number, link_by_token},
    query::Query,
    request::{Caller, IdOr404, is_uuid},
};

/// Identities whose credentials are read at once.
const READS_AT_ONCE: usize = 16;

pub(super) async fn create(
    State(kratos): State<Kratos>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, ApiError> {
    let new = new_identity(&kratos, sent.strict_json()?)?;
    let identity = kratos.service().create_identity(caller.scope, new).await?;
    let mut response = shown(&kratos, StatusCode::CREATED, &identity);
    if let Ok(location) = HeaderValue::from_str(&format!("/admin/identities/{}", identity.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// What a body asks to be created.
pub(super) fn new_identity(
    kratos: &Kratos,
    body: CreateIdentityBody,
) -> Result<NewIdentity, ApiError> {
    refuse_unsupported(&body.region)?;
    let addresses = body.verifiable_addresses.unwrap_or_default();
    let now = kratos.service().now();
    Ok(NewIdentity {
        schema_id: body.schema_id.unwrap_or_default(),
        traits: traits(body.traits),
        state: state(body.state.as_deref())?.unwrap_or(IdentityState::Active),
        metadata_public: body.metadata_public,
        metadata_admin: body.metadata_admin,
        password: NewPassword::among(body.credentials.as_ref().unwrap_or(&Value::Null))
            .map_err(refused)?,
        others: others(kratos, body.credentials.as_ref())?,
        addresses: addresses
            .into_iter()
            .map(|address| imported(address, now))
            .collect::<Result<_, _>>()?,
        external_id: body.external_id.filter(|id| !id.is_empty()),
        organization: organization(body.organization_id.as_ref())?,
    })
}

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<IdentityId>,
    Wanted(consistency): Wanted,
    query: Query,
) -> Result<Response, ApiError> {
    let detail = included(&query)?.unwrap_or_default();
    let identity = kratos.service().identity(caller.scope, id, detail, consistency).await?;
    Ok(shown(&kratos, StatusCode::OK, &identity))
}

pub(super) async fn by_external_id(
    State(kratos): State<Kratos>,
    caller: Caller,
    Path(external_id): Path<String>,
    Wanted(consistency): Wanted,
    query: Query,
) -> Result<Response, ApiError> {
    let detail = included(&query)?.unwrap_or_default();
    let found =
        kratos.service().identity_by_external_id(caller.scope, &external_id, detail, consistency);
    let identity = found.await?;
    Ok(shown(&kratos, StatusCode::OK, &identity))
}

pub(super) async fn list(
    State(kratos): State<Kratos>,
    caller: Caller,
    Wanted(consistency): Wanted,
    query: Query,
    uri: Uri,
) -> Result<Response, ApiError> {
    let filter = filter(&query)?;
    let included = included(&query)?;
    // Who asks by identifier wants to see the credentials that have it.
    let by_identifier =
        filter.credentials_identifier.is_some() || filter.credentials_identifier_similar.is_some();
    let detail = included.or(by_identifier.then_some(CredentialDetail::Outline));
    let list = List { kratos: &kratos, scope: caller.scope, filter, consistency };
    match Paging::of(&query)? {
        Paging::Token(page) => {
            let size = page.size;
            let found = list.page(&page).await?;
            let items = list.with_credentials(found.items, detail).await?;
            let mut response = shown_all(&kratos, &items);
            link_by_token(response.headers_mut(), &uri, size, found.next.as_deref());
            Ok(response)
        }
        Paging::Legacy { page, size } => {
            // One row tells whether there is more than legacy pages reach.
            let reach = PageRequest { size: LEGACY_ITEMS_MAX, token: None };
            let found = list.page(&reach).await?;
            let total = u32::try_from(found.items.len()).unwrap_or(u32::MAX);
            let items = found.items.into_iter().skip((page * size) as usize).take(size as usize);
            let items = list.with_credentials(items.collect(), detail).await?;
            let mut response = shown_all(&kratos, &items);
            let total = found.next.is_none().then_some(total);
            link_by_number(response.headers_mut(), &uri, page, size, total);
            Ok(response)
        }
    }
}

pub(super) async fn update(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<IdentityId>,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body: UpdateIdentityBody = sent.json()?;
    refuse_unsupported(&body.region)?;
    let state = state(body.state.as_deref())?;
    let change = IdentityChange {
        schema_id: body.schema_id.unwrap_or_default(),
        traits: traits(body.traits),
        state,
        metadata_public: body.metadata_public,
        metadata_admin: body.metadata_admin,
        password: password(body.credentials.as_ref())?,
        external_id: Edit::Set(body.external_id.filter(|id| !id.is_empty())),
        organization: Edit::Kept,
    };
    let identity = kratos.service().update_identity(caller.scope, id, change).await?;
    Ok(shown(&kratos, StatusCode::OK, &identity))
}

pub(super) async fn patch(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<IdentityId>,
    sent: Sent,
) -> Result<Response, ApiError> {
    let patch: Value = sent.strict_json()?;
    let identity = kratos.service().patch_identity(caller.scope, id, &patch).await?;
    Ok(shown(&kratos, StatusCode::OK, &identity))
}

pub(super) async fn delete(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<IdentityId>,
) -> Result<Response, ApiError> {
    kratos.service().delete_identity(caller.scope, id).await?;
    Ok(no_content())
}

pub(super) async fn delete_credential(
    State(kratos): State<Kratos>,
    caller: Caller,
    Path((id, kind)): Path<(String, String)>,
    query: Query,
) -> Result<Response, ApiError> {
    let id = id.parse().ok().filter(|_| is_uuid(&id)).ok_or_else(ApiError::no_such_row)?;
    if !CREDENTIAL_NAMES.contains(&kind.as_str()) {
        return Err(ApiError::bad_request(format!("Unknown credentials type {kind}.")));
    }
    let missing = || {
        ApiError::new(StatusCode::NOT_FOUND)
            .reason(format!("You tried to remove a {kind} but this user have no {kind} set up."))
    };
    let parsed = CredentialKind::parse(&kind).ok_or_else(missing)?;
    let identifier = query.first("identifier");
    let done = kratos.service().remove_credential(caller.scope, id, parsed, identifier).await;
    done.map_err(|rejection| match rejection {
        RemoveRejection::NotFound => ApiError::no_such_row(),
        RemoveRejection::NoSuchCredential => missing(),
        RemoveRejection::LastFirstFactor => {
            ApiError::bad_request("You cannot remove the last first factor credential.")
        }
        RemoveRejection::NotRemovable => {
            ApiError::bad_request(format!("Credentials type {kind} cannot be deleted."))
        }
        RemoveRejection::IdentifierRequired => ApiError::bad_request(format!(
            "The identifier query parameter is required to delete credentials of type {kind}."
        )),
        RemoveRejection::Store(error) => error.into(),
    })?;
    Ok(no_content())
}

struct List<'a> {
    kratos: &'a Kratos,
    scope: Scope,
    filter: ListFilter,
    consistency: Consistency,
}

impl List<'_> {
    async fn page(&self, page: &PageRequest) -> Result<Page<Identity>, ApiError> {
        let (filter, consistency) = (self.filter.clone(), self.consistency.clone());
        Ok(self.kratos.service().list_identities(self.scope, filter, page, consistency).await?)
    }

    /// Reads the credentials too, if they are wanted; who is gone by then is left out.
    async fn with_credentials(
        &self,
        items: Vec<Identity>,
        detail: Option<CredentialDetail>,
    ) -> Result<Vec<Identity>, ApiError> {
        let Some(detail) = detail else { return Ok(items) };
        let ids: Vec<_> = items.into_iter().map(|identity| identity.id).collect();
        let read = |id| async move {
            let consistency = self.consistency.clone();
            match self.kratos.service().identity(self.scope, id, detail, consistency).await {
                Ok(identity) => Ok(Some(identity)),
                Err(ReadRejection::NotFound) => Ok(None),
                Err(error) => Err(ApiError::from(error)),
            }
        };
        let found: Vec<_> =
            stream::iter(ids).map(read).buffered(READS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}

fn filter(query: &Query) -> Result<ListFilter, ApiError> {
    let mut ids = Vec::new();
    for text in query.all("ids") {
        let id = text.parse().ok().filter(|_| is_uuid(text));
        ids.push(id.ok_or_else(|| {
            ApiError::bad_request(format!("Invalid UUID value `{text}` for parameter `ids`."))
        })?);
    }
    let organization = match query.first("organization_id") {
        None => None,
        Some(text) => Some(text.parse().ok().filter(|_| is_uuid(text)).ok_or_else(|| {
            let name = "organization_id";
            ApiError::bad_request(format!("Invalid UUID value `{text}` for parameter `{name}`."))
        })?),
    };
    let text = |name| query.first(name).map(str::to_owned);
    Ok(ListFilter {
        ids,
        credentials_identifier: text("credentials_identifier"),
        credentials_identifier_similar: text("preview_credentials_identifier_similar"),
        organization,
    })
}

/// What of the credentials is asked for; `None` if nothing.
fn included(query: &Query) -> Result<Option<CredentialDetail>, ApiError> {
    let mut detail = None;
    for name in query.all("include_credential") {
        if !CREDENTIAL_NAMES.contains(&name) {
            return Err(ApiError::bad_request(format!(
                "Invalid value `{name}` for parameter `include_credential`."
            )));
        }
        let wanted = match name {
            name if is_password(name) => CredentialDetail::WithPasswordHash,
            "oidc" => CredentialDetail::WithAccounts,
            _ => CredentialDetail::Outline,
        };
        detail = Some(detail.unwrap_or(CredentialDetail::Outline).and(wanted));
    }
    Ok(detail)
}

fn shown(kratos: &Kratos, status: StatusCode, identity: &Identity) -> Response {
    json(status, &IdentityBody::of(identity, Reader::Administrator, kratos.public_url()))
}

fn shown_all(kratos: &Kratos, identities: &[Identity]) -> Response {
    let body = |identity| IdentityBody::of(identity, Reader::Administrator, kratos.public_url());
    json(StatusCode::OK, &identities.iter().map(body).collect::<Vec<_>>()).into_response()
}

fn traits(traits: Option<Value>) -> Value {
    traits.filter(|traits| !traits.is_null()).unwrap_or_else(|| Value::Object(Map::new()))
}

/// The state that a body asks for; `None` if it says nothing.
fn state(name: Option<&str>) -> Result<Option<IdentityState>, ApiError> {
    match name {
        None | Some("") => Ok(None),
        Some(name) => IdentityState::parse(name)
            .map(Some)
            .ok_or_else(|| ApiError::bad_request("identity state is not valid")),
    }
}

fn refused(error: CredentialsRefused) -> ApiError {
    ApiError::bad_request(error.to_string())
}

/// Credentials beside a password.
fn others(kratos: &Kratos, credentials: Option<&Value>) -> Result<OtherCredentials, ApiError> {
    let Some(Value::Object(credentials)) = credentials else {
        return Ok(OtherCredentials::default());
    };
    let (others, left) = kratos.service().read_other_credentials(credentials);
    match left.into_iter().next() {
        Some(left) => Err(refused(left.why)),
        None => Ok(others),
    }
}

fn password(credentials: Option<&Value>) -> Result<Option<NewPassword>, ApiError> {
    credentials.map_or(Ok(None), |json| NewPassword::from_json(json).map_err(refused))
}

/// Refused, not dropped: a caller must not believe that it was kept.
fn refuse_unsupported(region: &Option<String>) -> Result<(), ApiError> {
    match region.as_ref().filter(|region| !region.is_empty()) {
        Some(_) => Err(ApiError::bad_request("region is not supported.")),
        None => Ok(()),
    }
}

fn organization(id: Option<&Value>) -> Result<Option<uuid::Uuid>, ApiError> {
    match id {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if is_uuid(text) => Ok(text.parse().ok()),
        Some(_) => Err(ApiError::bad_request("organization_id is no UUID.")),
    }
}

fn imported(address: ImportedAddressBody, now: Timestamp) -> Result<ImportedAddress, ApiError> {
    let bad = |what: &str| ApiError::bad_request(format!("verifiable_addresses: {what}"));
    let via = match address.via.as_deref() {
        None | Some("" | "email") => Channel::Email,
        Some("sms") => Channel::Sms,
        Some(_) => return Err(bad("via is neither email nor sms")),
    };
    let at = match address.verified_at.as_deref() {
        None | Some("") => None,
        Some(text) => Some(parse_rfc3339(text).ok_or_else(|| bad("verified_at is no time"))?),
    };
    Ok(ImportedAddress {
        via,
        value: address.value.unwrap_or_default(),
        verified_at: address.verified.unwrap_or_default().then(|| at.unwrap_or(now)),
    })
}
