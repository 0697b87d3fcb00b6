//! What a panic does: it is logged, and the process ends.
//!
//! The release aborts by itself; a build for development unwinds, and a task
//! that died alone would leave a node that looks alive and is not.

use std::panic;

/// Ends the process at the first panic of any thread.
pub fn abort_after_logging() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        // Not the message: it may quote what no log should hold. Standard error
        // gets it in builds for development, which have no strangers' data.
        tracing::error!(at, thread = std::thread::current().name(), "panic: this node stops");
        if cfg!(debug_assertions) {
            report(info);
        }
        std::process::abort();
    }));
}
