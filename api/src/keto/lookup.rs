//! Looking up objects and subjects; not in Keto.

use axum::{extract::State, response::Response};
use cardea_permission::reverse::SubjectKind;
use http::StatusCode;

use super::{
    Asked, Keto, at,
    read::{context_of, page_of, set_of, subject_of},
    wire::{ObjectsBody, SubjectsBody},
};
use crate::{answer::json, error::ApiError};

pub(super) async fn objects(State(keto): State<Keto>, asked: Asked) -> Result<Response, ApiError> {
    let part = |name: &str| {
        let given = asked.query.first(name).map(str::to_owned);
        given.ok_or_else(|| ApiError::bad_request(format!("The parameter {name} is required.")))
    };
    let (namespace, relation) = (part("namespace")?, part("relation")?);
    let (subject, page) = (subject_of(&asked.query)?, page_of(&asked.query)?);
    let context = context_of(&asked.query)?;
    let found = keto
        .service()
        .list_objects(
            asked.tenant,
            &namespace,
            &relation,
            &subject,
            &context,
            &page,
            asked.consistency,
        )
        .await?;
    let body = ObjectsBody {
        objects: found.value.items,
        next_page_token: found.value.next.unwrap_or_default(),
    };
    Ok(at(json(StatusCode::OK, &body), &found.snaptoken))
}

pub(super) async fn subjects(State(keto): State<Keto>, asked: Asked) -> Result<Response, ApiError> {
    let (set, page) = (set_of(&asked.query)?, page_of(&asked.query)?);
    let context = context_of(&asked.query)?;
    let namespace = asked.query.first("subject_namespace").map(str::to_owned);
    let kind = namespace.map_or(SubjectKind::Ids, SubjectKind::Objects);
    let found = keto
        .service()
        .list_subjects(asked.tenant, &set, &kind, &context, &page, asked.consistency)
        .await?;
    let (names, next_page_token) = (found.value.items, found.value.next.unwrap_or_default());
    let answer = match kind {
        SubjectKind::Ids => {
            json(StatusCode::OK, &SubjectsBody { subject_ids: names, next_page_token })
        }
        SubjectKind::Objects(_) => {
            json(StatusCode::OK, &ObjectsBody { objects: names, next_page_token })
        }
    };
    Ok(at(answer, &found.snaptoken))
}
