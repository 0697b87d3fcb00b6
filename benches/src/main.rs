//! The program `cardea-bench`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    cardea_benches::command::main()
}
