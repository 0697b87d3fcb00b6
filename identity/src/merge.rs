//! Reading an index that lies in lanes as if it lay in one place: the first keys over
//! all lanes, in order.
//!
//! Each lane is asked for a few keys, all lanes in one round; those whose keys run out
//! before enough are known to be the first are asked again. So a page costs two rounds
//! or so where keys are spread, and reads a few times as many keys as it shows.

use bytes::Bytes;
use cardea_storage::{
    Consistency, Key, KeyRange, Slot, StoreError,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};

use crate::{
    Service,
    table::lane::{LANES, lanes},
};

/// Slot and tag: what stands before the tenant.
const HEAD: usize = 4;

/// What is left of a lane.
struct Lane {
    range: KeyRange,
    /// Keys that were read and not taken yet, the first one last.
    read: Vec<Key>,
    more: bool,
}

impl Lane {
    /// Whether its next key is known: one that was read, or that there is none.
    fn is_known(&self) -> bool {
        !self.read.is_empty() || !self.more
    }
}

/// Where a key lies in its lane: without slot and tag, so that keys of different lanes
/// compare.
pub(crate) fn place(key: &Key) -> &[u8] {
    &key.as_bytes()[HEAD..]
}

/// The part of a lane's range behind a place.
pub(crate) fn behind(range: KeyRange, place: Option<&[u8]>) -> KeyRange {
    let Some(place) = place else { return range };
    let mut start = range.start[..HEAD].to_vec();
    start.extend_from_slice(place);
    // The least key that is greater.
    start.push(0);
    KeyRange { start: Bytes::from(start).max(range.start), end: range.end }
}

impl Service {
    /// The first `limit` keys of an index over all lanes, in order, and whether there
    /// are more. `range` says where each lane begins.
    pub(crate) async fn first_of_lanes(
        &self,
        consistency: Consistency,
        range: impl Fn(Slot) -> KeyRange,
        limit: usize,
    ) -> Result<(Vec<Key>, bool), StoreError> {
        let fresh = |lane| Lane { range: range(lane), read: Vec::new(), more: true };
        let mut lanes: Vec<Lane> = lanes().map(fresh).collect();
        // Half as many again as if they were spread evenly.
        let at_once = (limit + limit / 2).div_ceil(LANES).max(8);
        let mut first: Vec<Key> = Vec::new();
        loop {
            self.fill(&mut lanes, &consistency, at_once).await?;
            while lanes.iter().all(Lane::is_known) {
                let next = lanes
                    .iter_mut()
                    .filter(|lane| !lane.read.is_empty())
                    .min_by(|a, b| a.read.last().map(place).cmp(&b.read.last().map(place)));
                let Some(lane) = next else { return Ok((first, false)) };
                if first.len() == limit {
                    return Ok((first, true));
                }
                first.extend(lane.read.pop());
            }
        }
    }

    /// Asks the lanes whose keys have run out.
    async fn fill(
        &self,
        lanes: &mut [Lane],
        consistency: &Consistency,
        at_once: usize,
    ) -> Result<(), StoreError> {
        let mut request = ReadRequest::new(consistency.clone());
        let limit = u32::try_from(at_once).unwrap_or(u32::MAX);
        let dry = |lane: &&mut Lane| !lane.is_known();
        for lane in lanes.iter_mut().filter(dry) {
            let scan = Scan { range: lane.range.clone(), limit, order: Order::Forward };
            request.reads.push(Read::Scan(scan));
        }
        let answer = self.store.read(request).await?;
        for (lane, rows) in lanes.iter_mut().filter(dry).zip(answer.results) {
            lane.more = rows.more;
            if let Some(last) = rows.rows.last() {
                lane.range.start = last.key.successor();
            }
            lane.read = rows.rows.into_iter().rev().map(|row| row.key).collect();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cardea_storage::{Table as _, Tenant};

    use super::*;
    use crate::{
        table::{IdentifierTextKey, IdentifiersByText},
        testing::World,
    };

    /// Files texts at identities of the given slots.
    async fn file(world: &World, keys: &[(u16, String)]) {
        for (slot, text) in keys {
            let slot = Slot::new(cardea_storage::Space::Home, *slot);
            let key = IdentifierTextKey {
                tenant: world.scope.tenant,
                text: text.clone(),
                identity: slot.mint(world.service.store.entropy().bytes()),
                kind: 1,
            };
            world
                .service
                .store
                .transact(|t| {
                    let key = key.clone();
                    async move { t.put::<IdentifiersByText>(&key, &Default::default(), None).await }
                })
                .await
                .unwrap();
        }
    }

    async fn first(world: &World, after: Option<&[u8]>, limit: usize) -> (Vec<Key>, bool) {
        let range = |lane| behind(IdentifiersByText::slot_range(lane, world.scope.tenant), after);
        let strong = Consistency::Strong;
        world.service.first_of_lanes(strong, range, limit).await.unwrap()
    }

    #[tokio::test]
    async fn keys_of_all_lanes_come_in_one_order_page_after_page() {
        let world = World::new();
        // Fifty in one lane, and some in others: lanes run out at different times.
        let mut keys: Vec<_> = (0..50).map(|at| (70, format!("b{at:02}"))).collect();
        keys.extend((0..20).map(|at| (at * 200, format!("a{at:02}"))));
        keys.push((4095, "c".to_owned()));
        file(&world, &keys).await;
        let mut wanted: Vec<_> = keys.into_iter().map(|(_, text)| text).collect();
        wanted.sort();
        for limit in [1, 7, 30, 71, 100] {
            let mut found = Vec::new();
            let mut after: Option<Vec<u8>> = None;
            loop {
                let (keys, more) = first(&world, after.as_deref(), limit).await;
                assert!(keys.len() == limit || !more);
                found.extend(keys.iter().map(|k| IdentifiersByText::read_key(k).unwrap().text));
                after = keys.last().map(|key| place(key).to_vec()).or(after);
                if !more {
                    break;
                }
            }
            assert_eq!(found, wanted, "{limit}");
        }
    }

    #[tokio::test]
    async fn another_tenant_sees_nothing_of_it() {
        let world = World::new();
        file(&world, &[(1, "a".to_owned())]).await;
        let range = |lane| IdentifiersByText::slot_range(lane, Tenant(9));
        let strong = Consistency::Strong;
        let found = world.service.first_of_lanes(strong, range, 10).await;
        assert_eq!(found.unwrap(), (Vec::new(), false));
    }
}
