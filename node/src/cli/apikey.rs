//! `cardea apikey`: makes, lists and revokes API keys.

use std::time::Duration;

use serde_json::json;

use super::{
    exit::{Failure, Outcome},
    output::{Cell, Printer, Table, Tone},
};
use crate::{
    apikey::{ApiKeyId, Scope},
    config::value::parse_lifespan,
    operator::{
        client::OperatorClient,
        wire::{ApiKeyEntry, CreatedApiKey, NewApiKey},
    },
};

/// What may be done with API keys.
#[derive(Debug, clap::Subcommand)]
pub enum ApikeyCommand {
    /// Make a key; it is shown once
    #[command(
        after_help = "Example:\n  cardea apikey create --name backend --scope identity:read --scope 'session:*'\n\nScopes: admin, or identity, session, courier, audit, oauth, permission, cluster, apikey, metrics with :read, :write or :*"
    )]
    Create {
        /// For people: who holds it
        #[arg(long)]
        name: String,
        /// What it allows; may be repeated
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// How long it lives, such as 90d; without, until revoked
        #[arg(long, value_parser = parse_lifespan, value_name = "DURATION")]
        lifespan: Option<Duration>,
    },
    /// List the keys, without their secrets
    List,
    /// Revoke a key; done when no node accepts it any more
    Revoke {
        /// The key's id, as `list` shows it; not the key itself
        id: String,
    },
}

pub(super) async fn run(
    command: ApikeyCommand,
    client: &OperatorClient,
    printer: Printer,
) -> Outcome {
    match command {
        ApikeyCommand::Create { name, scopes, lifespan } => {
            let new = NewApiKey {
                name,
                scopes: scopes.iter().map(Scope::to_string).collect(),
                lifespan_ms: lifespan
                    .map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
            };
            let created: CreatedApiKey =
                client.post("/cluster/apikeys", &new, Duration::from_secs(30)).await?;
            printer.print(&created, |created, colour| {
                let key = Tone::Strong.paint(&created.key, colour);
                format!(
                    "{key}\n\nKeep it now: it is not shown again. Its id is {}.\n",
                    created.entry.id
                )
            })
        }
        ApikeyCommand::List => {
            let keys: Vec<ApiKeyEntry> = client.get("/cluster/apikeys").await?;
            printer.print(&keys, |keys, colour| {
                let mut table = Table::new(["id", "name", "scopes", "made", "ends"]);
                for key in keys {
                    let ends = key.expires_at.clone().unwrap_or_else(|| "when revoked".to_owned());
                    table.row([
                        Cell::toned(&key.id, Tone::Strong),
                        key.name.as_str().into(),
                        key.scopes.join(" ").into(),
                        key.created_at.as_str().into(),
                        ends.into(),
                    ]);
                }
                table.render(colour)
            })
        }
        ApikeyCommand::Revoke { id } => {
            // Somebody may paste the whole key; its secret must go nowhere.
            let id: ApiKeyId = id.parse().map_err(|_| {
                Failure::Usage(
                    "a key is revoked by its id: 16 digits, as `cardea apikey list` shows it"
                        .to_owned(),
                )
            })?;
            client.delete(&format!("/cluster/apikeys/{id}")).await?;
            printer.print(&json!({ "revoked": id.to_string() }), |_, _| {
                format!("The key {id} is revoked.\n")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::{apikey::AREAS, cli::Cli};

    #[test]
    fn every_area_of_scopes_is_in_the_help() {
        let cli = Cli::command();
        let keys = cli.find_subcommand("apikey").unwrap();
        let create = keys.find_subcommand("create").unwrap();
        let help = create.get_after_help().unwrap().to_string();
        let words: Vec<&str> = help.split([' ', ',', '\n']).collect();
        for area in AREAS {
            assert!(words.contains(&area), "{area}: {help}");
        }
    }
}
