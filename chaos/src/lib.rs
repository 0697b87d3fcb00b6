//! What Cardea promises under harm, and whether it keeps it.
//!
//! Real processes of the `cardea` binary are killed, paused, starved and confused
//! while clients work with them over HTTP; what the clients saw goes through
//! checkers. Nothing here knows how a node is made: what counts is what a client
//! can see. Reading order: [`history`] (what clients saw), [`check`] (what is
//! promised), [`workload`] (clients), [`cluster`] (the processes), [`kill`] and [`trouble`] (the
//! harm), [`judgement`] (the end of a run).
//!
//! A run prints its seed. Choices repeat with it; the interleaving of three real
//! processes does not.

pub mod check;
pub mod cluster;
pub mod dice;
pub mod endpoint;
pub mod history;
pub mod judgement;
pub mod kill;
pub mod kratos;
pub mod process;
pub mod trouble;
pub mod workload;
