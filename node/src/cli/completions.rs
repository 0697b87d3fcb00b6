//! `cardea completions`: a script that completes commands in a shell.

use clap::CommandFactory as _;

use super::{Cli, exit::Outcome, output::write_out};

/// Which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cardea completions bash > /etc/bash_completion.d/cardea")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cardea", &mut script);
    write_out(&String::from_utf8_lossy(&script))
}
