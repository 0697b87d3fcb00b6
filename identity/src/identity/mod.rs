//! Identities: creating, reading, listing, changing and deleting them, as
//! administrators do.

pub mod batch;
pub mod change;
pub mod create;
pub mod credential;
pub mod delete;
pub mod draft;
pub mod erase;
pub mod export;
pub(crate) mod factors;
pub mod import;
pub mod list;
pub mod oneself;
pub mod other_credentials;
pub mod patch;
pub mod read;
pub mod remove;
#[cfg(test)]
mod tests;

pub use batch::BatchItem;
pub use change::{ChangeRejection, Edit, IdentityChange};
pub use create::{CreateRejection, ImportedAddress, NewIdentity};
pub use credential::{CredentialsRefused, NewPassword};
pub use delete::DeleteRejection;
pub use erase::{EraseRejection, Erasure};
pub use export::{Export, ExportRejection};
pub use import::{
    BringRejection, Brought, BroughtIdentity, ForeignAddress, ForeignIdentity, ForeignPassword,
    ForeignSession,
};
pub use list::{ListFilter, ListRejection};
pub use oneself::OneselfRejection;
pub use other_credentials::{NotTaken, OtherCredentials};
pub use read::{CredentialDetail, ReadRejection};
pub use remove::RemoveRejection;
