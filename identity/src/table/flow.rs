//! Self-service flows, in a slot of the region that received them, and the mark in
//! the subject's home that one was completed.

use bytes::Bytes;
use cardea_storage::{
    Slot, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

/// `flow/<id>`.
#[derive(Debug)]
pub struct Flows;

key_of_id! {
    /// The key of a flow.
    FlowKey {
        /// The flow.
        id
    }
}

/// A flow as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FlowRecord {
    /// What it is for: 1 login, 2 registration, 3 settings, 4 recovery,
    /// 5 verification, 6 a provider that is tried: no node takes that for a login, nor does
    /// one that does not know it.
    #[prost(uint32, tag = "1")]
    pub purpose: u32,
    /// When it began; milliseconds.
    #[prost(uint64, tag = "2")]
    pub issued_at: u64,
    /// When it is over; the row stays longer, to say so. Milliseconds.
    #[prost(uint64, tag = "3")]
    pub expires_at: u64,
    /// The URL that began it.
    #[prost(string, tag = "4")]
    pub request_url: String,
    /// Where to go afterwards; empty for nowhere.
    #[prost(string, tag = "5")]
    pub return_to: String,
    /// The identity schema asked for; empty for the default.
    #[prost(string, tag = "6")]
    pub schema_id: String,
    /// Whether somebody who is logged in proves it again.
    #[prost(bool, tag = "7")]
    pub refresh: bool,
    /// The identity that the flow is about, where that is known: who must prove
    /// itself again, whose settings or address they are.
    #[prost(bytes = "bytes", tag = "8")]
    pub subject: Bytes,
    /// When it was completed; 0 for not yet. A hint: the truth is the mark in the
    /// subject's home.
    #[prost(uint64, tag = "9")]
    pub completed_at: u64,
    /// The digest of the secret in the cookie of the browser that the flow belongs
    /// to; empty for a native flow, which belongs to whoever knows its id.
    #[prost(bytes = "bytes", tag = "10")]
    pub csrf_digest: Bytes,
    /// The form as the last refusal left it, in JSON; empty if there was none.
    #[prost(bytes = "bytes", tag = "11")]
    pub form: Bytes,
    /// The method that the last submission chose; empty for none.
    #[prost(string, tag = "12")]
    pub active: String,
    /// How far it is: 0 begun, 1 a message was sent, 2 it reached its end.
    #[prost(uint32, tag = "13")]
    pub state: u32,
    /// The address that a message was sent to, normalised.
    #[prost(string, tag = "14")]
    pub address: String,
    /// The keyed digest of the code that was sent; empty if none was.
    #[prost(bytes = "bytes", tag = "15")]
    pub code_digest: Bytes,
    /// When the code is over; milliseconds.
    #[prost(uint64, tag = "16")]
    pub code_expires_at: u64,
    /// Tries at the code, each counted before it is looked at.
    #[prost(uint32, tag = "17")]
    pub code_tries: u32,
    /// Whether an administrator began it for a browser that is not known yet: it is that
    /// of the last one that showed it, until a code is tried.
    #[prost(bool, tag = "18")]
    pub unclaimed: bool,
    /// The assurance level that is asked for: 0 and 1 the first, 2 the second.
    #[prost(uint32, tag = "19")]
    pub requested_aal: u32,
    /// What an authenticator is to sign; empty where none is asked.
    #[prost(bytes = "bytes", tag = "20")]
    pub challenge: Bytes,
    /// What a passkey that is made here will know its owner by.
    #[prost(bytes = "bytes", tag = "21")]
    pub user_handle: Bytes,
    /// The keys that may answer the challenge: the subject's. Empty for any.
    #[prost(message, repeated, tag = "22")]
    pub known_keys: Vec<KnownKeyRecord>,
    /// The kinds of credentials by which the subject may complete it; empty where the
    /// subject is not known.
    #[prost(uint32, repeated, tag = "23")]
    pub offered: Vec<u32>,
    /// The seed that an authenticator app is offered, sealed.
    #[prost(bytes = "bytes", tag = "24")]
    pub totp_seed: Bytes,
    /// New backup codes that are not kept yet, sealed.
    #[prost(bytes = "bytes", tag = "25")]
    pub lookup_sealed: Bytes,
    /// Whether the subject's backup codes are shown.
    #[prost(bool, tag = "26")]
    pub lookup_revealed: bool,
    /// The digest of the state that a provider must bring back; empty if nobody was
    /// sent to one, or came back.
    #[prost(bytes = "bytes", tag = "27")]
    pub social_state: Bytes,
    /// What else must come back, in JSON, sealed.
    #[prost(bytes = "bytes", tag = "28")]
    pub social_journey: Bytes,
    /// Somebody whom a provider named, who is to be signed up or linked, in JSON,
    /// sealed; empty for nobody.
    #[prost(bytes = "bytes", tag = "29")]
    pub social_pending: Bytes,
    /// The digest of the code that a native client got when it began the flow; empty
    /// if it asked for none.
    #[prost(bytes = "bytes", tag = "30")]
    pub exchange_init: Bytes,
    /// The digest of the code that its browser brought back.
    #[prost(bytes = "bytes", tag = "31")]
    pub exchange_return: Bytes,
    /// The token of the session that both codes are good for, sealed; erased once it
    /// was given out.
    #[prost(bytes = "bytes", tag = "32")]
    pub exchange_token: Bytes,
    /// The account that the code was sent for, or the decoy; see `subject` for whose the
    /// flow is.
    #[prost(bytes = "bytes", tag = "35")]
    pub code_account: Bytes,
    /// What somebody says of itself who is to sign up by a code, in JSON, sealed.
    #[prost(bytes = "bytes", tag = "36")]
    pub code_traits: Bytes,
    /// Where codes may be sent that are the subject's second factor.
    #[prost(string, repeated, tag = "37")]
    pub second_addresses: Vec<String>,
    /// The organization that the flow is of; empty for none.
    #[prost(bytes = "bytes", tag = "38")]
    pub organization: Bytes,
    /// The security keys that may log in alone: of the identifier that was named, or of the
    /// subject. Those of an identifier that nobody has are drawn from it.
    #[prost(message, repeated, tag = "39")]
    pub passwordless_keys: Vec<KnownKeyRecord>,
    /// The provider that is tried; nothing where none is.
    #[prost(message, optional, boxed, tag = "40")]
    pub tried: Option<Box<TriedRecord>>,
}

