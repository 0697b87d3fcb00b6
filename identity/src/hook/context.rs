//! What a web hook is told of an occasion: `ctx` of its Jsonnet program.
//!
//! As in Kratos: `flow`, `identity` and `session` where there is one, and of the request
//! `request_method`, `request_url`, `request_headers` (those of a list, each with all its
//! values) and `request_cookies`. Beside that `event`, which says what happened, and
//! `transient_payload`, which stands in `flow` as well. Left out is what would let its
//! reader act in somebody's place: our own cookies, and the form of the flow, which may
//! show seeds and codes.

use serde_json::{Map, Value, json};

use super::Moment;
use crate::{
    Service,
    flow::Purpose,
    model::{Address, Client, FlowId, Identity, Session},
    session::{AuthenticationMethod, issue::Factor},
    table::FlowRecord,
    time::rfc3339,
};
use cardea_storage::Timestamp;

/// Headers of a request that hooks are told: Kratos's list.
const HEADERS: [&str; 17] = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Content-Length",
    "Content-Type",
    "Origin",
    "Priority",
    "Referer",
    "Sec-Ch-Ua",
    "Sec-Ch-Ua-Mobile",
    "Sec-Ch-Ua-Platform",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Site",
    "Sec-Fetch-User",
    "True-Client-Ip",
    "User-Agent",
];
/// Where a request comes from, as the listener believes it, whatever the request says.
const CLIENT_IP: &str = "True-Client-Ip";

/// A request, as far as hooks are told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    method: String,
    url: String,
    headers: Map<String, Value>,
    cookies: Map<String, Value>,
}

impl Asked {
    /// Keeps of a request what hooks may be told; cookies of the names in `hidden` are
    /// none of it.
    pub fn new<'a>(
        (method, url): (&str, &str),
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        cookies: impl Iterator<Item = (&'a str, &'a str)>,
        hidden: &[&str],
    ) -> Self {
        let mut told: Map<String, Value> = Map::new();
        for (name, value) in headers {
            let Some(name) = HEADERS.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                continue;
            };
            if let Value::Array(values) =
                told.entry(*name).or_insert_with(|| Value::Array(Vec::new()))
            {
                values.push(value.into());
            }
        }
        let cookies = cookies
            .filter(|(name, _)| !name.is_empty() && !hidden.contains(name))
            .map(|(name, value)| (name.to_owned(), value.into()));
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: told,
            cookies: cookies.collect(),
        }
    }
}

/// What hooks run on.
#[derive(Clone, Copy)]
pub(crate) struct Occasion<'a> {
    pub(crate) moment: Moment,
    pub(crate) purpose: Purpose,
    /// By which method it completes; empty for one that begins.
    pub(crate) method: &'a str,
    pub(crate) flow: (FlowId, &'a FlowRecord),
    pub(crate) client: &'a Client,
}

impl Service {
    /// `ctx`.
    pub(super) fn hook_context(
        &self,
        occasion: &Occasion<'_>,
        identity: Option<&Identity>,
        session: Option<&Value>,
    ) -> Value {
        let Occasion { moment, purpose, method, client, .. } = *occasion;
        let mut ctx = Map::new();
        let mut put = |name: &str, value: Value| ctx.insert(name.to_owned(), value);
        put("event", json!({"flow": purpose.name(), "when": moment.name(), "method": method}));
        put("flow", flow_json(occasion));
        if let Some(identity) = identity {
            put("identity", identity_json(identity, &self.settings.public_url));
        }
        if let Some(session) = session {
            put("session", session.clone());
        }
        if !client.transient_payload.is_null() {
            put("transient_payload", client.transient_payload.clone());
        }
        let asked = client.asked.as_deref().cloned().unwrap_or_default();
        let mut headers = asked.headers;
        headers.remove(CLIENT_IP);
        if let Some(ip) = client.ip {
            headers.insert(CLIENT_IP.to_owned(), json!([ip.to_string()]));
        }
        put("request_method", asked.method.into());
        put("request_url", asked.url.into());
        put("request_headers", headers.into());
        put("request_cookies", asked.cookies.into());
        Value::Object(ctx)
    }
}

