//! Requests as Kratos configures them, of web hooks and of the courier. Secrets that stand
//! in its configuration are not carried: they belong into files, which are named.

use std::fmt::Write as _;

use serde_json::Value;

use super::config::{Left, quoted};

/// The lines of a request in TOML. `id` names its files.
///
/// # Errors
/// Why it cannot be carried.
pub(super) fn translate(
    path: &str,
    request: &Value,
    id: &str,
    left: &mut Vec<Left>,
) -> Result<String, String> {
    let url = request["url"].as_str().ok_or("it has no url")?;
    // Writing into a string cannot fail.
    let mut text = format!("url = {}\n", quoted(url));
    if let Some(verb) = request["method"].as_str().filter(|verb| *verb != "POST") {
        let _ = writeln!(text, "verb = {}", quoted(verb));
    }
    match request["body"].as_str() {
        Some(body) if body.starts_with("http://") || body.starts_with("https://") => {
            let why = format!("the program at {body} is to be put into a file");
            left.push(Left::new(&format!("{path}.body"), why));
        }
        Some(body) => {
            let _ = writeln!(text, "body = {}", quoted(body));
        }
        None => {}
    }
    let headers: Vec<_> = request["headers"].as_object().into_iter().flatten().collect();
    let headers: Option<Vec<_>> = headers
        .into_iter()
        .map(|(name, value)| Some(format!("{} = {}", quoted(name), quoted(value.as_str()?))))
        .collect();
    let headers = headers.ok_or("not all of its headers are texts")?;
    if !headers.is_empty() {
        let _ = writeln!(text, "headers = {{ {} }}", headers.join(", "));
    }
    let auth = &request["auth"];
    let (kind, auth) = (auth["type"].as_str(), &auth["config"]);
    let file = match kind {
        None => return Ok(text),
        Some("basic_auth") => {
            let user = auth["user"].as_str().ok_or("its auth names no user")?;
            let _ = writeln!(text, "basic_user = {}", quoted(user));
            let file = format!("{id}.password");
            let _ = writeln!(text, "basic_password_file = {}", quoted(&file));
            file
        }
        Some("api_key") => {
            let name = auth["name"].as_str().ok_or("its auth names no key")?;
            let _ = writeln!(text, "api_key_name = {}", quoted(name));
            if auth["in"].as_str() == Some("cookie") {
                text.push_str("api_key_in = \"cookie\"\n");
            }
            let file = format!("{id}.key");
            let _ = writeln!(text, "api_key_file = {}", quoted(&file));
            file
        }
        Some(other) => return Err(format!("its auth is of the kind {other}")),
    };
    let why = format!("its secret belongs into the file {file}");
    left.push(Left::new(&format!("{path}.auth"), why));
    Ok(text)
}
