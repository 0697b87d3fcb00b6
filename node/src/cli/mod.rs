//! The command line: one file per command. Commands that ask a cluster talk to
//! a node's admin listener; `start` and `dev` run nodes.

pub mod apikey;
pub mod archive;
pub mod cert;
pub mod cluster;
pub mod completions;
pub mod config;
pub mod dev;
pub mod exit;
pub mod import;
pub mod init;
mod keto;
pub mod key;
pub mod node;
pub mod opl;
pub mod output;
pub mod permission;
mod progress;
pub mod schema;
pub mod shard;
pub mod start;
pub mod status;
pub mod verify;
pub mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::{
    exit::{Failure, Outcome},
    output::{Format, Printer},
};
use crate::operator::client::{Connection, EVERYWHERE};

/// Cardea: an identity store that is its own database.
#[derive(Debug, Parser)]
#[command(
    name = "cardea",
    version,
    about = "Cardea: an identity store that is its own database",
    after_help = "Examples:\n  cardea dev                      a three-node cluster on this machine\n  cardea start --config node.toml  one node\n  cardea status                   nodes, shards, leaders, lag\n\nExit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 unreachable or try again, 4 a check found a problem."
)]
pub struct Cli {
    /// How state is printed
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        env = "CARDEA_OUTPUT",
        help_heading = EVERYWHERE
    )]
    pub output: Format,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print it as help")]
    pub connection: Connection,
    #[command(subcommand)]
    #[expect(missing_docs, reason = "clap would print it as help")]
    pub command: Command,
}

/// What `cardea` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster on this machine, with nothing to configure
    Dev(dev::DevCommand),
    /// Run a node
    Start(start::StartArgs),
    /// Make a cluster of the nodes that were started; once
    Init(init::InitArgs),
    /// Show nodes, regions, shards, leaders, lag, clocks, disks
    Status,
    /// Show, hold and raise the cluster version
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Take a node out of service
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Show shards, move their leaders
    #[command(subcommand)]
    Shard(shard::ShardCommand),
    /// Make the certificates that nodes know each other by
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Rotate the cluster's keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Apikey(apikey::ApikeyCommand),
    /// Check, format, test and apply permission languages
    #[command(subcommand)]
    Opl(opl::OplCommand),
    /// List identity schemas, put them in force, remove them
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    /// Import and export relation tuples
    #[command(subcommand)]
    Permission(permission::PermissionCommand),
    /// Write a backup of the whole cluster
    Backup(archive::BackupArgs),
    /// Fill a new cluster from a backup
    Restore(archive::RestoreArgs),
    /// Compare indexes with homes while serving
    Verify(verify::VerifyArgs),
    /// Bring identities along from elsewhere
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Look at a configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Show the version
    Version,
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr())
                && std::env::var_os("NO_COLOR").is_none();
            let label = output::Tone::Bad.paint("error:", colour);
            let told = output::plain(&failure.to_string());
            // Standard error may be closed; the exit code still tells.
            std::io::Write::write_all(
                &mut std::io::stderr().lock(),
                format!("{label} {told}\n").as_bytes(),
            )
            .ok();
            failure.code()
        }
    }
}

fn run(cli: Cli) -> Outcome {
    let printer = Printer::new(cli.output);
    match cli.command {
        Command::Dev(command) => dev::run(command, printer),
        Command::Start(args) => start::run(&args),
        Command::Cert(command) => cert::run(command, printer),
        Command::Config(command) => config::run(command, printer),
        Command::Import(command) => import::run(command, &cli.connection, printer),
        Command::Opl(command) => opl::run(command, &cli.connection, printer),
        Command::Version => version::run(printer),
        Command::Completions(args) => completions::run(&args),
        asking => {
            let client = crate::operator::client::OperatorClient::new(&cli.connection)?;
            block_on(async {
                match asking {
                    Command::Init(args) => init::run(args, &client, printer).await,
                    Command::Cluster(command) => cluster::run(command, &client, printer).await,
                    Command::Node(command) => node::run(command, &client, printer).await,
                    Command::Shard(command) => shard::run(command, &client, printer).await,
                    Command::Key(command) => key::run(command, &client, printer).await,
                    Command::Apikey(command) => apikey::run(command, &client, printer).await,
                    Command::Schema(command) => schema::run(command, &client, printer).await,
                    Command::Permission(command) => {
                        permission::run(command, &client, printer).await
                    }
                    Command::Backup(args) => archive::backup(args, &client, printer).await,
                    Command::Restore(args) => archive::restore(args, &client, printer).await,
                    Command::Verify(args) => verify::run(args, &client, printer).await,
                    _ => status::run(&client, printer).await,
                }
            })
        }
    }
}

/// Runs a command's future on a small runtime.
pub(crate) fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.into()))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_understood() {
        for line in [
            "cardea dev --delay 40ms --no-restart",
            "cardea dev stop",
            "cardea dev link cut eu-central us-east",
            "cardea start --config a.toml --set public.listen=127.0.0.1:1",
            "cardea status --output json",
            "cardea cluster version",
            "cardea cluster version --hold",
            "cardea node drain 3",
            "cardea shard move-leader 4 --to 2",
            "cardea cert authority --out certs",
            "cardea cert node --authority certs --name n1 --host 10.0.0.1 --out certs",
            "cardea key rotate seal",
            "cardea apikey create --name ci --scope identity:read --scope session:* --lifespan 30d",
            "cardea apikey revoke 0011223344556677",
            "cardea backup /b",
            "cardea restore /b --keep-sessions --keep-api-keys",
            "cardea config check --config a.toml",
            "cardea config import kratos.yml",
            "cardea import ory kratos.sql --config kratos.yml --dry-run --report r.jsonl",
            "cardea schema list",
            "cardea schema put customer customer.json --default",
            "cardea schema remove customer",
            "cardea opl check a.ts b.ts",
            "cardea opl format --check a.ts",
            "cardea opl test --language a.ts --language b.ts c.assert",
            "cardea opl apply a.ts --follows 3 --force",
            "cardea completions bash",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn where_a_shard_has_its_home_is_said_in_one_way() {
        let told = |rest: &str| {
            let line = format!("cardea shard home 4{rest}");
            Cli::try_parse_from(line.split(' ')).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(told(" --anywhere"), Ok(()));
        assert_eq!(told(" --region eu"), Ok(()));
        assert!(told(" --region eu --anywhere").is_err());
        let neither = told("").unwrap_err();
        assert!(neither.contains("--region") && neither.contains("--anywhere"), "{neither}");
    }

    #[test]
    fn no_flag_takes_a_secret() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments() {
                let name = arg.get_id().as_str();
                let secretive = ["secret", "password", "token", "api_key"]
                    .iter()
                    .any(|word| name.contains(word));
                assert!(!secretive || name.ends_with("_file"), "{} {name}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
