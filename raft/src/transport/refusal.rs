//! Why a node does not serve a call at all. Each reason has a status and a
//! number of its own, so that the caller's log says which configuration or
//! which stale address is wrong.

use std::fmt;

use tonic::{Code, Status};

/// The metadata key that carries the name of a refusal.
const NAME: &str = "cardea-refusal";

/// Why a call was refused. Numbers are frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The caller belongs to another cluster.
    WrongCluster = 1,
    /// The call was meant for another node: the address has been given away.
    WrongNode = 2,
    /// No replica of the group accepts calls here, now.
    UnknownGroup = 3,
    /// Another incarnation of the group runs here.
    WrongReplica = 4,
    /// The call cannot be understood.
    Malformed = 5,
    /// The replica, or the node, is stopping.
    Stopped = 6,
    /// The other side fell silent in the middle of a call.
    Stalled = 7,
    /// The files that arrived are not the files that were sent.
    Corrupted = 8,
    /// The disk here is full, or failed while receiving.
    Disk = 9,
}

impl Refusal {
    const ALL: [Self; 9] = [
        Self::WrongCluster,
        Self::WrongNode,
        Self::UnknownGroup,
        Self::WrongReplica,
        Self::Malformed,
        Self::Stopped,
        Self::Stalled,
        Self::Corrupted,
        Self::Disk,
    ];

    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The refusal with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.number() == number)
    }

    /// The name in metadata and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::WrongCluster => "wrong-cluster",
            Self::WrongNode => "wrong-node",
            Self::UnknownGroup => "unknown-group",
            Self::WrongReplica => "wrong-replica",
            Self::Malformed => "malformed",
            Self::Stopped => "stopped",
            Self::Stalled => "stalled",
            Self::Corrupted => "corrupted",
            Self::Disk => "disk",
        }
    }

    fn code(self) -> Code {
        match self {
            Self::WrongCluster => Code::PermissionDenied,
            Self::WrongNode => Code::FailedPrecondition,
            Self::UnknownGroup => Code::NotFound,
            Self::WrongReplica => Code::OutOfRange,
            Self::Malformed => Code::InvalidArgument,
            Self::Stopped => Code::Unavailable,
            Self::Stalled => Code::DeadlineExceeded,
            Self::Corrupted => Code::DataLoss,
            Self::Disk => Code::ResourceExhausted,
        }
    }

    /// The status of a refused call; `detail` says what was found.
    pub fn status(self, detail: impl Into<String>) -> Status {
        let mut status = Status::new(self.code(), detail);
        status
            .metadata_mut()
            .insert(NAME, tonic::metadata::MetadataValue::from_static(self.name()));
        status
    }

    /// The refusal that a status carries.
    pub fn of(status: &Status) -> Option<Self> {
        let name = status.metadata().get(NAME)?.to_str().ok()?;
        Self::ALL.into_iter().find(|refusal| refusal.name() == name)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_refusal_has_its_own_number_name_and_status() {
        let numbers: Vec<u32> = Refusal::ALL.map(Refusal::number).into();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let names: HashSet<_> = Refusal::ALL.map(Refusal::name).into();
        let codes: HashSet<_> = Refusal::ALL.map(|refusal| refusal.code() as i32).into();
        assert_eq!((names.len(), codes.len()), (9, 9));
    }

    #[test]
    fn a_refusal_survives_its_status() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::of(&refusal.status("detail")), Some(refusal));
            assert_eq!(Refusal::from_number(refusal.number()), Some(refusal));
        }
        assert_eq!(Refusal::of(&Status::not_found("a proxy says so")), None);
        assert_eq!(Refusal::from_number(0), None);
    }
}
