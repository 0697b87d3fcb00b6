//! The courier: messages to people, by mail or as text messages. What is to be said is
//! written to the [outbox](crate::outbox) in the transaction that brings it about, and
//! handed to a [`Carrier`] afterwards by whichever node claims it. Mails of one message
//! bear the same Message-ID however often they are sent.

pub mod delivery;
pub mod gateway;
pub mod limit;
pub mod list;
pub mod outbox;
pub mod template;
#[cfg(test)]
mod tests;
mod words;

pub use delivery::{Carrier, Mail, Undelivered};
pub use gateway::Gateway;
pub use limit::Limits;
pub use list::{Delivery, MessageFilter, SentMessage};
pub use template::{Template, TemplateRefused, Templates};
