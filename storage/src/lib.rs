//! What Cardea keeps: a small, deterministic, transactional key-value machine,
//! and the port through which everything above uses it.
//!
//! It knows keys, revisions, checks, locks and expiry. It does not know what a
//! session is, who replicates it, or what HTTP is, and nothing in [`machine`]
//! reads a clock, draws randomness or waits.
//!
//! Reading order: [`slot`], [`key`], [`table`], [`index`] (what rows are), [`txn`] (what is
//! replicated), [`machine`] (apply), [`protocol`] (transactions and reads over
//! several shards), [`store`] and [`transact`] (what layers use).
//!
//! Caveat: methods of engines and machines block; run them where that is allowed.

pub mod clock;
pub mod engine;
pub mod error;
pub mod fault;
pub mod index;
pub mod key;
pub mod local;
pub mod machine;
pub mod planted;
pub mod protocol;
pub mod row;
pub mod seal;
pub mod secret;
pub mod slot;
pub mod store;
pub mod table;
pub mod tablet;
pub mod tag;
pub mod through;
pub mod transact;
pub mod txn;
pub mod version;

pub use clock::{Clock, Entropy, ManualClock, SeededEntropy, Timestamp};
pub use error::StoreError;
pub use fault::Fault;
pub use index::{Index, Meanwhile};
pub use key::{Key, KeyRange, Tenant};
pub use row::{Revision, Row};
pub use seal::{KeyId, Keyring};
pub use secret::Secret;
pub use slot::{Slot, SlotRange, Space};
pub use store::{Consistency, Snaptoken, Store};
pub use table::{Entry, IndexRow, Table, TableKey};
pub use tag::Tag;
pub use through::Through;
pub use transact::{Transacted, Transaction};
pub use version::Feature;
