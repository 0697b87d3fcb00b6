//! The receiving side of a snapshot: pieces are checked and written on a
//! blocking thread. Unless every file of the manifest has arrived and holds its
//! checksum, everything is removed again.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cardea_storage::{
    Fault,
    engine::{Disk, FileSink},
};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{
    proto::{self, snapshot_chunk::Chunk},
    refusal::Refusal,
};
use crate::{blocking, types::SnapshotData};

/// Pieces between the connection and the disk.
const AHEAD: usize = 4;
/// Files in one snapshot.
const FILES_MAX: usize = 100_000;
/// Bytes of a path.
const PATH_BYTES_MAX: usize = 1_024;

/// Receives what follows the begin of a snapshot into a fresh directory, which
/// `begin` makes. Gives the files, complete and durable. Dropping them, or the
/// future, removes what had arrived.
pub(super) async fn receive(
    incoming: &mut Streaming<proto::SnapshotChunk>,
    disk: Arc<dyn Disk>,
    begin: impl FnOnce() -> Result<PathBuf, Fault> + Send + 'static,
    chunk_max: Duration,
) -> Result<SnapshotData, Status> {
    let (pieces, writing) = blocking::consume(AHEAD, move |arriving| write(disk, begin, arriving));
    loop {
        let message = timeout(chunk_max, incoming.message())
            .await
            .map_err(|_| Refusal::Stalled.status("no piece of the snapshot came in time"))??;
        let chunk = match message {
            Some(proto::SnapshotChunk { chunk: Some(chunk) }) => chunk,
            Some(_) => return Err(Refusal::Malformed.status("a piece without content")),
            None => break,
        };
        // The writer has refused a piece, and says why.
        if pieces.send(chunk).await.is_err() {
            break;
        }
    }
    drop(pieces);
    writing.await.map_err(|error| Refusal::Disk.status(error.to_string()))?.map_err(Status::from)
}

/// Why what arrived is not kept.
#[derive(Debug)]
pub(super) enum Rejected {
    /// It cannot be understood, or must not be done.
    Malformed(String),
    /// It is not what was sent.
    Corrupted(String),
    /// It cannot be written here.
    Disk(Fault),
}

impl From<Fault> for Rejected {
    fn from(fault: Fault) -> Self {
        Self::Disk(fault)
    }
}

impl From<Rejected> for Status {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Malformed(what) => Refusal::Malformed.status(what),
            Rejected::Corrupted(what) => Refusal::Corrupted.status(what),
            Rejected::Disk(fault) => {
                tracing::error!(?fault, "cannot keep an incoming snapshot");
                Refusal::Disk.status(fault.to_string())
            }
        }
    }
}

fn write(
    disk: Arc<dyn Disk>,
    begin: impl FnOnce() -> Result<PathBuf, Fault>,
    arriving: &mut dyn FnMut() -> Option<Chunk>,
) -> Result<SnapshotData, Rejected> {
    let directory = begin()?;
    let mut reception = Reception::new(disk.as_ref(), &directory);
    let outcome = loop {
        match arriving() {
            Some(chunk) => {
                if let Err(rejected) = reception.take(chunk) {
                    break Err(rejected);
                }
            }
            None => break reception.finish(),
        }
    };
    match outcome {
        Ok(()) => {
            drop(reception);
            Ok(SnapshotData::received(disk, directory))
        }
        Err(rejected) => {
            drop(reception);
            if let Err(fault) = disk.remove(&directory) {
                tracing::warn!(?fault, "cannot remove a snapshot that was not received");
            }
            Err(rejected)
        }
    }
}

struct OpenFile {
    path: String,
    sink: Box<dyn FileSink>,
    written: u64,
    checksum: blake3::Hasher,
}

/// Files on their way into a directory.
struct Reception<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    open: Option<OpenFile>,
    files: Vec<proto::FileEnd>,
    seen: HashSet<String>,
    complete: bool,
}

impl<'a> Reception<'a> {
    fn new(disk: &'a dyn Disk, directory: &'a Path) -> Self {
        let (files, seen) = (Vec::new(), HashSet::new());
        Self { disk, directory, open: None, files, seen, complete: false }
    }

