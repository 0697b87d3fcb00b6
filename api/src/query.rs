//! Query parameters as Go's servers read them: the first value counts unless all
//! are asked for, and what does not decode is as good as absent.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::error::ApiError;

/// The parameters of a request, in order.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a URL behind the question mark.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// Whether a parameter is there, empty or not.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// The names of the parameters.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// The first value of a parameter; `None` if it is absent or empty.
    pub fn first(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(key, _)| key == name)?.1.as_str();
        (!value.is_empty()).then_some(value)
    }

    /// All values of a parameter, empty ones left out.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// A boolean as Go parses it.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.first(name) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(_) => Err(ApiError::malformed(format!("could not parse parameter {name}"))),
        }
    }

    /// The same parameters but for those named, encoded.
    pub(crate) fn without(&self, names: &[&str]) -> form_urlencoded::Serializer<'static, String> {
        let mut rest = form_urlencoded::Serializer::new(String::new());
        for (key, value) in &self.0 {
            if !names.contains(&key.as_str()) {
                rest.append_pair(key, value);
            }
        }
        rest
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_go_reads_them() {
        let query = Query::parse("a=1&b=&c=x%20y+z&a=2&d");
        assert_eq!(query.first("a"), Some("1"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((query.first("b"), query.has("b"), query.has("d")), (None, true, true));
        assert_eq!(query.first("c"), Some("x y z"));
        assert_eq!(query.first("e"), None);
        assert_eq!(query.without(&["a"]).finish(), "b=&c=x+y+z&d=");
    }

    #[test]
    fn flags_are_those_of_go() {
        let flag = |text: &str| Query::parse(&format!("x={text}")).flag("x").map_err(|_| ());
        assert_eq!(flag("true"), Ok(Some(true)));
        assert_eq!(flag("0"), Ok(Some(false)));
        assert_eq!(flag(""), Ok(None));
        assert_eq!(flag("yes"), Err(()));
    }
}
