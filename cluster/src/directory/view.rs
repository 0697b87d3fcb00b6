//! The directory as of one revision, in memory.

use std::collections::{BTreeMap, BTreeSet};

use cardea_raft::{ClusterId, GroupId, NodeId, ReplicaId};
use cardea_storage::{
    Fault, Index, Revision, Slot, SlotRange, Space, Table, Tag, Tenant, Timestamp,
    engine::Order,
    key::KeyRange,
    machine::view::TabletView,
    store::{Read, SCAN_ROWS_MAX, Scan},
};

use super::{
    index,
    records::{ClusterKeyRecord, ClusterRecord, IndexRecord, NodeRecord, NodeState, ShardRecord},
    tables::{
        ClusterKeyKey, ClusterKeys, Clusters, Indexes, Nodes, ShardRows, TombstoneKey, Tombstones,
    },
};

/// The directory as of one revision.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DirectoryView {
    /// The revision.
    pub revision: Revision,
    /// Facts of the whole cluster; `None` before the cluster is initialised.
    pub cluster: Option<ClusterRecord>,
    /// Every node that ever was.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// The shards, group 0 among them.
    pub shards: BTreeMap<GroupId, ShardRecord>,
    /// Replicas that were dropped.
    pub tombstones: BTreeSet<TombstoneKey>,
    /// Sealed keys.
    pub keys: BTreeMap<ClusterKeyKey, ClusterKeyRecord>,
    /// How far indexes are, by the tag of their rows; those that are not here are
    /// [judged](index::is_whole) by their declaration.
    pub indexes: BTreeMap<Tag, IndexRecord>,
    /// Indexes that are refused to readers: of those that this node knows.
    lacking: Vec<Tag>,
    /// Slot ranges in order, with their groups.
    slots: Vec<(SlotRange, GroupId)>,
}

impl DirectoryView {
    /// Reads the whole directory, for a node that knows these indexes; empty if the tablet owns nothing yet. Blocks.
    ///
    /// # Errors
    /// A fault if the engine fails or holds what it should not.
    pub fn load(view: &TabletView, now: Timestamp, known: &[Index]) -> Result<Self, Fault> {
        let mut loaded = Self { revision: view.state().revision(), ..Self::default() };
        if !view.state().owns(Slot::DIRECTORY) {
            return Ok(loaded);
        }
        each::<Clusters>(view, now, |_, record| loaded.cluster = Some(record))?;
        each::<Nodes>(view, now, |key, record| drop(loaded.nodes.insert(key.0, record)))?;
        each::<ShardRows>(view, now, |key, record| drop(loaded.shards.insert(key.0, record)))?;
        each::<Tombstones>(view, now, |key, _| loaded.tombstones.extend([key]))?;
        each::<ClusterKeys>(view, now, |key, record| drop(loaded.keys.insert(key, record)))?;
        each::<Indexes>(view, now, |key, record| drop(loaded.indexes.insert(key.0, record)))?;
        loaded.index();
        loaded.lacking = index::lacking(known, &loaded.indexes);
        Ok(loaded)
    }

