//! `cardea status`: a cluster at a glance.

use std::collections::BTreeMap;

use cardea_cluster::runtime::status::IndexProgress;

use super::{
    exit::{Failure, Outcome},
    output::{Cell, Printer, Table, Tone, show_bytes},
};
use crate::operator::{
    client::OperatorClient,
    wire::{ClusterStatus, IndexStatus, NodeState, NodeStatus, ShardStatus},
};

/// Past this offset a node neither leads nor stamps.
const CLOCK_OFFSET_MS_MAX: i64 = 500;

pub(super) async fn run(client: &OperatorClient, printer: Printer) -> Outcome {
    let status: ClusterStatus = client.get("/cluster/status").await?;
    printer.print(&status, show)?;
    match problems(&status) {
        problems if problems.is_empty() => Ok(()),
        problems => Err(Failure::Unhealthy(problems.join("; "))),
    }
}

fn show(status: &ClusterStatus, colour: bool) -> String {
    // Tables of nothing say nothing.
    let Some(id) = &status.cluster_id else { return String::new() };
    let mut text = format!(
        "{}  {}  {}\n\n",
        Tone::Strong.paint(&status.name, colour),
        Tone::Faint.paint(id, colour),
        Tone::Faint.paint(
            &format!("version {}, answered by node {}", status.version, status.answered_by),
            colour,
        ),
    );
    text.push_str(&node_table(&status.nodes).render(colour));
    text.push('\n');
    text.push_str(&shard_table(&status.shards).render(colour));
    let building = |index: &&IndexStatus| !index.whole;
    if status.indexes.iter().any(|index| building(&index)) {
        text.push('\n');
        text.push_str(&index_table(status.indexes.iter().filter(building)).render(colour));
    }
    if let Some(pending) = super::cluster::pending(status) {
        text.push_str(&format!("\n{pending}.\n"));
    }
    if problems(status).is_empty() {
        text.push_str(&format!("\n{} All is well.\n", Tone::Good.paint("✓", colour)));
    }
    text
}

/// What keeps the cluster from being well, in words.
fn problems(status: &ClusterStatus) -> Vec<String> {
    let mut problems = Vec::new();
    if status.cluster_id.is_none() {
        problems.push(
            "this node belongs to no cluster yet: run `cardea init` on one node, once; others \
             come in by cluster.join"
                .to_owned(),
        );
    }
    for node in &status.nodes {
        if node.state == NodeState::Dead {
            problems.push(format!("node {} is dead", node.id));
        }
        if node.disk_hangs {
            problems.push(format!("the disk of node {} hangs", node.id));
        }
        if node.clock_offset_ms.is_some_and(|offset| offset.abs() > CLOCK_OFFSET_MS_MAX) {
            problems.push(format!("the clock of node {} is off", node.id));
        }
    }
    let orphans = status.shards.iter().filter(|shard| shard.leader.is_none());
    problems.extend(orphans.map(|shard| format!("shard {} has no leader", shard.group)));
    problems.extend(lacking(status));
    let taken = status.indexes.iter().filter(|index| index.progress.taken > 0);
    problems.extend(taken.map(|index| {
        let taken = index.progress.taken;
        format!("{taken} records lack rows of {}, since others have them", index.name)
    }));
    problems
}

/// Shards that have fewer voters than they should: those that lack as many are named
/// together. Voters on nodes that are dead do not count.
fn lacking(status: &ClusterStatus) -> Vec<String> {
    let is_dead = |id: u64| {
        let mut nodes = status.nodes.iter();
        nodes.any(|node| node.id == id && node.state == NodeState::Dead)
    };
    let mut lacking = BTreeMap::<(usize, u32), Vec<u64>>::new();
    for shard in &status.shards {
        let replicas = shard.replicas.iter();
        let there = replicas.filter(|replica| replica.voter && !is_dead(replica.node)).count();
        // What has no leader is named for that, and nobody knows its voters.
        if shard.leader.is_some() && there < shard.voters_wanted as usize {
            lacking.entry((there, shard.voters_wanted)).or_default().push(shard.group);
        }
    }
    let named = |((there, wanted), mut groups): ((usize, u32), Vec<u64>)| {
        groups.sort_unstable();
        let verb = if groups.len() == 1 { "shard" } else { "shards" };
        let have = if groups.len() == 1 { "has" } else { "have" };
        format!("{verb} {} {have} {there} of {wanted} voters", runs(&groups))
    };
    lacking.into_iter().map(named).collect()
}

