//! `cardea version`.

use serde_json::json;

use super::{exit::Outcome, output::Printer};
use crate::listener::health::VERSION;

pub(super) fn run(printer: Printer) -> Outcome {
    printer.print(&json!({ "version": VERSION }), |_, _| format!("cardea {VERSION}\n"))
}
