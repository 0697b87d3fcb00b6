//! How well a set of nodes is spread over regions and zones.

use std::{cmp::Reverse, collections::BTreeMap};

use cardea_raft::NodeId;

use super::Picture;
use crate::directory::records::Survive;

/// The spread of a set of nodes; more is better. What one failure may take comes
/// first: the fewest replicas in the fullest region, or zone.
pub(super) type Spread = (Reverse<usize>, Reverse<usize>, usize, usize);

/// How well these nodes are spread, for what shall be survived.
pub(super) fn spread(picture: &Picture, nodes: &[NodeId], survive: Survive) -> Spread {
    let mut regions: BTreeMap<&str, usize> = BTreeMap::new();
    let mut zones: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for node in nodes.iter().filter_map(|node| picture.nodes.get(node)) {
        *regions.entry(&node.region).or_default() += 1;
        *zones.entry((&node.region, &node.zone)).or_default() += 1;
    }
    let fullest_region = regions.values().max().copied().unwrap_or(0);
    let fullest_zone = zones.values().max().copied().unwrap_or(0);
    match survive {
        Survive::Zone => {
            (Reverse(fullest_zone), Reverse(fullest_region), zones.len(), regions.len())
        }
        Survive::Region | Survive::Node => {
            (Reverse(fullest_region), Reverse(fullest_zone), regions.len(), zones.len())
        }
    }
}
