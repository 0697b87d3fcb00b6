//! Coming from Ory: reading Kratos's database and configuration, and Keto's database.
//!
//! A database is a SQLite file, or a dump of PostgreSQL in plain text, which is put into
//! a SQLite file that lives as long as the import: so there is one way of reading, and
//! what is larger than memory is no trouble.

pub mod config;
mod cors;
mod courier;
pub mod database;
pub mod dump;
mod hooks;
pub mod identities;
mod providers;
mod request;
pub mod survey;
mod tokenizers;
pub mod tuples;

pub use database::Database;
