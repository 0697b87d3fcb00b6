//! Errors that a browser is sent to a page to see, in a slot of the region where they
//! came about.

use bytes::Bytes;
use cardea_storage::{Table, Tag};
use prost::Message;

/// `flow_error/<id>`.
#[derive(Debug)]
pub struct FlowErrors;

key_of_id! {
    /// The key of an error.
    FlowErrorKey {
        /// The error.
        id
    }
}

/// An error as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FlowErrorRecord {
    /// What is shown of it, in JSON.
    #[prost(bytes = "bytes", tag = "1")]
    pub error: Bytes,
    /// When it came about; milliseconds.
    #[prost(uint64, tag = "2")]
    pub created_at: u64,
}

impl Table for FlowErrors {
    const TAG: Tag = Tag::FLOW_ERROR;
    type Key = FlowErrorKey;
    type Record = FlowErrorRecord;
}
