//! Passwords: how they are hashed, on which threads, and which are refused.
//!
//! A password is hashed with argon2id under the cost that the operator chose.
//! Hashes brought from elsewhere are verified in their own form, and replaced at
//! the next login. All of it runs on a pool of its own, bounded by memory, so a
//! flood of logins slows only logins. An identifier that nobody has costs the
//! same work: a decoy is verified instead.

mod breached;
mod hash;
mod hasher;
mod known;
mod policy;
mod pool;

pub use breached::{Breaches, NotToldOf};
pub use hash::{Argon2Cost, HashRefused, PasswordHash};
pub use hasher::{Passwords, Verified};
pub use policy::{Policy, PolicyViolation, Standing};
pub use pool::{Overloaded, Permit, Pool, PoolOptions, PoolUsage};
