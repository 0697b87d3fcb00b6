//! How a command ends.

use std::process::ExitCode;

/// What went wrong, as scripts see it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Exit code 1: the command was tried and did not succeed.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// Exit code 2: the command line or the configuration is wrong; nothing
    /// was tried.
    #[error("{0}")]
    Usage(String),
    /// Exit code 3: the node or cluster cannot be reached or cannot answer
    /// now; trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// Exit code 4: the check was made, and what it checked is not well.
    #[error("{0}")]
    Unhealthy(String),
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unavailable(_) => 3,
            Failure::Unhealthy(_) => 4,
        })
    }
}

/// What a command comes to.
pub type Outcome = Result<(), Failure>;
