//! Who you are: identity schemas, credentials, self-service flows and sessions,
//! as a layer on the [`Store`](cardea_storage::Store) port.
//!
//! It knows neither HTTP nor how the store is replicated. Time and chance come
//! from the store it holds. What it refuses is a value in the field's terms.
//!
//! Reading order: [`schema`], [`password`], [`factor`] and [`webauthn`] (pure rules),
//! [`session`] (tokens and assurance), [`ui`] (what interfaces show), [`table`] (what is kept),
//! [`identity`], [`flow`], [`hook`] and the rest of [`session`] (operations of [`Service`]).

pub mod audit;
pub mod courier;
pub mod factor;
pub mod flow;
pub mod hook;
pub mod identity;
pub mod jsonnet;
pub mod language;
mod merge;
mod mint;
pub mod model;
pub mod outbound;
pub mod outbox;
pub mod page;
pub mod password;
#[cfg(test)]
mod rounds;
pub mod schema;
pub mod service;
pub mod session;
pub mod social;
pub mod table;
#[cfg(test)]
mod testing;
pub mod time;
pub mod ui;
pub mod upkeep;
pub mod webauthn;

pub use model::{Client, CsrfDigest, FlowId, IdentityId, Scope, SessionId};
pub use page::PageRequest;
pub use service::{Keys, Service, Settings};
