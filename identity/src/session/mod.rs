//! Sessions: what a client holds, how sure it makes us, and what ends it.

pub mod assurance;
pub mod bulk;
pub mod check;
pub mod cookie;
pub mod extend;
pub mod imported_cookie;
pub mod issue;
pub mod list;
pub mod revoke;
#[cfg(test)]
mod tests;
pub mod token;
pub mod tokenize;

pub use assurance::{Aal, AuthenticationMethod, CredentialKind, RequiredAal};
pub use bulk::{BulkAction, BulkDone, BulkRejection, BulkTargets};
pub use check::{CheckRejection, Proof};
pub use cookie::CookieKeys;
pub use extend::{ExtendRejection, Sliding};
pub use imported_cookie::ImportedCookies;
pub use list::{ListSessionsRejection, ReadSessionRejection};
pub use revoke::RevokeRejection;
pub use token::{Minted, Parsed, TokenDigest, TokenKeys, TokenKind};