    fn take(&mut self, chunk: Chunk) -> Result<(), Rejected> {
        if self.complete {
            return Err(Rejected::Malformed("something follows the manifest".to_owned()));
        }
        match chunk {
            Chunk::Begin(_) => Err(Rejected::Malformed("a second begin".to_owned())),
            Chunk::Data(data) => self.take_data(data),
            Chunk::End(end) => self.take_end(end),
            Chunk::Manifest(manifest) => self.take_manifest(&manifest),
        }
    }

    fn take_data(&mut self, data: proto::FileData) -> Result<(), Rejected> {
        let file = self.file(&data.path)?;
        if data.offset != file.written {
            return Err(Rejected::Corrupted(format!(
                "{} goes on at {} after {} bytes",
                data.path, data.offset, file.written
            )));
        }
        file.sink
            .write_all(&data.data)
            .map_err(|error| Fault::caused(format!("write {} of a snapshot", data.path), error))?;
        file.checksum.update(&data.data);
        file.written += data.data.len() as u64;
        Ok(())
    }

    fn take_end(&mut self, end: proto::FileEnd) -> Result<(), Rejected> {
        // An empty file has no data before its end.
        let file = self.file(&end.path)?;
        let whole = file.written == end.length;
        if !whole || file.checksum.finalize().as_bytes().as_slice() != end.checksum {
            return Err(Rejected::Corrupted(format!("{} is not as it was sent", end.path)));
        }
        if let Some(file) = self.open.take() {
            file.sink.finish()?;
        }
        self.files.push(end);
        Ok(())
    }

    fn take_manifest(&mut self, manifest: &proto::Manifest) -> Result<(), Rejected> {
        if self.open.is_some() || manifest.files != self.files {
            return Err(Rejected::Corrupted("the manifest names other files".to_owned()));
        }
        self.complete = true;
        Ok(())
    }

    fn finish(&self) -> Result<(), Rejected> {
        if self.complete {
            Ok(())
        } else {
            Err(Rejected::Corrupted("the snapshot ends before its manifest".to_owned()))
        }
    }

    /// The open file, which must be this one, or a new one.
    fn file(&mut self, path: &str) -> Result<&mut OpenFile, Rejected> {
        match self.open {
            Some(ref open) if open.path != path => {
                return Err(Rejected::Corrupted(format!("{path} begins within {}", open.path)));
            }
            Some(_) => {}
            None => self.open = Some(self.create(path)?),
        }
        self.open.as_mut().ok_or_else(|| Rejected::Corrupted("no open file".to_owned()))
    }

    fn create(&mut self, path: &str) -> Result<OpenFile, Rejected> {
        let relative = safe_path(path)?;
        if self.seen.len() == FILES_MAX || !self.seen.insert(path.to_owned()) {
            return Err(Rejected::Malformed(format!("{path} comes twice, or too many files")));
        }
        let at = self.directory.join(relative);
        if let Some(parent) = at.parent().filter(|parent| *parent != self.directory) {
            self.disk.create_directory(parent)?;
        }
        let sink = self.disk.write_stream(&at)?;
        let checksum = blake3::Hasher::new();
        Ok(OpenFile { path: path.to_owned(), sink, written: 0, checksum })
    }
}

/// A path that stays below the directory it is joined to.
fn safe_path(path: &str) -> Result<PathBuf, Rejected> {
    let safe = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0', ':']) && part.len() <= 255
    };
    if path.len() > PATH_BYTES_MAX || !path.split('/').all(safe) {
        return Err(Rejected::Malformed(format!("{path:?} is no path below a snapshot")));
    }
    Ok(path.split('/').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_directory() {
        for path in ["CURRENT", "sub/000012.sst", "a.b/c-d_e"] {
            assert_eq!(safe_path(path).unwrap(), PathBuf::from(path));
        }
        let long = "x".repeat(300);
        for path in
            ["", "/etc/passwd", "..", "a/../../b", "a//b", "./a", "a/", "c:\\x", "a\0b", &long]
        {
            assert!(matches!(safe_path(path), Err(Rejected::Malformed(_))), "{path:?}");
        }
    }
}
