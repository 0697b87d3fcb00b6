//! Where faults go: the first one is kept, everybody who waits is told, and
//! the process is expected to stop. After a failed sync nobody can know what
//! the disk holds, so nothing here retries.

use cardea_storage::Fault;
use tokio::sync::watch;

/// Keeps the first fault of a host.
#[derive(Debug)]
pub(crate) struct Alarm {
    first: watch::Sender<Option<Fault>>,
}

impl Alarm {
    /// No fault so far.
    pub(crate) fn new() -> Self {
        Self { first: watch::Sender::new(None) }
    }

    /// Reports a fault, logging it here, once. Later ones are only logged.
    pub(crate) fn raise(&self, fault: Fault) {
        tracing::error!(?fault, "fatal fault: this node must stop");
        self.first.send_if_modified(|first| {
            let news = first.is_none();
            if news {
                *first = Some(fault);
            }
            news
        });
    }

    /// The first fault, if one was reported.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.first.borrow().clone()
    }

    /// Waits for the first fault.
    pub(crate) async fn raised(&self) -> Fault {
        let mut watcher = self.first.subscribe();
        match watcher.wait_for(Option::is_some).await {
            Ok(fault) => fault.clone().unwrap_or_else(|| Fault::new("unnamed fault")),
            // The sender lives in `self`, so it cannot be gone.
            Err(_) => std::future::pending().await,
        }
    }
}
