//! What a node tells about itself: log lines, request ids, metrics.
//!
//! No secret enters a log line: types that hold one redact themselves, the
//! access log writes route patterns instead of paths, and a test greps.

pub mod certificate;
pub mod cluster;
pub mod http;
pub mod logs;
pub mod outbox;
pub mod password;
pub mod permission;
pub mod process;
pub mod registry;
pub mod request_id;
