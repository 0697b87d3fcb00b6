//! The node: the binary `cardea`. Command line, configuration, listeners,
//! telemetry, clock and entropy, and the wiring that joins the other crates.
//!
//! It never decides a business rule and never touches replicated state except
//! through the crates below it.
//!
//! Reading order: [`config`], [`listener`], [`telemetry`], [`backend`], [`layers`], [`run`], [`operator`], [`cli`], [`dev`].

pub mod apikey;
pub mod audit;
pub mod backend;
pub mod cli;
pub mod clock;
pub mod config;
pub mod courier;
pub mod deletions;
pub mod descriptors;
pub mod dev;
pub mod entropy;
pub mod erasure;
pub mod finished;
pub mod hooks;
pub mod layers;
pub mod listener;
pub mod migration;
pub mod operator;
pub mod ory;
pub mod outbound;
pub mod outbox;
pub mod panic;
pub mod preflight;
pub mod providers;
pub mod readiness;
pub mod request;
pub mod run;
pub mod schemas;
pub mod signing_key;
pub mod stall;
pub mod telemetry;
pub mod tokenizers;
pub mod watchdog;
