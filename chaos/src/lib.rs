//! What Cardea promises under harm, and whether it keeps it.
//!
//! In two ways. Real processes of the `cardea` binary are killed, paused, starved
//! and confused while clients work with them over HTTP; what the clients saw goes
//! through checkers, and nothing there knows how a node is made. Reading order:
//! [`history`] (what clients saw), [`check`] (what is promised), [`workload`]
//! (clients), [`cluster`] (the processes), [`kill`] and [`trouble`] (the harm),
//! [`judgement`] (the end of a run). Such a run prints its seed; choices repeat
//! with it, the interleaving of real processes does not.
//!
//! And [`simulation`]: whole nodes on one thread, over a simulated network, disk
//! and clock, where a seed repeats everything.

pub mod adversity;
pub mod campaign;
pub mod chart;
pub mod check;
pub mod cluster;
pub mod dice;
pub mod disk;
pub mod endpoint;
pub mod history;
pub mod isolation;
pub mod judgement;
pub mod kill;
pub mod kratos;
pub mod lab;
pub mod nemesis;
pub mod process;
pub mod regions;
pub mod results;
pub mod row;
pub mod scoreboard;
pub mod scratch;
pub mod simulation;
pub mod trouble;
pub mod wan;
pub mod workload;
