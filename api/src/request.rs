//! What handlers take from a request: who is asked about, from where, with which
//! session, and the ids in its path.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use axum::extract::{FromRequestParts, RawPathParams};
use cardea_identity::{Client, Scope, language::Language, session::check::Proof};
use cardea_storage::{Secret, Tenant};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, header, request::Parts};
use uuid::Uuid;

use crate::{error::ApiError, kratos::Kratos};

/// Carries a session token.
pub const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-session-token");
/// Carries the value of a session cookie, for clients that cannot send cookies.
pub const SESSION_COOKIE: HeaderName = HeaderName::from_static("x-session-cookie");
/// Names the request, through all hops.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The address of the client, as the listener believes it; an extension of every
/// request that a listener hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Whether what let a request in still holds: asked from time to time by answers that
/// go on for long. An extension of requests that a key let in.
#[derive(Clone)]
pub struct StillAllowed(Arc<dyn Fn() -> BoxFuture<'static, Result<(), ApiError>> + Send + Sync>);

impl StillAllowed {
    /// Asks so.
    pub fn new(
        ask: impl Fn() -> BoxFuture<'static, Result<(), ApiError>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ask))
    }

    /// # Errors
    /// If it does not, or nobody can say.
    pub(crate) async fn ask(&self) -> Result<(), ApiError> {
        (self.0)().await
    }
}

/// What every operation is told: the tenant, which the listener found by host name
/// or API key and put among the request's extensions as a [`Tenant`], and the client.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose data.
    pub scope: Scope,
    /// Who asks.
    pub client: Client,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        // Never a default: a listener that forgot it must not open one tenant to all.
        let Some(tenant) = parts.extensions.get::<Tenant>().copied() else {
            tracing::error!("a request came without a tenant: its listener is wired wrongly");
            return Err(ApiError::internal());
        };
        let ip = parts.extensions.get::<ClientAddress>().map(|address| address.0);
        let user_agent = text(&parts.headers, &header::USER_AGENT).unwrap_or_default().to_owned();
        let language = language_of(&parts.headers);
        Ok(Self {
            scope: Scope { tenant },
            client: Client { ip, user_agent, language, ..Client::default() },
        })
    }
}

/// The language that somebody asks for, of those that are spoken.
pub(crate) fn language_of(headers: &HeaderMap) -> Option<Language> {
    text(headers, &header::ACCEPT_LANGUAGE).and_then(Language::accepted)
}

/// The session that the caller claims to have.
#[derive(Debug, Clone)]
pub struct Claimed(pub Option<Proof>);

impl FromRequestParts<Kratos> for Claimed {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        kratos: &Kratos,
    ) -> Result<Self, std::convert::Infallible> {
        Ok(Self(proof(&parts.headers, &kratos.options().cookies.name)))
    }
}

/// In this order: `X-Session-Token`, the session cookie, `Authorization: Bearer`.
fn proof(headers: &HeaderMap, cookie: &str) -> Option<Proof> {
    let secret = |text: &str| Secret::new(text.to_owned());
    let sent =
        |name: HeaderName| headers.get(name)?.to_str().ok().filter(|text: &&str| !text.is_empty());
    if let Some(token) = sent(SESSION_TOKEN) {
        return Some(Proof::Token(secret(token)));
    }
    if let Some(value) = sent(SESSION_COOKIE) {
        return Some(Proof::Cookie(secret(value)));
    }
    let sealed = cookies(headers).find(|(name, value)| *name == cookie && !value.is_empty());
    if let Some((_, value)) = sealed {
        return Some(Proof::Cookie(secret(value)));
    }
    let (scheme, token) = text(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .then(|| Proof::Token(secret(token)))
}

/// The cookies of a request, by name and value.
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name, value.trim_matches('"')))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An id in the path; what is no UUID is nobody's: 404, as where Kratos reads it
/// leniently.
#[derive(Debug, Clone, Copy)]
pub struct IdOr404<T>(pub T);

/// An id in the path; what is no UUID is malformed: 400, as where Kratos reads it
/// strictly.
#[derive(Debug, Clone, Copy)]
pub struct IdOr400<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for IdOr404<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = path_id(parts, state).await?;
        id.and_then(|text| text.parse().ok()).map(Self).ok_or_else(ApiError::no_such_row)
    }
}

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for IdOr400<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = path_id(parts, state).await?;
        id.and_then(|text| text.parse().ok())
            .map(Self)
            .ok_or_else(|| ApiError::malformed("uuid: the id in the path is no UUID"))
    }
}

/// The parameter `id` in hyphenated form; `None` for other spellings of a UUID too,
/// so that a thing has one address.
async fn path_id<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Option<String>, ApiError> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| ApiError::no_such_row())?;
    let id = params.iter().find(|(name, _)| *name == "id").map(|(_, value)| value.to_owned());
    Ok(id.filter(|text| is_uuid(text)))
}

/// Whether a text is a UUID in hyphenated form.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        match proof(&map, "ory_kratos_session") {
            None => "nothing".to_owned(),
            Some(Proof::Token(token)) => format!("token {}", token.expose()),
            Some(Proof::Cookie(value)) => format!("cookie {}", value.expose()),
        }
    }

    #[test]
    fn token_counts_before_cookie_and_cookie_before_bearer() {
        let token = ("x-session-token", "t");
        let cookie = ("cookie", "a=b; ory_kratos_session=c; d=e");
        let bearer = ("authorization", "bearer  b ");
        assert_eq!(claimed(&[bearer, cookie, token]), "token t");
        assert_eq!(claimed(&[bearer, cookie]), "cookie c");
        assert_eq!(claimed(&[bearer, ("cookie", "x=y")]), "token b");
        assert_eq!(claimed(&[("x-session-token", ""), bearer]), "token b");
        assert_eq!(claimed(&[("x-session-cookie", "z"), cookie]), "cookie z");
        assert_eq!(claimed(&[("cookie", "x=y"), ("cookie", "ory_kratos_session=2")]), "cookie 2");
        assert_eq!(claimed(&[("authorization", "Basic abc")]), "nothing");
        assert_eq!(claimed(&[("authorization", "Bearer ")]), "nothing");
        assert_eq!(claimed(&[("cookie", "ory_kratos_session=")]), "nothing");
    }

    #[test]
    fn only_hyphenated_uuids_are_ids() {
        assert!(is_uuid("6ba7b810-9dad-11d1-80b4-00c04fd430c8"));
        for other in [
            "",
            "x",
            "6ba7b8109dad11d180b400c04fd430c8",
            "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
            "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
        ] {
            assert!(!is_uuid(other), "{other}");
        }
    }
}
