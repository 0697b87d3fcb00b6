//! Small files, streams and directories.

use std::{
    io::{Read, Write},
    path::PathBuf,
};

use super::{Behaviour, Place};
use crate::fault::Fault;

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    ("a replaced file is read whole, an absent one is none", replaced_file_is_read),
    ("replacing without a directory is refused", replacing_needs_a_directory),
    ("a listing is sorted, of an absent directory empty", listing_is_sorted),
    ("removing takes a whole directory, and the absent in its stride", removing_takes_all),
    ("a directory is renamed with all it holds", renaming_moves_all),
    ("renaming onto something is refused", renaming_onto_something_is_refused),
    ("a stream is written and read back", stream_is_read_back),
    ("a stream onto a file that exists is refused", stream_onto_a_file_is_refused),
    ("files below a directory are relative and sorted", files_below_are_relative),
    ("free room is told for a path that does not exist yet", free_room_is_told),
];

fn caused(error: std::io::Error) -> Fault {
    Fault::caused("use a stream", error)
}

fn replaced_file_is_read(place: &Place) -> Result<(), Fault> {
    let path = place.path("CURRENT");
    assert_eq!(place.disk.read_file(&path)?, None);
    for content in [&b"one"[..], b"", b"a longer third"] {
        place.disk.replace_file(&path, content)?;
        assert_eq!(place.disk.read_file(&path)?.as_deref(), Some(content));
    }
    assert_eq!(place.disk.list(&place.root)?, ["CURRENT"]);
    Ok(())
}

fn replacing_needs_a_directory(place: &Place) -> Result<(), Fault> {
    assert!(place.disk.replace_file(&place.path("absent/file"), b"x").is_err());
    place.disk.create_directory(&place.path("directory"))?;
    assert!(place.disk.replace_file(&place.path("directory"), b"x").is_err());
    Ok(())
}

fn listing_is_sorted(place: &Place) -> Result<(), Fault> {
    let disk = &place.disk;
    assert!(disk.list(&place.path("absent"))?.is_empty());
    disk.replace_file(&place.path("b"), b"")?;
    disk.create_directory(&place.path("c/deeper"))?;
    disk.create_directory(&place.path("c"))?;
    disk.replace_file(&place.path("a"), b"")?;
    assert_eq!(disk.list(&place.root)?, ["a", "b", "c"]);
    assert_eq!(disk.list(&place.path("c"))?, ["deeper"]);
    Ok(())
}

fn removing_takes_all(place: &Place) -> Result<(), Fault> {
    let disk = &place.disk;
    disk.create_directory(&place.path("d/e"))?;
    disk.replace_file(&place.path("d/e/f"), b"x")?;
    disk.replace_file(&place.path("d2"), b"x")?;
    disk.remove(&place.path("d"))?;
    disk.remove(&place.path("d"))?;
    assert_eq!(disk.list(&place.root)?, ["d2"]);
    disk.remove(&place.path("d2"))?;
    assert!(disk.list(&place.root)?.is_empty());
    Ok(())
}

fn renaming_moves_all(place: &Place) -> Result<(), Fault> {
    let disk = &place.disk;
    disk.create_directory(&place.path("from/deeper"))?;
    disk.create_directory(&place.path("elsewhere"))?;
    disk.replace_file(&place.path("from/deeper/file"), b"x")?;
    disk.rename(&place.path("from"), &place.path("elsewhere/to"))?;
    assert_eq!(disk.list(&place.root)?, ["elsewhere"]);
    let moved = disk.read_file(&place.path("elsewhere/to/deeper/file"))?;
    assert_eq!(moved.as_deref(), Some(&b"x"[..]));
    Ok(())
}

fn renaming_onto_something_is_refused(place: &Place) -> Result<(), Fault> {
    let disk = &place.disk;
    disk.create_directory(&place.path("a"))?;
    disk.create_directory(&place.path("b"))?;
    assert!(disk.rename(&place.path("a"), &place.path("b")).is_err());
    assert!(disk.rename(&place.path("absent"), &place.path("c")).is_err());
    assert_eq!(disk.list(&place.root)?, ["a", "b"]);
    Ok(())
}

fn stream_is_read_back(place: &Place) -> Result<(), Fault> {
    let path = place.path("new/directory/file");
    let mut sink = place.disk.write_stream(&path)?;
    let content: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    for chunk in content.chunks(7001) {
        sink.write_all(chunk).map_err(caused)?;
    }
    sink.finish()?;
    let (mut source, length) = place.disk.read_stream(&path)?;
    let mut read = Vec::new();
    source.read_to_end(&mut read).map_err(caused)?;
    assert_eq!(length, content.len() as u64);
    assert!(read == content);
    assert!(place.disk.read_stream(&place.path("absent")).is_err());
    Ok(())
}

fn stream_onto_a_file_is_refused(place: &Place) -> Result<(), Fault> {
    place.disk.replace_file(&place.path("file"), b"x")?;
    assert!(place.disk.write_stream(&place.path("file")).is_err());
    assert_eq!(place.disk.read_file(&place.path("file"))?.as_deref(), Some(&b"x"[..]));
    Ok(())
}

fn files_below_are_relative(place: &Place) -> Result<(), Fault> {
    let disk = &place.disk;
    for name in ["d/z", "d/a/b", "d/a.b", "d/a/a", "other"] {
        disk.write_stream(&place.path(name))?.finish()?;
    }
    disk.create_directory(&place.path("d/empty"))?;
    let expected: Vec<PathBuf> = ["a/a", "a/b", "a.b", "z"].map(PathBuf::from).into();
    assert_eq!(disk.files_below(&place.path("d"))?, expected);
    assert!(disk.files_below(&place.path("absent"))?.is_empty());
    Ok(())
}

fn free_room_is_told(place: &Place) -> Result<(), Fault> {
    assert!(place.disk.free_bytes(&place.path("not/yet"))? > 0);
    Ok(())
}
