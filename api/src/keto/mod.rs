//! Keto: relation tuples, checks, namespaces, and the permission language.
//!
//! What Keto does not have stands beside it, under paths of its own: looking up
//! objects and subjects, and the language in force. Every route needs an API key on
//! the public listener; listeners see to that by [`ROUTES`](crate::ROUTES).
//!
//! Reads are strong unless a request says otherwise: by `X-Cardea-Consistency`, or by
//! `snaptoken` (at least as fresh as the write that gave it) and `latest=true`, as
//! Keto's protobuf has them. Every answer names where it stood in
//! [`X-Cardea-Snaptoken`](crate::consistency::SNAPTOKEN), and that covers the language
//! that was in force.

pub mod wire;

mod check;
mod expand;
mod language;
mod lookup;
mod read;
mod rejection;
#[cfg(test)]
mod tests;
mod tuples;

use std::sync::Arc;

use axum::{
    Router,
    extract::FromRequestParts,
    middleware,
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};
use cardea_permission::Service;
use cardea_storage::{Consistency, Snaptoken, Tenant};
use http::{Method, request::Parts};

use crate::{
    answer,
    consistency::{self, Wanted},
    error::ApiError,
    query::Query,
    route::{RouteInfo, Scope},
};

/// What the handlers share.
#[derive(Clone)]
pub struct Keto {
    service: Arc<Service>,
}

impl Keto {
    /// The API of a layer.
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }
}

/// The operations that are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    CreateRelationship,
    PatchRelationships,
    DeleteRelationships,
    GetRelationships,
    CheckPermissionOrError,
    PostCheckPermissionOrError,
    CheckPermission,
    PostCheckPermission,
    BatchCheckPermission,
    ExpandPermissions,
    ListRelationshipNamespaces,
    CheckOplSyntax,
    ExplainPermission,
    ListObjects,
    ListSubjects,
    GetLanguage,
    SetLanguage,
}

impl Operation {
    /// Those that Keto does not have are named as they could be there.
    const fn id(self) -> &'static str {
        match self {
            Self::CreateRelationship => "createRelationship",
            Self::PatchRelationships => "patchRelationships",
            Self::DeleteRelationships => "deleteRelationships",
            Self::GetRelationships => "getRelationships",
            Self::CheckPermissionOrError => "checkPermissionOrError",
            Self::PostCheckPermissionOrError => "postCheckPermissionOrError",
            Self::CheckPermission => "checkPermission",
            Self::PostCheckPermission => "postCheckPermission",
            Self::BatchCheckPermission => "batchCheckPermission",
            Self::ExpandPermissions => "expandPermissions",
            Self::ListRelationshipNamespaces => "listRelationshipNamespaces",
            Self::CheckOplSyntax => "checkOplSyntax",
            Self::ExplainPermission => "explainPermission",
            Self::ListObjects => "listPermissionObjects",
            Self::ListSubjects => "listPermissionSubjects",
            Self::GetLanguage => "getPermissionLanguage",
            Self::SetLanguage => "setPermissionLanguage",
        }
    }

    fn handler(self, filter: MethodFilter) -> MethodRouter<Keto> {
        match self {
            Self::CreateRelationship => on(filter, tuples::create),
            Self::PatchRelationships => on(filter, tuples::patch),
            Self::DeleteRelationships => on(filter, tuples::delete),
            Self::GetRelationships => on(filter, tuples::list),
            Self::CheckPermissionOrError => on(filter, check::get_or_error),
            Self::PostCheckPermissionOrError => on(filter, check::post_or_error),
            Self::CheckPermission => on(filter, check::get),
            Self::PostCheckPermission => on(filter, check::post),
            Self::BatchCheckPermission => on(filter, check::batch),
            Self::ExpandPermissions => on(filter, expand::expand),
            Self::ListRelationshipNamespaces => on(filter, language::namespaces),
            Self::CheckOplSyntax => on(filter, language::check_syntax),
            Self::ExplainPermission => on(filter, check::explain),
            Self::ListObjects => on(filter, lookup::objects),
            Self::ListSubjects => on(filter, lookup::subjects),
            Self::GetLanguage => on(filter, language::get),
            Self::SetLanguage => on(filter, language::set),
        }
    }
}

const fn read(method: Method, path: &'static str, operation: Operation) -> (RouteInfo, Operation) {
    (RouteInfo::admin(method, path, operation.id(), Scope::Read("permission")), operation)
}

