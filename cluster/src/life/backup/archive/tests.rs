//! What is written is read back, and nothing else is.

use cardea_storage::{Slot, Space, Tag, Tenant, engine::memory::MemoryDisk, key::KeyWriter};

use super::*;

fn row_of(number: u16, value: &[u8]) -> Row {
    let slot = Slot::new(Space::Home, number);
    let mut key = KeyWriter::new(slot, Tag::TEST, Tenant::default());
    key.u64(number.into());
    Row {
        key: key.finish(),
        value: Bytes::copy_from_slice(value),
        revision: Some(Revision(u64::from(number) + 1)),
        expires_at: (number % 2 == 1).then_some(Timestamp(99)),
    }
}

fn written(disk: &MemoryDisk, rows: &[Row]) -> GroupEntry {
    let mut writer = RowWriter::create(disk, Path::new("/b/g1.rows")).unwrap();
    rows.iter().for_each(|row| writer.row(row).unwrap());
    let Written { rows, bytes, checksum } = writer.finish().unwrap();
    GroupEntry { group: 1, rows, bytes, checksum, file: file_of(1), ..GroupEntry::default() }
}

fn read_all(disk: &MemoryDisk, entry: &GroupEntry) -> Result<Vec<Row>, ArchiveError> {
    let mut reader = RowReader::open(disk, Path::new("/b"), entry)?;
    let mut rows = Vec::new();
    while let Some(block) = reader.next_block()? {
        rows.extend(block);
    }
    Ok(rows)
}

#[test]
fn rows_come_back_as_they_were_over_many_blocks() {
    let disk = MemoryDisk::new(1);
    let rows: Vec<Row> = (0..40).map(|n| row_of(n, &vec![7; 30_000])).collect();
    let entry = written(&disk, &rows);
    assert!(entry.bytes > 2 * BLOCK_BYTES as u64);
    assert_eq!(read_all(&disk, &entry).unwrap(), rows);
    let none = MemoryDisk::new(2);
    let entry = written(&none, &[]);
    assert_eq!(read_all(&none, &entry).unwrap(), []);
}

#[test]
fn every_turned_byte_of_a_file_is_noticed() {
    let disk = MemoryDisk::new(1);
    let entry = written(&disk, &[row_of(1, b"one"), row_of(2, b"two")]);
    let path = Path::new("/b/g1.rows");
    let (mut source, length) = disk.read_stream(path).unwrap();
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, length);
    for at in 0..bytes.len() {
        let mut turned = bytes.clone();
        turned[at] ^= 0x10;
        disk.replace_file(path, &turned).unwrap();
        assert!(read_all(&disk, &entry).is_err(), "byte {at}");
    }
    disk.replace_file(path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(read_all(&disk, &entry).is_err());
}

fn manifest() -> Manifest {
    Manifest {
        form: FORM,
        cluster: Bytes::from_static(b"c"),
        cluster_name: "n".to_owned(),
        incarnation: 1,
        version: 2,
        cut_at: 3,
        groups: vec![GroupEntry {
            group: 1,
            ranges: vec![0, 4095],
            base: 2,
            revision: 3,
            log_time: 4,
            rows: 5,
            bytes: 6,
            checksum: Bytes::from_static(b"s"),
            file: file_of(1),
            home_region: "r".to_owned(),
            placement: Some(PlacementRecord::default()),
        }],
    }
}

#[test]
fn bytes_of_the_manifest_are_frozen() {
    let hex: String = manifest().encode_to_vec().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "08011201631a016e2001280230033a22080112030\
         0ff1f180220032804300538064201734a0767312e726f77735201725a00"
    );
    let block = Block {
        rows: vec![RowEntry {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            expires_at: 1,
            revision: 2,
        }],
    };
    let hex: String = block.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "0a0a0a016b12017618012002");
}

#[test]
fn a_manifest_comes_back_and_a_turned_byte_is_noticed() {
    let disk = MemoryDisk::new(1);
    let at = Path::new("/b");
    assert!(matches!(read_manifest(&disk, at), Err(ArchiveError::Missing(_))));
    disk.create_directory(at).unwrap();
    write_manifest(&disk, at, &manifest()).unwrap();
    assert_eq!(read_manifest(&disk, at).unwrap(), manifest());
    let bytes = disk.read_file(&at.join(MANIFEST)).unwrap().unwrap();
    for place in 0..bytes.len() {
        let mut turned = bytes.to_vec();
        turned[place] ^= 1;
        disk.replace_file(&at.join(MANIFEST), &turned).unwrap();
        assert!(read_manifest(&disk, at).is_err(), "byte {place}");
    }
}

#[test]
fn a_manifest_that_names_files_elsewhere_is_refused() {
    let disk = MemoryDisk::new(1);
    disk.create_directory(Path::new("/b")).unwrap();
    let mut foreign = manifest();
    foreign.groups[0].file = "../../etc/shadow".to_owned();
    write_manifest(&disk, Path::new("/b"), &foreign).unwrap();
    assert!(read_manifest(&disk, Path::new("/b")).is_err());
}