    /// Whether another view differs in nothing but its revision.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.cluster == other.cluster
            && self.nodes == other.nodes
            && self.shards == other.shards
            && self.tombstones == other.tombstones
            && self.keys == other.keys
            && self.indexes == other.indexes
    }

    /// Orders the slot ranges.
    fn index(&mut self) {
        self.slots = self
            .shards
            .iter()
            .flat_map(|(group, shard)| shard.slot_ranges().into_iter().map(|range| (range, *group)))
            .collect();
        self.slots.sort();
    }

    /// The group of a slot.
    pub fn locate(&self, slot: Slot) -> Option<GroupId> {
        let behind = self.slots.partition_point(|(range, _)| range.first() <= slot);
        let (range, group) = self.slots.get(behind.checked_sub(1)?)?;
        range.contains(slot).then_some(*group)
    }

    /// The slot ranges of the shards of a space, in order.
    pub fn ranges(&self, space: Space) -> Vec<SlotRange> {
        let ranges = self.slots.iter().map(|(range, _)| *range);
        ranges.filter(|range| range.space() == space).collect()
    }

    /// The home slots whose leaders should be in a region; all home slots if none
    /// are, so never empty once there are shards.
    pub fn home_ranges(&self, region: &str) -> Vec<SlotRange> {
        let homes = self.slots.iter().filter(|(range, _)| range.space() == Space::Home);
        let (mine, all): (Vec<_>, Vec<_>) = homes
            .map(|(range, group)| {
                let there = self.shards.get(group).map_or("", |shard| shard.home_region.as_str());
                (there.is_empty() || there == region, *range)
            })
            .fold((Vec::new(), Vec::new()), |(mut mine, mut all), (is_mine, range)| {
                all.push(range);
                if is_mine {
                    mine.push(range);
                }
                (mine, all)
            });
        if mine.is_empty() { all } else { mine }
    }

    /// Indexes that are not whole, and are refused to readers until they are.
    pub fn lacking(&self) -> &[Tag] {
        &self.lacking
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        let id = self.cluster.as_ref()?.id.as_ref();
        id.try_into().ok().map(ClusterId)
    }

    /// Whether a backup is being restored: nodes do not serve meanwhile.
    pub fn is_restoring(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| !cluster.restoring.is_empty())
    }

    /// Names the cluster's incarnation.
    pub fn incarnation(&self) -> u64 {
        self.cluster.as_ref().map_or(0, |cluster| cluster.incarnation)
    }

    /// The cluster version under which commands are proposed, at least 1.
    pub fn version(&self) -> u32 {
        self.cluster.as_ref().map_or(1, |cluster| cluster.version.max(1))
    }

    /// Nodes that are to answer: all but those that have left.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
        let left = |record: &NodeRecord| record.state() == NodeState::Decommissioned;
        self.nodes.iter().filter(move |(_, record)| !left(record)).map(|(id, node)| (*id, node))
    }

    /// The groups that should have a replica on a node, and that replica.
    pub fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = (GroupId, ReplicaId)> {
        self.shards.iter().filter_map(move |(group, shard)| {
            shard.replica_on(node).map(|replica| (*group, replica.replica()))
        })
    }
}

/// Visits every row of a directory table.
fn each<T: Table>(
    view: &TabletView,
    now: Timestamp,
    mut visit: impl FnMut(T::Key, T::Record),
) -> Result<(), Fault> {
    let mut range: KeyRange = T::slot_range(Slot::DIRECTORY, Tenant::default());
    loop {
        let scan = Scan { range: range.clone(), limit: SCAN_ROWS_MAX, order: Order::Forward };
        let Some(mut seen) = view.read(&[Read::Scan(scan)], now)? else { return Ok(()) };
        let rows = seen.results.pop().unwrap_or_default();
        for row in &rows.rows {
            let entry = T::decode(row)?;
            visit(entry.key, entry.record);
        }
        match rows.rows.last() {
            Some(last) if rows.more => range.start = last.key.successor(),
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cardea_storage::machine::state::range_bits;

    use super::*;

    fn shard(space: Space, part: u16, parts: u16, region: &str) -> ShardRecord {
        ShardRecord {
            ranges: range_bits(&[SlotRange::part(space, part, parts).unwrap()]),
            home_region: region.to_owned(),
            ..ShardRecord::default()
        }
    }

    fn view(shards: Vec<ShardRecord>) -> DirectoryView {
        let shards = (1..).map(GroupId).zip(shards).collect();
        let mut view = DirectoryView { shards, ..DirectoryView::default() };
        view.index();
        view
    }

    #[test]
    fn a_slot_is_found_in_the_range_that_holds_it() {
        let view = view(vec![
            shard(Space::Home, 0, 2, ""),
            shard(Space::Home, 1, 2, ""),
            shard(Space::Index, 0, 1, ""),
        ]);
        let at = |space, number| view.locate(Slot::new(space, number)).map(|group| group.0);
        assert_eq!(at(Space::Home, 0), Some(1));
        assert_eq!(at(Space::Home, 2047), Some(1));
        assert_eq!(at(Space::Home, 2048), Some(2));
        assert_eq!(at(Space::Index, 4095), Some(3));
        assert_eq!(at(Space::Graph, 0), None);
        assert_eq!(view.ranges(Space::Home).len(), 2);
    }

    #[test]
    fn home_slots_of_a_region_without_any_are_all_home_slots() {
        let view = view(vec![shard(Space::Home, 0, 2, "eu"), shard(Space::Home, 1, 2, "us")]);
        assert_eq!(view.home_ranges("eu"), vec![SlotRange::part(Space::Home, 0, 2).unwrap()]);
        assert_eq!(view.home_ranges("asia").len(), 2);
    }
}
