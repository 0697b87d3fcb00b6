//! Keto over gRPC, and what Keto does not have beside it: watching changes and
//! looking up in streams.
//!
//! The services stand on the same listeners as the REST routes and are told apart by
//! their paths. gRPC-Web is taken over HTTP/1.1 and HTTP/2 alike. Refusals are made by
//! the same rules as those of REST and carry their reason as `google.rpc.ErrorInfo`.
//! Each answer names where it stood, in its message where that has a field for it and
//! always in the metadata `x-cardea-snaptoken`; `x-cardea-consistency` is read from the
//! metadata as REST reads it from the headers.

mod check;
mod convert;
mod expand;
mod language;
mod lookup;
mod read;
mod status;
mod watch;
mod write;

use std::time::Duration;

use axum::{Router, extract::Request, middleware, middleware::Next, response::Response};
use cardea_permission::Service;
use cardea_storage::{Consistency, Snaptoken, Tenant};
use http::Method;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;

use self::{
    opl::syntax_service_server::SyntaxServiceServer,
    permission::{
        lookup_service_server::LookupServiceServer, watch_service_server::WatchServiceServer,
    },
    rts::{
        check_service_server::CheckServiceServer, expand_service_server::ExpandServiceServer,
        namespaces_service_server::NamespacesServiceServer, read_service_server::ReadServiceServer,
        version_service_server::VersionServiceServer, write_service_server::WriteServiceServer,
    },
};
use super::{Door, Keto};
use crate::{
    body::BODY_BYTES_MAX,
    consistency,
    error::ApiError,
    route::{RouteInfo, Scope},
};

/// Messages and services; see `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    pub mod ory {
        pub mod keto {
            pub mod relation_tuples {
                pub mod v1alpha2 {
                    tonic::include_proto!("ory.keto.relation_tuples.v1alpha2");
                }
            }
            pub mod opl {
                pub mod v1alpha1 {
                    tonic::include_proto!("ory.keto.opl.v1alpha1");
                }
            }
        }
    }
    pub mod cardea {
        pub mod permission {
            pub mod v1 {
                tonic::include_proto!("cardea.permission.v1");
            }
        }
    }
}

pub(crate) use proto::{
    cardea::permission::v1 as permission,
    ory::keto::{opl::v1alpha1 as opl, relation_tuples::v1alpha2 as rts},
};

/// The descriptors of everything in `proto/` and of what that imports, encoded.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("permission");

/// The largest message that is taken, in bytes.
pub const MESSAGE_BYTES_MAX: usize = BODY_BYTES_MAX;

const READ: &[Door] = &[Door::Read];
const WRITE: &[Door] = &[Door::Write];
const LANGUAGE: &[Door] = &[Door::Language];
const ALL: &[Door] = &[Door::Read, Door::Write, Door::Language];

const fn asks(path: &'static str, name: &'static str, doors: &'static [Door]) -> Call {
    let scope = Scope::Read("permission");
    Call { route: RouteInfo::admin(Method::POST, path, name, scope), doors }
}

const fn changes(path: &'static str, name: &'static str) -> Call {
    let scope = Scope::Write("permission");
    Call { route: RouteInfo::admin(Method::POST, path, name, scope), doors: WRITE }
}

/// A method of a service.
#[derive(Debug)]
struct Call {
    route: RouteInfo,
    doors: &'static [Door],
}

/// Every method, with the listeners of Keto that it is on.
static CALLS: [Call; 13] = [
    asks("/ory.keto.relation_tuples.v1alpha2.CheckService/Check", "CheckService.Check", READ),
    asks(
        "/ory.keto.relation_tuples.v1alpha2.CheckService/BatchCheck",
        "CheckService.BatchCheck",
        READ,
    ),
    asks("/ory.keto.relation_tuples.v1alpha2.ExpandService/Expand", "ExpandService.Expand", READ),
    asks(
        "/ory.keto.relation_tuples.v1alpha2.ReadService/ListRelationTuples",
        "ReadService.ListRelationTuples",
        READ,
    ),
    asks(
        "/ory.keto.relation_tuples.v1alpha2.NamespacesService/ListNamespaces",
        "NamespacesService.ListNamespaces",
        READ,
    ),
    changes(
        "/ory.keto.relation_tuples.v1alpha2.WriteService/TransactRelationTuples",
        "WriteService.TransactRelationTuples",
    ),
    changes(
        "/ory.keto.relation_tuples.v1alpha2.WriteService/DeleteRelationTuples",
        "WriteService.DeleteRelationTuples",
    ),
    asks(
        "/ory.keto.relation_tuples.v1alpha2.VersionService/GetVersion",
        "VersionService.GetVersion",
        ALL,
    ),
    asks("/ory.keto.opl.v1alpha1.SyntaxService/Check", "SyntaxService.Check", LANGUAGE),
    asks("/cardea.permission.v1.WatchService/Watch", "WatchService.Watch", READ),
    asks("/cardea.permission.v1.LookupService/ListObjects", "LookupService.ListObjects", READ),
    asks("/cardea.permission.v1.LookupService/ListSubjects", "LookupService.ListSubjects", READ),
    asks("/cardea.permission.v1.LookupService/ListActions", "LookupService.ListActions", READ),
];

