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

use axum::{
    Router, middleware,
    routing::{MethodFilter, MethodRouter, on},
};
use cardea_identity::Service;
use http::Method;
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

/// The operations that are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    CreateIdentity,
    GetIdentity,
    GetIdentityByExternalId,
    ListIdentities,
    BatchPatchIdentities,
    DeleteIdentityCredentials,
    ImportIdentities,
    ListAuditEvents,
    VerifyAudit,
    ExportIdentity,
    EraseIdentity,
    GetErasure,
    ListSessions,
    ManageSessions,
    UpdateIdentity,
    PatchIdentity,
    DeleteIdentity,
    ListIdentitySessions,
    DeleteIdentitySessions,
    GetSession,
    DisableSession,
    ExtendSession,
    CreateNativeRegistrationFlow,
    CreateBrowserRegistrationFlow,
    GetRegistrationFlow,
    UpdateRegistrationFlow,
    CreateNativeLoginFlow,
    CreateBrowserLoginFlow,
    GetLoginFlow,
    UpdateLoginFlow,
    ToSession,
    CreateNativeSettingsFlow,
    CreateBrowserSettingsFlow,
    GetSettingsFlow,
    UpdateSettingsFlow,
    CreateNativeRecoveryFlow,
    CreateBrowserRecoveryFlow,
    GetRecoveryFlow,
    UpdateRecoveryFlow,
    CreateNativeVerificationFlow,
    CreateBrowserVerificationFlow,
    GetVerificationFlow,
    UpdateVerificationFlow,
    CreateRecoveryCodeForIdentity,
    CreateRecoveryLinkForIdentity,
    FollowRecoveryLink,
    FollowVerificationLink,
    ListCourierMessages,
    GetCourierMessage,
    ListHookCalls,
    GetHookCall,
    RetryHookCall,
    PageLogin,
    PageRegistration,
    PageRecovery,
    PageVerification,
    PageSettings,
    PageError,
    PageStart,
    PageWelcome,
    PageStyle,
    PageEndSession,
    PageErasure,
    PageErased,
    ExportMyself,
    EraseMyself,
    GetWebAuthnJavaScript,
    GetWellKnownChangePassword,
    PerformNativeLogout,
    CreateBrowserLogoutFlow,
    UpdateLogoutFlow,
    GetFlowError,
    ListMySessions,
    DisableMySession,
    DisableMyOtherSessions,
    ListIdentitySchemas,
    GetIdentitySchema,
    PutIdentitySchema,
    RemoveIdentitySchema,
    SocialCallback,
    SocialCallbackByForm,
    ExchangeSessionToken,
    CreateTestLoginFlow,
    DeleteTestLoginFlow,
    CreateFedcmFlow,
    UpdateFedcmFlow,
    PageFedcmScript,
}

