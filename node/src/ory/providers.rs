//! Kratos's providers of social sign-in as `[oidc.<id>]`, and its organizations as
//! `[organizations.<id>]`. Secrets are not carried: they belong into files, which are named.

use std::fmt::Write as _;

use serde_json::Value;

use super::config::{Left, at, quoted};

const PROVIDERS: &str = "selfservice.methods.oidc.config.providers";
const ORGANIZATIONS: &str = "selfservice.methods.b2b.config.organizations";

/// What is written as it is: its name there and here.
const TEXTS: &[(&str, &str)] = &[
    ("provider", "provider"),
    ("label", "label"),
    ("client_id", "client_id"),
    ("issuer_url", "issuer_url"),
    ("auth_url", "auth_url"),
    ("token_url", "token_url"),
    ("pkce", "pkce"),
    ("claims_source", "claims_source"),
    ("update_identity_on_login", "update_identity_on_login"),
    ("microsoft_tenant", "microsoft_tenant"),
    ("apple_team_id", "apple_team_id"),
    ("apple_private_key_id", "apple_private_key_id"),
    ("organization_id", "organization_id"),
    ("fedcm_config_url", "fedcm_config_url"),
];

/// What is a list of texts, there and here.
const LISTS: &[(&str, &str)] = &[
    ("scope", "scope"),
    ("additional_id_token_audiences", "additional_id_token_audiences"),
    ("aal2_acr_values", "aal2_acr_values"),
    ("aal2_amr_values", "aal2_amr_values"),
];

/// Translated providers and organizations.
#[derive(Debug, Default)]
pub(super) struct Providers {
    /// In TOML.
    pub(super) toml: String,
    /// The paths that were looked at.
    pub(super) taken: Vec<String>,
    /// What was left.
    pub(super) left: Vec<Left>,
}

/// The providers of a configuration.
pub(super) fn translate(kratos: &Value) -> Providers {
    let mut found = Providers::default();
    let list = |path| at(kratos, path).and_then(Value::as_array).into_iter().flatten().enumerate();
    let off = at(kratos, "selfservice.methods.oidc.enabled").is_some_and(|on| on == false);
    for (number, provider) in list(PROVIDERS) {
        let path = format!("{PROVIDERS}[{number}]");
        match provider["id"].as_str() {
            _ if off => found.left.push(Left::new(&path, "the method oidc is off")),
            Some(id) => found.provider(&path, id, provider),
            None => found.left.push(Left::new(&path, "it has no id")),
        }
    }
    for (number, organization) in list(ORGANIZATIONS) {
        match organization["id"].as_str() {
            Some(id) => found.organization(id, organization),
            None => {
                found.left.push(Left::new(&format!("{ORGANIZATIONS}[{number}]"), "it has no id"))
            }
        }
    }
    let looked_at = [PROVIDERS, ORGANIZATIONS, "selfservice.methods.oidc.enabled"];
    found.taken.extend(looked_at.map(str::to_owned));
    found
}

fn texts(value: &Value) -> Option<String> {
    let items: Option<Vec<_>> =
        value.as_array()?.iter().map(|one| one.as_str().map(quoted)).collect();
    items.map(|items| format!("[{}]", items.join(", ")))
}

