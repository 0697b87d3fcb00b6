//! The operations of the service, each over a store in this process.

mod actions;
mod conditions;
mod confusion;
mod departures;
mod explanations;
mod flows;
mod languages;
mod partial;
mod reverse;
mod tokens;
mod trees;
mod tuples;
mod watch;
