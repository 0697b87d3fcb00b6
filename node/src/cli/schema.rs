//! `cardea schema`: which identity schemas are in force.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

use super::{
    exit::{Failure, Outcome},
    output::{Printer, Table},
};
use crate::operator::client::OperatorClient;

/// What may be done with identity schemas.
#[derive(Debug, clap::Subcommand)]
pub enum SchemaCommand {
    /// List the schemas in force
    List,
    /// Put a schema in force, in the place of one of the same name
    #[command(after_help = "Example:\n  cardea schema put customer customer.schema.json --default")]
    Put {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// A file with its JSON
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Make it the schema of identities that name none
        #[arg(long)]
        default: bool,
    },
    /// Remove a schema that no identity has
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub(super) async fn run(
    command: SchemaCommand,
    client: &OperatorClient,
    printer: Printer,
) -> Outcome {
    match command {
        SchemaCommand::List => {
            let schemas: Value = client.get("/admin/schemas?page_size=1000").await?;
            printer.print(&schemas, |schemas, colour| {
                let mut table = Table::new(["name", "title", "traits"]);
                for schema in schemas.as_array().into_iter().flatten() {
                    let traits = schema["schema"]["properties"]["traits"]["properties"].as_object();
                    let names: Vec<&str> =
                        traits.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    table.row([
                        text(&schema["id"]).into(),
                        text(&schema["schema"]["title"]).into(),
                        names.join(", ").into(),
                    ]);
                }
                table.render(colour)
            })
        }
        SchemaCommand::Put { name, file, default } => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            let schema: Value = serde_json::from_str(&text)
                .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
            put(client, &name, &schema, default).await?;
            printer.print(&serde_json::json!({ "id": name }), |_, _| {
                format!("The schema \"{name}\" is in force.\n")
            })
        }
        SchemaCommand::Remove { name } => {
            client.delete(&format!("/admin/schemas/{}", escaped(&name))).await?;
            printer.print(&serde_json::json!({ "id": name }), |_, _| {
                format!("The schema \"{name}\" was removed.\n")
            })
        }
    }
}

/// Puts a schema in force.
pub(super) async fn put(
    client: &OperatorClient,
    name: &str,
    schema: &Value,
    default: bool,
) -> Outcome {
    let path = format!("/admin/schemas/{}?default={default}", escaped(name));
    let _: Value = client.put(&path, schema, Duration::from_secs(30)).await?;
    Ok(())
}

/// A name as a part of a path.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut path = String::new();
    for byte in name.bytes() {
        match plain(byte) {
            true => path.push(char::from(byte)),
            false => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_kind_are_parts_of_a_path() {
        assert_eq!(escaped("customer-1.0_a~b"), "customer-1.0_a~b");
        assert_eq!(escaped("preset://email é?#"), "preset%3A%2F%2Femail%20%C3%A9%3F%23");
    }
}
