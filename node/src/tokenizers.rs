//! Templates by which sessions become tokens, as a configuration names them
//! (`[tokenizers.<name>]`): keys and programs read.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, bail};
use cardea_identity::session::tokenize::{SubjectSource, Template, Templates};

use crate::{
    config::{Config, secret::read_text, tables::TokenizerTable, value::parse_duration},
    providers::program,
    signing_key::SigningKey,
};

/// How long a token is good by default, as in Kratos.
const TTL: &str = "1m";

/// The templates of a configuration.
///
/// # Errors
/// If a key or a program cannot be read, or a value is none.
pub fn tokenizers(config: &Config) -> anyhow::Result<Templates> {
    let mut found = BTreeMap::new();
    for (name, table) in &config.tables.tokenizers {
        let template = template(name, table).with_context(|| format!("tokenizers.{name}"))?;
        found.insert(name.clone(), template);
    }
    Ok(Templates::new(found))
}

fn template(name: &str, table: &TokenizerTable) -> anyhow::Result<Template> {
    let variable = format!("tokenizer_{}_jwks", name.replace('-', "_"));
    let text = read_text(&variable, table.jwks_file.as_deref(), |name| std::env::var(name).ok())?;
    let text = text.context("jwks_file is missing")?;
    let ttl = parse_duration(table.ttl.as_deref().unwrap_or(TTL)).map_err(anyhow::Error::msg);
    Ok(Template {
        ttl: ttl.context("ttl")?,
        key: Arc::new(SigningKey::read_set(text.expose()).context("jwks_file")?),
        mapper: match &table.claims_mapper {
            Some(mapper) => Some(program(Some(mapper)).context("claims_mapper")?),
            None => None,
        },
        subject: match table.subject_source.as_deref() {
            None | Some("id") => SubjectSource::Id,
            Some("external_id") => SubjectSource::ExternalId,
            Some(other) => {
                bail!("subject_source: expected one of id, external_id, found \"{other}\"")
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn template_needs_a_private_key_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.jwks");
        let secret = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
        let key = format!(r#"{{"kid": "a", "kty": "oct", "alg": "HS256", "k": "{secret}"}}"#);
        std::fs::write(&file, format!(r#"{{"keys": [{key}]}}"#)).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let read = |text: &str| {
            let table: TokenizerTable = toml::from_str(text).unwrap();
            template("app", &table)
        };
        let least = format!("jwks_file = {:?}", file.display().to_string());
        let made = read(&least).unwrap();
        assert_eq!((made.ttl.as_secs(), made.subject), (60, SubjectSource::Id));
        assert!(!format!("{made:?}").contains(secret));
        let whole = format!(
            "{least}\nttl = \"10m\"\nclaims_mapper = \"base64://e30=\"\nsubject_source = \
             \"external_id\""
        );
        assert_eq!(read(&whole).unwrap().ttl.as_secs(), 600);
        for (text, told) in [
            (String::new(), "jwks_file is missing"),
            ("jwks_file = \"/no/such/file\"".to_owned(), "/no/such/file"),
            (format!("{least}\nttl = \"1\""), "which unit"),
            (format!("{least}\nclaims_mapper = \"base64://ew==\""), "claims_mapper"),
            (format!("{least}\nsubject_source = \"email\""), "subject_source"),
        ] {
            let refused = read(&text).err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(refused.contains(told), "{text}: {refused}");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&least).is_err());
    }
}
