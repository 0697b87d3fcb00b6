//! The operations of the service, each over a store in this process.

mod languages;
mod reverse;
mod tuples;
