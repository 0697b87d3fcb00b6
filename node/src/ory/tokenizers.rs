//! Kratos's `session.whoami.tokenizer.templates` as `[tokenizers.<name>]`. Keys are not
//! carried: they belong into files, which are named.

use std::fmt::Write as _;

use serde_json::Value;

use super::config::{Left, at, quoted};

const TEMPLATES: &str = "session.whoami.tokenizer.templates";

/// Translated templates.
#[derive(Debug, Default)]
pub(super) struct Translated {
    pub(super) toml: String,
    pub(super) taken: Vec<String>,
    pub(super) left: Vec<Left>,
}

/// The templates of a configuration.
pub(super) fn translate(kratos: &Value) -> Translated {
    let mut done = Translated { taken: vec![TEMPLATES.to_owned()], ..Translated::default() };
    let templates = at(kratos, TEMPLATES).and_then(Value::as_object);
    for (name, template) in templates.into_iter().flatten() {
        let path = format!("{TEMPLATES}.{name}");
        let text = |member: &str| template[member].as_str();
        // Writing into a string cannot fail.
        let _ = writeln!(done.toml, "\n[tokenizers.{}]", quoted(name));
        let file = match text("jwks_url").and_then(|url| url.strip_prefix("file://")) {
            Some(file) => file.to_owned(),
            None => {
                let file = format!("{name}.jwks");
                let why = format!("its private key belongs into the file {file}");
                done.left.push(Left::new(&format!("{path}.jwks_url"), why));
                file
            }
        };
        let _ = writeln!(done.toml, "jwks_file = {}", quoted(&file));
        if let Some(ttl) = text("ttl") {
            let _ = writeln!(done.toml, "ttl = {}", quoted(ttl));
        }
        if let Some(source) = text("subject_source") {
            let _ = writeln!(done.toml, "subject_source = {}", quoted(source));
        }
        match text("claims_mapper_url") {
            Some(url) if url.starts_with("http") => {
                let why = format!("the program at {url} is to be put into a file");
                done.left.push(Left::new(&format!("{path}.claims_mapper_url"), why));
            }
            Some(url) => {
                let program = url.strip_prefix("file://").unwrap_or(url);
                let _ = writeln!(done.toml, "claims_mapper = {}", quoted(program));
            }
            None => {}
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::super::config::assert_translated;

    #[test]
    fn templates_are_translated_and_keys_are_not() {
        let kratos = r"
session: {whoami: {tokenizer: {templates: {
  app: {ttl: 10m, jwks_url: 'base64://s3cret', claims_mapper_url: 'base64://e30=',
        subject_source: external_id},
  edge: {jwks_url: 'file:///etc/edge.jwks', claims_mapper_url: 'https://a.example/m.jsonnet'}}}}}
";
        let parts = [
            "[tokenizers.\"app\"]\njwks_file = \"app.jwks\"\nttl = \"10m\"\nsubject_source = \
             \"external_id\"\nclaims_mapper = \"base64://e30=\"",
            "[tokenizers.\"edge\"]\njwks_file = \"/etc/edge.jwks\"\n",
        ];
        let left = [
            "session.whoami.tokenizer.templates.app.jwks_url",
            "session.whoami.tokenizer.templates.edge.claims_mapper_url",
        ];
        assert_translated(kratos, &parts, &left);
    }
}
