//! The cookies that are set: the session's, the anti-forgery secret's, and that of whoever
//! tried a provider.

use std::time::Duration;

use axum::response::Response;
use cardea_identity::{FlowId, Scope};
use cardea_storage::{Secret, Timestamp};
use http::{HeaderValue, header};

use super::{Kratos, csrf::CsrfSecret};

/// How long a browser keeps its anti-forgery secret.
const CSRF_MAX_AGE: Duration = Duration::from_secs(365 * 24 * 3600);
/// The cookie of whoever tried a provider, as Kratos names it.
pub(super) const TRIED: &str = "ory_kratos_test_flow";

impl Kratos {
    /// Gives the browser a session.
    pub(super) fn set_session(
        &self,
        response: &mut Response,
        scope: Scope,
        token: &Secret<String>,
        expires_at: Timestamp,
    ) {
        let service = self.service();
        let value = service.keys().cookies.seal(service.entropy(), scope.tenant, token, expires_at);
        let options = &self.options().cookies;
        let left = expires_at.since(service.now());
        let age = options.persistent.then_some(left);
        self.set(response, &options.name, value.expose(), age);
    }

    /// Takes the session cookie away.
    pub(super) fn clear_session(&self, response: &mut Response) {
        self.set(response, &self.options().cookies.name, "", Some(Duration::ZERO));
    }

    /// Gives the browser its anti-forgery secret.
    pub(super) fn set_csrf(&self, response: &mut Response, secret: &CsrfSecret) {
        self.set(response, self.csrf_cookie(), &secret.cookie_value(), Some(CSRF_MAX_AGE));
    }

    /// Shows the browser to have come back to a flow that tries a provider.
    pub(super) fn set_tried(&self, response: &mut Response, scope: Scope, flow: FlowId) {
        let proof = self.service().dry_run_proof(scope, flow);
        let age = self.service().settings().flow_lifespan;
        self.set(response, TRIED, proof.expose(), Some(age));
    }

    /// Takes that away.
    pub(super) fn clear_tried(&self, response: &mut Response) {
        self.set(response, TRIED, "", Some(Duration::ZERO));
    }

    fn set(&self, response: &mut Response, name: &str, value: &str, age: Option<Duration>) {
        let options = &self.options().cookies;
        let mut cookie = format!("{name}={value}; Path=/");
        if let Some(domain) = &options.domain {
            cookie.push_str("; Domain=");
            cookie.push_str(domain);
        }
        if let Some(age) = age {
            cookie.push_str("; Max-Age=");
            cookie.push_str(&age.as_secs().to_string());
        }
        cookie.push_str("; HttpOnly");
        if options.secure {
            cookie.push_str("; Secure");
        }
        cookie.push_str("; SameSite=");
        cookie.push_str(options.same_site.name());
        // Names and domains were checked, values are base64: it is a header's value.
        if let Ok(mut value) = HeaderValue::from_str(&cookie) {
            value.set_sensitive(true);
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}
