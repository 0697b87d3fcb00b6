//! One decision, or many of one instant.

use axum::{extract::State, response::Response};
use cardea_permission::{
    ReadRejection, Tuple,
    check::{Ask, BATCH_MAX},
};
use http::StatusCode;
use serde_json::json;

use super::{
    tuple_of,
    wire::{DecisionBody, DecisionsBody, EvaluationBody, EvaluationsBody, Semantic},
};
use crate::{
    answer::json,
    body::Sent,
    error::ApiError,
    keto::{Asked, Keto, at, read::batch_is_taken},
};

pub(in crate::keto) async fn evaluation(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body = sent.strict_json::<EvaluationBody>()?;
    evaluate(&keto, asked, &body).await
}

async fn evaluate(keto: &Keto, asked: Asked, body: &EvaluationBody) -> Result<Response, ApiError> {
    let ids = &keto.shared().options.subject_type;
    let (subject, action, resource) = (&body.subject, &body.action, &body.resource);
    let tuple = tuple_of(subject.as_ref(), action.as_ref(), resource.as_ref(), ids)?;
    let found = keto.service().check(asked.tenant, &tuple, ask_of(body), asked.consistency).await;
    match found {
        Ok(found) => {
            let body = DecisionBody { decision: found.value, context: None };
            Ok(at(json(StatusCode::OK, &body), &found.snaptoken))
        }
        Err(rejection @ ReadRejection::UnknownNamespace(_)) => {
            Ok(json(StatusCode::OK, &undecided(&rejection.into())))
        }
        Err(rejection) => Err(rejection.into()),
    }
}

pub(in crate::keto) async fn evaluations(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let EvaluationsBody { defaults, evaluations, options } = sent.strict_json()?;
    if evaluations.is_empty() {
        return evaluate(&keto, asked, &defaults).await;
    }
    batch_is_taken(evaluations.len(), BATCH_MAX)?;
    let ids = &keto.shared().options.subject_type;
    let asks: Vec<Result<Tuple, ApiError>> = evaluations
        .iter()
        .map(|evaluation| {
            let subject = evaluation.subject.as_ref().or(defaults.subject.as_ref());
            let action = evaluation.action.as_ref().or(defaults.action.as_ref());
            let resource = evaluation.resource.as_ref().or(defaults.resource.as_ref());
            tuple_of(subject, action, resource, ids)
        })
        .collect();
    // A context is a whole: where an evaluation has its own, nothing of the other is mixed in.
    let general = ask_of(&defaults);
    let own = evaluations.iter().map(|one| one.context.is_some().then(|| ask_of(one)));
    let own: Vec<Option<Ask>> = own.collect();
    let each = asks.iter().zip(&own).filter_map(|(tuple, own)| {
        let tuple = tuple.as_ref().ok()?;
        Some((tuple, own.as_ref().unwrap_or(&general)))
    });
    let each: Vec<(&Tuple, &Ask)> = each.collect();
    let found = keto.service().check_each(asked.tenant, &each, asked.consistency).await?;
    let mut answers = found.value.into_iter();
    let mut decisions = Vec::with_capacity(asks.len());
    for ask in asks {
        let body = match ask {
            Err(error) => undecided(&error),
            Ok(_) => match answers.next() {
                Some(Ok(decision)) => DecisionBody { decision, context: None },
                Some(Err(rejection)) => undecided(&rejection.into()),
                None => undecided(&ApiError::internal()),
            },
        };
        let ends = match options.evaluations_semantic {
            Semantic::ExecuteAll => false,
            Semantic::DenyOnFirstDeny => !body.decision,
            Semantic::PermitOnFirstPermit => body.decision,
        };
        decisions.push(body);
        if ends {
            break;
        }
    }
    let body = DecisionsBody { evaluations: decisions };
    Ok(at(json(StatusCode::OK, &body), &found.snaptoken))
}

fn ask_of(body: &EvaluationBody) -> Ask {
    Ask { depth: 0, context: body.given() }
}

/// No, for a reason that is not the permission language's.
fn undecided(error: &ApiError) -> DecisionBody {
    let told = error.told();
    let context = json!({"error": {
        "status": error.status().as_u16(),
        "message": told.reason.unwrap_or(told.message),
    }});
    DecisionBody { decision: false, context: Some(context) }
}