/// Ascending numbers, those that follow each other as one run: `1–4, 7`.
fn runs(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|one, next| *next == one + 1);
    let told = runs.map(|run| match (run.first(), run.last()) {
        (Some(first), Some(last)) if first != last => format!("{first}–{last}"),
        (first, _) => first.copied().unwrap_or_default().to_string(),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn node_table(nodes: &[NodeStatus]) -> Table {
    let mut table = Table::new([
        "node", "region", "address", "state", "leads", "replicas", "clock", "data", "free",
        "memory", "version",
    ]);
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "–".to_owned(), show_bytes);
    for node in nodes {
        let (state, tone) = match node.state {
            NodeState::Joining => ("joining", Tone::Warning),
            NodeState::Live if node.disk_hangs => ("disk hangs", Tone::Bad),
            NodeState::Live => ("live", Tone::Good),
            NodeState::Dead => ("dead", Tone::Bad),
            NodeState::Drained => ("drained", Tone::Warning),
            NodeState::Decommissioning => ("leaving", Tone::Warning),
            NodeState::Decommissioned => ("left", Tone::Faint),
        };
        let clock =
            node.clock_offset_ms.map_or_else(|| "–".to_owned(), |offset| format!("{offset:+} ms"));
        let clock_tone = match node.clock_offset_ms.map(i64::abs) {
            Some(offset) if offset > CLOCK_OFFSET_MS_MAX => Tone::Bad,
            Some(offset) if offset > CLOCK_OFFSET_MS_MAX / 2 => Tone::Warning,
            _ => Tone::Plain,
        };
        let region = match &node.zone {
            Some(zone) => format!("{}/{zone}", node.region),
            None => node.region.clone(),
        };
        table.row([
            Cell::toned(node.id.to_string(), Tone::Strong),
            region.into(),
            node.address.as_str().into(),
            Cell::toned(state, tone),
            node.leaders.to_string().into(),
            node.replicas.to_string().into(),
            Cell::toned(clock, clock_tone),
            bytes(node.disk_used_bytes).into(),
            bytes(node.disk_free_bytes).into(),
            bytes(node.memory_bytes).into(),
            node.version.as_str().into(),
        ]);
    }
    table
}

/// Indexes that are being built, or wait to be.
fn index_table<'a>(indexes: impl Iterator<Item = &'a IndexStatus>) -> Table {
    let mut table = Table::new(["index", "built", "records", "written", "deleted", "since"]);
    for index in indexes {
        let IndexProgress { slots_done, slots_all, records, filled, stripped, .. } = index.progress;
        let built = match (slots_all, &index.since) {
            (_, None) => "waits for the cluster version".to_owned(),
            (0, Some(_)) => "0 %".to_owned(),
            (all, Some(_)) => format!("{} %", 100 * u64::from(slots_done) / u64::from(all)),
        };
        table.row([
            Cell::toned(index.name.as_str(), Tone::Strong),
            Cell::toned(built, Tone::Warning),
            records.to_string().into(),
            filled.to_string().into(),
            stripped.to_string().into(),
            index.since.as_deref().unwrap_or("–").into(),
        ]);
    }
    table
}

