//! Sessions on the wire (`session`, `deleteMySessionsCount`).

use cardea_identity::{
    model::{Device, Session},
    session::AuthenticationMethod,
    time::rfc3339,
};
use serde::{Deserialize, Serialize};

use super::identity::{IdentityBody, Reader};

/// Which parts of a session are shown.
#[derive(Debug, Clone, Copy)]
pub struct Expand {
    /// Its identity.
    pub identity: bool,
    /// Its devices.
    pub devices: bool,
}

impl Expand {
    /// Both.
    pub const ALL: Self = Self { identity: true, devices: true };
    /// Neither.
    pub const NOTHING: Self = Self { identity: false, devices: false };
}

/// `session`. As in Kratos, what is not expanded is null.
#[derive(Debug, Serialize)]
pub struct SessionBody<'a> {
    id: String,
    active: bool,
    expires_at: String,
    authenticated_at: String,
    authenticator_assurance_level: &'static str,
    authentication_methods: Vec<MethodBody<'a>>,
    issued_at: String,
    identity: Option<IdentityBody<'a>>,
    devices: Option<Vec<DeviceBody<'a>>>,
    /// The session as a token, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokenized: Option<String>,
}

/// `sessionAuthenticationMethod`.
#[derive(Debug, Serialize)]
struct MethodBody<'a> {
    method: &'static str,
    aal: &'static str,
    completed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    upstream_amr: &'a [String],
}

/// `sessionDevice`.
#[derive(Debug, Serialize)]
struct DeviceBody<'a> {
    id: String,
    ip_address: &'a str,
    user_agent: &'a str,
    location: &'a str,
}

impl<'a> SessionBody<'a> {
    /// A session as somebody may see it.
    pub fn of(session: &'a Session, expand: Expand, reader: Reader, public_url: &str) -> Self {
        let identity = session.identity.as_ref().filter(|_| expand.identity);
        Self {
            id: session.id.to_string(),
            active: session.active,
            expires_at: rfc3339(session.expires_at),
            authenticated_at: rfc3339(session.authenticated_at),
            authenticator_assurance_level: session.aal.name(),
            authentication_methods: session.methods.iter().map(MethodBody::of).collect(),
            issued_at: rfc3339(session.issued_at),
            identity: identity.map(|identity| IdentityBody::of(identity, reader, public_url)),
            devices: expand.devices.then(|| session.devices.iter().map(DeviceBody::of).collect()),
            tokenized: None,
        }
    }
}

impl<'a> MethodBody<'a> {
    fn of(method: &'a AuthenticationMethod) -> Self {
        Self {
            method: method.method.name(),
            aal: method.aal.name(),
            completed_at: rfc3339(method.completed_at),
            provider: method.provider.as_deref(),
            organization: method.organization.map(|id| id.to_string()),
            upstream_acr: method.upstream.acr.as_deref(),
            upstream_amr: &method.upstream.amr,
        }
    }
}

impl<'a> DeviceBody<'a> {
    fn of(device: &'a Device) -> Self {
        Self {
            id: device.id.to_string(),
            ip_address: &device.ip_address,
            user_agent: &device.user_agent,
            location: &device.location,
        }
    }
}

/// `deleteMySessionsCount`.
#[derive(Debug, Serialize)]
pub(crate) struct RevokedBody {
    pub(crate) count: u64,
}

/// `manageSessionsBody`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManageSessionsBody {
    pub(crate) action: Option<String>,
    pub(crate) identities: Option<Vec<String>>,
    pub(crate) sessions: Option<Vec<String>>,
}

/// `manageSessionsResponse`.
#[derive(Debug, Serialize)]
pub(crate) struct ManagedBody {
    pub(crate) processed: u64,
    pub(crate) more: bool,
}

/// `performNativeLogoutBody`.
#[derive(Deserialize)]
pub(crate) struct LogoutBody {
    pub(crate) session_token: Option<String>,
}
