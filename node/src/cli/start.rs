//! `cardea start`: runs a node.

use std::path::PathBuf;

use super::exit::{Failure, Outcome};
use crate::{
    config::{Config, Override, Sources, load},
    panic, preflight,
    run::run_node,
    telemetry::logs,
};

/// Where a node's configuration comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file (TOML)
    #[arg(long, short, env = "CARDEA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// The region that the node stands in
    #[arg(long)]
    pub region: Option<String>,
    /// Where the public listener stands
    #[arg(long, value_name = "ADDRESS")]
    pub listen_public: Option<String>,
    /// Where the admin listener stands
    #[arg(long, value_name = "ADDRESS")]
    pub listen_admin: Option<String>,
    /// Where the node listens for other nodes
    #[arg(long, value_name = "ADDRESS")]
    pub listen_cluster: Option<String>,
    /// The host and port under which other nodes reach this one
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Nodes to join through; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    pub join: Vec<String>,
    /// Any other setting; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArgs {
    /// The layers that these arguments and the environment make.
    pub fn sources(&self) -> Sources {
        let mut flags = Vec::new();
        for (flag, name, value) in [
            ("--data-dir", "node.data_dir", &self.data_dir),
            ("--region", "node.region", &self.region),
            ("--listen-public", "public.listen", &self.listen_public),
            ("--listen-admin", "admin.listen", &self.listen_admin),
            ("--listen-cluster", "cluster.listen", &self.listen_cluster),
            ("--advertise", "cluster.advertise", &self.advertise),
        ] {
            if let Some(value) = value {
                flags.push(Override {
                    name: name.to_owned(),
                    value: value.clone(),
                    flag: flag.to_owned(),
                });
            }
        }
        if !self.join.is_empty() {
            flags.push(Override {
                name: "cluster.join".to_owned(),
                value: self.join.join(","),
                flag: "--join".to_owned(),
            });
        }
        for set in &self.set {
            let (name, value) = set.split_once('=').unwrap_or((set, ""));
            flags.push(Override {
                name: name.to_owned(),
                value: value.to_owned(),
                flag: format!("--set {name}"),
            });
        }
        Sources { file: self.config.clone(), environment: std::env::vars().collect(), flags }
    }
}

/// How a node is run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cardea start --config /etc/cardea/cardea.toml\n  cardea start --config b.toml --join a.internal:7433\n\nSettings come from the file, then from CARDEA_<SECTION>_<KEY>, then from flags; `cardea config check` shows them."
)]
pub struct StartArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print it as help")]
    pub config: ConfigArgs,
    /// Stop when standard input closes: a supervisor's end is the node's
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
}

/// Whether a node could start with a configuration.
///
/// # Errors
/// Everything that it would refuse.
pub(super) fn would_start(config: &Config) -> Outcome {
    let refused = preflight::refusals(config);
    if refused.is_empty() {
        return Ok(());
    }
    let refused = refused.iter().map(|why| format!("\n  {why}"));
    Err(Failure::Usage(format!("the configuration is refused{}", refused.collect::<String>())))
}

pub(super) fn run(args: &StartArgs) -> Outcome {
    let loaded =
        load(args.config.sources()).map_err(|refused| Failure::Usage(refused.to_string()))?;
    let config = loaded.config;
    would_start(&config)?;
    logs::install(config.log.format, &config.log.level)
        .map_err(|bad| Failure::Usage(bad.to_string()))?;
    panic::abort_after_logging();
    // What a node writes, backups too, holds hashes and addresses: nobody else reads it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let stop_with_stdin = args.stop_with_stdin;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("api")
        .build()
        .map_err(|error| Failure::Failed(error.into()))?;
    runtime.block_on(run_node(config, stop_with_stdin)).map_err(Failure::from)
}
