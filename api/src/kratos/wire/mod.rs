//! The bodies of Kratos's API, member by member and in its order.

pub mod flow;
pub mod identity;
pub mod session;
