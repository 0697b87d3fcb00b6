//! Rules of second factors, without a store: time-based codes, backup codes, and the
//! picture that an authenticator app reads.

pub mod lookup;
pub mod qr;
pub mod totp;
