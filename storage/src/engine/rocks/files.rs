//! Files and directories of the machine, synced so that a name survives a
//! crash together with what it names.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    engine::{FileSink, staged},
    fault::Fault,
};

fn fault(what: &str, path: &Path, error: io::Error) -> Fault {
    Fault::caused(format!("{what} {}", path.display()), error)
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), Fault> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| fault("sync directory", directory, error))
}

/// Makes the name of `path` durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), Fault> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new(".")),
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

pub(super) fn list(directory: &Path) -> Result<Vec<String>, Fault> {
    let failed = |error| fault("list", directory, error);
    let Some(entries) = present(fs::read_dir(directory)).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub(super) fn create_directory(directory: &Path) -> Result<(), Fault> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        create_directory(parent)?;
    }
    match fs::create_dir(directory) {
        // Somebody else was faster; its name must be durable for us too.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        Err(error) => return Err(fault("create directory", directory, error)),
        Ok(()) => {}
    }
    sync_parent(directory)
}

pub(super) fn remove(path: &Path) -> Result<(), Fault> {
    let failed = |error| fault("remove", path, error);
    let Some(kind) = present(fs::symlink_metadata(path)).map_err(failed)? else {
        return Ok(());
    };
    let removed = if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    present(removed).map_err(failed)?;
    sync_parent(path)
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    let what = format!("rename to {} from", to.display());
    if fs::symlink_metadata(to).is_ok() {
        return Err(Fault::new(format!("{what} {}: the new name is taken", from.display())));
    }
    fs::rename(from, to).map_err(|error| fault(&what, from, error))?;
    sync_parent(to)?;
    if from.parent() == to.parent() { Ok(()) } else { sync_parent(from) }
}

pub(super) fn read(path: &Path) -> Result<Option<Bytes>, Fault> {
    let content = present(fs::read(path)).map_err(|error| fault("read", path, error))?;
    Ok(content.map(Bytes::from))
}

pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), Fault> {
    let beside = staged(path);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error| fault("write", &beside, error))?;
    fs::rename(&beside, path).map_err(|error| fault("replace", path, error))?;
    sync_parent(path)
}

pub(super) fn read_stream(path: &Path) -> Result<(Box<dyn io::Read + Send>, u64), Fault> {
    let open = || {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    };
    let (file, length) = open().map_err(|error| fault("read", path, error))?;
    Ok((Box::new(file), length))
}

pub(super) fn write_stream(path: &Path) -> Result<Box<dyn FileSink>, Fault> {
    if let Some(parent) = path.parent() {
        create_directory(parent)?;
    }
    let file = File::create_new(path).map_err(|error| fault("create", path, error))?;
    Ok(Box::new(Sink { file, path: path.to_path_buf(), unsynced: 0 }))
}

/// Bytes of a long file that wait to be synced at most. A sync of another file, of the log
/// before all, may have to wait for them.
const UNSYNCED_MAX: usize = 2 << 20;

struct Sink {
    file: File,
    path: PathBuf,
    unsynced: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= UNSYNCED_MAX {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FileSink for Sink {
    fn finish(self: Box<Self>) -> Result<(), Fault> {
        self.file.sync_all().map_err(|error| fault("sync", &self.path, error))?;
        sync_parent(&self.path)
    }
}

pub(super) fn files_below(directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut files = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        let here = directory.join(&below);
        for name in list(&here)? {
            let (path, below) = (here.join(&name), below.join(&name));
            let kind =
                fs::symlink_metadata(&path).map_err(|error| fault("look at", &path, error))?;
            if kind.is_dir() { pending.push(below) } else { files.push(below) }
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn free_bytes(path: &Path) -> Result<u64, Fault> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(there)
        .map_err(|error| fault("ask for free room at", there, error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes of write-ahead files in the directory of an engine.
pub(super) fn write_ahead_bytes(directory: &Path) -> u64 {
    let names = list(directory).unwrap_or_default();
    names
        .iter()
        .filter(|name| name.ends_with(".log"))
        .filter_map(|name| fs::metadata(directory.join(name)).ok())
        .map(|metadata| metadata.len())
        .sum()
}
