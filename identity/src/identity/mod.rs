//! Identities: creating, reading, listing, changing and deleting them, as
//! administrators do.

pub mod change;
pub mod create;
pub mod credential;
pub mod delete;
pub mod draft;
pub mod list;
pub mod patch;
pub mod read;
#[cfg(test)]
mod tests;

pub use change::{ChangeRejection, IdentityChange};
pub use create::{CreateRejection, ImportedAddress, NewIdentity};
pub use credential::{CredentialsRefused, NewPassword};
pub use delete::DeleteRejection;
pub use list::{ListFilter, ListRejection};
pub use read::{CredentialDetail, ReadRejection};
