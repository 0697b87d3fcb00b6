//! What you may do: relation tuples, namespaces with their permission language, and
//! the questions that both answer, as a layer on the [`Store`](cardea_storage::Store)
//! port.
//!
//! It knows neither HTTP nor how the store is replicated. Time and chance come from
//! the store it holds. What it refuses is a value in the field's terms.
//!
//! Reading order: [`model`] (tuples, subjects), [`condition`] (when a tuple counts),
//! [`opl`] and [`language`] (what names mean), [`table`] (what is kept), [`engine`] (the check), `sets` (what spares it walks), then the operations of
//! [`Service`]: [`write`](mod@write), [`deletion`], [`bulk`], [`list`], [`check`],
//! [`expand`], [`explain`], [`reverse`], [`actions`], [`watch`], [`change`].

pub mod actions;
pub mod assertion;
pub mod bulk;
pub mod change;
pub mod check;
pub mod condition;
pub mod deletion;
pub mod departure;
pub mod engine;
pub mod expand;
pub mod explain;
mod graph;
pub mod keto;
pub mod language;
pub mod list;
pub mod model;
pub mod opl;
pub mod page;
pub mod rejection;
pub mod reverse;
pub mod service;
mod sets;
pub mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod upkeep;
pub mod watch;
pub mod write;

pub use check::Ask;
pub use condition::{Condition, Context};
pub use model::{Relationship, Subject, SubjectSet, Tuple, TupleQuery};
pub use rejection::{LanguageRejection, ReadRejection, WriteRejection};
pub use service::{Answered, Service};
