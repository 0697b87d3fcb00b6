//! How fresh a read is to be, as a request says it, and where a write stands, as an
//! answer says it.
//!
//! `X-Cardea-Consistency: strong | bounded=<ms> | eventual | at_least=<snaptoken>`;
//! in administrators' reads `strong` and `eventual` are read from Ory's parameter
//! `consistency` too, and the header counts first. Without either a read is strong. After a
//! write `X-Cardea-Snaptoken` names where it stands: a read that is `at_least` that
//! sees it on every node.
//!
//! Layers return what they did, not where; so [`observed`] wraps the store they
//! hold, and notes the commits of the request under way.

use std::{cell::RefCell, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{extract::FromRequestParts, extract::Request, middleware::Next, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::{
    Consistency, Snaptoken, Store, StoreError, Through,
    store::{Draft, Verdict},
};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

use crate::{error::ApiError, query::Query};

/// Asks for a consistency.
pub const CONSISTENCY: HeaderName = HeaderName::from_static("x-cardea-consistency");
/// Tells where a write stands.
pub const SNAPTOKEN: HeaderName = HeaderName::from_static("x-cardea-snaptoken");

/// The oldest that a bounded read may be asked for.
const BOUND_MAX: Duration = Duration::from_secs(3600);
/// The longest snaptoken that is looked at, in bytes.
const SNAPTOKEN_BYTES_MAX: usize = 4096;

/// The consistency that a request asks for.
#[derive(Debug, Clone)]
pub struct Wanted(pub Consistency);

/// The same where whose session it is is asked: in the header alone. Proxies that ask it of
/// each request pass on the parameters that people choose.
pub(crate) struct WantedInHeader(pub(crate) Consistency);

impl<S: Send + Sync> FromRequestParts<S> for WantedInHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(CONSISTENCY) else {
            return Ok(Self(Consistency::Strong));
        };
        of_header(value.to_str().unwrap_or_default()).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if parts.headers.contains_key(CONSISTENCY) {
            return WantedInHeader::from_request_parts(parts, state).await.map(|told| Self(told.0));
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        match query.first("consistency") {
            None | Some("strong") => Ok(Self(Consistency::Strong)),
            Some("eventual") => Ok(Self(Consistency::Eventual)),
            Some(_) => Err(ApiError::bad_request("consistency is neither strong nor eventual.")),
        }
    }
}

/// What [`CONSISTENCY`] asks for.
pub(crate) fn of_header(text: &str) -> Result<Consistency, ApiError> {
    parse(text).ok_or_else(|| {
        ApiError::bad_request(
            "X-Cardea-Consistency is none of strong, bounded=<milliseconds>, eventual, \
             at_least=<snaptoken>.",
        )
    })
}

fn parse(text: &str) -> Option<Consistency> {
    let text = text.trim();
    match text.split_once('=') {
        None if text == "strong" => Some(Consistency::Strong),
        None if text == "eventual" => Some(Consistency::Eventual),
        Some(("bounded", ms)) => {
            let age = Duration::from_millis(ms.parse().ok()?);
            (age <= BOUND_MAX).then_some(Consistency::Bounded(age))
        }
        Some(("at_least", token)) => read_snaptoken(token).map(Consistency::AtLeast),
        _ => None,
    }
}

/// Reads a snaptoken that was given back.
pub(crate) fn given_snaptoken(text: &str) -> Result<Snaptoken, ApiError> {
    let bad = || ApiError::bad_request("The snaptoken was not given by this cluster.");
    read_snaptoken(text).ok_or_else(bad)
}

/// A snaptoken as answers tell it.
pub(crate) fn text_of(snaptoken: &Snaptoken) -> String {
    URL_SAFE_NO_PAD.encode(snaptoken.to_bytes())
}

/// Reads a snaptoken as answers tell it.
pub(crate) fn read_snaptoken(text: &str) -> Option<Snaptoken> {
    if text.is_empty() || text.len() > SNAPTOKEN_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Snaptoken::from_bytes(&bytes).ok()
}

/// Tells a snaptoken.
pub(crate) fn write_snaptoken(headers: &mut HeaderMap, snaptoken: &Snaptoken) {
    if let Ok(value) = HeaderValue::from_str(&text_of(snaptoken)) {
        headers.insert(SNAPTOKEN, value);
    }
}

tokio::task_local! {
    static COMMITTED: RefCell<Snaptoken>;
}

/// A store that notes what requests commit, for [`SNAPTOKEN`].
pub fn observed(store: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(Observed(store))
}

struct Observed(Arc<dyn Store>);

#[async_trait]
impl Through for Observed {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
        let verdict = self.0.commit(draft).await?;
        if let Verdict::Committed(committed) = &verdict {
            // Outside of a request there is nobody to tell.
            let _ = COMMITTED.try_with(|seen| seen.borrow_mut().merge(&committed.snaptoken));
        }
        Ok(verdict)
    }
}

/// Tells in the answer what the request committed.
pub(crate) async fn tell_snaptoken(request: Request, next: Next) -> Response {
    let answer = async {
        let response = next.run(request).await;
        (response, COMMITTED.with(|seen| seen.take()))
    };
    let (mut response, seen) = COMMITTED.scope(RefCell::default(), answer).await;
    if !seen.positions.is_empty() {
        write_snaptoken(response.headers_mut(), &seen);
    }
    response
}

#[cfg(test)]
mod tests {
    use cardea_storage::Revision;

    use super::*;

    #[test]
    fn consistencies_are_read_strictly() {
        let mut token = Snaptoken { incarnation: 3, positions: Vec::new() };
        token.note(7, Revision(9));
        let text = URL_SAFE_NO_PAD.encode(token.to_bytes());
        assert_eq!(parse(&format!("at_least={text}")), Some(Consistency::AtLeast(token)));
        assert_eq!(parse("strong"), Some(Consistency::Strong));
        assert_eq!(parse(" eventual "), Some(Consistency::Eventual));
        let bounded = Consistency::Bounded(Duration::from_millis(250));
        assert_eq!(parse("bounded=250"), Some(bounded));
        for bad in [
            "",
            "Strong",
            "bounded",
            "bounded=",
            "bounded=-1",
            "bounded=1s",
            "bounded=3600001",
            "at_least=",
            "at_least=%%%",
            "at_least=AAAA",
            "eventual=1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&format!("at_least={}", "A".repeat(5000))), None);
    }
}
