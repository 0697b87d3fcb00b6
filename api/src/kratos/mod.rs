//! Kratos: identities for administrators, native flows and sessions for everybody.
//!
//! [`ROUTES`](crate::ROUTES) says what is answered; [`public_routes`] and [`admin_routes`] are made
//! from it. Bodies are in [`wire`], one file of thin handlers per route group beside
//! it; what the layer refuses becomes an answer in [`rejection`].
//!
//! Listeners hand requests on with a [`Tenant`](cardea_storage::Tenant) and a
//! [`ClientAddress`](crate::ClientAddress) among their extensions.

pub mod wire;

pub mod options;
pub mod pages;
pub mod urls;

mod audit;
mod batch;
mod browser;
mod code;
mod cookie;
mod courier;
mod csrf;
mod dry_run;
mod erasure;
mod errors;
mod fedcm;
mod flow;
mod hooks;
mod identities;
mod import;
mod login;
mod logout;
mod manner;
mod oneself;
mod operation;
mod registration;
mod rejection;
mod schemas;
mod sessions;
mod sessions_admin;
mod settings;
mod social;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{Router, middleware, routing::MethodFilter};
use cardea_identity::Service;
use http::Method;
use operation::Operation;
use options::Options;

use crate::{
    answer, consistency,
    route::{RouteInfo, Scope, Surface},
};

/// What the handlers share.
#[derive(Clone)]
pub struct Kratos {
    service: Arc<Service>,
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    csrf_cookie: String,
}

