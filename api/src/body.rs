//! Bodies: read within a bound, and decoded as strictly as Ory's services do.

use std::error::Error as _;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use http::{HeaderMap, Method, header};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// The largest body that is read, in bytes. Listeners may set a lower bound.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Most fields of a form.
const FORM_FIELDS_MAX: usize = 1000;
/// The deepest nesting that a form's field names may ask for.
const FORM_DEPTH_MAX: usize = 16;

/// A body with what is needed to decode it.
pub struct Sent {
    method: Method,
    headers: HeaderMap,
    bytes: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        Ok(Self { method: parts.method, headers: parts.headers, bytes })
    }
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    read_up_to(body, BODY_BYTES_MAX).await
}

/// Reads a body of at most so many bytes.
///
/// # Errors
/// 413 if it is longer, 400 if it breaks off.
pub(crate) async fn read_up_to(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    axum::body::to_bytes(body, bytes_max).await.map_err(|error| {
        let mut cause = error.source();
        while let Some(error) = cause {
            if error.is::<LengthLimitError>() {
                return ApiError::body_too_large();
            }
            cause = error.source();
        }
        ApiError::bad_request("The body could not be read to its end.")
    })
}

impl Sent {
    /// Decodes JSON whatever its declared type, refusing members that are not known,
    /// as `createIdentity` does.
    ///
    /// # Errors
    /// 400.
    pub fn strict_json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.bytes).map_err(|error| ApiError::malformed(told(&error)))
    }

    /// Whether there is no body.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The body as text, whatever its declared type.
    ///
    /// # Errors
    /// 400 if it is not UTF-8.
    pub(crate) fn text(&self) -> Result<String, ApiError> {
        let text = std::str::from_utf8(&self.bytes);
        text.map(str::to_owned).map_err(|_| ApiError::bad_request("The body is not UTF-8."))
    }

    /// Decodes JSON that is declared as such.
    ///
    /// # Errors
    /// 400, as Ory has it, for another type too.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.refuse_empty()?;
        match self.content_type() {
            "application/json" => decode(&self.bytes),
            _ => Err(self.unknown_type("application/json")),
        }
    }

    /// Decodes JSON or a form into an object. Dots in the names of a form's fields
    /// nest: `traits.name.first`. Its values are texts; who knows their types
    /// converts them.
    ///
    /// # Errors
    /// 400.
    pub fn json_or_form(&self) -> Result<(Map<String, Value>, Encoding), ApiError> {
        self.refuse_empty()?;
        match self.content_type() {
            "application/json" => Ok((decode(&self.bytes)?, Encoding::Json)),
            "application/x-www-form-urlencoded" => Ok((form(&self.bytes)?, Encoding::Form)),
            _ => Err(self.unknown_type("application/json application/x-www-form-urlencoded")),
        }
    }

    fn refuse_empty(&self) -> Result<(), ApiError> {
        if self.bytes.is_empty() {
            return Err(ApiError::bad_request(
                "Unable to decode HTTP Request Body because its HTTP Header \"Content-Length\" is \
                 zero.",
            ));
        }
        Ok(())
    }

    fn content_type(&self) -> &str {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
    }

    fn unknown_type(&self, known: &str) -> ApiError {
        ApiError::bad_request(format!(
            "HTTP {} Request used unknown HTTP Header \"Content-Type: {}\", only [{known}] are \
             supported.",
            self.method,
            self.content_type()
        ))
    }
}

/// How a body was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As JSON: types are meant.
    Json,
    /// As a form: all values are texts.
    Form,
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request("Unable to decode HTTP Request Body.").message(told(&error))
    })
}

/// What is wrong with a JSON text. Where Go has a well-known phrase, that. The rest
/// names places and types, and no value: it could be a secret.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if let Some(rest) = text.strip_prefix("unknown field `")
        && let Some((name, _)) = rest.split_once('`')
    {
        return format!("json: unknown field \"{name}\"");
    }
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Eof => "unexpected EOF".to_owned(),
        serde_json::error::Category::Data => {
            format!("json: a value at line {line} column {column} is of the wrong type")
        }
        _ => format!("invalid JSON at line {line} column {column}"),
    }
}

