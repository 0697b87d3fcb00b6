//! gRPC on the listeners: refusals in its own form, health by the node's readiness,
//! and reflection of what a listener answers.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Router, body::Body, response::Response};
use cardea_api::keto::{Door, grpc};
use futures::{Stream, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Request, Status, service::Routes};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};
use tonic_reflection::server::Builder;
use tonic_web::GrpcWebLayer;

use super::{health::Readiness, refusal::Refusal, table::Route};
use crate::apikey::Scope;

const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// How often a health watch looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Health watches at a time: they need no key.
const HEALTH_WATCHES_MAX: usize = 256;

/// The routes of this module. Health is for everyone, as it is over HTTP.
pub fn routes() -> Vec<Route> {
    let reads = Scope::Read("permission");
    vec![
        Route::open(Method::POST, "/grpc.health.v1.Health/Check"),
        Route::open(Method::POST, "/grpc.health.v1.Health/Watch"),
        Route::guarded(
            Method::POST,
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            reads,
        ),
        Route::guarded(
            Method::POST,
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reads,
        ),
    ]
}

/// Health, and reflection of what is on one of Keto's listeners; of everything
/// without one.
///
/// # Errors
/// If the descriptors do not fit together.
pub fn router(readiness: Arc<dyn Readiness>, door: Option<Door>) -> anyhow::Result<Router> {
    let mut names = grpc::services(door);
    names.push(HEALTH);
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(grpc::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        let names = names.iter().chain(&REFLECTION);
        names.fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let watches = Arc::new(Semaphore::new(HEALTH_WATCHES_MAX));
    let health = NodeHealth { readiness, known: names.clone(), watches };
    let routes = Routes::from(Router::new())
        .add_service(HealthServer::new(health))
        .add_service(builder().build_v1().context("the gRPC descriptors")?)
        .add_service(builder().build_v1alpha().context("the gRPC descriptors")?);
    Ok(routes.into_axum_router().layer(GrpcWebLayer::new()))
}

struct NodeHealth {
    readiness: Arc<dyn Readiness>,
    known: Vec<&'static str>,
    watches: Arc<Semaphore>,
}

impl NodeHealth {
    /// Without a name the node as a whole is meant.
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.known.contains(&service)
    }
}

fn status_of(obstacles: &BTreeMap<&'static str, String>) -> ServingStatus {
    if obstacles.is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

/// A health watch under way.
struct HealthWatch {
    readiness: Arc<dyn Readiness>,
    known: bool,
    told: Option<ServingStatus>,
    stopping: bool,
    _place: OwnedSemaphorePermit,
}

impl HealthWatch {
    /// The status when it is another than was told; nothing once the node stops.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            if self.stopping {
                return None;
            }
            let obstacles = self.readiness.obstacles();
            self.stopping = obstacles.contains_key(crate::readiness::STOPPING);
            let status =
                if self.known { status_of(&obstacles) } else { ServingStatus::ServiceUnknown };
            if self.told != Some(status) {
                self.told = Some(status);
                return Some(status);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[tonic::async_trait]
impl Health for NodeHealth {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        if !self.knows(&request.get_ref().service) {
            return Err(Status::not_found("this listener has no such service"));
        }
        let status = status_of(&self.readiness.obstacles());
        Ok(tonic::Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let place = self.watches.clone().try_acquire_owned();
        let place =
            place.map_err(|_| Status::resource_exhausted("too many watch this node's health"))?;
        let watch = HealthWatch {
            readiness: self.readiness.clone(),
            known: self.knows(&request.get_ref().service),
            told: None,
            stopping: false,
            _place: place,
        };
        let statuses = stream::unfold(watch, |mut watch| async {
            let status = watch.next().await?;
            Some((Ok(HealthCheckResponse { status: status.into() }), watch))
        });
        Ok(tonic::Response::new(Box::pin(statuses)))
    }
}

/// The media type of a gRPC or gRPC-Web request.
pub fn media_type(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(header::CONTENT_TYPE)?;
    value.as_bytes().starts_with(b"application/grpc").then(|| value.clone())
}

/// An answer to a gRPC request in its form: what was refused before it came to a
/// service, and knows only HTTP, becomes a status.
pub fn in_form(media_type: HeaderValue, response: Response) -> Response {
    if self::media_type(response.headers()).is_some() {
        return response;
    }
    let reason = response.extensions().get::<Refusal>().and_then(|refusal| refusal.reason.clone());
    let code = code_of(response.status());
    let reason = reason.unwrap_or_else(|| match code {
        Code::Unimplemented => "this listener has no such method".to_owned(),
        _ => response.status().to_string(),
    });
    let mut refused: Response<Body> = Status::new(code, reason).into_http();
    for (name, value) in response.headers() {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
            refused.headers_mut().entry(name).or_insert(value.clone());
        }
    }
    refused.headers_mut().insert(header::CONTENT_TYPE, media_type);
    refused
}

fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        // No gRPC client follows to where a browser would be sent.
        StatusCode::UNAUTHORIZED | StatusCode::TEMPORARY_REDIRECT => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::MISDIRECTED_REQUEST => Code::Unimplemented,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What an answer's status would be over HTTP, for metrics and logs: a refused call
/// answers 200. Streams are judged by their beginning.
pub fn http_status(response: &Response) -> StatusCode {
    let code = response.headers().get(Status::GRPC_STATUS).map(|v| Code::from_bytes(v.as_bytes()));
    match code {
        None | Some(Code::Ok) => response.status(),
        Some(Code::InvalidArgument | Code::OutOfRange) => StatusCode::BAD_REQUEST,
        Some(Code::FailedPrecondition) => StatusCode::UNPROCESSABLE_ENTITY,
        Some(Code::NotFound | Code::Unimplemented) => StatusCode::NOT_FOUND,
        Some(Code::AlreadyExists | Code::Aborted) => StatusCode::CONFLICT,
        Some(Code::PermissionDenied) => StatusCode::FORBIDDEN,
        Some(Code::Unauthenticated) => StatusCode::UNAUTHORIZED,
        Some(Code::ResourceExhausted) => StatusCode::TOO_MANY_REQUESTS,
        Some(Code::DeadlineExceeded) => StatusCode::GATEWAY_TIMEOUT,
        Some(Code::Unavailable | Code::Unknown) => StatusCode::SERVICE_UNAVAILABLE,
        Some(Code::Cancelled | Code::Internal | Code::DataLoss) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
