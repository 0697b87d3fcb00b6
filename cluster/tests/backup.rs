//! Backup and restore: consistent under writes, refused when it could not be.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod town;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cardea_cluster::{
    ClusterNode, DIRECTORY, GroupId, InitPlan, Member,
    directory::{
        records::ShardRecord,
        tables::{ShardKey, ShardRows},
    },
    life::{
        BackupError, BackupPlan, Progress, RestoreError, RestorePlan, back_up,
        backup::archive::{MANIFEST, read_manifest},
        restore,
        restore::Fate,
    },
    runtime::obstacle::Obstacle,
};
use cardea_storage::{
    Key, Slot, Space, Store, Tag, Tenant,
    engine::Disk,
    key::KeyWriter,
    protocol::shards::{ShardId, Terms},
    store::{Consistency, Draft, ReadRequest, Verdict},
    txn::{
        Condition, Effect, Put, Txn,
        command::{Action, Prepare},
    },
};
use town::{Site, Town, eventually, key, put, read, write};

const ACCOUNTS: u64 = 12;
const START: i64 = 1_000;

fn member(node: &ClusterNode) -> Arc<Member> {
    node.member().unwrap()
}

fn account(number: u64) -> Key {
    key(Space::Home, (number * 337) as u16, number)
}

/// A row of another table, which stands for sessions here.
fn session(number: u64) -> Key {
    let slot = Slot::new(Space::Home, (number * 401 % 4_096) as u16);
    let mut key = KeyWriter::new(slot, Tag::TEST_INDEX, Tenant::default());
    key.u64(number);
    key.finish()
}

fn flow(number: u64) -> Key {
    let mut key = KeyWriter::new(Slot::new(Space::Home, 5), Tag::FLOW, Tenant::default());
    key.u64(number);
    key.finish()
}

fn set(key: &Key, value: &str, expires_at: u64) -> Effect {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Effect::Put(Put { key: key.as_bytes().clone(), value, expires_at })
}

/// Moves an amount between two accounts, in two shards or one, if nobody else
/// changed them meanwhile.
async fn transfer(store: &Arc<dyn Store>, from: u64, to: u64) -> bool {
    let mut request = ReadRequest::new(Consistency::Strong).get(account(from)).get(account(to));
    request.tracked = true;
    let Ok(answer) = store.read(request).await else { return false };
    let mut draft = Draft { read_time: answer.time, ..Draft::default() };
    let amounts = [(from, -1), (to, 1)];
    for (rows, (number, by)) in answer.results.into_iter().zip(amounts) {
        let Some(row) = rows.into_row() else { return false };
        let Some(revision) = row.revision else { return false };
        let held: i64 = std::str::from_utf8(&row.value).unwrap().parse().unwrap();
        let key = row.key.as_bytes().clone();
        draft
            .checks
            .push(Condition::At(cardea_storage::txn::At { key, revision: revision.0 }).into());
        draft.ops.push(put(&account(number), &(held + by).to_string()).into());
    }
    matches!(store.commit(draft).await, Ok(Verdict::Committed(_)))
}

async fn sum(store: &Arc<dyn Store>) -> (i64, bool) {
    let (mut sum, mut moved) = (0, false);
    for number in 0..ACCOUNTS {
        let seen = read(store, &account(number), Consistency::Strong).await.unwrap();
        let held: i64 = seen.expect("an account is lost").parse().unwrap();
        sum += held;
        moved |= held != START;
    }
    (sum, moved)
}

async fn fill(store: &Arc<dyn Store>) {
    for number in 0..ACCOUNTS {
        let row = put(&account(number), &START.to_string());
        write(store, vec![], vec![row, set(&session(number), "open", 0)]).await;
    }
    write(store, vec![], vec![set(&flow(1), "begun", 0)]).await;
    let soon = store.clock().now().0 + 400;
    write(store, vec![], vec![set(&session(99), "lapses", soon)]).await;
    write(store, vec![], vec![put(&key(Space::Index, 9, 9), "index")]).await;
}

/// Sessions are closed; everything else stays.
fn plan_of(directory: &str) -> RestorePlan {
    RestorePlan {
        directory: PathBuf::from(directory),
        transient: vec![Tag::FLOW],
        tolerated: vec![Tag::API_KEY],
        filter: Arc::new(|row| {
            if row.key.tag() == Tag::TEST_INDEX {
                Fate::Replace(Bytes::from_static(b"revoked"))
            } else {
                Fate::Keep
            }
        }),
    }
}

