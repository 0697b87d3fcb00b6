//! `cardea dev`: a whole cluster on this machine.

use std::{path::PathBuf, time::Duration};

use super::{
    block_on,
    exit::{Failure, Outcome},
    output::{Cell, Printer, Table, Tone},
};
use crate::{
    config::value::show_duration,
    dev::{
        control::{Ask, ask},
        lock,
        plan::{Delays, PORT, PORT_MAX},
        supervisor::{DevOptions, run as supervise},
    },
};

/// How the cluster is run, or what is done with the one that runs.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  cardea dev                          three nodes in three regions\n  cardea dev --delay world            with the delays of three continents\n  cardea dev --port 14433             beside a Kratos that has 4433 and 4434\n  cardea dev link cut us-east ap-south\n  cardea dev stop"
)]
pub struct DevCommand {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print it as help")]
    pub args: DevArgs,
    #[command(subcommand)]
    #[expect(missing_docs, reason = "clap would print it as help")]
    pub action: Option<DevAction>,
}

/// How the cluster is run.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Where everything is kept between runs
    #[arg(long, default_value = ".cardea-dev", value_name = "DIR")]
    pub data: PathBuf,
    /// The first node's public port; all others are counted from it
    #[arg(long, default_value_t = PORT, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=i64::from(PORT_MAX)))]
    pub port: u16,
    /// Simulated delay between the regions, each way: 40ms, or a profile: world, continent. Links can then be cut
    #[arg(long, value_name = "DELAY")]
    pub delay: Option<Delays>,
    /// Leave a node down that dies
    #[arg(long)]
    pub no_restart: bool,
    /// Show everything that the nodes log
    #[arg(long, short)]
    pub verbose: bool,
}

/// What is done with the cluster that runs.
#[derive(Debug, clap::Subcommand)]
pub enum DevAction {
    /// Stop the cluster that runs in the background
    Stop {
        /// Its directory
        #[arg(long, default_value = ".cardea-dev", value_name = "DIR")]
        data: PathBuf,
    },
    /// Cut and heal the simulated links between regions
    Link {
        /// What to do with links
        #[arg(value_enum)]
        verb: LinkVerb,
        /// The region that sends
        #[arg(required_if_eq_any([("verb", "cut"), ("verb", "heal")]))]
        from: Option<String>,
        /// The region that receives
        #[arg(required_if_eq_any([("verb", "cut"), ("verb", "heal")]))]
        to: Option<String>,
        /// In this direction only
        #[arg(long)]
        one_way: bool,
        /// Its directory
        #[arg(long, default_value = ".cardea-dev", value_name = "DIR")]
        data: PathBuf,
    },
}

/// What may be done with links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LinkVerb {
    /// Show them
    List,
    /// Let nothing pass
    Cut,
    /// Deliver again
    Heal,
}

pub(super) fn run(command: DevCommand, printer: Printer) -> Outcome {
    match command.action {
        None => {
            let options = DevOptions {
                root: command.args.data,
                port: command.args.port,
                delays: command.args.delay,
                restarts: !command.args.no_restart,
                verbose: command.args.verbose,
                colour: printer.colour(),
            };
            block_on(async { supervise(options).await.map_err(Failure::from) })
        }
        Some(DevAction::Stop { data }) => {
            let stopped = lock::stop(&data, Duration::from_secs(60))?;
            printer.print(&serde_json::json!({ "stopped": stopped }), |_, _| {
                if stopped { "The cluster is stopped.\n" } else { "No cluster was running.\n" }
                    .to_owned()
            })
        }
        Some(DevAction::Link { verb, from, to, one_way, data }) => {
            let request = match (verb, from, to) {
                (LinkVerb::Cut | LinkVerb::Heal, Some(from), Some(to)) => {
                    Ask::Set { from, to, cut: verb == LinkVerb::Cut, one_way }
                }
                _ => Ask::List,
            };
            block_on(async {
                let links = ask(&data, &request).await?;
                printer.print(&links, |links, colour| {
                    let mut table = Table::new(["from", "to", "delay", "state"]);
                    for link in links {
                        let state = if link.state.cut {
                            Cell::toned("cut", Tone::Bad)
                        } else {
                            Cell::toned("open", Tone::Good)
                        };
                        table.row([
                            link.from.as_str().into(),
                            link.to.as_str().into(),
                            show_duration(Duration::from_millis(link.state.delay_ms)).into(),
                            state,
                        ]);
                    }
                    table.render(colour)
                })
            })
        }
    }
}
