//! The binary `cardea`.

fn main() -> std::process::ExitCode {
    #[cfg(feature = "planted")]
    if let Some(refused) = plant() {
        return refused;
    }
    cardea_node::cli::main()
}

/// Plants the bug that the environment names; a name that is none is refused, for
/// whoever hunts it would find nothing.
#[cfg(feature = "planted")]
fn plant() -> Option<std::process::ExitCode> {
    // Not under `CARDEA_`: those are settings, and what is none is refused.
    let name = std::env::var("PLANTED_BUG").ok()?;
    let Some(bug) = cardea_storage::planted::Bug::named(&name) else {
        return Some(std::process::ExitCode::from(2));
    };
    cardea_storage::planted::plant(bug);
    None
}