fn form(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let mut object = Map::new();
    for (count, (name, value)) in form_urlencoded::parse(bytes).enumerate() {
        if count == FORM_FIELDS_MAX {
            return Err(ApiError::bad_request("The form has too many fields."));
        }
        put(&mut object, &name, value.into_owned())?;
    }
    Ok(object)
}

/// Puts a text at the place that a field's name tells. Of two fields of one name the
/// last counts, as a checkbox behind a hidden default does.
fn put(object: &mut Map<String, Value>, name: &str, value: String) -> Result<(), ApiError> {
    let parts = split(name);
    let clash = || ApiError::bad_request("Fields of the form are in each other's place.");
    if parts.len() > FORM_DEPTH_MAX {
        return Err(ApiError::bad_request("The form is nested too deeply."));
    }
    let Some((last, parents)) = parts.split_last() else { return Ok(()) };
    let mut place = object;
    for parent in parents {
        let child = place.entry(parent.clone()).or_insert_with(|| Value::Object(Map::new()));
        place = child.as_object_mut().ok_or_else(clash)?;
    }
    if place.get(last).is_some_and(Value::is_object) {
        return Err(clash());
    }
    place.insert(last.clone(), Value::String(value));
    Ok(())
}

/// Splits at dots; a backslash before a dot keeps it in the name.
fn split(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'.') => {
                chars.next();
                push(&mut parts, '.');
            }
            '.' => parts.push(String::new()),
            c => push(&mut parts, c),
        }
    }
    parts
}

fn push(parts: &mut [String], c: char) {
    if let Some(part) = parts.last_mut() {
        part.push(c);
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn sent(content_type: &str, body: &str) -> Sent {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        Sent { method: Method::POST, headers, bytes: body.to_owned().into() }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[expect(dead_code, reason = "only whether it decodes matters")]
        a: Option<String>,
    }

    async fn message(error: ApiError) -> String {
        let body = error.answer(None).into_body();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_without_values() {
        let table = [
            ("{\"b\": 1}", "json: unknown field \"b\""),
            ("{\"a\": \"x\"", "unexpected EOF"),
            ("", "unexpected EOF"),
            ("{\"a\" 1}", "invalid JSON at line 1 column 6"),
            ("{\"a\": 12345}", "json: a value at line 1 column 11 is of the wrong type"),
            ("{} {}", "invalid JSON at line 1 column 4"),
        ];
        for (body, expected) in table {
            let error = sent("text/plain", body).strict_json::<Strict>().unwrap_err();
            assert_eq!(message(error).await, expected, "{body}");
        }
    }

    #[test]
    fn form_fields_nest_at_dots() {
        let sent = sent(
            "application/x-www-form-urlencoded; charset=utf-8",
            "traits.email=a%40b.c&traits.name.first=A+B&method=password&traits.x%5C.y=1&method=m2",
        );
        let (object, encoding) = sent.json_or_form().unwrap();
        assert_eq!(encoding, Encoding::Form);
        assert_eq!(
            Value::Object(object),
            json!({"traits": {"email": "a@b.c", "name": {"first": "A B"}, "x.y": "1"},
                "method": "m2"})
        );
    }

    #[test]
    fn forms_that_contradict_themselves_or_nest_too_deeply_are_refused() {
        let deep = format!("{}=1", ["a"; 17].join("."));
        let many = "a=1&".repeat(1001);
        for body in ["a=1&a.b=2", "a.b=2&a=1", deep.as_str(), many.as_str()] {
            let error = sent("application/x-www-form-urlencoded", body).json_or_form().unwrap_err();
            assert_eq!(error.status(), 400, "{body}");
        }
    }

    #[tokio::test]
    async fn body_over_the_bound_is_refused() {
        let body = Body::from(vec![b' '; BODY_BYTES_MAX + 1]);
        assert_eq!(read(body).await.unwrap_err().status(), 413);
        let limited = http_body_util::Limited::new(Body::from("12345"), 4);
        assert_eq!(read(Body::new(limited)).await.unwrap_err().status(), 413);
        assert_eq!(read(Body::from("12345")).await.unwrap(), "12345");
    }
}
