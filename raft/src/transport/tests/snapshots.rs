//! Snapshots between two disks.

use std::{io::Read as _, path::Path};

use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    scripted::{RECEIVED, Script, Scripted},
    *,
};
use crate::{
    transport::{
        Refusal,
        convoy::Convoy,
        proto::{self, snapshot_chunk::Chunk},
        shipment,
    },
    types::{RaftSnapshot, SnapshotData, SnapshotMeta, StoredMembership, Vote},
};

const SENT: &str = "/here/copy";

fn write(disk: &MemoryDisk, path: &str, content: &[u8]) {
    let path = Path::new(path);
    disk.create_directory(path.parent().unwrap()).unwrap();
    let mut sink = disk.write_stream(path).unwrap();
    std::io::Write::write_all(&mut sink, content).unwrap();
    sink.finish().unwrap();
}

fn read(disk: &MemoryDisk, path: &str) -> Vec<u8> {
    let (mut reader, length) = disk.read_stream(Path::new(path)).unwrap();
    let mut content = Vec::new();
    reader.read_to_end(&mut content).unwrap();
    assert_eq!(content.len() as u64, length);
    content
}

/// Bytes that repeat nowhere near.
fn noise(len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    noise
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("CURRENT", b"MANIFEST-000005\n".to_vec()),
        ("empty", Vec::new()),
        ("large.sst", noise(5 << 20)),
        ("sub/deeper/one.sst", noise(100_001)),
        ("sub/two.sst", noise(1)),
    ]
}

struct Scene {
    here: MemoryDisk,
    script: Arc<Script>,
    channels: Arc<Channels>,
    _serving: DropGuard,
}

impl Scene {
    async fn of(script: Script) -> Self {
        let script = Arc::new(script);
        let (address, _serving) = listen(Scripted::routes(&script), ServerTls::LoopbackPlain).await;
        let (channels, _) = channels_to(&address, ClientTls::LoopbackPlain);
        let here = MemoryDisk::new(1);
        for (path, content) in files() {
            write(&here, &format!("{SENT}/{path}"), &content);
        }
        Self { here, script, channels, _serving }
    }

    fn left_over(&self) -> usize {
        self.script.disk.files_below(Path::new(RECEIVED)).map_or(0, |files| files.len())
            + self.script.disk.list(Path::new(RECEIVED)).map_or(0, |names| names.len())
    }

    /// What a sender would send.
    fn chunks(&self) -> Vec<proto::SnapshotChunk> {
        let mut chunks = vec![Chunk::Begin(proto::SnapshotBegin::default())];
        let mut keep = |chunk| {
            chunks.push(chunk);
            Ok(())
        };
        let manifest =
            shipment::read_files(&self.here, Path::new(SENT), 64 << 10, &mut keep).unwrap();
        chunks.push(Chunk::Manifest(manifest));
        chunks.into_iter().map(|chunk| proto::SnapshotChunk { chunk: Some(chunk) }).collect()
    }

    async fn refusal_of(&self, chunks: Vec<proto::SnapshotChunk>) -> Option<Refusal> {
        let status = client_of(&self.channels).snapshot(stream::iter(chunks)).await.unwrap_err();
        Refusal::of(&status)
    }
}

fn snapshot() -> RaftSnapshot {
    RaftSnapshot {
        meta: SnapshotMeta { last_log_id: None, last_membership: StoredMembership::default() },
        snapshot: SnapshotData { directory: SENT.into(), guard: None },
    }
}

fn unbounded() -> Convoy {
    Convoy::new(u64::MAX)
}

fn bounds() -> shipment::Bounds {
    shipment::Bounds {
        chunk_bytes: 256 << 10,
        chunk_max: Duration::from_millis(500),
        install_max: Duration::from_secs(30),
    }
}