/// The methods as routes.
pub fn routes() -> impl Iterator<Item = &'static RouteInfo> {
    CALLS.iter().map(|call| &call.route)
}

pub(super) fn is_on(path: &str, door: Door) -> Option<bool> {
    let call = CALLS.iter().find(|call| call.route.path == path)?;
    Some(call.doors.contains(&door))
}

/// The names of the services on one of Keto's listeners; of all without one.
pub fn services(door: Option<Door>) -> Vec<&'static str> {
    let calls = CALLS.iter().filter(|call| door.is_none_or(|door| call.doors.contains(&door)));
    let mut names: Vec<&str> = calls.filter_map(|call| call.route.path.split('/').nth(1)).collect();
    names.dedup();
    names
}

/// What the services share.
#[derive(Clone)]
struct Grpc {
    keto: Keto,
}

impl Grpc {
    fn service(&self) -> &Service {
        self.keto.service()
    }
}

/// The services. They ask for no key: the listener does.
pub(super) fn router(keto: Keto) -> Router {
    let grpc = Grpc { keto };
    macro_rules! services {
        ($($server:ident),*) => {
            Routes::from(Router::new())
                $(.add_service(
                    $server::new(grpc.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
                ))*
        };
    }
    let routes = services!(
        CheckServiceServer,
        ExpandServiceServer,
        ReadServiceServer,
        NamespacesServiceServer,
        WriteServiceServer,
        VersionServiceServer,
        SyntaxServiceServer,
        WatchServiceServer,
        LookupServiceServer
    );
    routes.into_axum_router().layer(middleware::from_fn(within_deadline)).layer(GrpcWebLayer::new())
}

/// Gives up when the caller does. A stream has begun by then, and is the caller's to
/// end.
async fn within_deadline(request: Request, next: Next) -> Response {
    let Some(timeout) = request.headers().get("grpc-timeout") else {
        return next.run(request).await;
    };
    let timeout = timeout.to_str().ok().and_then(parse_timeout);
    let status = match timeout {
        None => tonic::Status::invalid_argument("grpc-timeout is no timeout"),
        // It would be begun before it is looked at.
        Some(Duration::ZERO) => tonic::Status::deadline_exceeded("the deadline has passed"),
        Some(timeout) => match tokio::time::timeout(timeout, next.run(request)).await {
            Ok(response) => return response,
            Err(_) => tonic::Status::deadline_exceeded("the deadline has passed"),
        },
    };
    status.into_http()
}

/// At most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Whose data a call is about, and how fresh it is to be read.
struct Asked {
    tenant: Tenant,
    consistency: Consistency,
}

impl Asked {
    fn of<T>(request: &tonic::Request<T>, latest: bool, token: &str) -> Result<Self, ApiError> {
        let Some(tenant) = request.extensions().get::<Tenant>().copied() else {
            tracing::error!("a call came without a tenant: its listener is wired wrongly");
            return Err(ApiError::internal());
        };
        let header = request.metadata().get(consistency::CONSISTENCY.as_str());
        let consistency = if let Some(value) = header {
            consistency::of_header(value.to_str().unwrap_or_default())?
        } else if latest || token.is_empty() {
            Consistency::Strong
        } else {
            Consistency::AtLeast(consistency::given_snaptoken(token)?)
        };
        Ok(Self { tenant, consistency })
    }
}

/// An answer that tells where it stood.
fn answered<T>(message: T, snaptoken: &Snaptoken) -> tonic::Response<T> {
    let mut response = tonic::Response::new(message);
    if let Ok(text) = consistency::text_of(snaptoken).parse() {
        response.metadata_mut().insert("x-cardea-snaptoken", text);
    }
    response
}

/// What is not positive is the server's default, as in Keto.
fn positive(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