fn flow_json(occasion: &Occasion<'_>) -> Value {
    let Occasion { purpose, method, flow: (id, record), client, .. } = *occasion;
    let is_browser = !record.csrf_digest.is_empty() || record.unclaimed;
    let mut flow = json!({
        "id": id.to_string(),
        "type": if is_browser { "browser" } else { "api" },
        "issued_at": rfc3339(Timestamp(record.issued_at)),
        "expires_at": rfc3339(Timestamp(record.expires_at)),
        "request_url": record.request_url,
    });
    if !record.return_to.is_empty() {
        flow["return_to"] = record.return_to.as_str().into();
    }
    if !method.is_empty() {
        flow["active"] = method.into();
    }
    if matches!(purpose, Purpose::Login | Purpose::Registration) {
        flow["identity_schema"] = record.schema_id.as_str().into();
    }
    if purpose == Purpose::Login {
        flow["refresh"] = record.refresh.into();
        flow["requested_aal"] = if record.requested_aal == 2 { "aal2" } else { "aal1" }.into();
    }
    if !client.transient_payload.is_null() {
        flow["transient_payload"] = client.transient_payload.clone();
    }
    flow
}

/// An identity, as Kratos shows it.
pub(crate) fn identity_json(identity: &Identity, public_url: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let schema = URL_SAFE_NO_PAD.encode(&identity.schema_id);
    let verifiable: Vec<_> = identity.verifiable_addresses.iter().map(verifiable_json).collect();
    let recovery: Vec<_> = identity.recovery_addresses.iter().map(address_json).collect();
    let mut body = json!({
        "id": identity.id.to_string(),
        "schema_id": identity.schema_id,
        "schema_url": format!("{public_url}/schemas/{schema}"),
        "state": identity.state.name(),
        "state_changed_at": rfc3339(identity.state_changed_at),
        "traits": identity.traits,
        "verifiable_addresses": verifiable,
        "recovery_addresses": recovery,
        "metadata_public": identity.metadata_public,
        "metadata_admin": identity.metadata_admin,
        "created_at": rfc3339(identity.created_at),
        "updated_at": rfc3339(identity.updated_at),
        "organization_id": identity.organization.map(|id| id.to_string()),
    });
    if let Some(external_id) = &identity.external_id {
        body["external_id"] = external_id.as_str().into();
    }
    body
}

fn address_json(address: &Address) -> Value {
    json!({
        "id": address.id.to_string(),
        "value": address.value,
        "via": address.via.name(),
        "created_at": rfc3339(address.created_at),
        "updated_at": rfc3339(address.updated_at),
    })
}

fn verifiable_json(address: &Address) -> Value {
    let mut body = address_json(address);
    body["verified"] = address.verified_at.is_some().into();
    body["status"] = address.status().into();
    if let Some(at) = address.verified_at {
        body["verified_at"] = rfc3339(at).into();
    }
    body
}

/// A session that was issued.
pub(crate) fn session_json(session: &Session) -> Value {
    let device = |device: &crate::model::Device| {
        json!({
            "id": device.id.to_string(),
            "ip_address": device.ip_address,
            "user_agent": device.user_agent,
            "location": device.location,
        })
    };
    json!({
        "id": session.id.to_string(),
        "active": session.active,
        "issued_at": rfc3339(session.issued_at),
        "authenticated_at": rfc3339(session.authenticated_at),
        "expires_at": rfc3339(session.expires_at),
        "authenticator_assurance_level": session.aal.name(),
        "authentication_methods": session.methods.iter().map(method_json).collect::<Vec<_>>(),
        "devices": session.devices.iter().map(device).collect::<Vec<_>>(),
    })
}

/// `sessionAuthenticationMethod`.
fn method_json(method: &AuthenticationMethod) -> Value {
    let mut body = json!({
        "method": method.method.name(),
        "aal": method.aal.name(),
        "completed_at": rfc3339(method.completed_at),
    });
    if let Some(provider) = &method.provider {
        body["provider"] = provider.as_str().into();
    }
    if let Some(organization) = method.organization {
        body["organization"] = organization.to_string().into();
    }
    if let Some(acr) = &method.upstream.acr {
        body["upstream_acr"] = acr.as_str().into();
    }
    if !method.upstream.amr.is_empty() {
        body["upstream_amr"] = json!(method.upstream.amr);
    }
    body
}

/// What is known of a session that is to be issued.
pub(crate) fn coming_session(factor: Factor<'_>, now: Timestamp) -> Value {
    let method = factor.completed(now);
    json!({
        "active": true,
        "authenticator_assurance_level": method.aal.name(),
        "authentication_methods": [method_json(&method)],
    })
}
