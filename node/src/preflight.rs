//! What a start would refuse of a configuration beyond its settings: tables that make no
//! sense, and files that settings name and that are missing, open to others or no keys.
//! `cardea config check` tells it, and `cardea start` before it touches anything.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use cardea_identity::outbound::{NoWayOut, Outbound};
use rustix::fs::Access;

use crate::{
    backend, config::Config, courier, hooks, layers, listener::tls, migration, providers,
    telemetry::logs, tokenizers,
};

/// Everything that is wrong, a line each; nothing where a node can start.
pub fn refusals(config: &Config) -> Vec<String> {
    let no_way_out: Arc<dyn Outbound> = Arc::new(NoWayOut);
    let (public, admin) = (&config.public, &config.admin);
    let client_authority = admin.client_authority_file.as_deref();
    let log = logs::subscriber(config.log.format, &config.log.level, false, std::io::sink);
    let read = [
        data_dir(&config.node.data_dir),
        providers::providers(config).map(drop),
        providers::organizations(config).map(drop),
        hooks::hooks(config).map(drop),
        migration::hook(config).map(drop),
        tokenizers::tokenizers(config).map(drop),
        courier::carriers(config, &no_way_out).map(drop),
        courier::templates(config).map(drop),
        layers::imported_cookies(config).map(drop).map_err(anyhow::Error::from),
        backend::security(config).map(drop),
        backend::master_keys(config).map(drop),
        tls::of_listener(&public.tls_certificate_file, &public.tls_key_file, None).map(drop),
        tls::of_listener(&admin.tls_certificate_file, &admin.tls_key_file, client_authority)
            .map(drop),
        authorities(config.outbound.authority_file.as_deref()),
        stylesheet(config).map(drop),
        log.map(drop).map_err(anyhow::Error::from),
    ];
    read.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect()
}

/// What a start takes, and what is hardly meant, a line each.
pub fn doubts(config: &Config) -> Vec<String> {
    let (public, url) = (&config.public, layers::public_url(config));
    let mut doubts = Vec::new();
    if public.url.is_none() && public.listen.ip().is_unspecified() {
        doubts.push(format!(
            "public.url is not set: redirects, mails and links lead to {url}, which is nowhere"
        ));
    }
    if public.url.is_some() && url.starts_with("http://") && config.sessions.cookie_secure {
        doubts.push(format!(
            "sessions.cookie_secure: browsers keep no session at {url}, which is not HTTPS"
        ));
    }
    let from = &config.courier.from_address;
    if config.courier.smtp_url.is_some() && from.ends_with("@localhost.localdomain") {
        doubts.push(format!("courier.from_address is not set: mails are from {from}"));
    }
    doubts
}

/// The rules of the operator's own that the pages' stylesheet ends with.
///
/// # Errors
/// If the file that is named cannot be read.
pub fn stylesheet(config: &Config) -> anyhow::Result<Option<String>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .with_context(|| format!("pages.css_file: cannot read {}", path.display()))
    };
    config.pages.css_file.as_deref().map(read).transpose()
}

/// Whether a node could keep its data in a directory, or make it; nothing is made.
fn data_dir(directory: &Path) -> anyhow::Result<()> {
    let mut above = directory.ancestors().map(|path| match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    });
    let Some(there) = above.find(|path| path.exists()) else { return Ok(()) };
    ensure!(there.is_dir(), "node.data_dir: {} is no directory", there.display());
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::access(there, wanted)
        .with_context(|| format!("node.data_dir: {} cannot be written to", there.display()))
}

fn authorities(file: Option<&Path>) -> anyhow::Result<()> {
    file.map(tls::certificates).transpose().map(drop).context("outbound.authority_file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn what_is_hardly_meant_is_told_and_taken() {
        let told = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("cardea.toml");
            let least = "[cluster]\nlisten = \"127.0.0.1:7433\"\ntls = \"off\"\n";
            std::fs::write(&file, format!("{least}{text}")).unwrap();
            doubts(&load(Sources { file: Some(file), ..Sources::default() }).unwrap().config)
        };
        let nowhere = "[public]\nlisten = \"0.0.0.0:4433\"\n";
        for (text, named) in [
            (nowhere.to_owned(), "public.url"),
            ("[public]\nurl = \"http://id.example\"\n".to_owned(), "cookie_secure"),
            ("[courier]\nsmtp_url = \"smtps://mail.example\"\n".to_owned(), "from_address"),
        ] {
            let doubts = told(&text);
            assert!(doubts.len() == 1 && doubts[0].contains(named), "{doubts:?}");
        }
        assert_eq!(told(&format!("{nowhere}url = \"https://id.example\"\n")), [""; 0]);
        assert_eq!(told(""), [""; 0]);
    }

    #[test]
    fn data_is_kept_where_a_directory_is_or_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        data_dir(folder.path()).unwrap();
        data_dir(&folder.path().join("a/b/c")).unwrap();
        data_dir(Path::new("cardea-data")).unwrap();
        for taken in [file.clone(), file.join("data")] {
            let told = data_dir(&taken).unwrap_err().to_string();
            assert!(told.contains("is no directory"), "{told}");
        }
    }

    #[test]
    fn what_a_start_would_refuse_is_told_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cardea.toml");
        let text = "[cluster]\nlisten = \"127.0.0.1:7433\"\nauthority_file = \"no\"\n\
                    certificate_file = \"no\"\nkey_file = \"no.key\"\n[oidc.google]\n\
                    [organizations.x]\n[tokenizers.api]\nttl = \"1m\"\n[pages]\n\
                    css_file = \"/none.css\"\n[secrets]\nmaster_key_file = \"master.key\"\n";
        std::fs::write(&file, text).unwrap();
        std::fs::write(folder.path().join("master.key"), "short").unwrap();
        let sources = Sources { file: Some(file), ..Sources::default() };
        let refused = refusals(&load(sources).unwrap().config);
        let named = [
            "oidc.google",
            "organizations.x",
            "tokenizers.api",
            "no.key",
            "master.key",
            "none.css",
        ];
        assert_eq!(refused.len(), named.len(), "{refused:?}");
        for (told, name) in refused.iter().zip(named) {
            assert!(told.contains(name), "{told}");
        }
    }
}
