//! `createRelationship`, `patchRelationships`, `deleteRelationships`,
//! `getRelationships`.

use axum::{extract::State, response::Response};
use cardea_permission::write::Change;
use http::{HeaderValue, StatusCode, header};

use super::{
    Asked, Keto, at,
    read::{deletion_of, page_of, query_of, tuple_in},
    wire::{PatchBody, RelationshipBody, RelationshipsBody},
};
use crate::{
    answer::{json, no_content},
    body::Sent,
    error::ApiError,
};

pub(super) async fn create(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let new = tuple_in(sent.strict_json::<RelationshipBody>()?)?;
    let body = RelationshipBody::from(&new);
    let snaptoken = keto.service().create_tuple(asked.tenant, new).await?;
    let mut response = json(StatusCode::CREATED, &body);
    let mut place = form_urlencoded::Serializer::new(String::new());
    let parts = [
        ("namespace", body.namespace.as_ref()),
        ("object", body.object.as_ref()),
        ("relation", body.relation.as_ref()),
        ("subject_id", body.subject_id.as_ref()),
        ("subject_set.namespace", body.subject_set.as_ref().map(|set| &set.namespace)),
        ("subject_set.object", body.subject_set.as_ref().map(|set| &set.object)),
        ("subject_set.relation", body.subject_set.as_ref().map(|set| &set.relation)),
    ];
    for (name, value) in parts {
        if let Some(value) = value {
            place.append_pair(name, value);
        }
    }
    let place = format!("/relation-tuples?{}", place.finish());
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(at(response, &snaptoken))
}

pub(super) async fn patch(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let mut changes = Vec::new();
    for patch in sent.strict_json::<Vec<PatchBody>>()? {
        let tuple =
            patch.relation_tuple.ok_or_else(|| ApiError::malformed("relation_tuple is missing"))?;
        let new = tuple_in(tuple)?;
        changes.push(match patch.action.as_str() {
            "insert" => Change::Insert(new),
            "delete" => Change::Delete(new.tuple),
            action => {
                return Err(ApiError::malformed(format!("unknown action {action}")));
            }
        });
    }
    let snaptoken = keto.service().change_tuples(asked.tenant, changes).await?;
    Ok(at(no_content(), &snaptoken))
}

pub(super) async fn delete(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    if !sent.is_empty() {
        return Err(ApiError::bad_request(
            "Deletions take a query, and no body; nothing was deleted.",
        ));
    }
    let query = deletion_of(&asked.query)?;
    let deleted = keto.delete_tuples(asked.tenant, query).await?;
    Ok(at(no_content(), &deleted.snaptoken))
}

pub(super) async fn list(State(keto): State<Keto>, asked: Asked) -> Result<Response, ApiError> {
    let (query, page) = (query_of(&asked.query)?, page_of(&asked.query)?);
    let found = keto.service().list_tuples(asked.tenant, &query, &page, asked.consistency).await?;
    let body = RelationshipsBody {
        relation_tuples: found.value.items.iter().map(RelationshipBody::from).collect(),
        next_page_token: found.value.next.unwrap_or_default(),
    };
    Ok(at(json(StatusCode::OK, &body), &found.snaptoken))
}
