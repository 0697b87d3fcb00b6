//! The courier of a node: it looks for messages that are due, and hands them to a mail
//! server. Every node with a mail server does; the store decides who sends what.

pub mod smtp;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use cardea_identity::{
    courier::{Template, Templates, template::Part},
    language::Language,
};

use crate::{
    config::Config,
    config::secret::{SecretText, read_text},
    layers::Layers,
};

/// How often a node looks for what others left, or what is due again.
const EVERY: Duration = Duration::from_secs(1);

/// The carrier that a configuration names; `None` if it names none.
pub fn carrier(config: &Config) -> anyhow::Result<Option<smtp::Smtp>> {
    let Some(url) = &config.courier.smtp_url else { return Ok(None) };
    let file = config.secrets.smtp_password_file.as_deref();
    let password: Option<SecretText> =
        read_text("smtp_password", file, |name| std::env::var(name).ok())?;
    let authority = config.courier.smtp_authority_file.as_ref().map(std::fs::read).transpose();
    let authority = authority.context("courier.smtp_authority_file cannot be read")?;
    let sender = smtp::Sender {
        address: config.courier.from_address.clone(),
        name: config.courier.from_name.clone(),
    };
    let options = smtp::SmtpOptions { url: url.clone(), password, authority, sender };
    smtp::Smtp::new(options).context("courier.smtp_url").map(Some)
}

/// The included texts, with an operator's own in their place.
pub fn templates(config: &Config) -> anyhow::Result<Templates> {
    let mut templates = Templates::default();
    let Some(folder) = &config.courier.templates_dir else { return Ok(templates) };
    for template in Template::ALL {
        let languages = Language::ALL.map(Some).into_iter().chain([None]);
        for (part, language) in
            Part::ALL.into_iter().flat_map(|part| languages.clone().map(move |l| (part, l)))
        {
            let file = folder.join(template.folder()).join(part.file(language));
            let text = match std::fs::read_to_string(&file) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context(file.display().to_string()),
            };
            templates
                .replace(template, (part, language), text)
                .context(file.display().to_string())?;
        }
    }
    Ok(templates)
}

/// Sends what is due, until it is dropped.
pub async fn run(layers: Arc<Layers>, carrier: smtp::Smtp) {
    loop {
        let Some(service) = layers.service() else {
            tokio::time::sleep(EVERY).await;
            continue;
        };
        if let Err(error) = service.deliver_due(&carrier).await {
            // Nobody waits for an answer: the next round tries again.
            tracing::debug!(%error, "the courier could not look for messages");
        }
        let _ = tokio::time::timeout(EVERY, service.wait_for_post()).await;
    }
}
