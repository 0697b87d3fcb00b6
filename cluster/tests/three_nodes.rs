//! A cluster of three nodes: transactions and reads from every node, through the
//! loss of a leader and through restarts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod town;

use std::{sync::Arc, time::Duration};

use cardea_cluster::{
    DIRECTORY, GroupId, OpenError, directory::edit::EditError, runtime::obstacle::Obstacle,
};
use cardea_storage::{
    Revision, Row, Slot, Space, StoreError, Tag, Tenant,
    engine::memory::MemoryDisk,
    key::KeyWriter,
    store::{Consistency, Draft, ReadRequest, Snaptoken, Verdict},
};
use futures::FutureExt as _;
use town::{
    MEMORY_BYTES, RESERVE_BYTES, Site, Town, absent, address_of, eventually, key, put, read, write,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_transaction_over_two_spaces_from_any_node_is_read_by_every_node() {
    let town = Town::in_memory().await;
    for at in 0..3 {
        let number = at as u64;
        let (home, index) =
            (key(Space::Home, 100 * at as u16, number), key(Space::Index, 7, number));
        let ops = vec![put(&home, "home"), put(&index, "index")];
        let store = town.store(at);
        let verdict = write(&store, vec![absent(&index)], ops).await;
        let Verdict::Committed(committed) = verdict else { panic!("{verdict:?}") };
        for reader in 0..3 {
            let store = town.store(reader);
            for consistency in [
                Consistency::Strong,
                Consistency::AtLeast(committed.snaptoken.clone()),
                Consistency::Bounded(Duration::ZERO),
            ] {
                for (key, expected) in [(&home, "home"), (&index, "index")] {
                    let seen = read(&store, key, consistency.clone()).await.unwrap();
                    assert_eq!(seen.as_deref(), Some(expected), "{at} {reader} {consistency:?}");
                }
            }
            eventually("an eventual read sees it", async || {
                read(&store, &home, Consistency::Eventual).await.unwrap().is_some()
            })
            .await;
        }
    }
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strong_reads_at_followers_are_never_stale() {
    let town = Town::in_memory().await;
    let row = key(Space::Home, 9, 1);
    for round in 0..60_u32 {
        let value = round.to_string();
        write(&town.store(round as usize % 3), vec![], vec![put(&row, &value)]).await;
        for reader in 0..3 {
            let seen = read(&town.store(reader), &row, Consistency::Strong).await.unwrap();
            assert_eq!(seen, Some(value.clone()), "round {round}, node {reader}");
        }
    }
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_coordinators_that_race_for_an_absent_key_one_wins() {
    let town = Town::in_memory().await;
    for round in 0..20 {
        let contested = key(Space::Index, 11, round);
        let racers = (0..3_u16).map(|at| {
            let (store, contested) = (town.store(usize::from(at)), contested.clone());
            let own = key(Space::Home, 1_300 * at, round);
            async move {
                let ops = vec![put(&contested, &at.to_string()), put(&own, "registered")];
                write(&store, vec![absent(&contested)], ops).await
            }
        });
        let verdicts = futures::future::join_all(racers).await;
        let won: Vec<usize> =
            (0..3).filter(|at| matches!(verdicts[*at], Verdict::Committed(_))).collect();
        assert_eq!(won.len(), 1, "round {round}: {verdicts:?}");
        let holder = read(&town.store(0), &contested, Consistency::Strong).await.unwrap();
        assert_eq!(holder, Some(won[0].to_string()));
        for at in 0..3_u16 {
            let own = key(Space::Home, 1_300 * at, round);
            let registered = read(&town.store(1), &own, Consistency::Strong).await.unwrap();
            assert_eq!(registered.is_some(), usize::from(at) == won[0], "round {round}");
        }
    }
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cluster_goes_on_without_the_node_that_led_everything() {
    let mut town = Town::in_memory().await;
    let row = key(Space::Home, 5, 1);
    write(&town.store(1), vec![], vec![put(&row, "before")]).await;
    let first = town.nodes.remove(0);
    first.abandon().await;
    drop(first);
    let store = town.store(0);
    eventually("a write commits", async || {
        let draft = cardea_storage::store::Draft {
            ops: vec![put(&row, "after").into()],
            read_time: store.clock().now(),
            ..cardea_storage::store::Draft::default()
        };
        store.commit(draft).await.is_ok()
    })
    .await;
    for at in 0..2 {
        let seen = read(&town.store(at), &row, Consistency::Strong).await.unwrap();
        assert_eq!(seen.as_deref(), Some("after"));
    }
    // It comes back at another address, and reads what it missed.
    let again = town.sites[0].moved().open().await.unwrap();
    assert!(again.joined().await.is_some());
    eventually("the node that came back reads what it missed", async || {
        read(&again.store(), &row, Consistency::Strong).await.ok().flatten().as_deref()
            == Some("after")
    })
    .await;
    again.abandon().await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_is_there_after_all_nodes_were_restarted() {
    let root = tempfile::tempdir().unwrap();
    let disk = || {
        let settings = cardea_storage::engine::rocks::RocksSettings::default();
        std::sync::Arc::new(cardea_storage::engine::rocks::RocksDisk::new(settings).unwrap())
    };
    let sites = (1..=3).map(|n| Site::on(disk(), root.path().join(format!("n{n}")), n)).collect();
    let town = Town::of_three(sites).await;
    let rows: Vec<_> = (0..50).map(|n| key(Space::Home, n * 80, u64::from(n))).collect();
    for row in &rows {
        write(&town.store(0), vec![], vec![put(row, "kept")]).await;
    }
    let sites = town.sites.clone();
    // Two as a crash would, one gracefully.
    town.nodes[2].shutdown().await.unwrap();
    town.stop().await;
    let mut nodes = Vec::new();
    for site in &sites {
        nodes.push(site.open().await.unwrap());
    }
    let town = Town { sites, nodes };
    town.settled(3).await;
    for (at, row) in rows.iter().enumerate() {
        let store = town.store(at % 3);
        eventually("the row is read", async || {
            read(&store, row, Consistency::Strong).await.ok().flatten().as_deref() == Some("kept")
        })
        .await;
    }
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_without_a_replica_follows_the_changes_at_another() {
    let town = Town::in_memory().await;
    let fourth = Site::in_memory(4).open().await.unwrap();
    fourth.join(&[address_of(&town.nodes[0])]).await.unwrap();
    let store = fourth.store();
    let (mut slot, mut after) = (0, Revision(0));
    eventually("the node reads a shard that it does not hold", async || {
        let (member, view) = (fourth.member().unwrap(), fourth.directory().view());
        let is_elsewhere = |slot: &u16| {
            let group = view.locate(Slot::new(Space::Home, *slot));
            group.is_some_and(|group| member.host().status(group).is_none())
        };
        let Some(found) = (0..4096).step_by(512).find(is_elsewhere) else { return false };
        slot = found;
        let request = ReadRequest::new(Consistency::Strong).get(key(Space::Home, slot, 1));
        let Ok(answer) = store.read(request).await else { return false };
        after = Revision(answer.snaptoken.positions[0].revision);
        true
    })
    .await;
    let range = KeyWriter::new(Slot::new(Space::Home, slot), Tag::TEST, Tenant(0)).range();
    let mut watch = store.watch(range.clone(), after).await.unwrap();
    let row = key(Space::Home, slot, 1);
    write(&town.store(1), vec![], vec![put(&row, "first")]).await;
    let second = write(&town.store(2), vec![], vec![put(&row, "second")]).await;
    let Verdict::Committed(second) = second else { panic!("{second:?}") };
    let second = Revision(second.snaptoken.positions[0].revision);
    let mut seen = Vec::new();
    loop {
        let changes = watch.next_until(second).await.unwrap();
        if changes.is_empty() {
            break;
        }
        let value = |row: &Row| String::from_utf8(row.value.to_vec()).unwrap();
        seen.extend(changes.iter().map(|change| change.row.as_ref().map(value)));
    }
    assert_eq!(seen, [Some("first".to_owned()), Some("second".to_owned())]);
    // Taken up again from the last change there is nothing left, and that is told, too.
    let mut again = store.watch(range, second).await.unwrap();
    assert_eq!(again.next_until(second).await.unwrap(), []);
    fourth.abandon().await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_directory_is_confirmed_while_group_0_has_a_quorum_and_no_longer() {
    let mut town = Town::in_memory().await;
    let last = town.nodes.remove(2);
    eventually("the directory is confirmed", async || last.is_confirmed()).await;
    town.stop().await;
    let lost = std::time::Instant::now();
    eventually("the directory is unconfirmed", async || !last.is_confirmed()).await;
    assert_eq!(last.obstacle(), Some(Obstacle::Unconfirmed));
    assert!(lost.elapsed() < Duration::from_secs(4), "{:?}", lost.elapsed());
    // What was known is still known.
    assert_eq!(last.directory().view().shards.len(), 7);
    last.abandon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leaders_move_and_the_status_shows_it() {
    let town = Town::in_memory().await;
    let target = cardea_cluster::NodeId(3);
    for group in [DIRECTORY, GroupId(1), GroupId(5)] {
        town.nodes[1].move_leader(group, target).await.unwrap();
        eventually("the status shows the new leader", async || {
            let status = town.nodes[0].status();
            status.shards.iter().find(|s| s.group == group.0).unwrap().leader == Some(3)
        })
        .await;
    }
    eventually("the cluster is well", async || town.nodes[0].status().problems.is_empty()).await;
    let keys = town.nodes[2].keyrings().unwrap();
    assert_eq!(keys.token.digest(b"x"), town.nodes[0].keyrings().unwrap().token.digest(b"x"));
    town.stop().await;
}

/// Of every node, whichever is asked, however little there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_status_shows_what_data_and_memory_every_node_takes() {
    let town = Town::in_memory().await;
    write(&town.store(0), vec![], vec![put(&key(Space::Home, 1, 1), "little")]).await;
    for node in &town.nodes {
        eventually("every node says what it takes", async || {
            node.status().nodes.iter().all(|node| {
                let data = node.disk_used_bytes.is_some_and(|bytes| bytes > 0);
                data && node.memory_bytes == Some(MEMORY_BYTES)
            })
        })
        .await;
    }
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leaders_go_home_and_stay_there() {
    let in_region = |number| {
        let region = format!("region-{number}");
        Site { region, ..Site::in_memory(number) }
    };
    let town = Town::of_three((1..=3).map(in_region).collect()).await;
    let groups = [GroupId(1), GroupId(2), GroupId(3), GroupId(4), GroupId(5)];
    for group in groups {
        town.nodes[0].set_home_region(group, "region-2").await.unwrap();
    }
    // Five leads at one node are what placement would even out without a home.
    let leaders = || {
        let shards = town.nodes[0].status().shards;
        groups.map(|group| shards.iter().find(|shard| shard.group == group.0).unwrap().leader)
    };
    eventually("all are led at home", async || leaders() == [Some(2); 5]).await;
    let unknown = town.nodes[0].set_home_region(groups[0], "region-9").await;
    assert!(matches!(unknown, Err(EditError::NotFound(_))), "{unknown:?}");
    let absent = town.nodes[0].set_home_region(GroupId(99), "region-2").await;
    assert!(matches!(absent, Err(EditError::NotFound(_))), "{absent:?}");
    for group in groups {
        town.nodes[2].set_home_region(group, "").await.unwrap();
    }
    eventually("they spread again", async || leaders() != [Some(2); 5]).await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_is_made_a_member_once() {
    let site = Site::in_memory(1);
    let node = site.open().await.unwrap();
    let plan = cardea_cluster::InitPlan::small("one");
    node.init(plan.clone()).await.unwrap();
    assert!(matches!(node.init(plan).await, Err(OpenError::AlreadyMember(_))));
    let seeds = vec![address_of(&node)];
    assert!(matches!(node.join(&seeds).await, Err(OpenError::AlreadyMember(_))));
    // A single node answers, too.
    let row = key(Space::Graph, 1, 1);
    eventually("the graph shard is formed", async || {
        read(&node.store(), &row, Consistency::Strong).await.is_ok()
    })
    .await;
    write(&node.store(), vec![absent(&row)], vec![put(&row, "v")]).await;
    let token = Consistency::AtLeast(Snaptoken::default());
    assert_eq!(read(&node.store(), &row, token).await.unwrap().as_deref(), Some("v"));
    node.abandon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_looks_for_a_cluster_may_be_told_to_make_one() {
    let node = Site::in_memory(1).open().await.unwrap();
    // Bound, and nobody answers there.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let seeds = vec![silent.local_addr().unwrap().to_string()];
    let looking = {
        let node = node.clone();
        tokio::spawn(async move { node.join(&seeds).await })
    };
    let asked = silent.accept().await.unwrap();
    node.init(cardea_cluster::InitPlan::small("one")).await.unwrap();
    let joined = looking.await.unwrap();
    assert!(matches!(joined, Err(OpenError::AlreadyMember(_))), "{joined:?}");
    drop(asked);
    node.abandon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_all_moved_at_once_find_each_other_through_their_seeds() {
    let town = Town::in_memory().await;
    let row = key(Space::Home, 5, 1);
    write(&town.store(1), vec![], vec![put(&row, "kept")]).await;
    let sites: Vec<_> = town.sites.iter().map(Site::moved).collect();
    town.stop().await;
    let mut nodes = Vec::new();
    for site in &sites {
        nodes.push(site.open().await.unwrap());
    }
    let seeds: Vec<String> =
        sites.iter().map(|site| format!("127.0.0.1:{}", site.port())).collect();
    nodes.iter().for_each(|node| node.look_through(&seeds).unwrap());
    let town = Town { sites, nodes };
    eventually("the row is read", async || {
        let seen = read(&town.store(2), &row, Consistency::Strong).await;
        seen.ok().flatten().as_deref() == Some("kept")
    })
    .await;
    eventually("the directory has the new addresses", async || {
        let view = town.nodes[0].directory().view();
        view.nodes.values().all(|node| seeds.contains(&node.address))
    })
    .await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_of_the_directory_is_acknowledged_when_every_node_has_it() {
    let town = Town::in_memory().await;
    let member = town.nodes[1].member().unwrap();
    let draining = cardea_cluster::directory::records::NodeState::Draining;
    let last = cardea_cluster::NodeId(3);
    town.nodes[1].set_node_state(last, draining).await.unwrap();
    member.refresh_directory().await;
    let revision = town.nodes[1].directory().view().revision;
    member.acknowledged_everywhere(revision).await;
    for node in &town.nodes {
        assert_eq!(node.directory().view().nodes[&last].state(), draining);
    }
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_with_room_refuses_writes_that_need_a_voter_without() {
    let disks: Vec<_> = (1..=3).map(|seed| Arc::new(MemoryDisk::new(seed))).collect();
    let sites = (1..)
        .zip(&disks)
        .map(|(number, disk)| Site::on(disk.clone(), std::path::PathBuf::from("/data"), number));
    let town = Town::of_three(sites.collect()).await;
    let row = key(Space::Home, 5, 1);
    let group = town.nodes[0].directory().view().locate(row.slot()).unwrap();
    town.nodes[0].move_leader(group, cardea_cluster::NodeId(1)).await.unwrap();
    let attempt = async || {
        let draft = Draft {
            ops: vec![put(&row, "v").into()],
            read_time: town.store(0).clock().now(),
            ..Draft::default()
        };
        town.store(0).commit(draft).await
    };
    eventually("node 1 leads", async || attempt().await.is_ok()).await;
    // One full disk costs nothing: the others are a quorum.
    disks[2].set_free_bytes(RESERVE_BYTES - 1);
    eventually("node 1 has heard of it", async || {
        let status = town.nodes[0].status();
        status.nodes.iter().any(|node| node.disk_free_bytes == Some(RESERVE_BYTES - 1))
    })
    .await;
    assert!(attempt().await.is_ok());
    disks[1].set_free_bytes(RESERVE_BYTES - 1);
    eventually("writes are refused", async || match attempt().await {
        Ok(_) => false,
        Err(StoreError::Overloaded { .. }) => {
            // Placement may have had other ideas of who leads.
            let first = Some(cardea_cluster::NodeId(1));
            if town.nodes[0].member().unwrap().leader_of(group) == first {
                return true;
            }
            town.nodes[0].move_leader(group, cardea_cluster::NodeId(1)).await.ok();
            false
        }
        Err(other) => panic!("{other:?}"),
    })
    .await;
    assert_eq!(
        read(&town.store(0), &row, Consistency::Strong).await.unwrap().as_deref(),
        Some("v")
    );
    disks[1].set_free_bytes(1 << 30);
    eventually("writes go on", async || attempt().await.is_ok()).await;
    town.stop().await;
}

/// One that was asked by a client of its own answered 500 for ever, where others had the row.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_disk_does_not_read_stops() {
    let disk = Arc::new(MemoryDisk::new(1));
    let site = Site::on(disk.clone(), std::path::PathBuf::from("/data"), 1);
    let node = site.open().await.unwrap();
    node.init(cardea_cluster::InitPlan::small("one")).await.unwrap();
    let row = key(Space::Home, 1, 1);
    eventually("the shard is formed", async || {
        read(&node.store(), &row, Consistency::Strong).await.is_ok()
    })
    .await;
    // Whatever it has open fails from now on.
    disk.crash();
    let failed = read(&node.store(), &row, Consistency::Eventual).await;
    assert!(matches!(failed, Err(StoreError::Fault(_))), "{failed:?}");
    assert!(node.faulted().now_or_never().is_some());
    node.abandon().await;
}

/// It went on with what it held, and was never confirmed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_cannot_read_the_directory_stops() {
    let node = Site::in_memory(1).open().await.unwrap();
    node.init(cardea_cluster::InitPlan::small("one")).await.unwrap();
    let mut row = KeyWriter::new(Slot::DIRECTORY, Tag::NODE, Tenant(0));
    row.u64(7);
    write(&node.store(), vec![], vec![put(&row.finish(), "?")]).await;
    eventually("it stops", async || node.faulted().now_or_never().is_some()).await;
    node.abandon().await;
}
