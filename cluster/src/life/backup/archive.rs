//! The archive: a directory of our own form.
//!
//! ```text
//! g1.rows, g2.rows …   the rows of each group
//! MANIFEST             written last: without it there is no backup
//! ```
//!
//! A file of rows: `CARDEA-ROWS` and the form's number (4 bytes, big-endian);
//! blocks, each its length (4 bytes), the first 16 bytes of the BLAKE3 of what
//! follows, and a `Block` of rows; at the end a length of 0 and 16 bytes of
//! BLAKE3 over the number of rows (8 bytes). The manifest: a `Manifest`, then
//! its BLAKE3 (32 bytes). It names the length and the BLAKE3 of each file.
//!
//! Rows are as readers see them, with their tags: no locks, no receipts, and what
//! is sealed stays sealed. Fields are added, never reused; a test freezes the
//! bytes.

use std::{
    io::{Read, Write},
    path::Path,
};

use bytes::Bytes;
use cardea_storage::{Fault, Key, Revision, Row, Timestamp, engine::Disk};
use prost::Message;

use crate::directory::records::PlacementRecord;

/// The form's number.
pub const FORM: u32 = 1;
/// The file that names all others.
pub const MANIFEST: &str = "MANIFEST";

const MAGIC: &[u8; 11] = b"CARDEA-ROWS";
const SUM: usize = 16;
/// Bytes of rows in a block, about.
const BLOCK_BYTES: usize = 256 << 10;
/// Bytes beyond which a block is not believed.
const BLOCK_BYTES_MAX: usize = 8 << 20;

/// What a backup consists of.
#[derive(Clone, PartialEq, Message)]
pub struct Manifest {
    /// The form's number.
    #[prost(uint32, tag = "1")]
    pub form: u32,
    /// The cluster that was backed up; sixteen bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub cluster: Bytes,
    /// Its name.
    #[prost(string, tag = "3")]
    pub cluster_name: String,
    /// Its incarnation.
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
    /// The cluster version.
    #[prost(uint32, tag = "5")]
    pub version: u32,
    /// The moment that the data is of, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "6")]
    pub cut_at: u64,
    /// The groups.
    #[prost(message, repeated, tag = "7")]
    pub groups: Vec<GroupEntry>,
}

/// A group in a backup.
#[derive(Clone, PartialEq, Message)]
pub struct GroupEntry {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub group: u64,
    /// Its slot ranges, as pairs of first and last bits.
    #[prost(uint32, repeated, tag = "2")]
    pub ranges: Vec<u32>,
    /// Its base.
    #[prost(uint64, tag = "3")]
    pub base: u64,
    /// Its revision at the cut; every row's is at most that.
    #[prost(uint64, tag = "4")]
    pub revision: u64,
    /// Its log time at the cut, in milliseconds.
    #[prost(uint64, tag = "5")]
    pub log_time: u64,
    /// Rows.
    #[prost(uint64, tag = "6")]
    pub rows: u64,
    /// The length of its file in bytes.
    #[prost(uint64, tag = "7")]
    pub bytes: u64,
    /// The BLAKE3 of its file; 32 bytes.
    #[prost(bytes = "bytes", tag = "8")]
    pub checksum: Bytes,
    /// Its file, beside the manifest.
    #[prost(string, tag = "9")]
    pub file: String,
    /// The region where its leader should be.
    #[prost(string, tag = "10")]
    pub home_region: String,
    /// Where its replicas should be.
    #[prost(message, optional, tag = "11")]
    pub placement: Option<PlacementRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct Block {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<RowEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct RowEntry {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
    /// 0 for never.
    #[prost(uint64, tag = "3")]
    expires_at: u64,
    #[prost(uint64, tag = "4")]
    revision: u64,
}

/// Why an archive cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ArchiveError {
    /// There is no complete backup in the directory.
    #[error("there is no complete backup in {0}: it has no MANIFEST")]
    Missing(String),
    /// It is of a newer form than this binary knows.
    #[error("the backup is of form {0}; this binary knows {FORM}")]
    Newer(u32),
    /// A file is not what was written.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The disk failed.
    #[error("the backup cannot be read")]
    Fault(#[from] Fault),
}

/// What was written into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) checksum: Bytes,
}

/// Writes a file of rows.
pub(super) struct RowWriter {
    sink: Box<dyn cardea_storage::engine::FileSink>,
    hasher: blake3::Hasher,
    block: Block,
    block_bytes: usize,
    rows: u64,
    bytes: u64,
}

impl RowWriter {
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<Self, Fault> {
        let mut writer = Self {
            sink: disk.write_stream(path)?,
            hasher: blake3::Hasher::new(),
            block: Block::default(),
            block_bytes: 0,
            rows: 0,
            bytes: 0,
        };
        writer.put(MAGIC)?;
        writer.put(&FORM.to_be_bytes())?;
        Ok(writer)
    }