impl Operation {
    const fn id(self) -> &'static str {
        match self {
            Self::CreateIdentity => "createIdentity",
            Self::GetIdentity => "getIdentity",
            Self::GetIdentityByExternalId => "getIdentityByExternalID",
            Self::BatchPatchIdentities => "batchPatchIdentities",
            Self::DeleteIdentityCredentials => "deleteIdentityCredentials",
            Self::ImportIdentities => "importIdentities",
            Self::ListAuditEvents => "listAuditEvents",
            Self::VerifyAudit => "verifyAudit",
            Self::ExportIdentity => "exportIdentity",
            Self::EraseIdentity => "eraseIdentity",
            Self::GetErasure => "getErasure",
            Self::ListSessions => "listSessions",
            Self::ManageSessions => "manageSessions",
            Self::ListIdentities => "listIdentities",
            Self::UpdateIdentity => "updateIdentity",
            Self::PatchIdentity => "patchIdentity",
            Self::DeleteIdentity => "deleteIdentity",
            Self::ListIdentitySessions => "listIdentitySessions",
            Self::DeleteIdentitySessions => "deleteIdentitySessions",
            Self::GetSession => "getSession",
            Self::DisableSession => "disableSession",
            Self::ExtendSession => "extendSession",
            Self::CreateNativeRegistrationFlow => "createNativeRegistrationFlow",
            Self::CreateBrowserRegistrationFlow => "createBrowserRegistrationFlow",
            Self::GetRegistrationFlow => "getRegistrationFlow",
            Self::UpdateRegistrationFlow => "updateRegistrationFlow",
            Self::CreateNativeLoginFlow => "createNativeLoginFlow",
            Self::CreateBrowserLoginFlow => "createBrowserLoginFlow",
            Self::GetLoginFlow => "getLoginFlow",
            Self::UpdateLoginFlow => "updateLoginFlow",
            Self::ToSession => "toSession",
            Self::CreateNativeSettingsFlow => "createNativeSettingsFlow",
            Self::CreateBrowserSettingsFlow => "createBrowserSettingsFlow",
            Self::GetSettingsFlow => "getSettingsFlow",
            Self::UpdateSettingsFlow => "updateSettingsFlow",
            Self::CreateNativeRecoveryFlow => "createNativeRecoveryFlow",
            Self::CreateBrowserRecoveryFlow => "createBrowserRecoveryFlow",
            Self::GetRecoveryFlow => "getRecoveryFlow",
            Self::UpdateRecoveryFlow => "updateRecoveryFlow",
            Self::CreateNativeVerificationFlow => "createNativeVerificationFlow",
            Self::CreateBrowserVerificationFlow => "createBrowserVerificationFlow",
            Self::GetVerificationFlow => "getVerificationFlow",
            Self::UpdateVerificationFlow => "updateVerificationFlow",
            Self::CreateRecoveryCodeForIdentity => "createRecoveryCodeForIdentity",
            Self::CreateRecoveryLinkForIdentity => "createRecoveryLinkForIdentity",
            Self::FollowRecoveryLink => "followRecoveryLink",
            Self::FollowVerificationLink => "followVerificationLink",
            Self::ListCourierMessages => "listCourierMessages",
            Self::GetCourierMessage => "getCourierMessage",
            Self::ListHookCalls => "listHookCalls",
            Self::GetHookCall => "getHookCall",
            Self::RetryHookCall => "retryHookCall",
            Self::PageLogin => "pageLogin",
            Self::PageRegistration => "pageRegistration",
            Self::PageRecovery => "pageRecovery",
            Self::PageVerification => "pageVerification",
            Self::PageSettings => "pageSettings",
            Self::PageError => "pageError",
            Self::PageStart => "pageStart",
            Self::PageWelcome => "pageWelcome",
            Self::PageStyle => "pageStyle",
            Self::PageEndSession => "pageEndSession",
            Self::PageErasure => "pageErasure",
            Self::PageErased => "pageErased",
            Self::ExportMyself => "exportMyself",
            Self::EraseMyself => "eraseMyself",
            Self::GetWebAuthnJavaScript => "getWebAuthnJavaScript",
            Self::GetWellKnownChangePassword => "getWellKnownChangePassword",
            Self::PerformNativeLogout => "performNativeLogout",
            Self::CreateBrowserLogoutFlow => "createBrowserLogoutFlow",
            Self::UpdateLogoutFlow => "updateLogoutFlow",
            Self::GetFlowError => "getFlowError",
            Self::ListMySessions => "listMySessions",
            Self::DisableMySession => "disableMySession",
            Self::DisableMyOtherSessions => "disableMyOtherSessions",
            Self::ListIdentitySchemas => "listIdentitySchemas",
            Self::GetIdentitySchema => "getIdentitySchema",
            Self::PutIdentitySchema => "putIdentitySchema",
            Self::RemoveIdentitySchema => "removeIdentitySchema",
            Self::SocialCallback => "socialCallback",
            Self::SocialCallbackByForm => "socialCallbackByForm",
            Self::ExchangeSessionToken => "exchangeSessionToken",
            Self::CreateTestLoginFlow => "createTestLoginFlow",
            Self::DeleteTestLoginFlow => "deleteTestLoginFlow",
            Self::CreateFedcmFlow => "createFedcmFlow",
            Self::UpdateFedcmFlow => "updateFedcmFlow",
            Self::PageFedcmScript => "pageFedcmScript",
        }
    }

    fn handler(self, filter: MethodFilter) -> MethodRouter<Kratos> {
        match self {
            Self::CreateIdentity => on(filter, identities::create),
            Self::GetIdentity => on(filter, identities::get),
            Self::GetIdentityByExternalId => on(filter, identities::by_external_id),
            Self::BatchPatchIdentities => on(filter, batch::patch),
            Self::DeleteIdentityCredentials => on(filter, identities::delete_credential),
            Self::ImportIdentities => on(filter, import::import),
            Self::ListAuditEvents => on(filter, audit::events),
            Self::VerifyAudit => on(filter, audit::verify),
            Self::ExportIdentity => on(filter, audit::export),
            Self::EraseIdentity => on(filter, erasure::request),
            Self::GetErasure => on(filter, erasure::get),
            Self::ListSessions => on(filter, sessions_admin::list),
            Self::ManageSessions => on(filter, sessions_admin::manage),
            Self::ListIdentities => on(filter, identities::list),
            Self::UpdateIdentity => on(filter, identities::update),
            Self::PatchIdentity => on(filter, identities::patch),
            Self::DeleteIdentity => on(filter, identities::delete),
            Self::ListIdentitySessions => on(filter, sessions_admin::list_of_identity),
            Self::DeleteIdentitySessions => on(filter, sessions_admin::delete_of_identity),
            Self::GetSession => on(filter, sessions_admin::get),
            Self::DisableSession => on(filter, sessions_admin::disable),
            Self::ExtendSession => on(filter, sessions_admin::extend),
            Self::CreateNativeRegistrationFlow => on(filter, registration::create_native),
            Self::CreateBrowserRegistrationFlow => on(filter, registration::create_browser),
            Self::GetRegistrationFlow => on(filter, registration::get),
            Self::UpdateRegistrationFlow => on(filter, registration::submit),
            Self::CreateNativeLoginFlow => on(filter, login::create_native),
            Self::CreateBrowserLoginFlow => on(filter, login::create_browser),
            Self::GetLoginFlow => on(filter, login::get),
            Self::UpdateLoginFlow => on(filter, login::submit),
            Self::ToSession => on(filter, sessions::whoami),
            Self::CreateNativeSettingsFlow => on(filter, settings::create_native),
            Self::CreateBrowserSettingsFlow => on(filter, settings::create_browser),
            Self::GetSettingsFlow => on(filter, settings::get),
            Self::UpdateSettingsFlow => on(filter, settings::submit),
            Self::CreateNativeRecoveryFlow => on(filter, code::recovery::create_native),
            Self::CreateBrowserRecoveryFlow => on(filter, code::recovery::create_browser),
            Self::GetRecoveryFlow => on(filter, code::recovery::get),
            Self::UpdateRecoveryFlow => on(filter, code::recovery::submit),
            Self::CreateNativeVerificationFlow => on(filter, code::verification::create_native),
            Self::CreateBrowserVerificationFlow => on(filter, code::verification::create_browser),
            Self::GetVerificationFlow => on(filter, code::verification::get),
            Self::UpdateVerificationFlow => on(filter, code::verification::submit),
            Self::CreateRecoveryCodeForIdentity => on(filter, code::create_code),
            Self::CreateRecoveryLinkForIdentity => on(filter, code::create_link),
            Self::FollowRecoveryLink => on(filter, code::recovery::follow_link),
            Self::FollowVerificationLink => on(filter, code::verification::follow_link),
            Self::ListCourierMessages => on(filter, courier::list),
            Self::GetCourierMessage => on(filter, courier::get),
            Self::ListHookCalls => on(filter, hooks::list),
            Self::GetHookCall => on(filter, hooks::get),
            Self::RetryHookCall => on(filter, hooks::retry),
            Self::PageLogin => on(filter, pages::login),
            Self::PageRegistration => on(filter, pages::registration),
            Self::PageRecovery => on(filter, pages::recovery),
            Self::PageVerification => on(filter, pages::verification),
            Self::PageSettings => on(filter, pages::settings),
            Self::PageError => on(filter, pages::error),
            Self::PageStart => on(filter, pages::start),
            Self::PageWelcome => on(filter, pages::welcome),
            Self::PageStyle => on(filter, pages::style),
            Self::PageEndSession => on(filter, pages::end_session),
            Self::PageErasure => on(filter, pages::erasure),
            Self::PageErased => on(filter, pages::erased),
            Self::ExportMyself => on(filter, oneself::export),
            Self::EraseMyself => on(filter, oneself::erase),
            Self::GetWebAuthnJavaScript => on(filter, pages::key_script),
            Self::GetWellKnownChangePassword => on(filter, settings::change_password),
            Self::PerformNativeLogout => on(filter, logout::native),
            Self::CreateBrowserLogoutFlow => on(filter, logout::create),
            Self::UpdateLogoutFlow => on(filter, logout::perform),
            Self::GetFlowError => on(filter, errors::get),
            Self::ListMySessions => on(filter, sessions::list),
            Self::DisableMySession => on(filter, sessions::disable),
            Self::DisableMyOtherSessions => on(filter, sessions::disable_others),
            Self::ListIdentitySchemas => on(filter, schemas::list),
            Self::GetIdentitySchema => on(filter, schemas::get),
            Self::PutIdentitySchema => on(filter, schemas::put),
            Self::RemoveIdentitySchema => on(filter, schemas::remove),
            Self::SocialCallback => on(filter, social::arrive),
            Self::SocialCallbackByForm => on(filter, social::arrive_by_form),
            Self::ExchangeSessionToken => on(filter, social::exchange),
            Self::CreateTestLoginFlow => on(filter, dry_run::create),
            Self::DeleteTestLoginFlow => on(filter, dry_run::delete),
            Self::CreateFedcmFlow => on(filter, fedcm::parameters),
            Self::UpdateFedcmFlow => on(filter, fedcm::submit),
            Self::PageFedcmScript => on(filter, pages::fedcm_script),
        }
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
