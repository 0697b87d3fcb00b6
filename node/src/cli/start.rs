//! `cardea start`: runs a node.

use std::{ffi::OsString, path::PathBuf};

use super::exit::{Failure, Outcome};
use crate::{
    config::{Config, Override, Sources, load},
    descriptors, panic, preflight,
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
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,
}

impl ConfigArgs {
    /// The layers that these arguments and the environment make.
    ///
    /// # Errors
    /// If a variable that is ours is no text.
    pub fn sources(&self) -> Result<Sources, Failure> {
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
        for (name, value) in &self.set {
            flags.push(Override {
                name: name.clone(),
                value: value.clone(),
                flag: format!("--set {name}"),
            });
        }
        let environment = texts(std::env::vars_os())?;
        Ok(Sources { file: self.config.clone(), environment, flags })
    }
}

/// A setting and its value; an empty one is written out, too.
fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected SECTION.KEY=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The variables that are ours; what others hold may be anything.
fn texts(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("CARDEA_")) else { continue };
        let value = value
            .into_string()
            .map_err(|_| Failure::Usage(format!("the variable {name} is not UTF-8")))?;
        found.push((name.to_owned(), value));
    }
    Ok(found)
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
        load(args.config.sources()?).map_err(|refused| Failure::Usage(refused.to_string()))?;
    let mut config = loaded.config;
    would_start(&config)?;
    logs::install(config.log.format, &config.log.level)
        .map_err(|bad| Failure::Usage(bad.to_string()))?;
    descriptors::bound_connections(&mut config, descriptors::raise());
    for doubt in preflight::doubts(&config) {
        tracing::warn!("{doubt}");
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn what_others_keep_in_the_environment_keeps_no_node_from_starting() {
        let strange = || OsString::from_vec(vec![b'x', 0xff]);
        let of = |name: &str, value: OsString| (OsString::from(name), value);
        let ours = of("CARDEA_NODE_REGION", "here".into());
        let others = [of("LS_COLORS", strange()), (strange(), "x".into()), ours];
        let found = texts(others.into_iter()).unwrap();
        assert_eq!(found, [("CARDEA_NODE_REGION".to_owned(), "here".to_owned())]);
        let told = texts([of("CARDEA_NODE_ZONE", strange())].into_iter()).unwrap_err();
        assert!(matches!(&told, Failure::Usage(why) if why.contains("CARDEA_NODE_ZONE")), "{told}");
    }

    #[test]
    fn a_setting_without_a_value_is_refused_and_an_empty_one_is_none() {
        assert_eq!(setting("admin.auth="), Ok(("admin.auth".to_owned(), String::new())));
        assert_eq!(setting("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(setting("admin.auth").is_err());
    }
}
