//! Hooks: what else happens when a flow begins or completes, as an operator says for
//! each flow and method.
//!
//! Some hooks are ours (a session after signing up, other sessions ended, a verified
//! address required); a *web hook* asks or tells another server. It comes in two kinds:
//!
//! - **Blocking**: asked before the flow's transaction begins, with nothing locked and
//!   nothing written; again, where settings are changed and somebody else was faster, for
//!   it must have been asked about what is written. Its failure refuses what was to be done, and leaves nothing
//!   behind. One that can interrupt says why, in words that the form shows; one whose
//!   answer is parsed changes the identity before it is written. What it was told may
//!   still not come about: the commit may be refused for another reason, or the node may
//!   die. It decides, it does not record.
//! - **Ignored** (`response = "ignore"`): written to an outbox in the very transaction
//!   that brings it about, and called afterwards by whichever node claims it, at least
//!   once: again, each time later, until it is answered by 2xx or given up. All calls of
//!   one row bear the same `webhook-id`, by which a receiver knows what it has seen. It is
//!   told what came about, all of it, and nothing else.
//!
//! What is sent is made by a Jsonnet program of what [`context`] gives, and may be signed
//! ([`call`]). Every question goes the guarded way out ([`outbound`](crate::outbound)),
//! within a time and with an answer bounded in length.
//!
//! Where hooks are named for a method, those for all methods of that flow do not run, as
//! in Kratos.

pub mod answer;
mod ask;
pub mod call;
pub mod context;
pub mod delivery;
pub mod list;
pub(crate) mod outbox;
pub mod plan;
#[cfg(test)]
mod tests;

pub(crate) use answer::Edits;
pub use answer::HookFailed;
pub use context::Asked;
pub(crate) use context::Occasion;
pub use list::{CallFilter, HookCall, RetryRejection};
pub use plan::{Action, Hook, Hooks, Moment, Response, WebHook};
