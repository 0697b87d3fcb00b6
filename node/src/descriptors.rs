//! Files that a process may have open: connections, and the store's own.
//!
//! Systems start a process with a soft limit of 1,024, which some hundred clients use up;
//! the store that cannot open a file then fails, and with it the node. So a node takes what
//! it may have, and of that no more than half for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// The fewest connections that a listener takes, whatever the system says.
const CONNECTIONS_MIN: u64 = 16;

/// Fewer than these are worth a warning.
const CONNECTIONS_FEW: u32 = 1_024;

/// Raises the soft limit as far as the hard one lets it; the limit that holds then.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // What is not given is not there; the limit that holds counts.
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Lowers the connections of a listener to what there is, if that is less.
pub fn bound_connections(config: &mut Config, files: u64) {
    let permission = &config.permission;
    let doors = [permission.read_listen, permission.write_listen, permission.opl_listen];
    let listeners = 2 + doors.iter().flatten().count() as u64;
    let most = (files / 2 / listeners).max(CONNECTIONS_MIN);
    if most < u64::from(config.limits.connections) {
        let connections = u32::try_from(most).unwrap_or(u32::MAX);
        if connections < CONNECTIONS_FEW {
            tracing::warn!(
                files,
                connections,
                "limits.connections is lowered: this process may have few files open; raise the \
                 hard limit (LimitNOFILE of a systemd unit, ulimit -Hn)"
            );
        } else {
            tracing::info!(files, connections, "limits.connections is lowered to what there is");
        }
        config.limits.connections = connections;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn a_process_takes_the_files_that_it_may_have() {
        let given = getrlimit(Resource::Nofile);
        let few = Some(given.maximum.unwrap_or(u64::MAX).min(1_000));
        setrlimit(Resource::Nofile, Rlimit { current: few, ..given }).unwrap();
        let raised = raise();
        assert_eq!(raised, given.maximum.unwrap_or(u64::MAX));
    }

    #[test]
    fn connections_leave_half_of_the_files_to_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cardea.toml");
        let text = "[cluster]\nlisten = \"127.0.0.1:7433\"\ntls = \"off\"\n[permission]\n\
                    read_listen = \"127.0.0.1:4466\"\n";
        std::fs::write(&file, text).unwrap();
        let mut config = load(Sources { file: Some(file), ..Sources::default() }).unwrap().config;
        bound_connections(&mut config, 524_288);
        assert_eq!(config.limits.connections, 8_192, "there are enough");
        bound_connections(&mut config, 1_024);
        assert_eq!(config.limits.connections, 170, "three listeners share 512");
        bound_connections(&mut config, 64);
        assert_eq!(config.limits.connections, 16);
    }
}
