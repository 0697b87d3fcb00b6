//! Checkers of histories. Each is a pure function from what clients saw to the
//! promises that were broken, and each is shown, in its tests, bad histories that
//! it must reject and good ones that it must accept.

pub mod identifier;
pub mod identity;
pub mod permission;
pub mod register;
pub mod session;
