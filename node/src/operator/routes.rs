//! The routes under `/cluster`, each a thin call of the [`Operator`].

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use http::{Method, StatusCode, header};
use serde::Serialize;

use super::{Declined, Operator, wire};
use crate::{
    apikey::{ApiKeyId, Scope},
    listener::{keys::Caller, refusal::Refusal, table::Route},
    telemetry::request_id::RequestId,
};

/// The routes of this module.
pub fn routes() -> Vec<Route> {
    const READ: Scope = Scope::Read("cluster");
    const WRITE: Scope = Scope::Write("cluster");
    vec![
        Route::guarded(Method::GET, "/cluster/status", READ),
        Route::guarded(Method::POST, "/cluster/init", WRITE),
        Route::guarded(Method::POST, "/cluster/nodes/{node}/drain", WRITE),
        Route::guarded(Method::POST, "/cluster/nodes/{node}/decommission", WRITE),
        Route::guarded(Method::POST, "/cluster/shards/{group}/leader", WRITE),
        Route::guarded(Method::POST, "/cluster/shards/{group}/home", WRITE),
        Route::guarded(Method::POST, "/cluster/version", WRITE),
        Route::guarded(Method::POST, "/cluster/keys/{purpose}/rotate", WRITE),
        // Making keys is making every right there is.
        Route::guarded(Method::POST, "/cluster/apikeys", Scope::Admin),
        Route::guarded(Method::GET, "/cluster/apikeys", Scope::Read("apikey")),
        Route::guarded(Method::DELETE, "/cluster/apikeys/{id}", Scope::Write("apikey")),
        Route::guarded(Method::POST, "/cluster/backup", Scope::Admin),
        Route::guarded(Method::POST, "/cluster/restore", Scope::Admin),
        Route::guarded(Method::POST, "/cluster/verify", WRITE),
    ]
}

/// Routes whose work takes as long as there is data.
pub const UNHURRIED: &[&str] = &["/cluster/backup", "/cluster/restore", "/cluster/verify"];

type Port = State<Arc<dyn Operator>>;
type Id = Option<Extension<RequestId>>;

/// Answers them.
pub fn router(operator: Arc<dyn Operator>) -> Router {
    Router::new()
        .route("/cluster/status", get(|State(o): Port, id: Id| async move { answer(o.status().await, id) }))
        .route(
            "/cluster/init",
            post(|State(o): Port, id: Id, body: Result<Option<Json<wire::Init>>, JsonRejection>| async move {
                carry_out(body.map(Option::unwrap_or_default), id, |asked| async move { o.init(asked).await }).await
            }),
        )
        .route(
            "/cluster/nodes/{node}/drain",
            post(|State(o): Port, id: Id, Path(node): Path<String>| async move {
                match number(&node) {
                    Ok(node) => answer(o.drain(node).await.map(|()| serde_json::json!({})), id),
                    Err(declined) => decline(&declined, &id),
                }
            }),
        )
        .route(
            "/cluster/nodes/{node}/decommission",
            post(decommission),
        )
        .route("/cluster/shards/{group}/leader", post(move_leader))
        .route("/cluster/shards/{group}/home", post(set_home))
        .route(
            "/cluster/version",
            post(|State(o): Port, id: Id, body: Result<Json<wire::HoldVersion>, JsonRejection>| async move {
                carry_out(body, id, |asked| async move { o.hold_version(asked).await }).await
            }),
        )
        .route(
            "/cluster/keys/{purpose}/rotate",
            post(|State(o): Port, id: Id, Path(purpose): Path<String>| async move {
                answer(o.rotate_key(&purpose).await, id)
            }),
        )
        .route("/cluster/apikeys", get(list_api_keys).post(create_api_key))
        .route("/cluster/apikeys/{id}", delete(revoke_api_key))
        .route(
            "/cluster/backup",
            post(|State(o): Port, id: Id, body: Result<Json<wire::Archive>, JsonRejection>| async move {
                carry_out(body, id, |asked| async move { o.backup(asked).await }).await
            }),
        )
        .route(
            "/cluster/restore",
            post(|State(o): Port, id: Id, body: Result<Json<wire::Archive>, JsonRejection>| async move {
                carry_out(body, id, |asked| async move { o.restore(asked).await }).await
            }),
        )
        .route(
            "/cluster/verify",
            // Without a body nothing is written.
            post(|State(o): Port, id: Id, body: Result<Option<Json<wire::Verify>>, JsonRejection>| async move {
                carry_out(body.map(Option::unwrap_or_default), id, |asked| async move { o.verify(asked).await }).await
            }),
        )
        .with_state(operator)
}

