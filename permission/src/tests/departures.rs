//! Tuples go with whom they name.

use std::sync::Arc;

use cardea_storage::{
    Consistency, Key, Slot, Space, Store, StoreError, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;

use crate::{
    Service, TupleQuery,
    departure::{TOGETHER_MAX, bound},
    engine::Limits,
    list::PageRequest,
    testing::{TENANT, World, ring, tuple},
    write::Change,
};

/// Stands for identities.
struct People;

#[derive(Clone)]
struct PersonKey(String);

#[derive(Clone, PartialEq, Message)]
struct PersonRecord {}

impl TableKey for PersonKey {
    fn slot(&self) -> Slot {
        Slot::new(Space::Home, 7)
    }

    fn write(&self, key: &mut KeyWriter) {
        key.str(&self.0);
    }

    fn read(_slot: Slot, _tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        rest.str().map(Self)
    }
}

impl Table for People {
    const TAG: Tag = Tag::TEST;
    type Key = PersonKey;
    type Record = PersonRecord;
}

fn departs(key: &Key) -> Option<(Tenant, String)> {
    People::read_key(key).map(|person| (key.tenant(), person.0))
}

async fn put(store: &Arc<dyn Store>, name: &str) {
    let name = &PersonKey(name.to_owned());
    let put =
        async |t: cardea_storage::Transaction| t.put::<People>(name, &PersonRecord {}, None).await;
    store.transact(put).await.unwrap();
}

#[tokio::test]
async fn tuples_of_whoever_departs_go_in_the_same_transaction_and_no_others() {
    let world = World::of("class D implements Namespace {}", &[]).await;
    let permission = Service::new(world.service.store.clone(), &ring(), Limits::default());
    let store = bound(world.service.store.clone(), Arc::new(permission), departs);
    put(&store, "ann").await;
    put(&store, "carl").await;
    world.insert(&["D:1#a@ann", "D:2#b@ann", "D:1#a@bob", "D:ann#a@bob", "D:3#a@carl"]).await;
    let many: Vec<Change> = (0..TOGETHER_MAX + 100)
        .map(|at| Change::Insert(tuple(&format!("D:many-{at}#a@carl")).into()))
        .collect();
    for part in many.chunks(500) {
        world.service.change_tuples(TENANT, part.to_vec()).await.unwrap();
    }
    let left = async |who: &str| {
        let query = TupleQuery { subject: Some(who.parse().unwrap()), ..TupleQuery::default() };
        let page = PageRequest { size: 1000, token: None };
        let found = world.service.list_tuples(TENANT, &query, &page, Consistency::Strong).await;
        found.unwrap().value.items.len()
    };
    for (who, before) in [("ann", 2), ("carl", TOGETHER_MAX as usize + 101)] {
        assert_eq!(left(who).await, before);
        let key = &PersonKey(who.to_owned());
        let gone = store.transact(async |t: cardea_storage::Transaction| {
            t.delete::<People>(key).await?;
            Ok::<_, StoreError>(())
        });
        let gone = gone.await.unwrap();
        assert_eq!(left(who).await, 0, "{who}");
        assert_eq!(left("bob").await, 2);
        let graph = world.service.store.shards(Space::Graph);
        assert!(!graph.is_empty() && gone.snaptoken.positions.len() > 1, "{:?}", gone.snaptoken);
        let listed = TupleQuery { namespace: Some("D".to_owned()), ..TupleQuery::default() };
        let page = PageRequest { size: 1000, token: None };
        let all = world.service.list_tuples(TENANT, &listed, &page, Consistency::Strong).await;
        assert!(all.unwrap().value.items.iter().all(|one| one.tuple.subject.to_string() != who));
    }
}