impl Kratos {
    /// The API of a layer. For answers to tell [snaptokens](consistency::SNAPTOKEN) its
    /// store must be [observed](consistency::observed).
    pub fn new(service: Arc<Service>, options: Options) -> Self {
        let csrf_cookie = csrf::cookie_name(&options.urls.public);
        Self { service, shared: Arc::new(Shared { options, csrf_cookie }) }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    fn csrf_cookie(&self) -> &str {
        &self.shared.csrf_cookie
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    pub(crate) fn public_url(&self) -> &str {
        &self.service.settings().public_url
    }
}

const IDENTITIES: &str = "/admin/identities";
const IDENTITY: &str = "/admin/identities/{id}";
const IDENTITY_SESSIONS: &str = "/admin/identities/{id}/sessions";
const BY_EXTERNAL_ID: &str = "/admin/identities/by/external/{external_id}";
const CREDENTIAL: &str = "/admin/identities/{id}/credentials/{kind}";
const SESSIONS: &str = "/admin/sessions";
const SESSION: &str = "/admin/sessions/{id}";
const ERASURE: &str = "/admin/identities/{id}/erasure";
const SCHEMA: &str = "/admin/schemas/{id}";
const CALLBACK: &str = "/self-service/methods/oidc/callback/{provider}";
const WHOAMI: &str = "/sessions/whoami";

const fn public(
    method: Method,
    path: &'static str,
    operation: Operation,
) -> (RouteInfo, Operation) {
    (RouteInfo::public(method, path, operation.id()), operation)
}

const fn read(
    method: Method,
    path: &'static str,
    operation: Operation,
    area: &'static str,
) -> (RouteInfo, Operation) {
    (RouteInfo::admin(method, path, operation.id(), Scope::Read(area)), operation)
}

const fn write(
    method: Method,
    path: &'static str,
    operation: Operation,
    area: &'static str,
) -> (RouteInfo, Operation) {
    (RouteInfo::admin(method, path, operation.id(), Scope::Write(area)), operation)
}

/// Every route with what it does.
static TABLE: [(RouteInfo, Operation); COUNT] = [
    write(Method::POST, IDENTITIES, Operation::CreateIdentity, "identity"),
    read(Method::GET, IDENTITIES, Operation::ListIdentities, "identity"),
    read(Method::GET, IDENTITY, Operation::GetIdentity, "identity"),
    write(Method::PUT, IDENTITY, Operation::UpdateIdentity, "identity"),
    write(Method::PATCH, IDENTITY, Operation::PatchIdentity, "identity"),
    write(Method::DELETE, IDENTITY, Operation::DeleteIdentity, "identity"),
    read(Method::GET, IDENTITY_SESSIONS, Operation::ListIdentitySessions, "session"),
    write(Method::DELETE, IDENTITY_SESSIONS, Operation::DeleteIdentitySessions, "session"),
    write(Method::PATCH, IDENTITIES, Operation::BatchPatchIdentities, "identity"),
    read(Method::GET, BY_EXTERNAL_ID, Operation::GetIdentityByExternalId, "identity"),
    write(Method::DELETE, CREDENTIAL, Operation::DeleteIdentityCredentials, "identity"),
    write(Method::PUT, "/admin/import/identities", Operation::ImportIdentities, "identity"),
    read(Method::GET, "/admin/audit/events", Operation::ListAuditEvents, "audit"),
    read(Method::GET, "/admin/audit/verify", Operation::VerifyAudit, "audit"),
    read(Method::GET, "/admin/identities/{id}/export", Operation::ExportIdentity, "identity"),
    write(Method::POST, ERASURE, Operation::EraseIdentity, "identity"),
    read(Method::GET, ERASURE, Operation::GetErasure, "identity"),
    read(Method::GET, SESSIONS, Operation::ListSessions, "session"),
    write(Method::POST, SESSIONS, Operation::ManageSessions, "session"),
    read(Method::GET, SESSION, Operation::GetSession, "session"),
    write(Method::DELETE, SESSION, Operation::DisableSession, "session"),
    write(Method::PATCH, "/admin/sessions/{id}/extend", Operation::ExtendSession, "session"),
    write(
        Method::POST,
        "/admin/recovery/code",
        Operation::CreateRecoveryCodeForIdentity,
        "identity",
    ),
    write(
        Method::POST,
        "/admin/recovery/link",
        Operation::CreateRecoveryLinkForIdentity,
        "identity",
    ),
    write(Method::POST, "/admin/test-login-flows", Operation::CreateTestLoginFlow, "identity"),
    public(Method::DELETE, "/self-service/login/test", Operation::DeleteTestLoginFlow),
    public(Method::GET, "/self-service/recovery", Operation::FollowRecoveryLink),
    public(Method::GET, "/self-service/verification", Operation::FollowVerificationLink),
    read(Method::GET, "/admin/courier/messages", Operation::ListCourierMessages, "courier"),
    read(Method::GET, "/admin/courier/messages/{id}", Operation::GetCourierMessage, "courier"),
    read(Method::GET, "/admin/hooks/calls", Operation::ListHookCalls, "courier"),
    read(Method::GET, "/admin/hooks/calls/{id}", Operation::GetHookCall, "courier"),
    write(Method::POST, "/admin/hooks/calls/{id}/retry", Operation::RetryHookCall, "courier"),
    read(Method::GET, "/admin/schemas", Operation::ListIdentitySchemas, "identity"),
    read(Method::GET, SCHEMA, Operation::GetIdentitySchema, "identity"),
    write(Method::PUT, SCHEMA, Operation::PutIdentitySchema, "identity"),
    write(Method::DELETE, SCHEMA, Operation::RemoveIdentitySchema, "identity"),
    public(Method::GET, "/schemas", Operation::ListIdentitySchemas),
    public(Method::GET, "/schemas/{id}", Operation::GetIdentitySchema),
    public(Method::GET, "/self-service/registration/api", Operation::CreateNativeRegistrationFlow),
    public(
        Method::GET,
        "/self-service/registration/browser",
        Operation::CreateBrowserRegistrationFlow,
    ),
    public(Method::GET, "/self-service/registration/flows", Operation::GetRegistrationFlow),
    public(Method::POST, "/self-service/registration", Operation::UpdateRegistrationFlow),
    public(Method::GET, "/self-service/login/api", Operation::CreateNativeLoginFlow),
    public(Method::GET, "/self-service/login/browser", Operation::CreateBrowserLoginFlow),
    public(Method::GET, "/self-service/login/flows", Operation::GetLoginFlow),
    public(Method::POST, "/self-service/login", Operation::UpdateLoginFlow),
    public(Method::GET, "/self-service/settings/api", Operation::CreateNativeSettingsFlow),
    public(Method::GET, "/self-service/settings/browser", Operation::CreateBrowserSettingsFlow),
    public(Method::GET, "/self-service/settings/flows", Operation::GetSettingsFlow),
    public(Method::POST, "/self-service/settings", Operation::UpdateSettingsFlow),
    public(Method::GET, "/self-service/recovery/api", Operation::CreateNativeRecoveryFlow),
    public(Method::GET, "/self-service/recovery/browser", Operation::CreateBrowserRecoveryFlow),
    public(Method::GET, "/self-service/recovery/flows", Operation::GetRecoveryFlow),
    public(Method::POST, "/self-service/recovery", Operation::UpdateRecoveryFlow),
    public(Method::GET, "/self-service/verification/api", Operation::CreateNativeVerificationFlow),
    public(
        Method::GET,
        "/self-service/verification/browser",
        Operation::CreateBrowserVerificationFlow,
    ),
    public(Method::GET, "/self-service/verification/flows", Operation::GetVerificationFlow),
    public(Method::POST, "/self-service/verification", Operation::UpdateVerificationFlow),
    public(Method::GET, "/ui/login", Operation::PageLogin),
    public(Method::GET, "/ui/registration", Operation::PageRegistration),
    public(Method::GET, "/ui/recovery", Operation::PageRecovery),
    public(Method::GET, "/ui/verification", Operation::PageVerification),
    public(Method::GET, "/ui/settings", Operation::PageSettings),
    public(Method::GET, "/ui/error", Operation::PageError),
    public(Method::GET, "/", Operation::PageStart),
    public(Method::GET, "/ui/welcome", Operation::PageWelcome),
    public(Method::GET, "/ui/style.css", Operation::PageStyle),
    public(Method::POST, "/ui/sessions", Operation::PageEndSession),
    public(Method::GET, oneself::PAGE, Operation::PageErasure),
    public(Method::GET, oneself::DONE, Operation::PageErased),
    public(Method::GET, "/self-service/export", Operation::ExportMyself),
    public(Method::POST, "/self-service/erasure", Operation::EraseMyself),
    public(Method::GET, "/.well-known/ory/webauthn.js", Operation::GetWebAuthnJavaScript),
    public(Method::GET, "/.well-known/change-password", Operation::GetWellKnownChangePassword),
    public(Method::DELETE, "/self-service/logout/api", Operation::PerformNativeLogout),
    public(Method::GET, "/self-service/logout/browser", Operation::CreateBrowserLogoutFlow),
    public(Method::GET, "/self-service/logout", Operation::UpdateLogoutFlow),
    public(Method::GET, "/self-service/errors", Operation::GetFlowError),
    public(Method::GET, CALLBACK, Operation::SocialCallback),
    public(Method::POST, CALLBACK, Operation::SocialCallbackByForm),
    public(Method::GET, "/self-service/methods/oidc/callback", Operation::SocialCallback),
    public(Method::POST, "/self-service/methods/oidc/callback", Operation::SocialCallbackByForm),
    public(Method::GET, "/self-service/fed-cm/parameters", Operation::CreateFedcmFlow),
    public(Method::POST, "/self-service/fed-cm/token", Operation::UpdateFedcmFlow),
    public(Method::GET, pages::FEDCM_SCRIPT, Operation::PageFedcmScript),
    public(Method::GET, "/sessions/token-exchange", Operation::ExchangeSessionToken),
    public(Method::GET, "/sessions", Operation::ListMySessions),
    public(Method::DELETE, "/sessions", Operation::DisableMyOtherSessions),
    public(Method::DELETE, "/sessions/{id}", Operation::DisableMySession),
    // Proxies ask with the method of the request that they guard.
    public(Method::GET, WHOAMI, Operation::ToSession),
    public(Method::HEAD, WHOAMI, Operation::ToSession),
    public(Method::POST, WHOAMI, Operation::ToSession),
    public(Method::PUT, WHOAMI, Operation::ToSession),
    public(Method::PATCH, WHOAMI, Operation::ToSession),
    public(Method::DELETE, WHOAMI, Operation::ToSession),
    public(Method::CONNECT, WHOAMI, Operation::ToSession),
    public(Method::OPTIONS, WHOAMI, Operation::ToSession),
    public(Method::TRACE, WHOAMI, Operation::ToSession),
];

const COUNT: usize = 99;

/// Every route that is answered here.
pub fn routes() -> impl Iterator<Item = &'static RouteInfo> {
    TABLE.iter().map(|(route, _)| route)
}

/// The routes for everybody.
pub fn public_routes(kratos: Kratos) -> Router {
    router(kratos, Surface::Public)
}

/// The routes for administrators. They ask for no key: the listener does.
pub fn admin_routes(kratos: Kratos) -> Router {
    router(kratos, Surface::Admin)
}

fn router(kratos: Kratos, surface: Surface) -> Router {
    let mut router = Router::new();
    for (route, operation) in TABLE.iter().filter(|(route, _)| route.surface == surface) {
        let Ok(filter) = MethodFilter::try_from(route.method.clone()) else { continue };
        router = router.route(route.path, operation.handler(filter));
    }
    router
        .layer(middleware::from_fn(consistency::tell_snaptoken))
        .layer(middleware::from_fn(answer::finish))
        .with_state(kratos)
}
