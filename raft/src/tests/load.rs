//! Overload is refused at once, and costs no election.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_machine_makes_proposals_be_refused_but_not_the_leader_lost() {
    let settings = Settings { proposals_max: 16, unapplied_entries_max: 64, ..Settings::default() };
    let cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    let term = cluster.status(leader).term;
    let held = cluster.ledger(leader).hold();
    let host = cluster.host(leader);
    let propose = |admission| {
        let host = host.clone();
        tokio::spawn(
            async move { host.propose(GROUP, Bytes::from_static(b"a=b"), admission).await },
        )
    };
    let waiting: Vec<_> = (0..16).map(|_| propose(Admission::Ordinary)).collect();
    eventually("the proposals do not wait", || host.waiting(GROUP) == Some((16, 48))).await;
    let refused_at = Instant::now();
    assert_eq!(propose(Admission::Ordinary).await.unwrap(), Err(ProposeError::Overloaded));
    assert!(refused_at.elapsed() < Duration::from_secs(1));
    let bypassing = propose(Admission::Bypass);
    let waits = Duration::from_millis(5 * cluster.settings.timing.election_ms_max);
    // Nothing may happen: long enough for missed heartbeats to cost the term.
    tokio::time::sleep(waits).await;
    assert_eq!(cluster.status(leader).term, term, "heartbeats went on");
    drop(held);
    for one in waiting {
        one.await.unwrap().unwrap();
    }
    bypassing.await.unwrap().unwrap();
    assert_eq!(host.waiting(GROUP), Some((0, 0)));
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_without_a_quorum_is_unknown() {
    let settings = Settings { proposal_ms_max: 400, ..Settings::default() };
    let cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    cluster.network.isolate(leader);
    let outcome =
        cluster.host(leader).propose(GROUP, Bytes::from_static(b"a=b"), Admission::Ordinary).await;
    assert_eq!(outcome, Err(ProposeError::Unknown));
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_proposals_are_all_applied_once() {
    let cluster = Cluster::formed(Settings::default()).await;
    let leader = cluster.leader(GROUP).await;
    let writers: Vec<_> = (0..64)
        .map(|writer| {
            let host = cluster.host(leader);
            tokio::spawn(async move {
                for number in 0..20 {
                    let payload = Bytes::from(format!("w{writer}={number}"));
                    let proposed = host.propose(GROUP, payload, Admission::Ordinary).await.unwrap();
                    let before = match number {
                        0 => String::new(),
                        _ => (number - 1).to_string(),
                    };
                    assert_eq!(proposed.answer, before);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    cluster.converged(&nodes).await;
    let counts = cluster.host(leader).log_counts();
    assert!(counts.syncs < 1_280, "{} syncs for 1280 proposals", counts.syncs);
    cluster.close().await;
}

/// Few entries were kept behind a snapshot, but each brought a batch: the log was larger than
/// what it had made.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_cut_behind_a_snapshot_by_its_bytes() {
    let settings =
        Settings { snapshot_bytes: 16 << 10, bytes_kept: 8 << 10, ..Settings::default() };
    let cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    for number in 0..64 {
        cluster.put(leader, "k", &format!("{number:01024}")).await;
    }
    let held = || {
        let statuses = cluster.nodes.keys().map(|node| cluster.status(*node));
        statuses.map(|status| status.snapshot.zip(status.purged)).collect::<Vec<_>>()
    };
    // A kibibyte each: eight entries hold what may be kept, and one more the stretch it ends in.
    let is_cut = |at: &Option<(u64, u64)>| at.is_some_and(|(held, purged)| held - purged <= 9);
    eventually("the log is not cut", || held().iter().all(is_cut)).await;
    assert!(held().iter().flatten().all(|(held, purged)| held - purged >= 8), "{:?}", held());
    cluster.close().await;
}
