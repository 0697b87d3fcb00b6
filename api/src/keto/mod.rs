//! Keto: relation tuples, checks, namespaces, and the permission language.
//!
//! The same is answered over gRPC ([`grpc`]). What Keto does not have stands beside it,
//! under paths of its own: looking up objects and subjects, watching changes, the
//! language in force, and the Authorization API of AuthZEN. Every route needs an API
//! key on the public listener; listeners see to that by [`ROUTES`](crate::ROUTES).
//!
//! Reads are strong unless a request says otherwise: by `X-Cardea-Consistency`, or by
//! `snaptoken` (at least as fresh as the write that gave it) and `latest=true`, as
//! Keto's protobuf has them. Every answer names where it stood in
//! [`X-Cardea-Snaptoken`](crate::consistency::SNAPTOKEN), and that covers the language
//! that was in force.

pub mod grpc;
pub mod wire;

mod authzen;
mod bulk;
mod check;
mod deletion;
mod expand;
mod flow;
mod language;
mod lookup;
mod read;
mod rejection;
#[cfg(test)]
mod tests;
mod tuples;
mod watch;

use std::{sync::Arc, time::Duration};

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

use self::{deletion::Deletions, flow::Flows, watch::Watchers};
use crate::{
    answer,
    consistency::{self, Wanted},
    error::ApiError,
    query::Query,
    route::{RouteInfo, Scope},
};

/// How the API behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most watches that a node serves at a time.
    pub watchers_max: usize,
    /// How often a watch tells how far it is.
    pub heartbeat: Duration,
    /// The AuthZEN type of subjects that stands for subject ids.
    pub subject_type: String,
    /// The base URL that clients know.
    pub public_url: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            watchers_max: 1_000,
            heartbeat: Duration::from_secs(5),
            subject_type: "user".to_owned(),
            public_url: "http://127.0.0.1:4433".to_owned(),
        }
    }
}

/// What a node has once, though the API be made anew with other keys.
#[derive(Debug)]
pub struct Shared {
    options: Options,
    watchers: Watchers,
    deletions: Deletions,
    flows: Flows,
}

impl Shared {
    /// With nobody watching.
    pub fn new(options: Options) -> Arc<Self> {
        let watchers = Watchers::new(options.watchers_max, options.heartbeat);
        Arc::new(Self {
            options,
            watchers,
            deletions: Deletions::default(),
            flows: Flows::default(),
        })
    }

    /// What goes on for long.
    pub fn usage(&self) -> Usage {
        let (watches, refused, too_old) = self.watchers.usage();
        let (deletions, streams) = (self.deletions.under_way(), self.flows.under_way());
        Usage { watches, refused, too_old, deletions, streams }
    }

    /// Ends every watch, now and from now on: the node is about to stop.
    pub fn close(&self) {
        self.watchers.close();
    }
}

/// What goes on for long on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Watches under way.
    pub watches: usize,
    /// Watches that found no place.
    pub refused: u64,
    /// Watches that were too late for what followed.
    pub too_old: u64,
    /// Deletions by query under way.
    pub deletions: usize,
    /// Look-ups and exports that are being sent.
    pub streams: usize,
}

/// What the handlers share.
#[derive(Clone)]
pub struct Keto {
    service: Arc<Service>,
    shared: Arc<Shared>,
}

impl Keto {
    /// The API of a layer.
    pub fn new(service: Arc<Service>, shared: Arc<Shared>) -> Self {
        Self { service, shared }
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    fn shared(&self) -> &Shared {
        &self.shared
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
    Watch,
    Evaluation,
    Evaluations,
    SearchSubject,
    SearchResource,
    SearchAction,
    Configuration,
    ImportRelationships,
    ExportRelationships,
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
            Self::Watch => "watchRelationships",
            Self::Evaluation => "accessEvaluation",
            Self::Evaluations => "accessEvaluations",
            Self::SearchSubject => "searchSubject",
            Self::SearchResource => "searchResource",
            Self::SearchAction => "searchAction",
            Self::Configuration => "authzenConfiguration",
            Self::ImportRelationships => "importRelationships",
            Self::ExportRelationships => "exportRelationships",
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
            Self::Watch => on(filter, watch::watch),
            Self::Evaluation => on(filter, authzen::evaluation),
            Self::Evaluations => on(filter, authzen::evaluations),
            Self::SearchSubject => on(filter, authzen::subjects),
            Self::SearchResource => on(filter, authzen::resources),
            Self::SearchAction => on(filter, authzen::actions),
            Self::Configuration => on(filter, authzen::configuration),
            Self::ImportRelationships => on(filter, bulk::import),
            Self::ExportRelationships => on(filter, bulk::export),
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
const IMPORT: &str = "/admin/relation-tuples/import";
const EXPORT: &str = "/admin/relation-tuples/export";
const CHECK: &str = "/relation-tuples/check";
const CHECK_OPENAPI: &str = "/relation-tuples/check/openapi";
const LANGUAGE: &str = "/admin/opl";
const SYNTAX: &str = "/opl/syntax/check";

/// Every route with what it does.
static TABLE: [(RouteInfo, Operation); 26] = [
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
    read(Method::GET, "/relation-tuples/watch", Operation::Watch),
    read(Method::POST, authzen::EVALUATION, Operation::Evaluation),
    read(Method::POST, authzen::EVALUATIONS, Operation::Evaluations),
    read(Method::POST, authzen::SEARCH_SUBJECT, Operation::SearchSubject),
    read(Method::POST, authzen::SEARCH_RESOURCE, Operation::SearchResource),
    read(Method::POST, authzen::SEARCH_ACTION, Operation::SearchAction),
    (
        RouteInfo::public(Method::GET, authzen::CONFIGURATION, Operation::Configuration.id()),
        Operation::Configuration,
    ),
    write(Method::POST, IMPORT, Operation::ImportRelationships),
    read(Method::GET, EXPORT, Operation::ExportRelationships),
];

/// Every route that is answered here.
pub fn routes() -> impl Iterator<Item = &'static RouteInfo> {
    TABLE.iter().map(|(route, _)| route).chain(grpc::routes())
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
        if let Some(is_on) = grpc::is_on(route.path, door) {
            return is_on;
        }
        let of = match route.path {
            TUPLES | LANGUAGE | IMPORT => Door::Write,
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
    let rest = router.layer(middleware::from_fn(answer::finish)).with_state(keto.clone());
    rest.merge(grpc::router(keto))
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
            Consistency::AtLeast(consistency::given_snaptoken(token)?)
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
