//! The routes under `/cluster`, each a thin call of the [`Operator`].

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension, Json, Router,
    extract::{FromRequest, Path, Request, State, rejection::JsonRejection},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

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
        Route::guarded(Method::POST, "/cluster/nodes/{node}/resume", WRITE),
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
            post(|State(o): Port, id: Id, Perhaps(asked): Perhaps<wire::Init>| async move {
                carry_out(asked, id, |asked| async move { o.init(asked).await }).await
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
            "/cluster/nodes/{node}/resume",
            post(|State(o): Port, id: Id, Path(node): Path<String>| async move {
                match number(&node) {
                    Ok(node) => answer(o.resume(node).await.map(|()| serde_json::json!({})), id),
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
                carry_out(parsed(body), id, |asked| async move { o.hold_version(asked).await }).await
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
                carry_out(parsed(body), id, |asked| async move { o.backup(asked).await }).await
            }),
        )
        .route(
            "/cluster/restore",
            post(|State(o): Port, id: Id, body: Result<Json<wire::Archive>, JsonRejection>| async move {
                carry_out(parsed(body), id, |asked| async move { o.restore(asked).await }).await
            }),
        )
        .route(
            "/cluster/verify",
            // Without a body nothing is written.
            post(|State(o): Port, id: Id, Perhaps(asked): Perhaps<wire::Verify>| async move {
                carry_out(asked, id, |asked| async move { o.verify(asked).await }).await
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
    if new.lifespan_ms == Some(0) {
        let why = "A key that lives for no time is none.".to_owned();
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

/// What a body asks for; nothing at all asks for what is usual. A body that does not say
/// what it is is refused: it would be as good as none, and a cluster is made once.
struct Perhaps<T>(Result<T, Declined>);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Perhaps<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            return Ok(Self(parsed(Json::from_request(request, state).await)));
        }
        Ok(Self(match Bytes::from_request(request, state).await {
            Ok(said) if said.is_empty() => Ok(T::default()),
            Ok(_) => Err(Declined::Malformed(
                "The body needs the header Content-Type: application/json.".to_owned(),
            )),
            Err(rejection) => Err(Declined::Malformed(rejection.body_text())),
        }))
    }
}

/// Has done what a body asks for, if it is understood.
async fn carry_out<T, A, F>(
    asked: Result<T, Declined>,
    id: Id,
    act: impl FnOnce(T) -> F,
) -> Response
where
    A: Serialize,
    F: Future<Output = Result<A, Declined>>,
{
    match asked {
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
    let why = declined.to_string();
    let refusal = match declined {
        Declined::NotFound(_) => Refusal::new(StatusCode::NOT_FOUND, why),
        Declined::Conflict(_) => Refusal::new(StatusCode::CONFLICT, why),
        Declined::Malformed(_) => Refusal::new(StatusCode::BAD_REQUEST, why),
        Declined::Unavailable(_) => Refusal::unavailable(why),
        Declined::UnderWay(_) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why),
        Declined::Unknown(_) => Refusal::outcome_unknown(why),
        Declined::Failed(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why),
    };
    refusal.answer(id.as_ref().map(|Extension(id)| id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_done_or_goes_on_is_to_be_asked_for_again() {
        let why = || "It is so.".to_owned();
        for (declined, status, error_id, again) in [
            (Declined::Unavailable(why()), 503, Some("cluster_unavailable"), true),
            (Declined::UnderWay(why()), 503, None, true),
            (Declined::Unknown(why()), 503, Some("outcome_unknown"), false),
            (Declined::Failed(why()), 500, None, false),
        ] {
            let answer = decline(&declined, &None);
            let headers = answer.headers();
            assert_eq!(answer.status().as_u16(), status, "{declined:?}");
            assert_eq!(headers.contains_key(header::RETRY_AFTER), again, "{declined:?}");
            let told = headers.get(cardea_api::error::ERROR_ID);
            assert_eq!(told.and_then(|id| id.to_str().ok()), error_id, "{declined:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_say_what_it_is_is_not_taken_for_none() {
        let asked = async |body: &'static str, said: Option<&str>| {
            let mut request = http::Request::post("/cluster/init");
            if let Some(said) = said {
                request = request.header(header::CONTENT_TYPE, said);
            }
            let request = request.body(axum::body::Body::from(body)).unwrap();
            let Ok(Perhaps(asked)) = Perhaps::<wire::Init>::from_request(request, &()).await;
            asked
        };
        let json = Some("application/json");
        let eight = wire::Init { home_shards: 8, ..wire::Init::default() };
        assert_eq!(asked("", None).await.ok(), Some(wire::Init::default()));
        assert_eq!(asked("{\"home_shards\":8}", json).await.ok(), Some(eight));
        for said in [None, Some(""), Some("text/plain"), Some("application/x-www-form-urlencoded")]
        {
            let refused = asked("{\"home_shards\":8}", said).await;
            assert!(matches!(refused, Err(Declined::Malformed(_))), "{said:?}");
        }
    }
}
