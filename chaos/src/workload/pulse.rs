//! Pulses: small writes to every home shard, through every node, all the time. The
//! longest time between two acknowledgements of a shard is how long nobody could write
//! there. Each writes an identity of its own: of those who write the same one, whoever is
//! far from its leader loses to the others, and is not heard though he could be.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::json;

use super::{Life, Run};
use crate::{
    check::identity::IdentityStory,
    cluster::{ShardStatus, Status},
    dice::Dice,
    history::{Fate, Moment, Span, Write},
    kratos,
};

/// Between two writes of one pulse.
const INTERVAL_MS: (u64, u64) = (25, 45);
/// How long a pulse waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Identities made before a shard without one is given up.
const CREATIONS_MAX: usize = 2000;

/// Acknowledgements by group.
#[derive(Debug, Default)]
pub struct Pulses {
    acknowledged: Mutex<BTreeMap<u64, Vec<Moment>>>,
    /// When each was last acknowledged by each node that it is written through.
    through: Mutex<BTreeMap<(usize, u64), Moment>>,
    spans: Mutex<Vec<Span>>,
    failures: Mutex<Vec<Moment>>,
}

impl Pulses {
    /// The longest time between two acknowledgements of a group, of those from
    /// the last one at or before `from` to the first one at or after `to`; `None`
    /// if the group has not been heard on both sides.
    pub fn gap(&self, group: u64, from: Moment, to: Moment) -> Option<Duration> {
        let mut acknowledged = self.acknowledged.lock().get(&group)?.clone();
        acknowledged.sort_unstable();
        longest_gap(&acknowledged, from, to)
    }

    /// The longest of all groups; without end if there is one that was not heard on
    /// both sides, for nobody knows then how long it was.
    pub fn worst_gap(&self, from: Moment, to: Moment) -> Duration {
        let gaps = self.groups().into_iter().map(|group| self.gap(group, from, to));
        longest(gaps).unwrap_or(Duration::MAX)
    }

    /// Acknowledgements a second of all groups between two moments.
    pub fn rate(&self, from: Moment, to: Moment) -> f64 {
        let groups = self.acknowledged.lock();
        let all = groups.values().flatten().filter(|at| **at > from && **at <= to);
        all.count() as f64 / from.until(to).as_secs_f64().max(1e-9)
    }

    /// What all but one of a hundred writes took at most that were acknowledged
    /// between two moments; `None` if none was.
    pub fn p99(&self, from: Moment, to: Moment) -> Option<Duration> {
        let spans = self.spans.lock();
        let within = |span: &&Span| span.ended > from && span.ended <= to;
        let mut took: Vec<Duration> =
            spans.iter().filter(within).map(|span| span.began.until(span.ended)).collect();
        took.sort_unstable();
        took.get((took.len() * 99 / 100).min(took.len().checked_sub(1)?)).copied()
    }

    /// How many writes ended between two moments without being acknowledged.
    pub fn failures(&self, from: Moment, to: Moment) -> usize {
        self.failures.lock().iter().filter(|at| **at > from && **at <= to).count()
    }

    /// When the group last acknowledged.
    pub fn last(&self, group: u64) -> Option<Moment> {
        self.acknowledged.lock().get(&group)?.iter().max().copied()
    }

    /// When a node that is written through last acknowledged a write to a group.
    pub fn last_through(&self, node: usize, group: u64) -> Option<Moment> {
        self.through.lock().get(&(node, group)).copied()
    }

    /// The nodes that are written through, each with a group.
    pub fn paths(&self) -> Vec<(usize, u64)> {
        self.through.lock().keys().copied().collect()
    }

    /// The groups that have pulses.
    pub fn groups(&self) -> Vec<u64> {
        self.acknowledged.lock().keys().copied().collect()
    }

    fn beat(&self, node: usize, group: u64, span: Span) {
        self.through.lock().insert((node, group), span.ended);
        self.acknowledged.lock().entry(group).or_default().push(span.ended);
        self.spans.lock().push(span);
    }
}

/// The longest; without end if one of them could not be measured. `None` if there is none.
pub fn longest(gaps: impl IntoIterator<Item = Option<Duration>>) -> Option<Duration> {
    gaps.into_iter().map(|gap| gap.unwrap_or(Duration::MAX)).max()
}

fn longest_gap(sorted: &[Moment], from: Moment, to: Moment) -> Option<Duration> {
    let first = sorted.partition_point(|at| *at <= from).checked_sub(1)?;
    let last = sorted.partition_point(|at| *at < to);
    let window = sorted.get(first..=last)?;
    window.windows(2).map(|pair| pair[0].until(pair[1])).max()
}