const fn write(method: Method, path: &'static str, operation: Operation) -> (RouteInfo, Operation) {
    (RouteInfo::admin(method, path, operation.id(), Scope::Write("permission")), operation)
}

const TUPLES: &str = "/admin/relation-tuples";
const CHECK: &str = "/relation-tuples/check";
const CHECK_OPENAPI: &str = "/relation-tuples/check/openapi";
const LANGUAGE: &str = "/admin/opl";
const SYNTAX: &str = "/opl/syntax/check";

/// Every route with what it does.
static TABLE: [(RouteInfo, Operation); 17] = [
    write(Method::PUT, TUPLES, Operation::CreateRelationship),
    write(Method::PATCH, TUPLES, Operation::PatchRelationships),
    write(Method::DELETE, TUPLES, Operation::DeleteRelationships),
    read(Method::GET, "/relation-tuples", Operation::GetRelationships),
    read(Method::GET, CHECK, Operation::CheckPermissionOrError),
    read(Method::POST, CHECK, Operation::PostCheckPermissionOrError),
    read(Method::GET, CHECK_OPENAPI, Operation::CheckPermission),
    read(Method::POST, CHECK_OPENAPI, Operation::PostCheckPermission),
    read(Method::POST, "/relation-tuples/batch/check", Operation::BatchCheckPermission),
    read(Method::GET, "/relation-tuples/expand", Operation::ExpandPermissions),
    read(Method::GET, "/relation-tuples/explain", Operation::ExplainPermission),
    read(Method::GET, "/relation-tuples/objects", Operation::ListObjects),
    read(Method::GET, "/relation-tuples/subjects", Operation::ListSubjects),
    read(Method::GET, "/namespaces", Operation::ListRelationshipNamespaces),
    read(Method::POST, SYNTAX, Operation::CheckOplSyntax),
    read(Method::GET, LANGUAGE, Operation::GetLanguage),
    write(Method::PUT, LANGUAGE, Operation::SetLanguage),
];

/// Every route that is answered here.
pub fn routes() -> impl Iterator<Item = &'static RouteInfo> {
    TABLE.iter().map(|(route, _)| route)
}

/// The listeners that Keto's clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Keto's port 4466.
    Read,
    /// Keto's port 4467.
    Write,
    /// Keto's port 4469.
    Language,
}

/// The routes of one of Keto's listeners.
pub fn routes_of(door: Door) -> impl Iterator<Item = &'static RouteInfo> {
    routes().filter(move |route| {
        let of = match route.path {
            TUPLES | LANGUAGE => Door::Write,
            SYNTAX => Door::Language,
            _ => Door::Read,
        };
        of == door
    })
}

/// The routes. They ask for no key: the listener does.
pub fn router(keto: Keto) -> Router {
    let mut router = Router::new();
    for (route, operation) in &TABLE {
        let Ok(filter) = MethodFilter::try_from(route.method.clone()) else { continue };
        router = router.route(route.path, operation.handler(filter));
    }
    router.layer(middleware::from_fn(answer::finish)).with_state(keto)
}

/// Whose data a request is about, and how fresh it is to be read.
pub(crate) struct Asked {
    pub(crate) tenant: Tenant,
    pub(crate) consistency: Consistency,
    pub(crate) query: Query,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Some(tenant) = parts.extensions.get::<Tenant>().copied() else {
            tracing::error!("a request came without a tenant: its listener is wired wrongly");
            return Err(ApiError::internal());
        };
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let consistency = if parts.headers.contains_key(consistency::CONSISTENCY) {
            Wanted::from_request_parts(parts, state).await?.0
        } else if query.flag("latest")? == Some(true) {
            Consistency::Strong
        } else if let Some(token) = query.first("snaptoken") {
            let token = consistency::read_snaptoken(token);
            Consistency::AtLeast(token.ok_or_else(|| {
                ApiError::bad_request("The snaptoken was not given by this cluster.")
            })?)
        } else {
            Wanted::from_request_parts(parts, state).await?.0
        };
        Ok(Self { tenant, consistency, query })
    }
}

/// Tells where an answer stood.
pub(crate) fn at(mut response: Response, snaptoken: &Snaptoken) -> Response {
    consistency::write_snaptoken(response.headers_mut(), snaptoken);
    response
}
