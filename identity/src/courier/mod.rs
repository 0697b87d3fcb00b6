//! The courier: what is to be sent is written to an outbox in the transaction that
//! brings it about, and sent afterwards by whichever node claims it.
//!
//! A claim is a lease: the message becomes due again a while later, unless the one who
//! claimed it says what became of it. So nothing is lost with a node, and a message is
//! sent twice only if a node dies between sending and saying so; then both bear the
//! same Message-ID. What could not be sent is tried again, each time later, and at last
//! abandoned. What a message is filled with is sealed, and erased once it was sent.

pub mod delivery;
pub mod list;
pub mod outbox;
pub mod template;
#[cfg(test)]
mod tests;
mod words;

pub use delivery::{Carrier, Mail, Undelivered};
pub use list::{Delivery, ListMessagesRejection, MessageFilter, MessageStatus, SentMessage};
pub use template::{Template, TemplateRefused, Templates};
