//! Providers of social sign-in, as a configuration names them: presets filled in,
//! secrets and programs read.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cardea_identity::{
    jsonnet::{Limits, Program},
    social::{
        ClaimsSource, ClientSecret, Pkce, Provider, Providers, SignsAssertions, mapping,
        organization::{Organization, Organizations},
        preset,
    },
};
use cardea_storage::Secret;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use uuid::Uuid;

use crate::config::{
    Config,
    secret::{read_private, read_text},
    tables::ProviderTable,
};

/// The providers of a configuration.
pub fn providers(config: &Config) -> anyhow::Result<Providers> {
    let mut found = Vec::new();
    for (id, table) in &config.tables.oidc {
        let provider = provider(id, table).with_context(|| format!("oidc.{id}"))?;
        let asked = [
            ("issuer_url", provider.preset.is_openid.then_some(&provider.issuer)),
            ("token_url", provider.token_url.as_ref()),
            ("userinfo_url", provider.userinfo_url.as_ref()),
        ];
        for (name, url) in asked {
            ensure!(
                config.outbound.plain_http || !url.is_some_and(|url| url.starts_with("http://")),
                "oidc.{id}: {name}: plain HTTP needs outbound.plain_http = true"
            );
        }
        if let Some(organization) = &table.organization_id {
            ensure!(
                config.tables.organizations.contains_key(organization),
                "oidc.{id}: organization_id: there is no [organizations.{organization}]"
            );
        }
        found.push(provider);
    }
    Ok(Providers::new(found))
}

/// The organizations of a configuration.
///
/// # Errors
/// If an id is no UUID, or a domain is none, or two organizations'.
pub fn organizations(config: &Config) -> anyhow::Result<Organizations> {
    let mut found = Vec::new();
    let mut domains = BTreeSet::new();
    for (id, table) in &config.tables.organizations {
        let name = || format!("organizations.{id}");
        for domain in &table.domains {
            let plain = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
            let is_domain = domain.contains('.') && domain.chars().all(plain);
            ensure!(is_domain, "{}: domains: \"{domain}\" is none", name());
            let is_new = domains.insert(domain.to_lowercase());
            ensure!(is_new, "{}: domains: \"{domain}\" is another organization's", name());
        }
        found.push(Organization {
            id: Uuid::try_parse(id).with_context(|| format!("{}: the id is no UUID", name()))?,
            label: table.label.clone().unwrap_or_else(|| id.clone()),
            domains: table.domains.clone(),
        });
    }
    Ok(Organizations::new(found))
}

fn provider(id: &str, table: &ProviderTable) -> anyhow::Result<Provider> {
    let kind = table.provider.as_deref();
    let kind = kind.or_else(|| preset::find(id).map(|preset| preset.name)).unwrap_or("generic");
    let preset = preset::find(kind).with_context(|| {
        let known: Vec<_> = preset::PRESETS.iter().map(|preset| preset.name).collect();
        format!("provider: expected one of {}, found \"{kind}\"", known.join(", "))
    })?;
    if table.client_id.is_empty() {
        bail!("client_id is missing");
    }
    let mut issuer = table.issuer_url.clone().unwrap_or_else(|| preset.issuer.to_owned());
    if let Some(tenant) = &table.microsoft_tenant {
        issuer = issuer.replace("{tenantid}", tenant);
    }
    if preset.is_openid && !(issuer.starts_with("https://") || issuer.starts_with("http://")) {
        bail!("issuer_url is missing, or no web address");
    }
    let choice = |name: &str, value: &Option<String>, known: &[&str]| match value {
        Some(value) if !known.contains(&value.as_str()) => {
            bail!("{name}: expected one of {}, found \"{value}\"", known.join(", "))
        }
        value => Ok(value.clone().unwrap_or_default()),
    };
    let pkce = match choice("pkce", &table.pkce, &["auto", "force", "never"])?.as_str() {
        "force" => Pkce::Force,
        "never" => Pkce::Never,
        _ => Pkce::Auto,
    };
    let source = choice("claims_source", &table.claims_source, &["id_token", "userinfo"])?;
    let claims_source = match source.as_str() {
        "userinfo" => ClaimsSource::Userinfo,
        "id_token" => ClaimsSource::IdToken,
        _ => preset.claims_source,
    };
    let label = match (&table.label, preset.label) {
        (Some(label), _) => label.clone(),
        (None, "") => id.to_owned(),
        (None, label) => label.to_owned(),
    };
    let renews = &table.update_identity_on_login;
    let renews =
        choice("update_identity_on_login", renews, &["never", "automatic"])? == "automatic";
    let vouches = !table.aal2_acr_values.is_empty() || !table.aal2_amr_values.is_empty();
    ensure!(
        preset.is_openid || !vouches,
        "aal2_acr_values, aal2_amr_values: it gives no ID tokens that would say so"
    );
    if let Some(url) = &table.fedcm_config_url {
        let url = url.parse::<http::Uri>().ok().filter(|url| url.scheme().is_some());
        let url = url.context("fedcm_config_url is no URL")?;
        // What browsers take: plain HTTP on this machine alone.
        let here = matches!(url.host(), Some("localhost" | "127.0.0.1"));
        let scheme = url.scheme_str().unwrap_or_default();
        ensure!(
            scheme == "https" || (scheme == "http" && here),
            "fedcm_config_url: browsers take no plain HTTP but of this machine"
        );
        let signs = preset.is_openid && preset.nonce;
        ensure!(signs, "fedcm_config_url: it gives no ID tokens that bring back a nonce");
    }
    let requested_claims = table.requested_claims.clone().map(serde_json::to_value).transpose()?;
    Ok(Provider {
        id: id.to_owned(),
        label,
        preset,
        issuer,
        client_id: table.client_id.clone(),
        client_secret: client_secret(id, table)?,
        scope: table
            .scope
            .clone()
            .unwrap_or_else(|| preset.scope.iter().map(|scope| (*scope).to_owned()).collect()),
        auth_url: table.auth_url.clone(),
        token_url: table.token_url.clone(),
        userinfo_url: table.userinfo_url.clone(),
        audiences: table.additional_id_token_audiences.clone(),
        fedcm_config_url: table.fedcm_config_url.clone(),
        pkce,
        claims_source,
        requested_claims,
        mapper: program(table.mapper.as_deref()).context("mapper")?,
        mapper_url: table.mapper.clone(),
        organization: table
            .organization_id
            .as_deref()
            .map(|id| Uuid::try_parse(id).context("organization_id is no UUID"))
            .transpose()?,
        authoritative_domains: table.authoritative_domains.clone(),
        renews,
        aal2_acr: table.aal2_acr_values.clone(),
        aal2_amr: table.aal2_amr_values.clone(),
    })
}