    pub(super) fn row(&mut self, row: &Row) -> Result<(), Fault> {
        self.rows += 1;
        self.block_bytes += row.key.as_bytes().len() + row.value.len();
        self.block.rows.push(RowEntry {
            key: row.key.as_bytes().clone(),
            value: row.value.clone(),
            expires_at: row.expires_at.map_or(0, |at| at.0),
            revision: row.revision.map_or(0, |revision| revision.0),
        });
        if self.block_bytes >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<Written, Fault> {
        self.end_block()?;
        self.put(&0_u32.to_be_bytes())?;
        self.put(&sum(&self.rows.to_be_bytes()))?;
        self.sink.finish()?;
        let checksum = Bytes::copy_from_slice(self.hasher.finalize().as_bytes());
        Ok(Written { rows: self.rows, bytes: self.bytes, checksum })
    }

    fn end_block(&mut self) -> Result<(), Fault> {
        let block = std::mem::take(&mut self.block);
        self.block_bytes = 0;
        if block.rows.is_empty() {
            return Ok(());
        }
        let payload = block.encode_to_vec();
        let length = u32::try_from(payload.len())
            .map_err(|error| Fault::caused("a block of a backup is too long", error))?;
        self.put(&length.to_be_bytes())?;
        self.put(&sum(&payload))?;
        self.put(&payload)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.sink.write_all(bytes).map_err(|error| Fault::caused("write a backup", error))
    }
}

/// Reads a file of rows, and proves that it is whole.
pub struct RowReader {
    source: Box<dyn Read + Send>,
    file: String,
    hasher: blake3::Hasher,
    rows: u64,
    entry: GroupEntry,
}

impl RowReader {
    /// Opens the file of a group. Blocks, as every method here does.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn open(
        disk: &dyn Disk,
        directory: &Path,
        entry: &GroupEntry,
    ) -> Result<Self, ArchiveError> {
        let (source, length) = disk.read_stream(&directory.join(&entry.file))?;
        let mut reader = Self {
            source,
            file: entry.file.clone(),
            hasher: blake3::Hasher::new(),
            rows: 0,
            entry: entry.clone(),
        };
        if length != entry.bytes {
            return Err(reader.damaged("its length is not what the manifest says"));
        }
        let mut magic = [0; MAGIC.len()];
        reader.take(&mut magic)?;
        let mut form = [0; 4];
        reader.take(&mut form)?;
        if &magic != MAGIC || u32::from_be_bytes(form) != FORM {
            return Err(reader.damaged("it is no file of rows"));
        }
        Ok(reader)
    }

    /// The rows of the next block; `None` at the end, when everything was proved.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn next_block(&mut self) -> Result<Option<Vec<Row>>, ArchiveError> {
        let mut length = [0; 4];
        self.take(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        let mut expected = [0; SUM];
        self.take(&mut expected)?;
        if length == 0 {
            let whole = self.hasher.finalize();
            if expected != sum(&self.rows.to_be_bytes())
                || self.rows != self.entry.rows
                || whole.as_bytes().as_slice() != self.entry.checksum
            {
                return Err(self.damaged("its checksum is not what the manifest says"));
            }
            return Ok(None);
        }
        if length > BLOCK_BYTES_MAX {
            return Err(self.damaged("a block is too long"));
        }
        let mut payload = vec![0; length];
        self.take(&mut payload)?;
        if expected != sum(&payload) {
            return Err(self.damaged("a block's checksum is wrong"));
        }
        let block = Block::decode(Bytes::from(payload))
            .map_err(|_| self.damaged("a block is not understood"))?;
        self.rows += block.rows.len() as u64;
        let rows: Option<Vec<Row>> = block.rows.into_iter().map(row).collect();
        rows.map(Some).ok_or_else(|| self.damaged("a key is not understood"))
    }

    fn take(&mut self, into: &mut [u8]) -> Result<(), ArchiveError> {
        if self.source.read_exact(into).is_err() {
            return Err(self.damaged("it ends early"));
        }
        self.hasher.update(into);
        Ok(())
    }

    fn damaged(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Damaged { file: self.file.clone(), what }
    }
}

fn row(entry: RowEntry) -> Option<Row> {
    Some(Row {
        key: Key::from_bytes(entry.key)?,
        value: entry.value,
        revision: Some(Revision(entry.revision)),
        expires_at: Some(entry.expires_at).filter(|at| *at != 0).map(Timestamp),
    })
}

/// Writes the manifest, which makes the backup one. Blocks.
pub(super) fn write_manifest(
    disk: &dyn Disk,
    directory: &Path,
    manifest: &Manifest,
) -> Result<(), Fault> {
    let mut bytes = manifest.encode_to_vec();
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    disk.replace_file(&directory.join(MANIFEST), &bytes)
}

/// Reads the manifest. Blocks.
///
/// # Errors
/// See [`ArchiveError`].
pub fn read_manifest(disk: &dyn Disk, directory: &Path) -> Result<Manifest, ArchiveError> {
    let damaged = |what| ArchiveError::Damaged { file: MANIFEST.to_owned(), what };
    let bytes = disk
        .read_file(&directory.join(MANIFEST))?
        .ok_or_else(|| ArchiveError::Missing(directory.display().to_string()))?;
    let (body, checksum) =
        bytes.split_last_chunk::<32>().ok_or_else(|| damaged("it ends early"))?;
    if blake3::hash(body).as_bytes() != checksum {
        return Err(damaged("its checksum is wrong"));
    }
    let manifest = Manifest::decode(body).map_err(|_| damaged("it is not understood"))?;
    if manifest.form != FORM {
        return Err(ArchiveError::Newer(manifest.form));
    }
    // A name that leads elsewhere is none of ours.
    let strange = manifest.groups.iter().any(|entry| entry.file != file_of(entry.group));
    if strange { Err(damaged("it names foreign files")) } else { Ok(manifest) }
}

/// The name of a group's file.
pub(super) fn file_of(group: u64) -> String {
    format!("g{group}.rows")
}

fn sum(bytes: &[u8]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..SUM]);
    sum
}

#[cfg(test)]
mod tests;