/// The shards as a table.
pub(super) fn shard_table(shards: &[ShardStatus]) -> Table {
    let mut table = Table::new([
        "shard",
        "space",
        "slots",
        "home",
        "leader",
        "voters",
        "learners",
        "term",
        "committed",
        "lag",
    ]);
    for shard in shards {
        let of = |voter: bool| {
            let nodes = shard.replicas.iter().filter(|replica| replica.voter == voter);
            nodes.map(|replica| replica.node.to_string()).collect::<Vec<_>>().join(" ")
        };
        let leader = match shard.leader {
            Some(leader) => leader.to_string().into(),
            None => Cell::toned("none", Tone::Bad),
        };
        let lag = match shard.lag() {
            None => Cell::from("–"),
            Some(lag) if lag > 10_000 => Cell::toned(lag.to_string(), Tone::Warning),
            Some(lag) => lag.to_string().into(),
        };
        table.row([
            Cell::toned(shard.group.to_string(), Tone::Strong),
            shard.space.as_str().into(),
            format!("{:03x}–{:03x}", shard.first_slot, shard.last_slot).into(),
            shard.home_region.as_deref().unwrap_or("any").into(),
            leader,
            of(true).into(),
            of(false).into(),
            shard.term.to_string().into(),
            shard.committed.to_string().into(),
            lag,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::wire::ReplicaStatus;

    fn status() -> ClusterStatus {
        let node = |id, state| NodeStatus {
            id,
            address: format!("127.0.0.1:7{id}33"),
            region: "eu-central".to_owned(),
            zone: None,
            state,
            version: "0.1.0".to_owned(),
            version_max: 2,
            replicas: 6,
            leaders: 2,
            clock_offset_ms: Some(-3),
            disk_used_bytes: Some(3 << 20),
            disk_free_bytes: None,
            disk_hangs: false,
            memory_bytes: Some(40 << 20),
            silent_ms: Some(12),
        };
        ClusterStatus {
            name: "cardea".to_owned(),
            cluster_id: Some("c1".to_owned()),
            version: 2,
            version_known: 2,
            version_held: None,
            answered_by: 1,
            nodes: vec![node(1, NodeState::Live), node(2, NodeState::Live)],
            shards: vec![ShardStatus {
                group: 1,
                space: "home".to_owned(),
                first_slot: 0,
                last_slot: 1023,
                home_region: Some("eu-central".to_owned()),
                leader: Some(1),
                term: 3,
                committed: 100,
                voters_wanted: 1,
                replicas: vec![
                    ReplicaStatus { node: 1, voter: true, matched: Some(100) },
                    ReplicaStatus { node: 2, voter: true, matched: Some(88) },
                ],
            }],
            indexes: vec![index("session_by_issue")],
        }
    }

    fn index(name: &str) -> IndexStatus {
        IndexStatus {
            name: name.to_owned(),
            whole: true,
            progress: IndexProgress {
                slots_done: 24_576,
                slots_all: 24_576,
                records: 7,
                ..IndexProgress::default()
            },
            since: Some("2026-01-01T00:00:00Z".to_owned()),
        }
    }

    #[test]
    fn indexes_that_are_built_are_shown_with_how_far_they_are() {
        let mut status = status();
        assert!(!show(&status, false).contains("session_by_issue"), "whole ones are not news");
        let built = index("imported_token");
        let progress =
            IndexProgress { slots_done: 6_144, records: 1_234, filled: 56, ..built.progress };
        status.indexes.push(IndexStatus { whole: false, progress, ..built });
        status.indexes.push(IndexStatus { whole: false, since: None, ..index("late") });
        let text = show(&status, false);
        for part in ["imported_token", "25 %", "1234", "56", "waits for the cluster version"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.contains("All is well"), "building is no trouble\n{text}");
        status.indexes[1].progress.taken = 2;
        let told = ["2 records lack rows of imported_token, since others have them"];
        assert_eq!(problems(&status), told);
    }

    #[test]
    fn a_disk_that_hangs_is_shown_and_named() {
        let mut status = status();
        status.nodes[1].disk_hangs = true;
        assert!(show(&status, false).contains("disk hangs"));
        assert_eq!(problems(&status), ["the disk of node 2 hangs"]);
    }

    #[test]
    fn a_status_is_readable_and_says_when_all_is_well() {
        let text = show(&status(), false);
        for part in ["eu-central", "live", "-3 ms", "3.0 MiB", "000–3ff", "All is well"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(status().shards[0].lag(), Some(12));
    }

    #[test]
    fn a_dead_node_a_wrong_clock_and_a_shard_without_leader_are_named() {
        let mut status = status();
        status.nodes[0].state = NodeState::Dead;
        status.nodes[1].clock_offset_ms = Some(-3_600_000);
        status.shards[0].leader = None;
        assert_eq!(
            problems(&status),
            ["node 1 is dead", "the clock of node 2 is off", "shard 1 has no leader"]
        );
        assert!(!show(&status, false).contains("All is well"));
    }

    #[test]
    fn shards_that_lack_voters_are_named_and_those_alike_together() {
        let mut status = status();
        let shard = |group, voters_wanted, voters: &[u64]| ShardStatus {
            group,
            voters_wanted,
            replicas: (1..=3)
                .map(|node| ReplicaStatus { node, voter: voters.contains(&node), matched: None })
                .collect(),
            ..status.shards[0].clone()
        };
        let shards = vec![
            shard(0, 3, &[1, 2]),
            shard(1, 3, &[1, 3]),
            shard(2, 3, &[1, 2, 3]),
            shard(4, 3, &[2, 3]),
            shard(7, 3, &[1]),
            shard(8, 1, &[1]),
            ShardStatus { leader: None, ..shard(9, 3, &[]) },
            // A node of an older version does not say.
            shard(10, 0, &[1]),
        ];
        status.shards = shards;
        let told = [
            "shard 9 has no leader",
            "shard 7 has 1 of 3 voters",
            "shards 0–1, 4 have 2 of 3 voters",
        ];
        assert_eq!(problems(&status), told);
        // Whoever is dead does not vote.
        status.nodes[1].state = NodeState::Dead;
        let told = problems(&status);
        assert!(told.contains(&"shards 0, 4, 7 have 1 of 3 voters".to_owned()), "{told:?}");
        assert!(told.contains(&"shards 1–2 have 2 of 3 voters".to_owned()), "{told:?}");
        assert!(!show(&status, false).contains("All is well"));
    }

    #[test]
    fn a_node_without_a_cluster_is_not_said_to_be_well() {
        let alone = ClusterStatus { cluster_id: None, nodes: vec![], shards: vec![], ..status() };
        let told = problems(&alone);
        assert!(told.len() == 1 && told[0].contains("cardea init"), "{told:?}");
        assert!(!show(&alone, false).contains("well"));
    }
}