impl Providers {
    fn line(&mut self, name: &str, value: &str) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.toml, "{name} = {value}");
    }

    fn organization(&mut self, id: &str, organization: &Value) {
        let _ = writeln!(self.toml, "\n[organizations.{}]", quoted(id));
        if let Some(label) = organization["label"].as_str() {
            self.line("label", &quoted(label));
        }
        if let Some(domains) = texts(&organization["domains"]) {
            self.line("domains", &domains);
        }
    }

    fn provider(&mut self, path: &str, id: &str, provider: &Value) {
        // Ids are parts of URLs there too, but may be in capitals.
        let _ = writeln!(self.toml, "\n[oidc.{}]", quoted(&id.to_lowercase()));
        if id != id.to_lowercase() {
            let why = "ids are in lower case here: imported accounts, and the URL that is registered \
                       with the provider, name it otherwise";
            self.left.push(Left::new(&format!("{path}.id"), why));
        }
        for (theirs, ours) in TEXTS {
            if let Some(text) = provider[*theirs].as_str().filter(|text| !text.is_empty()) {
                self.line(ours, &quoted(text));
            }
        }
        for (theirs, ours) in LISTS {
            if let Some(list) = texts(&provider[*theirs]) {
                self.line(ours, &list);
            }
        }
        match provider["mapper_url"].as_str() {
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                let why = format!("the program at {url} is to be put into a file");
                self.left.push(Left::new(&format!("{path}.mapper_url"), why));
            }
            Some(url) => self.line("mapper", &quoted(url.strip_prefix("file://").unwrap_or(url))),
            None => {}
        }
        for (theirs, ours, ending) in [
            ("client_secret", "client_secret_file", "secret"),
            ("apple_private_key", "apple_private_key_file", "key"),
        ] {
            if provider[theirs].as_str().is_some_and(|secret| !secret.is_empty()) {
                let file = format!("{}.{ending}", id.to_lowercase());
                self.line(ours, &quoted(&file));
                let why = format!("it belongs into the file {file}");
                self.left.push(Left::new(&format!("{path}.{theirs}"), why));
            }
        }
        let known = |name: &str| {
            TEXTS.iter().chain(LISTS).any(|(theirs, _)| *theirs == name)
                || ["id", "mapper_url", "client_secret", "apple_private_key"].contains(&name)
        };
        for (name, _) in provider.as_object().into_iter().flatten() {
            if !known(name) {
                self.left.push(Left::new(&format!("{path}.{name}"), "it has no counterpart"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::assert_translated;

    const KRATOS: &str = r#"
selfservice:
  methods:
    b2b:
      config:
        organizations:
          - {id: 6bb1c7d1-3b3e-4995-9e09-35649dc45a2b, label: Acme, domains: [acme.example]}
    oidc:
      enabled: true
      config:
        providers:
          - id: Acme
            provider: generic
            client_id: cardea
            client_secret: s3cret
            issuer_url: https://id.acme.example
            mapper_url: base64://e30=
            organization_id: 6bb1c7d1-3b3e-4995-9e09-35649dc45a2b
            scope: [openid, email]
            requested_claims: {id_token: {email: null}}
            update_identity_on_login: automatic
            aal2_amr_values: [mfa]
            fedcm_config_url: https://id.acme.example/fedcm.json
  flows:
    login: {after: {hooks: [{hook: b2b_sso, config: {}}]}}
"#;

    #[test]
    fn providers_and_organizations_are_translated_and_secrets_are_not() {
        let parts = [
            "[organizations.\"6bb1c7d1-3b3e-4995-9e09-35649dc45a2b\"]\nlabel = \"Acme\"\n\
             domains = [\"acme.example\"]",
            "[oidc.\"acme\"]\nprovider = \"generic\"\nclient_id = \"cardea\"",
            "organization_id = \"6bb1c7d1-3b3e-4995-9e09-35649dc45a2b\"",
            "update_identity_on_login = \"automatic\"",
            "fedcm_config_url = \"https://id.acme.example/fedcm.json\"",
            "scope = [\"openid\", \"email\"]\naal2_amr_values = [\"mfa\"]\n\
             mapper = \"base64://e30=\"",
            "client_secret_file = \"acme.secret\"",
            "flow = \"login\"\nhook = \"b2b_sso\"",
        ];
        let provider = |name| format!("selfservice.methods.oidc.config.providers[0].{name}");
        let left = ["id", "client_secret", "requested_claims"].map(provider);
        assert_translated(KRATOS, &parts, &left.each_ref().map(String::as_str));
    }
}
