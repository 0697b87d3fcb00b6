//! The Authorization API 1.0 of OpenID AuthZEN: evaluation, evaluations, searches.
//!
//! | AuthZEN | here |
//! |---|---|
//! | `resource.type`, `resource.id` | namespace, object |
//! | `action.name` | relation or permission |
//! | `subject` of the type that stands for subject ids (`user` unless configured) | subject id `id` |
//! | `subject` of any other type | subject set `type:id`, with `properties.relation` if given |
//!
//! A type that stands for subject ids stands for nothing else, so that no object is
//! taken for somebody who happens to have its name.

mod evaluate;
mod search;
mod wire;

use axum::{extract::State, response::Response};
use cardea_permission::{Subject, SubjectSet, Tuple};
use http::StatusCode;
use serde_json::json;

pub(super) use evaluate::{evaluation, evaluations};
pub(super) use search::{actions, resources, subjects};

use self::wire::{ActionBody, EntityBody};
use super::Keto;
use crate::{answer::json, error::ApiError};

/// Where each endpoint is.
pub(super) const EVALUATION: &str = "/access/v1/evaluation";
pub(super) const EVALUATIONS: &str = "/access/v1/evaluations";
pub(super) const SEARCH_SUBJECT: &str = "/access/v1/search/subject";
pub(super) const SEARCH_RESOURCE: &str = "/access/v1/search/resource";
pub(super) const SEARCH_ACTION: &str = "/access/v1/search/action";
pub(super) const CONFIGURATION: &str = "/.well-known/authzen-configuration";

/// What this decision point answers, and where.
pub(super) async fn configuration(State(keto): State<Keto>) -> Response {
    let base = keto.shared().options.public_url.trim_end_matches('/');
    let body = json!({
        "policy_decision_point": base,
        "access_evaluation_endpoint": format!("{base}{EVALUATION}"),
        "access_evaluations_endpoint": format!("{base}{EVALUATIONS}"),
        "search_subject_endpoint": format!("{base}{SEARCH_SUBJECT}"),
        "search_resource_endpoint": format!("{base}{SEARCH_RESOURCE}"),
        "search_action_endpoint": format!("{base}{SEARCH_ACTION}"),
    });
    json(StatusCode::OK, &body)
}

fn missing(what: &str) -> ApiError {
    ApiError::bad_request(format!("{what} is missing."))
}

/// The subject of a request; `ids` is the type that stands for subject ids.
fn subject_of(subject: &EntityBody, ids: &str) -> Result<Subject, ApiError> {
    let id = subject.id.clone().ok_or_else(|| missing("subject.id"))?;
    let relation = match subject.properties.get("relation") {
        None => "",
        Some(relation) => relation
            .as_str()
            .ok_or_else(|| ApiError::bad_request("subject.properties.relation is no text."))?,
    };
    if subject.kind == ids {
        return Ok(Subject::Id(id));
    }
    Ok(Subject::Set(SubjectSet::new(&*subject.kind, id, relation)))
}

fn tuple_of(
    subject: Option<&EntityBody>,
    action: Option<&ActionBody>,
    resource: Option<&EntityBody>,
    ids: &str,
) -> Result<Tuple, ApiError> {
    let subject = subject_of(subject.ok_or_else(|| missing("subject"))?, ids)?;
    let action = action.ok_or_else(|| missing("action"))?;
    let resource = resource.ok_or_else(|| missing("resource"))?;
    let object = resource.id.clone().ok_or_else(|| missing("resource.id"))?;
    Ok(Tuple::new(&*resource.kind, object, &*action.name, subject))
}
