//! `batchPatchIdentities`.

use axum::{extract::State, response::Response};
use cardea_identity::identity::{BatchItem, NewIdentity, NewPassword};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json as value};

use super::{
    Kratos,
    identities::new_identity,
    wire::identity::{
        CreateIdentityBody, IdentityPatchAnswer, IdentityPatchBody, PatchIdentitiesBody,
    },
};
use crate::{
    answer::json,
    body::Sent,
    error::ApiError,
    request::{Caller, REQUEST_ID, is_uuid},
};

/// Most items of a batch.
const ITEMS_MAX: usize = 1000;
/// Most items with a password in clear: each is hashed.
const CLEAR_PASSWORDS_MAX: usize = 200;
/// The longest request id that counts.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// An item, ready to be created or refused already.
struct Item {
    patch_id: Option<String>,
    new: Result<NewIdentity, ApiError>,
    /// What makes it once, if the caller named it.
    name: Option<BatchItem>,
}

pub(super) async fn patch(
    State(kratos): State<Kratos>,
    caller: Caller,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body: PatchIdentitiesBody = sent.strict_json()?;
    let items = body.identities.unwrap_or_default();
    if items.len() > ITEMS_MAX {
        return Err(ApiError::bad_request(format!(
            "The maximum number of identities per request that can be created or deleted at once \
             is {ITEMS_MAX}."
        )));
    }
    let request_id = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX);
    let items = items.into_iter().map(|item| read(&kratos, item, request_id));
    let items: Vec<Item> = items.collect::<Result<_, _>>()?;
    let clear = |item: &&Item| {
        let password = item.new.as_ref().ok().and_then(|new| new.password.as_ref());
        matches!(password, Some(NewPassword::Clear(_)))
    };
    if items.iter().filter(clear).count() > CLEAR_PASSWORDS_MAX {
        return Err(ApiError::bad_request(format!(
            "The maximum number of identities per request that can be created with a plaintext \
             password is {CLEAR_PASSWORDS_MAX}."
        )));
    }
    let (mut asked, mut told) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for Item { patch_id, new, name } in items {
        let refused = new.map(|new| asked.push((new, name))).err();
        told.push((patch_id, refused));
    }
    let mut made = kratos.service().create_batch(caller.scope, asked).await.into_iter();
    let done = told.into_iter().filter_map(|(patch_id, refused)| {
        let made = match refused {
            Some(error) => Err(error),
            None => made.next()?.map(|identity| identity.id.to_string()).map_err(ApiError::from),
        };
        Some((patch_id, made))
    });
    answer(done.collect())
}

/// Reads an item. One that is no identity fails alone; an id that is none fails them all,
/// for its answer could not be told from others.
fn read(
    kratos: &Kratos,
    item: IdentityPatchBody,
    request_id: Option<&str>,
) -> Result<Item, ApiError> {
    let patch_id = item.patch_id.filter(|id| !id.is_empty());
    if let Some(id) = patch_id.as_ref().filter(|id| !is_uuid(id)) {
        return Err(ApiError::bad_request(format!("The patch_id `{id}` is no UUID.")));
    }
    let said = item.create.unwrap_or(Value::Null);
    let name = match (request_id, patch_id.as_ref().and_then(|id| id.parse().ok())) {
        (Some(request_id), Some(patch_id)) => Some(BatchItem {
            request_id: request_id.to_owned(),
            patch_id,
            said: said.to_string().into_bytes(),
        }),
        _ => None,
    };
    let new = serde_json::from_value::<CreateIdentityBody>(said)
        .map_err(|error| ApiError::malformed(error.to_string()))
        .and_then(|body| new_identity(kratos, body));
    Ok(Item { patch_id, new, name })
}

/// 200 if anything was made; otherwise the first refusal, with what became of each item
/// beside it.
fn answer(done: Vec<(Option<String>, Result<String, ApiError>)>) -> Result<Response, ApiError> {
    let none_made = !done.is_empty() && done.iter().all(|(_, made)| made.is_err());
    let first = done.iter().find_map(|(_, made)| made.as_ref().err().cloned());
    let answers: Vec<_> = done
        .into_iter()
        .map(|(patch_id, made)| match made {
            Ok(id) => {
                IdentityPatchAnswer { action: "create", identity: Some(id), patch_id, error: None }
            }
            Err(error) => IdentityPatchAnswer {
                action: "error",
                identity: None,
                patch_id,
                error: Some(error.shown()),
            },
        })
        .collect();
    match first.filter(|_| none_made) {
        Some(error) => Err(error.beside("identities", value!(answers))),
        None => Ok(json(StatusCode::OK, &value!({ "identities": answers }))),
    }
}
