//! Who may, what may be done, and on what.

use axum::{extract::State, response::Response};
use cardea_permission::{SubjectSet, list::PageRequest, reverse::SubjectKind};
use http::StatusCode;

use super::{
    missing, subject_of,
    wire::{FoundActionBody, FoundBody, NextBody, PageBody, ResultsBody, SearchBody},
};
use crate::{
    answer::json,
    body::Sent,
    error::ApiError,
    keto::{Asked, Keto, at},
};

fn page_of(page: PageBody) -> PageRequest {
    PageRequest { size: page.limit, token: page.token }
}

fn found(kind: &str, ids: Vec<String>, next: Option<String>) -> ResultsBody<FoundBody> {
    let named = |id| FoundBody { kind: kind.to_owned(), id };
    ResultsBody {
        results: ids.into_iter().map(named).collect(),
        page: NextBody { next_token: next.unwrap_or_default() },
    }
}

pub(in crate::keto) async fn subjects(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let SearchBody { about, page } = sent.strict_json()?;
    let given = about.given();
    let wanted = about.subject.ok_or_else(|| missing("subject"))?.kind;
    let action = about.action.ok_or_else(|| missing("action"))?;
    let resource = about.resource.ok_or_else(|| missing("resource"))?;
    let object = resource.id.ok_or_else(|| missing("resource.id"))?;
    let set = SubjectSet::new(resource.kind, object, action.name);
    let kind = if wanted == keto.shared().options.subject_type {
        SubjectKind::Ids
    } else {
        SubjectKind::Objects(wanted.clone())
    };
    let page = page_of(page);
    let answer = keto
        .service()
        .list_subjects(asked.tenant, &set, &kind, &given, &page, asked.consistency)
        .await?;
    let body = found(&wanted, answer.value.items, answer.value.next);
    Ok(at(json(StatusCode::OK, &body), &answer.snaptoken))
}

pub(in crate::keto) async fn resources(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let SearchBody { about, page } = sent.strict_json()?;
    let given = about.given();
    let subject = about.subject.ok_or_else(|| missing("subject"))?;
    let subject = subject_of(&subject, &keto.shared().options.subject_type)?;
    let action = about.action.ok_or_else(|| missing("action"))?.name;
    let wanted = about.resource.ok_or_else(|| missing("resource"))?.kind;
    let page = page_of(page);
    let answer = keto
        .service()
        .list_objects(asked.tenant, &wanted, &action, &subject, &given, &page, asked.consistency)
        .await?;
    let body = found(&wanted, answer.value.items, answer.value.next);
    Ok(at(json(StatusCode::OK, &body), &answer.snaptoken))
}

/// All on one page: a namespace does not declare that many.
pub(in crate::keto) async fn actions(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let SearchBody { about, page } = sent.strict_json()?;
    let given = about.given();
    if page.token.is_some_and(|token| !token.is_empty()) {
        return Err(cardea_permission::page::BadPageToken.into());
    }
    let subject = about.subject.ok_or_else(|| missing("subject"))?;
    let subject = subject_of(&subject, &keto.shared().options.subject_type)?;
    let resource = about.resource.ok_or_else(|| missing("resource"))?;
    let object = resource.id.ok_or_else(|| missing("resource.id"))?;
    let answer = keto
        .service()
        .list_actions(asked.tenant, &resource.kind, &object, &subject, &given, asked.consistency)
        .await?;
    let results = answer.value.into_iter().map(|name| FoundActionBody { name }).collect();
    let body = ResultsBody { results, page: NextBody { next_token: String::new() } };
    Ok(at(json(StatusCode::OK, &body), &answer.snaptoken))
}
