//! Room for snapshots that arrive: what a node keeps in reserve on its disk is for what must go
//! on, and is not filled by a replica that may as well come later, or elsewhere.

use std::sync::Arc;

use parking_lot::Mutex;
use tonic::Status;

use super::{convoy::SMALL_MAX, refusal::Refusal};
use crate::{blocking, peers::Replica};

/// What is promised to all snapshots that are arriving at a node.
#[derive(Clone, Default)]
pub(super) struct Room(Arc<Mutex<u64>>);

/// Room for one snapshot, until it is dropped. It counts whole until then, though a part may
/// be on the disk already.
pub(super) struct Place {
    room: Room,
    bytes: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.room.0.lock() -= self.bytes;
    }
}

impl Room {
    /// Room for `bytes`, or a refusal that says what is lacking. A sender that does not say how
    /// many, with 0, is never refused; nor is a small one, such as the directory's, without
    /// which a node whose disk is full could not even be told what goes on.
    pub(super) async fn take(&self, replica: &Replica, bytes: u64) -> Result<Place, Status> {
        if bytes <= SMALL_MAX {
            return Ok(Place { room: self.clone(), bytes: 0 });
        }
        let (replica, room) = (replica.clone(), self.clone());
        let taken = blocking::spawn(move || {
            // Not to be promised twice.
            let mut promised = room.0.lock();
            let free = replica.room_bytes()?.saturating_sub(*promised);
            if bytes > free {
                return Ok(Err(free));
            }
            *promised += bytes;
            Ok(Ok(Place { room: room.clone(), bytes }))
        });
        let taken = taken.await.map_err(|error| Refusal::Disk.status(error.to_string()))?;
        match taken {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(free)) => Err(Refusal::Disk.status(format!(
                "a snapshot of {bytes} bytes does not fit: the disk here has {free} bytes above \
                 its reserve"
            ))),
            Err(fault) => {
                let fault: cardea_storage::Fault = fault;
                Err(Refusal::Disk.status(fault.to_string()))
            }
        }
    }
}