/// Identities by home group, one for each node that they are written through.
pub type Homes = BTreeMap<u64, Vec<(String, Span)>>;

/// Makes identities in every home shard, as many as there are nodes.
pub async fn find_homes(run: &Run, status: &Status) -> anyhow::Result<Homes> {
    let shards: Vec<&ShardStatus> = status.shards.iter().filter(|s| s.space == "home").collect();
    let mut homes: Homes = shards.iter().map(|shard| (shard.group, Vec::new())).collect();
    for attempt in 0..CREATIONS_MAX {
        if homes.values().all(|made| made.len() == run.nodes.len()) {
            return Ok(homes);
        }
        let node = &run.nodes[attempt % run.nodes.len()];
        let email = run.fresh_email("pulse");
        let began = run.now();
        let reply = kratos::create_identity(node, &email, &json!({})).await;
        let Some(id) = reply.done().and_then(|body| body["id"].as_str()) else {
            anyhow::ensure!(!reply.is_odd(), "an identity could not be made: {reply:?}");
            continue;
        };
        let shard = shards.iter().find(|shard| shard.is_home_of(id));
        if let Some(made) = shard.and_then(|shard| homes.get_mut(&shard.group))
            && made.len() < run.nodes.len()
        {
            made.push((id.to_owned(), run.since(began)));
        }
    }
    let made = homes.iter().map(|(group, made)| (group, made.len()));
    anyhow::bail!("not every home shard got its identities: {:?}", made.collect::<Vec<_>>())
}

/// Writes through one node until the run stops, then hands its story over.
pub async fn beat(
    run: Arc<Run>,
    pulses: Arc<Pulses>,
    (group, identity, created): (u64, String, Span),
    node: usize,
    mut dice: Dice,
) {
    let endpoint = run.nodes[node].patient(PATIENCE);
    let field = format!("p{node}");
    let mut writes = Vec::new();
    let mut version = 0;
    while !run.is_stopped() {
        version += 1;
        let path = format!("/metadata_admin/{field}");
        let patch = json!([{"op": "add", "path": path, "value": version}]);
        let began = run.now();
        let reply = kratos::patch(&endpoint, &identity, &patch).await;
        let span = run.since(began);
        let fate = reply.fate();
        if fate == Fate::Done {
            pulses.beat(node, group, span);
        } else {
            pulses.failures.lock().push(span.ended);
            if reply.is_odd() {
                run.note_odd(node, &format!("pulse of {identity}: {reply:?}"));
            }
        }
        writes.push((version, Write { span, fate }));
        tokio::time::sleep(dice.pause_ms(INTERVAL_MS.0, INTERVAL_MS.1)).await;
    }
    let life = Life {
        identity: IdentityStory {
            id: identity,
            created,
            writes,
            deletions: Vec::new(),
            reads: Vec::new(),
        },
        pointer: format!("/metadata_admin/{field}"),
        sessions: Vec::new(),
    };
    run.note(|ledger| ledger.lives.push(life));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_reaches_over_both_ends_of_the_window() {
        let at: Vec<Moment> = [0, 10, 20, 500, 510, 900].map(Moment).to_vec();
        let gap = |from, to| longest_gap(&at, Moment(from), Moment(to));
        assert_eq!(gap(25, 100), Some(Duration::from_micros(480)));
        assert_eq!(gap(0, 20), Some(Duration::from_micros(10)));
        assert_eq!(gap(505, 505), Some(Duration::from_micros(10)));
        assert_eq!(gap(505, 600), Some(Duration::from_micros(390)));
        assert_eq!(gap(505, 901), None);
    }

    #[test]
    fn a_group_that_is_not_heard_again_is_the_worst_and_not_none() {
        let pulses = Pulses::default();
        let beat = |group, at| {
            pulses.beat(0, group, Span { began: Moment(at), ended: Moment(at) });
        };
        assert_eq!(pulses.worst_gap(Moment(15), Moment(25)), Duration::MAX);
        for (group, at) in [(1, 10), (1, 20), (1, 30), (2, 10), (2, 20)] {
            beat(group, at);
        }
        assert_eq!(pulses.worst_gap(Moment(12), Moment(25)), Duration::MAX);
        beat(2, 70);
        assert_eq!(pulses.worst_gap(Moment(12), Moment(25)), Duration::from_micros(50));
    }
}