/// A new cluster of one node, on the disk that holds the backup.
async fn new_cluster(disk: Arc<dyn Disk>, name: &str) -> Arc<ClusterNode> {
    let site = Site::on(disk, PathBuf::from(format!("/{name}")), 50);
    let node = site.open().await.unwrap();
    node.init(InitPlan::small(name)).await.unwrap();
    let row = key(Space::Graph, 1, 1);
    eventually("the shards are formed", async || {
        let formed = node.directory().view().shards.values().all(|shard| shard.formed);
        formed && read(&node.store(), &row, Consistency::Strong).await.is_ok()
    })
    .await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_under_transfers_restores_with_the_sum_kept_and_sessions_revoked() {
    let town = Town::in_memory().await;
    fill(&town.store(0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let movers: Vec<_> = (0..3_u64)
        .map(|at| {
            let (store, stop) = (town.store(at as usize), stop.clone());
            tokio::spawn(async move {
                let mut done = 0_u64;
                for round in 0.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let from = (round * 5 + at) % ACCOUNTS;
                    let to = (round * 7 + at + 1) % ACCOUNTS;
                    if from != to && transfer(&store, from, to).await {
                        done += 1;
                    }
                }
                done
            })
        })
        .collect();
    eventually("money moves", async || sum(&town.store(1)).await.1).await;
    let mut told = Vec::new();
    let plan = BackupPlan::new("/backup");
    let report = back_up(&member(&town.nodes[0]), &plan, |step| told.push(step)).await.unwrap();
    // Writes go on after the fence is lifted.
    eventually("transfers over shards go on", async || transfer(&town.store(2), 0, 7).await).await;
    stop.store(true, Ordering::Release);
    for mover in movers {
        assert!(mover.await.unwrap() > 0);
    }
    assert_eq!(report.manifest.groups.len(), 7);
    assert!(told.contains(&Progress::Cutting), "{told:?}");
    assert!(matches!(told.last(), Some(Progress::Copying { groups: 7, groups_total: 7, .. })));
    // Checkpoints are gone.
    for replica in member(&town.nodes[0]).replicas() {
        let names = replica.tablet().snapshots().unwrap();
        assert!(names.iter().all(|name| !name.starts_with("backup")), "{names:?}");
    }
    let disk = town.sites[0].disk.clone();
    let made = town.nodes[0].keyrings().unwrap().token.digest(b"a token of theirs");
    town.stop().await;

    let node = new_cluster(disk, "restored").await;
    let restored = restore(&member(&node), &plan_of("/backup"), |_| {}).await.unwrap();
    assert!(restored.restored >= 2 * ACCOUNTS && restored.left_out > 0);
    let store = node.store();
    let (total, moved) = sum(&store).await;
    assert!(moved, "the backup is of before any transfer");
    assert_eq!(total, START * ACCOUNTS as i64);
    for number in 0..ACCOUNTS {
        let seen = read(&store, &session(number), Consistency::Strong).await.unwrap();
        assert_eq!(seen.as_deref(), Some("revoked"));
    }
    for gone in [session(99), flow(1)] {
        assert_eq!(read(&store, &gone, Consistency::Strong).await.unwrap(), None);
    }
    let index = read(&store, &key(Space::Index, 9, 9), Consistency::Strong).await.unwrap();
    assert_eq!(index.as_deref(), Some("index"));
    // Revisions go on above all of the backup's, under another incarnation.
    let oldest = report.manifest.groups.iter().map(|group| group.revision).max().unwrap();
    let answer = store.read(ReadRequest::new(Consistency::Strong).get(account(3))).await.unwrap();
    assert!(answer.results[0].rows[0].revision.unwrap().0 > oldest);
    let view = node.directory().view();
    assert!(view.incarnation() > report.manifest.incarnation);
    assert!(view.cluster.as_ref().unwrap().restoring.is_empty());
    // The keys are those of the backup.
    let mine = node.keyrings().unwrap();
    assert!(mine.token.digests(b"a token of theirs").contains(&made));
    write(&store, vec![], vec![put(&account(1), "7"), put(&key(Space::Index, 1, 1), "new")]).await;
    // A second time there is data.
    let again = restore(&member(&node), &plan_of("/backup"), |_| {}).await;
    assert!(matches!(again, Err(RestoreError::NotEmpty(_))), "{again:?}");
    node.abandon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_whose_fence_lapses_fails_and_leaves_no_manifest_and_no_fence() {
    let town = Town::in_memory().await;
    fill(&town.store(0)).await;
    let asked = member(&town.nodes[0]);
    // Prepared, and nobody there to decide it for as long as the fence holds.
    let slot = account(1).slot();
    let group = asked.directory().view().locate(slot).unwrap();
    let now = asked.clock().now().0;
    let prepare = Action::Prepare(Prepare {
        txn: Some(Txn {
            request_id: Bytes::from_static(&[9; 16]),
            read_time: now,
            not_after: now + 9_000,
            checks: vec![],
            ops: vec![put(&account(1), "never").into()],
        }),
        decider: account(7).as_bytes().clone(),
    });
    asked.shards().propose(ShardId(group.0), prepare, Terms::ORDINARY).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (store, stopped) = (town.store(1), stop.clone());
    // Log time goes on with what is written.
    let ticking = tokio::spawn(async move {
        for number in 0.. {
            if stopped.load(Ordering::Acquire) {
                break;
            }
            let slot = (number * 97 % 4_096) as u16;
            write(&store, vec![], vec![put(&key(Space::Home, slot, 1_000), "tick")]).await;
        }
    });
    let plan = BackupPlan { fence: Duration::from_millis(500), ..BackupPlan::new("/lapsed") };
    let failed = back_up(&asked, &plan, |_| {}).await;
    assert!(matches!(failed, Err(BackupError::Lapsed(_))), "{failed:?}");
    stop.store(true, Ordering::Release);
    ticking.await.unwrap();
    let disk = &town.sites[0].disk;
    assert!(read_manifest(disk.as_ref(), &plan.directory).is_err());
    // Transactions over shards go on.
    eventually("a transfer commits", async || transfer(&town.store(2), 2, 8).await).await;
    // A second backup wants another directory only if something is in the first.
    let good = BackupPlan::new("/good");
    eventually("a later backup is made", async || back_up(&asked, &good, |_| {}).await.is_ok())
        .await;
    let taken = back_up(&asked, &good, |_| {}).await;
    assert!(matches!(taken, Err(BackupError::NotEmpty(_))), "{taken:?}");
    let relative = back_up(&asked, &BackupPlan::new("here"), |_| {}).await;
    assert!(matches!(relative, Err(BackupError::Relative(_))));
    town.stop().await;
}

/// What a shard would hold that nobody knows to be formed is not left out silently.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_of_a_cluster_whose_shards_are_not_all_formed_is_refused() {
    let disk = Site::in_memory(1).disk;
    let node = new_cluster(disk.clone(), "young").await;
    fill(&node.store()).await;
    // One that nobody forms: it has no replica.
    let young = &ShardKey(GroupId(99));
    let store = node.store();
    let begun = store.transact(|t| async move {
        t.put::<ShardRows>(young, &ShardRecord::default(), None).await
    });
    begun.await.unwrap();
    let refused = back_up(&member(&node), &BackupPlan::new("/early"), |_| {}).await;
    assert!(matches!(refused, Err(BackupError::Unformed(GroupId(99)))), "{refused:?}");
    assert!(read_manifest(disk.as_ref(), &PathBuf::from("/early")).is_err());
    let gone = store.transact(|t| async move { t.delete::<ShardRows>(young).await });
    gone.await.unwrap();
    back_up(&member(&node), &BackupPlan::new("/later"), |_| {}).await.unwrap();
    node.abandon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_backup_is_refused_before_anything_is_changed() {
    let site = Site::in_memory(1);
    let disk = site.disk.clone();
    let node = new_cluster(disk.clone(), "first").await;
    fill(&node.store()).await;
    let plan = BackupPlan::new("/backup");
    let report = back_up(&member(&node), &plan, |_| {}).await.unwrap();
    node.abandon().await;
    let file = plan.directory.join(&report.manifest.groups[1].file);
    let whole = disk.read_file(&file).unwrap().unwrap();
    let mut turned = whole.to_vec();
    let middle = turned.len() / 2;
    turned[middle] ^= 1;
    disk.replace_file(&file, &turned).unwrap();
    let node = new_cluster(disk.clone(), "second").await;
    let refused = restore(&member(&node), &plan_of("/backup"), |_| {}).await;
    assert!(matches!(refused, Err(RestoreError::Archive(_))), "{refused:?}");
    let nothing = restore(&member(&node), &plan_of("/elsewhere"), |_| {}).await;
    assert!(matches!(nothing, Err(RestoreError::Archive(_))), "{nothing:?}");
    assert_eq!(node.directory().view().incarnation(), 1);
    assert!(disk.read_file(&plan.directory.join(MANIFEST)).unwrap().is_some());
    // Mended, it is restored.
    disk.replace_file(&file, &whole).unwrap();
    restore(&member(&node), &plan_of("/backup"), |_| {}).await.unwrap();
    assert_eq!(sum(&node.store()).await.0, START * ACCOUNTS as i64);
    let base = |group: GroupId| node.directory().view().shards[&group].base;
    assert!(base(GroupId(1)) > 0 && base(DIRECTORY) == 0);
    node.abandon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_that_was_broken_off_is_taken_up_by_the_next_and_by_no_other() {
    let site = Site::in_memory(1);
    let disk = site.disk.clone();
    let node = new_cluster(disk.clone(), "first").await;
    fill(&node.store()).await;
    back_up(&member(&node), &BackupPlan::new("/one"), |_| {}).await.unwrap();
    write(&node.store(), vec![], vec![put(&account(50), "0")]).await;
    back_up(&member(&node), &BackupPlan::new("/two"), |_| {}).await.unwrap();
    node.abandon().await;
    let node = new_cluster(disk, "second").await;
    let (asked, directory) = (member(&node), node.directory());
    let own = directory.view().keys.clone();
    directory.took_up(&own);
    eventually("it serves", async || node.obstacle().is_none()).await;
    let half_way = Arc::new(tokio::sync::Notify::new());
    let plan = plan_of("/one");
    tokio::select! {
        _ = restore(&asked, &plan, |step| {
            if matches!(step, Progress::Copying { groups: 3, .. }) {
                half_way.notify_one();
            }
        }) => panic!("it was not broken off"),
        () = half_way.notified() => {}
    }
    asked.refresh_directory().await;
    assert!(node.directory().view().is_restoring());
    assert_eq!(node.obstacle(), Some(Obstacle::Restoring));
    let incarnation = node.directory().view().incarnation();
    let other = restore(&asked, &plan_of("/two"), |_| {}).await;
    assert!(matches!(other, Err(RestoreError::Another)), "{other:?}");
    restore(&asked, &plan, |_| {}).await.unwrap();
    assert_eq!(sum(&node.store()).await.0, START * ACCOUNTS as i64);
    let view = directory.view();
    assert!(!view.is_restoring());
    assert_ne!(view.keys, own);
    // Its layers are still made of the keys that the new cluster had.
    assert_eq!(node.obstacle(), Some(Obstacle::Restoring));
    directory.took_up(&view.keys);
    eventually("it serves", async || node.obstacle().is_none()).await;
    assert_eq!(view.incarnation(), incarnation);
    node.abandon().await;
}

/// Who waited for it went away, and the checkpoints of all shards kept their room until a
/// restart; so long as its fence stood, nothing was written over two of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_that_is_broken_off_leaves_no_checkpoint_and_no_fence() {
    let town = Town::in_memory().await;
    fill(&town.store(0)).await;
    let asked = member(&town.nodes[0]);
    let is_end: [fn(Progress) -> bool; 3] = [
        |step| step == Progress::Fencing,
        |step| step == Progress::Cutting,
        |step| matches!(step, Progress::Copying { groups: 1, .. }),
    ];
    for (number, is_end) in is_end.into_iter().enumerate() {
        let plan = BackupPlan::new(format!("/broken-off-{number}"));
        let reached = tokio::sync::Notify::new();
        tokio::select! {
            biased;
            () = reached.notified() => {}
            made = back_up(&asked, &plan, |step| {
                if is_end(step) {
                    reached.notify_one();
                }
            }) => panic!("it was not broken off: {made:?}"),
        }
        // A fence may be on its way still, and comes in less than this.
        tokio::time::sleep(Duration::from_millis(500)).await;
        eventually("nothing is left of it", async || {
            asked.replicas().iter().all(|replica| {
                let names = replica.tablet().snapshots().unwrap();
                let fence = replica.machine().state().fence_until;
                fence == 0 && names.iter().all(|name| !name.starts_with("backup"))
            })
        })
        .await;
        assert!(read_manifest(town.sites[0].disk.as_ref(), &plan.directory).is_err());
    }
    town.stop().await;
}

/// Two calls restored the same backup. The first was slow, and went on to put rows over what
/// was written when the second had ended and the cluster served.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_that_another_has_ended_puts_nothing_more() {
    let disk = Site::in_memory(1).disk;
    let node = new_cluster(disk.clone(), "first").await;
    fill(&node.store()).await;
    back_up(&member(&node), &BackupPlan::new("/one"), |_| {}).await.unwrap();
    node.abandon().await;
    let node = new_cluster(disk, "second").await;
    let (asked, plan) = (member(&node), plan_of("/one"));
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let (slow, slow_plan) = (asked.clone(), plan.clone());
    let slow = tokio::spawn(async move {
        let mut begun = Some(begun);
        restore(&slow, &slow_plan, move |step| {
            if matches!(step, Progress::Copying { groups: 1, .. }) {
                begun.take().unwrap().send(()).unwrap();
                tokio::task::block_in_place(|| may_go_on.recv().unwrap());
            }
        })
        .await
    });
    has_begun.await.unwrap();
    restore(&asked, &plan, |_| {}).await.unwrap();
    for number in 0..ACCOUNTS {
        write(&node.store(), vec![], vec![put(&account(number), "7")]).await;
    }
    go_on.send(()).unwrap();
    let overtaken = slow.await.unwrap();
    for number in 0..ACCOUNTS {
        let held = read(&node.store(), &account(number), Consistency::Strong).await.unwrap();
        assert_eq!(held.as_deref(), Some("7"), "account {number}");
    }
    assert!(matches!(overtaken, Err(RestoreError::Overtaken)), "{overtaken:?}");
    node.abandon().await;
}