async fn decommission(
    State(operator): Port,
    id: Id,
    Path(node): Path<String>,
    body: Result<Option<Json<wire::Decommission>>, JsonRejection>,
) -> Response {
    let asked = number(&node).and_then(|node| {
        let body = body.map(|body| body.unwrap_or_default());
        Ok((node, parsed(body)?))
    });
    match asked {
        Ok((node, wire::Decommission { force })) => {
            let gone = operator.decommission(node, force).await;
            answer(gone.map(|()| serde_json::json!({})), id)
        }
        Err(declined) => decline(&declined, &id),
    }
}

async fn move_leader(
    State(operator): Port,
    id: Id,
    Path(group): Path<String>,
    body: Result<Json<wire::MoveLeader>, JsonRejection>,
) -> Response {
    match (number(&group), parsed(body)) {
        (Ok(group), Ok(to)) => {
            answer(operator.move_leader(group, to).await.map(|()| serde_json::json!({})), id)
        }
        (Err(declined), _) | (_, Err(declined)) => decline(&declined, &id),
    }
}

async fn set_home(
    State(operator): Port,
    id: Id,
    Path(group): Path<String>,
    body: Result<Json<wire::SetHome>, JsonRejection>,
) -> Response {
    match (number(&group), parsed(body)) {
        (Ok(group), Ok(home)) => {
            answer(operator.set_home(group, home).await.map(|()| serde_json::json!({})), id)
        }
        (Err(declined), _) | (_, Err(declined)) => decline(&declined, &id),
    }
}

async fn create_api_key(
    State(operator): Port,
    id: Id,
    Extension(caller): Extension<Caller>,
    body: Result<Json<wire::NewApiKey>, JsonRejection>,
) -> Response {
    let new = match parsed(body) {
        Ok(new) => new,
        Err(declined) => return decline(&declined, &id),
    };
    if let Some(unknown) = new.scopes.iter().find_map(|scope| scope.parse::<Scope>().err()) {
        return decline(&Declined::Malformed(unknown.to_string()), &id);
    }
    if new.scopes.is_empty() {
        let why = "A key needs at least one scope.".to_owned();
        return decline(&Declined::Malformed(why), &id);
    }
    answer(operator.create_api_key(caller.tenant, new).await, id)
}

async fn list_api_keys(
    State(operator): Port,
    id: Id,
    Extension(caller): Extension<Caller>,
) -> Response {
    answer(operator.list_api_keys(caller.tenant).await, id)
}

async fn revoke_api_key(
    State(operator): Port,
    id: Id,
    Extension(caller): Extension<Caller>,
    Path(key): Path<String>,
) -> Response {
    let Ok(key) = key.parse::<ApiKeyId>() else {
        return decline(&Declined::Malformed(format!("\"{key}\" is no id of an API key.")), &id);
    };
    match operator.revoke_api_key(caller.tenant, key).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(declined) => decline(&declined, &id),
    }
}

fn number(text: &str) -> Result<u64, Declined> {
    text.parse().map_err(|_| Declined::Malformed(format!("\"{text}\" is no number.")))
}

/// Has done what a body asks for, once it is understood.
async fn carry_out<T, A, F>(
    body: Result<Json<T>, JsonRejection>,
    id: Id,
    act: impl FnOnce(T) -> F,
) -> Response
where
    A: Serialize,
    F: Future<Output = Result<A, Declined>>,
{
    match parsed(body) {
        Ok(asked) => answer(act(asked).await, id),
        Err(declined) => decline(&declined, &id),
    }
}

fn parsed<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Declined> {
    body.map(|Json(body)| body).map_err(|rejection| Declined::Malformed(rejection.body_text()))
}

fn answer<T: Serialize>(outcome: Result<T, Declined>, id: Id) -> Response {
    match outcome {
        Ok(body) => {
            let mut response = Json(body).into_response();
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                http::HeaderValue::from_static("application/json; charset=utf-8"),
            );
            response
        }
        Err(declined) => decline(&declined, &id),
    }
}

fn decline(declined: &Declined, id: &Id) -> Response {
    let status = match declined {
        Declined::NotFound(_) => StatusCode::NOT_FOUND,
        Declined::Conflict(_) => StatusCode::CONFLICT,
        Declined::Malformed(_) => StatusCode::BAD_REQUEST,
        Declined::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refusal::new(status, declined.to_string()).answer(id.as_ref().map(|Extension(id)| id.as_str()))
}
