//! The operations of the service, each over a store in this process.

mod actions;
mod conditions;
mod departures;
mod explanations;
mod flows;
mod languages;
mod reverse;
mod tuples;
mod watch;
