//! The sending side of a snapshot: files are read on a blocking thread, a
//! piece ahead of the connection.

use std::{fmt, io::Read, path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use cardea_storage::{Fault, engine::Disk};
use futures::StreamExt;
use openraft::{StorageError, type_config::TypeConfigExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::{
    client::describe,
    convoy::Convoy,
    proto::{self, raft_client::RaftClient, snapshot_chunk::Chunk},
    wire::{self, Route},
};
use crate::{
    blocking,
    encoding::{self, SnapshotMetaRecord},
    types::{RaftSnapshot, TypeConfig, Vote},
};

/// Pieces between the disk and the connection.
const AHEAD: usize = 4;

/// Bounds of a transfer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) chunk_bytes: usize,
    /// Between two pieces. How long all of them take depends on how many there are.
    pub(super) chunk_max: Duration,
    /// From the last piece to the answer.
    pub(super) install_max: Duration,
}

/// Why a transfer ended.
#[derive(Debug)]
pub(super) enum Failure {
    /// The files here cannot be read.
    Local(StorageError<TypeConfig>),
    /// The other side refused, or the connection failed.
    Call(Status),
    /// Nothing moved for too long.
    Stalled,
    /// It waited for its turn, or for its log: by now there may be a newer one.
    Outdated,
}

/// How far the connection has taken the pieces.
#[derive(Clone, Copy)]
struct Progress {
    at: Instant,
    complete: bool,
}

/// Sends the files below the snapshot's directory. Gives the receiver's vote.
/// Dropping the future ends the transfer.
pub(super) async fn send(
    mut client: RaftClient<Channel>,
    route: Route,
    vote: Vote,
    snapshot: RaftSnapshot,
    disk: &Arc<dyn Disk>,
    convoy: &Convoy,
    bounds: Bounds,
) -> Result<Vote, Failure> {
    let mut begin = proto::SnapshotBegin {
        route: Some(route.into()),
        vote: Some((&vote).into()),
        meta: encoding::encode(&SnapshotMetaRecord::from(&snapshot.meta)),
        bytes: 0,
    };
    let started = Instant::now();
    let disk = disk.clone();
    let (outgoing, reading) = blocking::produce(AHEAD, move |hand_out| {
        let files = snapshot.snapshot;
        let mut send = |chunk| {
            let chunk = proto::SnapshotChunk { chunk: Some(chunk) };
            hand_out(chunk).map_err(|_| Interrupted::Receiver)
        };
        begin.bytes = measure(disk.as_ref(), &files.directory).unwrap_or(0);
        send(Chunk::Begin(begin))?;
        // `files` keeps the directory until the last byte is read.
        let manifest = read_files(disk.as_ref(), &files.directory, bounds.chunk_bytes, &mut send)?;
        send(Chunk::Manifest(manifest))
    });

    let progress = Arc::new(Mutex::new(Progress { at: started, complete: false }));
    let moved = progress.clone();
    let convoy = convoy.clone();
    let paced = ReceiverStream::new(outgoing).then(move |piece: proto::SnapshotChunk| {
        let convoy = convoy.clone();
        async move {
            if let Some(Chunk::Data(data)) = &piece.chunk {
                convoy.pass(data.data.len()).await;
            }
            piece
        }
    });
    let stream = paced.inspect(move |piece: &proto::SnapshotChunk| {
        let complete = matches!(piece.chunk, Some(Chunk::Manifest(_)));
        *moved.lock() = Progress { at: Instant::now(), complete };
    });
    let answer = tokio::select! {
        answer = client.snapshot(stream) => answer,
        () = stalled(&progress, bounds) => return Err(Failure::Stalled),
    };
    let status = match answer {
        Ok(response) => {
            let vote = wire::required(response.into_inner().vote, "vote").map_err(Failure::Call)?;
            return Ok(vote.into());
        }
        Err(status) => status,
    };
    // The stream has been dropped, so the reader ends; it may know the cause.
    match reading.await {
        Ok(Err(Interrupted::Disk(fault))) => Err(Failure::Local(StorageError::read_snapshot(
            None,
            TypeConfig::err_from_error(&fault),
        ))),
        _ => {
            tracing::info!(to = %route.to.0, reason = %describe(&status), "snapshot was not taken");
            Err(Failure::Call(status))
        }
    }
}

/// Returns once nothing has moved for too long.
async fn stalled(progress: &Mutex<Progress>, bounds: Bounds) {
    loop {
        let Progress { at, complete } = *progress.lock();
        let until = at + if complete { bounds.install_max } else { bounds.chunk_max };
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

/// Why reading ended early.
pub(super) enum Interrupted {
    /// Nobody wants more.
    Receiver,
    /// The disk failed.
    Disk(Fault),
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receiver => f.write_str("Receiver"),
            Self::Disk(fault) => write!(f, "{fault:?}"),
        }
    }
}

impl From<Fault> for Interrupted {
    fn from(fault: Fault) -> Self {
        Self::Disk(fault)
    }
}

/// Bytes of a snapshot's files; 0 where they cannot be read, which sending them finds out.
pub(super) async fn bytes_of(disk: &Arc<dyn Disk>, snapshot: &RaftSnapshot) -> u64 {
    let (disk, files) = (disk.clone(), snapshot.snapshot.clone());
    let measured = blocking::spawn(move || measure(disk.as_ref(), &files.directory));
    measured.await.ok().and_then(Result::ok).unwrap_or(0)
}

fn measure(disk: &dyn Disk, directory: &Path) -> Result<u64, Fault> {
    let length = |file| disk.read_stream(&directory.join(file)).map(|(_, length)| length);
    disk.files_below(directory)?.iter().map(length).sum()
}

/// Gives every file below `directory` to `send`, in pieces.
pub(super) fn read_files(
    disk: &dyn Disk,
    directory: &Path,
    chunk_bytes: usize,
    send: &mut dyn FnMut(Chunk) -> Result<(), Interrupted>,
) -> Result<proto::Manifest, Interrupted> {
    let mut files = Vec::new();
    for file in disk.files_below(directory)? {
        let path = wire_path(&file)?;
        let (mut reader, length) = disk.read_stream(&directory.join(&file))?;
        let mut checksum = blake3::Hasher::new();
        let mut offset = 0;
        loop {
            let data = read_piece(reader.as_mut(), chunk_bytes)
                .map_err(|error| Fault::caused(format!("read {path} of a snapshot"), error))?;
            if data.is_empty() {
                break;
            }
            checksum.update(&data);
            let len = data.len() as u64;
            send(Chunk::Data(proto::FileData { path: path.clone(), offset, data }))?;
            offset += len;
        }
        if offset != length {
            return Err(Fault::new(format!("{path} of a snapshot has changed its length")).into());
        }
        let checksum = checksum.finalize().as_bytes().to_vec();
        let end = proto::FileEnd { path, length, checksum };
        send(Chunk::End(end.clone()))?;
        files.push(end);
    }
    Ok(proto::Manifest { files })
}

fn wire_path(file: &Path) -> Result<String, Fault> {
    let parts: Option<Vec<&str>> = file.iter().map(|part| part.to_str()).collect();
    parts
        .map(|parts| parts.join("/"))
        .ok_or_else(|| Fault::new(format!("{} is not a name that can be sent", file.display())))
}

/// Reads until the piece is full or the file ends.
fn read_piece(reader: &mut dyn Read, len: usize) -> std::io::Result<Bytes> {
    let mut piece = BytesMut::zeroed(len);
    let mut filled = 0;
    while filled < len {
        match reader.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(piece.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot of many gigabytes was given up after half an hour, whatever its pace, and begun
    /// anew, for ever.
    #[tokio::test(start_paused = true)]
    async fn what_moves_is_not_given_up_however_long_it_takes() {
        let secs = Duration::from_secs;
        let bounds = Bounds { chunk_bytes: 1, chunk_max: secs(10), install_max: secs(60) };
        let progress = Arc::new(Mutex::new(Progress { at: Instant::now(), complete: false }));
        let watched = progress.clone();
        let watch = tokio::spawn(async move { stalled(&watched, bounds).await });
        for _ in 0..1_000 {
            // Time is what is tested, and it is paused.
            tokio::time::sleep(secs(9)).await;
            progress.lock().at = Instant::now();
        }
        *progress.lock() = Progress { at: Instant::now(), complete: true };
        // Likewise.
        tokio::time::sleep(secs(59)).await;
        assert!(!watch.is_finished());
        // Likewise.
        tokio::time::sleep(secs(2)).await;
        assert!(watch.is_finished(), "an installation has an end");
        // And so has silence.
        let silent = Mutex::new(Progress { at: Instant::now(), complete: false });
        assert!(tokio::time::timeout(secs(11), stalled(&silent, bounds)).await.is_ok());
    }
}
