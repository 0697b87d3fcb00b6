//! `cardea config check`: what a node would run with, and why. `cardea config import`:
//! what of Kratos's configuration has a counterpart.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::json;

use super::{
    exit::{Failure, Outcome},
    output::{Cell, Printer, Table, Tone, write_out},
    start::{ConfigArgs, would_start},
};
use crate::{
    config::{Origin, load},
    ory::config::{read, translate},
    preflight,
};

/// What may be asked of a configuration.
#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration and show every effective value with its origin
    #[command(after_help = "Example:\n  cardea config check --config /etc/cardea/cardea.toml")]
    Check {
        #[command(flatten)]
        #[expect(missing_docs, reason = "clap would print it as help")]
        args: ConfigArgs,
        /// Explain each setting
        #[arg(long)]
        explain: bool,
    },
    /// Translate a configuration of Ory Kratos, and name what has no counterpart
    #[command(after_help = "Example:\n  cardea config import kratos.yml > cardea.toml")]
    Import {
        /// Kratos's configuration
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) fn run(command: ConfigCommand, printer: Printer) -> Outcome {
    let (args, explain) = match command {
        ConfigCommand::Check { args, explain } => (args, explain),
        ConfigCommand::Import { file } => return import(&file, printer),
    };
    let loaded = load(args.sources()?).map_err(|refused| Failure::Usage(refused.to_string()))?;
    would_start(&loaded.config)?;
    let explained = loaded.layers.explain();
    let state: Vec<_> = explained
        .iter()
        .map(|one| {
            json!({
                "name": one.setting.name(),
                "value": one.value,
                "origin": one.origin.to_string(),
                "variable": one.setting.variable(),
                "expects": one.setting.form,
                "about": one.setting.doc.trim(),
            })
        })
        .collect();
    printer.print(&state, |_, colour| {
        let mut table = Table::new(["setting", "value", "from"]);
        for one in &explained {
            let is_default = one.origin == Origin::Default;
            let tone = if is_default { Tone::Faint } else { Tone::Strong };
            table.row([
                Cell::toned(one.setting.name(), tone),
                one.value.as_str().into(),
                Cell::toned(
                    one.origin.to_string(),
                    if is_default { Tone::Faint } else { Tone::Plain },
                ),
            ]);
            if explain {
                table.row([Cell::toned(format!("  {}", one.setting.doc.trim()), Tone::Faint)]);
            }
        }
        table.render(colour)
    })?;
    for doubt in preflight::doubts(&loaded.config) {
        // Standard error may be closed; what was asked for is printed.
        std::io::stderr().write_all(format!("warning: {doubt}\n").as_bytes()).ok();
    }
    if printer.colour() { write_out("\nThe configuration is accepted.\n") } else { Ok(()) }
}

/// Prints our configuration, with what was left as comments.
fn import(file: &Path, printer: Printer) -> Outcome {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let translated = translate(&read(&text)?);
    printer.print(&translated, |translated, _| {
        let mut text = translated.toml.clone();
        if !translated.left.is_empty() {
            text.push_str("\n# Left out:\n");
        }
        for left in &translated.left {
            text.push_str(&format!("# {}: {}\n", left.setting, left.why));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    #[test]
    fn a_file_that_is_not_there_is_all_that_is_told() {
        let file = Some("/none/cardea.toml".into());
        let told = load(Sources { file, ..Sources::default() }).unwrap_err().to_string();
        assert!(told.contains("cannot read") && told.lines().count() == 2, "{told}");
    }
}
