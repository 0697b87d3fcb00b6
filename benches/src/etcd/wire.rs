//! The few messages of etcd's API (`etcdserver/etcdserverpb/rpc.proto`, v3) that are
//! used here, with the fields that are used of them.

use bytes::Bytes;
use prost::Message;

/// `KV.Range`.
pub const RANGE: &str = "/etcdserverpb.KV/Range";
/// `KV.Put`.
pub const PUT: &str = "/etcdserverpb.KV/Put";
/// `Maintenance.Status`.
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// `StatusRequest`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Nothing {}

/// `ResponseHeader`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Header {
    /// The member that answered.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
}

/// `StatusResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Status {
    /// Who answered.
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    /// The version of the server.
    #[prost(string, tag = "2")]
    pub version: String,
    /// The member that leads.
    #[prost(uint64, tag = "4")]
    pub leader: u64,
}

/// `RangeRequest` for one key; linearizable unless it says otherwise.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Range {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Whether it is answered locally.
    #[prost(bool, tag = "7")]
    pub serializable: bool,
}

/// `RangeResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Found {
    /// How many keys there are.
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// `PutRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Put {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_fields_numbers_of_etcd() {
        let key = Bytes::from_static(b"k");
        let put = Put { key: key.clone(), value: Bytes::from_static(b"v") };
        assert_eq!(put.encode_to_vec(), [0x0a, 1, b'k', 0x12, 1, b'v']);
        let range = Range { key, serializable: true };
        assert_eq!(range.encode_to_vec(), [0x0a, 1, b'k', 0x38, 1]);
        let status = Status::decode(&[0x0a, 2, 0x10, 7, 0x20, 9][..]).unwrap();
        assert_eq!((status.header.unwrap().member_id, status.leader), (7, 9));
        assert_eq!(Found::decode(&[0x20, 1][..]).unwrap().count, 1);
    }
}