fn client_secret(id: &str, table: &ProviderTable) -> anyhow::Result<ClientSecret> {
    let Some(file) = &table.apple_private_key_file else {
        let name = format!("oidc_{}_client_secret", id.replace('-', "_"));
        let file = table.client_secret_file.as_deref();
        let text = read_text(&name, file, |name| std::env::var(name).ok())?;
        return Ok(match text {
            Some(text) => ClientSecret::Text(Secret::new(text.expose().to_string())),
            None => ClientSecret::None,
        });
    };
    let (Some(team_id), Some(key_id)) = (&table.apple_team_id, &table.apple_private_key_id) else {
        bail!("apple_private_key_file needs apple_team_id and apple_private_key_id too");
    };
    let pem = read_private(file)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
        .context("apple_private_key_file holds no private key (PKCS #8)")?;
    let random = SystemRandom::new();
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der(), &random);
    let key = key.ok().context("apple_private_key_file holds no key of P-256")?;
    Ok(ClientSecret::Signed {
        team_id: team_id.clone(),
        key_id: key_id.clone(),
        key: Arc::new(Signer { key, random }),
    })
}

struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl SignsAssertions for Signer {
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.key.sign(&self.random, message).ok()?.as_ref().to_vec())
    }
}

/// A program of Jsonnet: in the configuration itself, in a file, or the included one.
pub fn program(source: Option<&str>) -> anyhow::Result<Program> {
    let Some(source) = source else { return Ok(mapping::default_program()?) };
    let text = match source.strip_prefix("base64://") {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).context("no base64")?)?,
        None => {
            let path = source.strip_prefix("file://").unwrap_or(source);
            std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?
        }
    };
    Ok(Program::parse(&text, Limits::default())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn table(text: &str) -> ProviderTable {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_preset_needs_a_client_id_and_a_generic_provider_its_issuer() {
        let google = provider("google", &table("client_id = \"x\"")).unwrap();
        assert_eq!(google.issuer, "https://accounts.google.com");
        assert_eq!((google.label.as_str(), google.scope.len()), ("Google", 3));
        let own = "client_id = \"x\"\nissuer_url = \"https://id.example.com\"\npkce = \"force\"";
        let own = provider("corp", &table(own)).unwrap();
        assert_eq!((own.label.as_str(), own.pkce), ("corp", Pkce::Force));
        assert!(!own.renews && own.aal2_acr.is_empty() && own.aal2_amr.is_empty());
        let live = "client_id = \"x\"\nupdate_identity_on_login = \"automatic\"\n\
                    aal2_acr_values = [\"two\"]\naal2_amr_values = [\"mfa\"]";
        let live = provider("google", &table(live)).unwrap();
        assert!(live.renews);
        assert_eq!(
            (live.aal2_acr, live.aal2_amr),
            (vec!["two".to_owned()], vec!["mfa".to_owned()])
        );
        let asked = "client_id = \"x\"\nmapper = \"base64://e30=\"\n\
                     fedcm_config_url = \"https://accounts.google.com/gsi/fedcm.json\"";
        let asked = provider("google", &table(asked)).unwrap();
        let url = "https://accounts.google.com/gsi/fedcm.json";
        assert_eq!(asked.fedcm_config_url.as_deref(), Some(url));
        assert_eq!(asked.mapper_url.as_deref(), Some("base64://e30="));
        let tenant = "client_id = \"x\"\nmicrosoft_tenant = \"t\"";
        let microsoft = provider("microsoft", &table(tenant)).unwrap();
        assert_eq!(microsoft.issuer, "https://login.microsoftonline.com/t/v2.0");
        for (text, told) in [
            ("", "client_id is missing"),
            ("client_id = \"x\"", "issuer_url"),
            ("client_id = \"x\"\nprovider = \"google\"\norganization_id = \"acme\"", "no UUID"),
            ("client_id = \"x\"\nprovider = \"none\"", "expected one of generic"),
            ("client_id = \"x\"\nprovider = \"google\"\npkce = \"maybe\"", "pkce"),
            ("client_id = \"x\"\nprovider = \"google\"\nmapper = \"base64://e30=\"", ""),
            ("client_id = \"x\"\nprovider = \"google\"\nmapper = \"base64://ew==\"", "mapper"),
            ("client_id = \"x\"\nprovider = \"google\"\nmapper = \"/no/such/file\"", "mapper"),
            (
                "client_id = \"x\"\nprovider = \"google\"\nupdate_identity_on_login = \"yes\"",
                "update_identity_on_login: expected one of never, automatic",
            ),
            (
                "client_id = \"x\"\nprovider = \"google\"\nfedcm_config_url = \"fedcm.json\"",
                "fedcm_config_url is no URL",
            ),
            (
                "client_id = \"x\"\nprovider = \"google\"\n\
                 fedcm_config_url = \"http://id.example/fedcm.json\"",
                "no plain HTTP",
            ),
            (
                "client_id = \"x\"\nprovider = \"github\"\n\
                 fedcm_config_url = \"https://github.com/fedcm.json\"",
                "fedcm_config_url: it gives no ID tokens",
            ),
            // It has no ID tokens, so nobody would say so.
            (
                "client_id = \"x\"\nprovider = \"github\"\naal2_amr_values = [\"mfa\"]",
                "aal2_amr_values",
            ),
            ("client_id = \"x\"\nprovider = \"apple\"\napple_private_key_file = \"k\"", "team"),
        ] {
            let outcome = provider("corp", &table(text));
            let told_so = outcome.as_ref().err().is_some_and(|e| format!("{e:#}").contains(told));
            assert!(told_so || (told.is_empty() && outcome.is_ok()), "{text}: {outcome:?}");
        }
        assert!(toml::from_str::<ProviderTable>("client_secret = \"hunter2\"").is_err());
    }

    #[test]
    fn organizations_have_ids_and_domains_of_their_own() {
        let read = |text: &str| {
            let dir = tempfile::tempdir()?;
            let file = dir.path().join("cardea.toml");
            let least = "[cluster]\nlisten = \"127.0.0.1:7433\"\ntls = \"off\"\n";
            std::fs::write(&file, format!("{least}\n{text}"))?;
            let loaded = load(Sources { file: Some(file), ..Sources::default() });
            let config = loaded.map_err(|refused| anyhow::anyhow!("{refused}"))?.config;
            anyhow::Ok((organizations(&config)?, providers(&config)?))
        };
        let acme = "6bb1c7d1-3b3e-4995-9e09-35649dc45a2b";
        let table = |id: &str, domain: &str| {
            format!("[organizations.\"{id}\"]\ndomains = [\"{domain}\"]\n")
        };
        let of = "[oidc.google]\nclient_id = \"x\"\norganization_id = ";
        let text = format!("{}{of}\"{acme}\"\n", table(acme, "acme.example"));
        let (organizations, providers) = read(&text).unwrap();
        let found = organizations.of_email("ann@acme.example").unwrap();
        assert_eq!((found.label.as_str(), found.id.to_string()), (acme, acme.to_owned()));
        assert_eq!(providers.of(Some(found.id)).count(), 1);
        let twice = table("6bb1c7d1-3b3e-4995-9e09-35649dc45a2c", "ACME.example");
        for (text, told) in [
            (table("acme", "acme.example"), "no UUID"),
            (table(acme, "nobody@acme.example"), "is none"),
            (table(acme, "acme.example") + &twice, "another organization's"),
            (format!("{of}\"{acme}\"\n"), "there is no [organizations"),
            (format!("{}label = 7\n", table(acme, "acme.example")), "string"),
            (
                "[oidc.work]\nclient_id = \"x\"\nissuer_url = \"http://id.example\"\n".to_owned(),
                "issuer_url: plain HTTP needs outbound.plain_http",
            ),
            (
                "[oidc.github]\nclient_id = \"x\"\ntoken_url = \"http://id.example\"\n".to_owned(),
                "token_url: plain HTTP needs outbound.plain_http",
            ),
        ] {
            let refused = read(&text).err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(refused.contains(told), "{text}: {refused}");
        }
    }
}