#[tokio::test]
async fn a_snapshot_arrives_byte_for_byte() {
    let scene = Scene::of(Script::default()).await;
    let vote = Vote::new_committed(3, ReplicaId(11));
    let disk: Arc<dyn Disk> = Arc::new(scene.here.clone());
    let client = client_of(&scene.channels);
    let answered = shipment::send(client, route(), vote, snapshot(), &disk, &unbounded(), bounds())
        .await
        .unwrap();
    assert_eq!(answered, vote);

    let mut names: Vec<std::path::PathBuf> =
        files().into_iter().map(|(path, _)| path.into()).collect();
    names.sort();
    assert_eq!(scene.script.disk.files_below(Path::new(RECEIVED)).unwrap(), names);
    let bytes: u64 = files().iter().map(|(_, content)| content.len() as u64).sum();
    assert_eq!(*scene.script.told_bytes.lock(), [bytes]);
    for (path, content) in files() {
        assert!(read(&scene.script.disk, &format!("{RECEIVED}/{path}")) == content, "{path}");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_not_what_was_sent_is_refused_and_removed() {
    type Change<'a> = &'a dyn Fn(&mut Chunk);

    let flip = |chunk: &mut Chunk| {
        if let Chunk::Data(data) = chunk
            && data.path == "large.sst"
        {
            let mut bytes = data.data.to_vec();
            bytes[17] ^= 1;
            data.data = Bytes::from(bytes);
        }
    };
    let shift = |chunk: &mut Chunk| {
        if let Chunk::Data(data) = chunk
            && data.offset > 0
        {
            data.offset += 1;
        }
    };
    let shorten = |chunk: &mut Chunk| {
        if let Chunk::End(end) = chunk
            && end.path == "large.sst"
        {
            end.length -= 1;
        }
    };
    let forget = |chunk: &mut Chunk| {
        if let Chunk::Manifest(manifest) = chunk {
            manifest.files.pop();
        }
    };
    let climb = |chunk: &mut Chunk| match chunk {
        Chunk::Data(data) if data.path == "CURRENT" => data.path = "../../etc/passwd".to_owned(),
        _ => {}
    };
    let changes: [(&str, Change<'_>, Refusal); 5] = [
        ("a flipped bit", &flip, Refusal::Corrupted),
        ("a gap", &shift, Refusal::Corrupted),
        ("a wrong length", &shorten, Refusal::Corrupted),
        ("another manifest", &forget, Refusal::Corrupted),
        ("a path that climbs", &climb, Refusal::Malformed),
    ];
    let scene = Scene::of(Script::default()).await;
    for (what, change, refusal) in changes {
        let mut chunks = scene.chunks();
        chunks.iter_mut().filter_map(|chunk| chunk.chunk.as_mut()).for_each(change);
        assert_eq!(scene.refusal_of(chunks).await, Some(refusal), "{what}");
        assert_eq!(scene.left_over(), 0, "{what}");
    }
    // The same files, unchanged, are taken.
    client_of(&scene.channels).snapshot(stream::iter(scene.chunks())).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_without_its_end_is_refused_and_removed() {
    let scene = Scene::of(Script::default()).await;
    let whole = scene.chunks();
    for kept in [1, 2, whole.len() / 2, whole.len() - 1] {
        let refusal = scene.refusal_of(whole[..kept].to_vec()).await;
        assert_eq!(refusal, Some(Refusal::Corrupted), "after {kept} of {}", whole.len());
        assert_eq!(scene.left_over(), 0);
    }
}

#[tokio::test]
async fn a_cancelled_transfer_leaves_nothing() {
    let scene = Scene::of(Script::default()).await;
    let (pieces, outgoing) = mpsc::channel(1);
    let mut client = client_of(&scene.channels);
    let call = tokio::spawn(async move { client.snapshot(ReceiverStream::new(outgoing)).await });
    let chunks = scene.chunks();
    for chunk in &chunks[..chunks.len() / 2] {
        pieces.send(chunk.clone()).await.unwrap();
    }
    eventually("the first half", || scene.left_over() > 0).await;
    call.abort();
    eventually("removal", || scene.left_over() == 0).await;
}

#[tokio::test]
async fn a_sender_that_stalls_is_refused_and_what_it_sent_removed() {
    let scene = Scene::of(Script { chunk_ms_max: 200, ..Script::default() }).await;
    let (pieces, outgoing) = mpsc::channel(4);
    let mut chunks = scene.chunks().into_iter();
    for chunk in chunks.by_ref().take(3) {
        pieces.send(chunk).await.unwrap();
    }
    let status =
        client_of(&scene.channels).snapshot(ReceiverStream::new(outgoing)).await.unwrap_err();
    assert_eq!(Refusal::of(&status), Some(Refusal::Stalled));
    eventually("removal", || scene.left_over() == 0).await;
    drop(pieces);
}

#[tokio::test]
async fn a_disk_that_fails_while_receiving_refuses() {
    let scene = Scene::of(Script::default()).await;
    scene.script.disk.fail_after(3);
    assert_eq!(scene.refusal_of(scene.chunks()).await, Some(Refusal::Disk));
}

#[tokio::test]
async fn a_file_that_cannot_be_sent_is_our_own_failure() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let scene = Scene::of(Script::default()).await;
    let unspeakable = Path::new(SENT).join(OsStr::from_bytes(b"z\xff"));
    scene.here.write_stream(&unspeakable).unwrap().finish().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(scene.here.clone());
    let vote = Vote::new_committed(3, ReplicaId(11));
    let client = client_of(&scene.channels);
    let sent =
        shipment::send(client, route(), vote, snapshot(), &disk, &unbounded(), bounds()).await;
    assert!(matches!(sent, Err(shipment::Failure::Local(_))), "{sent:?}");
    eventually("removal", || scene.left_over() == 0).await;
}