/// A provider that is tried.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TriedRecord {
    /// Its id.
    #[prost(string, tag = "1")]
    pub provider: String,
    /// The digest of what a form brings in place of a browser's secret, of which whoever
    /// began to try a provider knows nothing.
    #[prost(bytes = "bytes", tag = "2")]
    pub bearer: Bytes,
    /// What came of it, in JSON, sealed; empty as long as nothing did.
    #[prost(bytes = "bytes", tag = "3")]
    pub payload: Bytes,
}

/// A key that may answer a challenge.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KnownKeyRecord {
    /// Its id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// How its authenticator is reached.
    #[prost(string, repeated, tag = "2")]
    pub transports: Vec<String>,
}

impl Table for Flows {
    const TAG: Tag = Tag::FLOW;
    type Key = FlowKey;
    type Record = FlowRecord;
}

/// `used_flow/<id>`, in the slot of the subject's home: put if absent together with
/// what the flow brought about, so that it brings it about once.
#[derive(Debug)]
pub struct UsedFlows;

/// The key of a completed flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedFlowKey {
    /// The slot of the subject's home.
    pub slot: Slot,
    /// Whose.
    pub tenant: Tenant,
    /// The flow.
    pub flow: Uuid,
}

/// How a flow was completed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UsedFlowRecord {
    /// When; milliseconds.
    #[prost(uint64, tag = "1")]
    pub completed_at: u64,
    /// The subject.
    #[prost(bytes = "bytes", tag = "2")]
    pub subject: Bytes,
}

impl TableKey for UsedFlowKey {
    fn slot(&self) -> Slot {
        self.slot
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.uuid(&self.flow);
    }

    fn read(slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { slot, tenant, flow: rest.uuid()? })
    }
}

impl Table for UsedFlows {
    const TAG: Tag = Tag::USED_FLOW;
    type Key = UsedFlowKey;
    type Record = UsedFlowRecord;
}
