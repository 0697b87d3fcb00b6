//! The binary `cardea`.

fn main() -> std::process::ExitCode {
    cardea_node::cli::main()
}
