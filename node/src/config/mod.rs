//! The node's configuration: a TOML file, then `CARDEA_…` variables, then
//! flags. Unknown names are refused with the nearest known one; everything
//! wrong is reported at once, with its origin.

pub mod channels;
mod choices;
pub mod cidr;
pub mod hooks;
pub mod layers;
pub mod refusal;
pub mod relying_party;
mod rules;
pub mod secret;
mod setting;
pub mod settings;
pub mod share;
pub mod tables;
pub mod value;
pub mod web_origin;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use layers::{Layers, Origin};
pub use refusal::{Refusal, Refused};
pub use settings::Config;

/// A setting given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// `section.key`.
    pub name: String,
    /// Its value, in the form of the environment.
    pub value: String,
    /// The flag, as errors name it.
    pub flag: String,
}

/// Where the configuration is to be read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, if one was named.
    pub file: Option<PathBuf>,
    /// Variables of the environment.
    pub environment: Vec<(String, String)>,
    /// Flags, in order.
    pub flags: Vec<Override>,
}

/// A configuration that was accepted, with where everything came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Their origins.
    pub layers: Layers,
}

/// Reads all layers and checks the outcome. Relative paths in the file are
/// taken from the file's directory, so that it means the same from everywhere.
pub fn load(sources: Sources) -> Result<Loaded, Refused> {
    let mut refusals = Vec::new();
    let mut layers = Layers::default();
    if let Some(path) = &sources.file {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let added = layers.add_file(path.clone(), &text, &mut refusals);
                added.map_err(|refusal| Refused(vec![refusal]))?;
            }
            // What is wrong without it is no news.
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                return Err(Refused(vec![Refusal { origin: None, message }]));
            }
        }
    }
    layers.add_environment(sources.environment, &mut refusals);
    for flag in sources.flags {
        layers.add_flag(&flag.name, flag.value, flag.flag, &mut refusals);
    }
    let config = Config::read(&mut layers, &mut refusals);
    if let Some(config) = &config {
        refusals.extend(rules::check(config, &layers));
    }
    match config {
        Some(mut config) if refusals.is_empty() => {
            anchor_paths(&mut config, &layers);
            Ok(Loaded { config, layers })
        }
        _ => Err(Refused(refusals)),
    }
}

fn anchor_paths(config: &mut Config, layers: &Layers) {
    let anchor = |name: &str, path: &mut PathBuf| {
        if let Origin::File { path: file, .. } = layers.origin(name)
            && path.is_relative()
        {
            *path = file.parent().unwrap_or(Path::new("")).join(&*path);
        }
    };
    anchor("node.data_dir", &mut config.node.data_dir);
    for (name, path) in [
        ("cluster.authority_file", &mut config.cluster.authority_file),
        ("cluster.certificate_file", &mut config.cluster.certificate_file),
        ("cluster.key_file", &mut config.cluster.key_file),
        ("public.tls_certificate_file", &mut config.public.tls_certificate_file),
        ("public.tls_key_file", &mut config.public.tls_key_file),
        ("admin.tls_certificate_file", &mut config.admin.tls_certificate_file),
        ("admin.tls_key_file", &mut config.admin.tls_key_file),
        ("admin.client_authority_file", &mut config.admin.client_authority_file),
        ("secrets.master_key_file", &mut config.secrets.master_key_file),
        ("secrets.smtp_password_file", &mut config.secrets.smtp_password_file),
        ("secrets.imported_cookies_file", &mut config.secrets.imported_cookies_file),
        ("outbound.authority_file", &mut config.outbound.authority_file),
        ("pages.css_file", &mut config.pages.css_file),
        ("courier.smtp_authority_file", &mut config.courier.smtp_authority_file),
        ("courier.templates_dir", &mut config.courier.templates_dir),
        (
            "password_migration.basic_password_file",
            &mut config.password_migration.basic_password_file,
        ),
        ("password_migration.api_key_file", &mut config.password_migration.api_key_file),
    ] {
        if let Some(path) = path {
            anchor(name, path);
        }
    }
    for path in &mut config.secrets.former_master_key_files {
        anchor("secrets.former_master_key_files", path);
    }
    if let Origin::File { path: file, .. } = layers.origin("password_migration.body") {
        tables::anchor(&file, [], &mut config.password_migration.body);
    }
}
