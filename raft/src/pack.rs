//! Packs: one entry for several commands that are proposed together, where the
//! machine has such. Each waiter is answered on its own.

use crate::{machine::Machine, settings::Settings, types::Command};

/// What is proposed of these commands, and how many of them each entry carries.
pub(crate) fn packed(
    machine: &dyn Machine,
    settings: &Settings,
    commands: Vec<Command>,
) -> (Vec<Command>, Vec<usize>) {
    let (mut entries, mut shares) = (Vec::new(), Vec::new());
    let mut rest = commands.into_iter().map(|command| command.0).peekable();
    while let Some(first) = rest.next() {
        let mut bytes = first.len();
        let mut together = vec![first];
        while together.len() < settings.pack_commands_max
            && let Some(next) = rest.next_if(|next| bytes + next.len() <= settings.pack_bytes_max)
        {
            bytes += next.len();
            together.push(next);
        }
        let pack = if together.len() > 1 { machine.pack(&together) } else { None };
        match pack {
            Some(pack) => {
                shares.push(together.len());
                entries.push(Command(pack));
            }
            None => {
                shares.extend(together.iter().map(|_| 1));
                entries.extend(together.into_iter().map(Command));
            }
        }
    }
    (entries, shares)
}
