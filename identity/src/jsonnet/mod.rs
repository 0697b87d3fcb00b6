//! Jsonnet, for mapping claims and for the bodies of webhooks: an evaluator of its own
//! that can be stopped.
//!
//! Operators write these programs, and strangers give them their input, so every
//! evaluation is bounded: the length of the program, the steps it takes, how deep it
//! nests, what it allocates, and what it gives. The bounds are counted, not timed: the
//! same program with the same input ends the same way on every node. There is no
//! `import`, no file, no network, no clock. Values live in tables that are dropped with
//! the evaluation, so a program that refers to itself leaves nothing behind.
//!
//! It is the language of jsonnet.org (0.20) without `import`, `importstr` and
//! `importbin`, and with the part of the standard library that [`library`] lists;
//! naming another function is an error that says so.

mod arrays;
mod expression;
mod format;
mod lexer;
pub mod library;
mod machine;
mod object;
mod operators;
mod parser;
mod shape;
mod syntax;
#[cfg(test)]
mod tests;
mod text;

use std::{sync::Arc, thread};

use serde_json::Value;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

use machine::Machine;

/// What an evaluation may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest program, in bytes.
    pub source_bytes_max: usize,
    /// Expressions that are evaluated, and elements that library functions visit.
    pub steps_max: u64,
    /// How deep evaluation nests.
    pub depth_max: u32,
    /// Bytes of values, counted as they are made; nothing is counted back.
    pub memory_bytes_max: usize,
    /// The largest result, in bytes of JSON.
    pub output_bytes_max: usize,
}

impl Default for Limits {
    /// 64 KiB of program, 500,000 steps, 500 levels, 16 MiB, 256 KiB of result.
    fn default() -> Self {
        Self {
            source_bytes_max: 64 * 1024,
            steps_max: 500_000,
            depth_max: 500,
            memory_bytes_max: 16 * 1024 * 1024,
            output_bytes_max: 256 * 1024,
        }
    }
}

/// Why a program gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failed {
    /// It is longer than is read.
    #[error("the program is longer than {0} bytes")]
    TooLong(usize),
    /// It is no Jsonnet.
    #[error("line {line}: {what}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// It said so itself: `error "…"`, or an `assert`.
    #[error("{0}")]
    Raised(String),
    /// It does something that has no result.
    #[error("{0}")]
    Wrong(String),
    /// It took too many steps.
    #[error("the program takes more than {0} steps")]
    Steps(u64),
    /// It nests too deep.
    #[error("the program nests deeper than {0} levels")]
    Depth(u32),
    /// It needs too much memory.
    #[error("the program needs more than {0} bytes")]
    Memory(usize),
    /// Its result is too large.
    #[error("the result is larger than {0} bytes")]
    Output(usize),
    /// There was no thread for it.
    #[error("no thread to evaluate on")]
    NoThread,
}

/// A program that was read.
#[derive(Debug, Clone)]
pub struct Program {
    source: Arc<str>,
    limits: Limits,
}

/// Programs that are evaluated at once; others wait.
const AT_ONCE: usize = 4;
/// The stack of an evaluation: enough for [`Limits::depth_max`], touched as needed.
const STACK_BYTES: usize = 64 * 1024 * 1024;
static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

impl Program {
    /// Reads a program.
    ///
    /// # Errors
    /// If it is too long, or no Jsonnet.
    pub fn parse(source: &str, limits: Limits) -> Result<Self, Failed> {
        if source.len() > limits.source_bytes_max {
            return Err(Failed::TooLong(limits.source_bytes_max));
        }
        let source: Arc<str> = source.into();
        let checked = source.clone();
        on_own_stack(move || parser::parse(&checked).map(|_| ())).join()??;
        Ok(Self { source, limits })
    }

    /// Evaluates it here: `variables` are what `std.extVar` gives; if the program is a
    /// function, `argument` is its only one.
    ///
    /// # Errors
    /// See [`Failed`].
    fn evaluate(&self, variables: &[(String, Value)], argument: &Value) -> Result<Value, Failed> {
        let program = parser::parse(&self.source)?;
        Machine::new(self.limits, variables).run(&program, argument)
    }

    /// Evaluates it on a thread of its own.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn run(
        &self,
        variables: Vec<(String, Value)>,
        argument: Value,
    ) -> Result<Value, Failed> {
        let _turn = TURNS.acquire().await.map_err(|_| Failed::NoThread)?;
        let (tell, told) = oneshot::channel();
        let program = self.clone();
        on_own_stack(move || {
            // Whoever asked may be gone.
            let _ = tell.send(program.evaluate(&variables, &argument));
            Ok(())
        });
        told.await.map_err(|_| Failed::NoThread)?
    }
}

/// A thread whose start may have failed.
struct Started<T>(Option<thread::JoinHandle<Result<T, Failed>>>);

impl<T> Started<T> {
    fn join(self) -> Result<Result<T, Failed>, Failed> {
        self.0.and_then(|handle| handle.join().ok()).ok_or(Failed::NoThread)
    }
}

fn on_own_stack<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Started<T> {
    let builder = thread::Builder::new().name("jsonnet".to_owned()).stack_size(STACK_BYTES);
    Started(builder.spawn(work).ok())
}
