//! Health, version and metrics: what a node answers about itself.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, body::Body, extract::State, response::Response, routing::get};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::table::Route;
use crate::{apikey::Scope, telemetry::registry::Metrics};

/// The version of this binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether the node can serve.
pub trait Readiness: Send + Sync + 'static {
    /// What keeps it from serving, by part; empty: it is ready. Must not
    /// block.
    fn obstacles(&self) -> BTreeMap<&'static str, String>;
}

/// The routes of this module.
pub fn routes() -> Vec<Route> {
    vec![
        Route::open(Method::GET, "/health/alive"),
        Route::open(Method::GET, "/health/ready"),
        Route::open(Method::GET, "/version"),
        Route::guarded(Method::GET, "/metrics", Scope::Read("metrics")),
    ]
}

/// Answers them.
pub fn router(readiness: Arc<dyn Readiness>, metrics: Arc<Metrics>) -> Router {
    let ready = get(|State(readiness): State<Arc<dyn Readiness>>| async move {
        let obstacles = readiness.obstacles();
        if obstacles.is_empty() {
            answer(StatusCode::OK, &json!({"status": "ok"}))
        } else {
            answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "errors": obstacles }))
        }
    })
    .with_state(readiness);
    let exposition = get(|State(metrics): State<Arc<Metrics>>| async move {
        let mut response = Response::new(Body::from(metrics.encode()));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
        );
        response
    })
    .with_state(metrics);
    Router::new()
        .route("/health/alive", get(|| async { answer(StatusCode::OK, &json!({"status": "ok"})) }))
        .route("/health/ready", ready)
        .route("/version", get(|| async { answer(StatusCode::OK, &json!({ "version": VERSION })) }))
        .route("/metrics", exposition)
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}
