//! Identities that are made many at a time.

use super::*;

#[tokio::test]
async fn item_of_a_batch_is_made_once_however_often_it_is_sent() {
    let world = World::new();
    let new = |email: &str| NewIdentity { traits: traits(email), ..NewIdentity::default() };
    let item = |patch: u128, said: &str| BatchItem {
        request_id: "r".to_owned(),
        patch_id: uuid::Uuid::from_u128(patch),
        said: said.as_bytes().to_vec(),
    };
    let send = async |email: &str, item: Option<BatchItem>| {
        let made = world.service.create_batch(world.scope, vec![(new(email), item)]).await;
        made.into_iter().next().unwrap().map(|identity| identity.id)
    };
    let first = send("ann@example.org", Some(item(1, "ann"))).await.unwrap();
    assert_eq!(send("ann@example.org", Some(item(1, "ann"))).await.unwrap(), first);
    for other in [Some(item(2, "ann")), Some(item(1, "other")), None] {
        let taken = send("ann@example.org", other).await;
        assert!(matches!(taken, Err(CreateRejection::DuplicateIdentifier)), "{taken:?}");
    }
    // What is refused leaves no receipt, so that it may be mended and sent again.
    let bob = send("bob@example.org", Some(item(3, "bob"))).await.unwrap();
    assert_ne!(bob, first);
    world.service.delete_identity(world.scope, first).await.unwrap();
    let again = send("ann@example.org", Some(item(1, "ann"))).await.unwrap();
    assert_ne!(again, first, "it is gone, and so made anew");
    world.clock.advance(std::time::Duration::from_secs(25 * 3600));
    let late = send("ann@example.org", Some(item(1, "ann"))).await;
    assert!(matches!(late, Err(CreateRejection::DuplicateIdentifier)), "{late:?}");
}

fn unnamed(email: &str) -> (NewIdentity, Option<BatchItem>) {
    (NewIdentity { traits: traits(email), ..NewIdentity::default() }, None)
}

#[tokio::test]
async fn items_of_a_batch_are_made_many_at_a_time_and_each_is_whole() {
    let world = World::new();
    let emails: Vec<_> = (0..70).map(|number| format!("many-{number}@example.org")).collect();
    let items = emails.iter().map(|email| unnamed(email)).collect();
    world.counted.take();
    let made = world.service.create_batch(world.scope, items).await;
    let [_, _, commits, _] = world.counted.take();
    assert_eq!(commits, 2, "64 and 6");
    assert_eq!(made.len(), emails.len());
    for (made, email) in made.into_iter().zip(&emails) {
        let made = made.unwrap();
        assert_eq!(find(&world, email).await, [made.id]);
        assert_eq!(read(&world, made.id).await.unwrap(), made);
        let audit = world.service.verify_audit(world.scope, made.id.0).await.unwrap();
        assert_eq!((audit.events, audit.broken_at), (1, None));
    }
}

#[tokio::test]
async fn item_of_a_batch_that_is_refused_takes_no_other_along() {
    let world = World::new();
    let taken = world.create("taken@example.org", None).await.unwrap().id;
    let mut hashed = unnamed("hashed@example.org");
    hashed.0.password = Some(NewPassword::Clear(secret(PASSWORD)));
    let mut unknown = unnamed("eve@example.org");
    unknown.0.schema_id = "nobody's".to_owned();
    let items = vec![
        unnamed("ann@example.org"),
        unnamed("taken@example.org"),
        unknown,
        hashed,
        unnamed("bob@example.org"),
        unnamed("ANN@example.org"),
    ];
    let mut made = world.service.create_batch(world.scope, items).await;
    // Of two that want the same, one has it.
    let (first, last) = (made.remove(0), made.pop().unwrap());
    let (ann, none) = if first.is_ok() { (first, last) } else { (last, first) };
    assert!(matches!(none, Err(CreateRejection::DuplicateIdentifier)), "{none:?}");
    assert_eq!(find(&world, "ann@example.org").await, [ann.unwrap().id]);
    let refused: Vec<_> = made.iter().map(|made| made.as_ref().err()).collect();
    assert!(matches!(
        refused[..],
        [
            Some(CreateRejection::DuplicateIdentifier),
            Some(CreateRejection::UnknownSchema(_)),
            None,
            None,
        ]
    ));
    for (at, email) in [(2, "hashed@example.org"), (3, "bob@example.org")] {
        assert_eq!(find(&world, email).await, [made[at].as_ref().unwrap().id]);
    }
    assert_eq!(find(&world, "taken@example.org").await, [taken]);
    assert_eq!(find(&world, "eve@example.org").await, []);
    world.log_in("hashed@example.org", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn items_of_a_batch_that_are_too_large_together_are_made_alone() {
    let world = World::new();
    let large = json!("x".repeat(60_000));
    let items = (0..20).map(|number| {
        let (new, name) = unnamed(&format!("large-{number}@example.org"));
        (NewIdentity { metadata_admin: Some(large.clone()), ..new }, name)
    });
    let made = world.service.create_batch(world.scope, items.collect()).await;
    for (number, made) in made.into_iter().enumerate() {
        let made = made.unwrap();
        assert_eq!(made.metadata_admin, Some(large.clone()));
        assert_eq!(find(&world, &format!("large-{number}@example.org")).await, [made.id]);
    }
}

#[tokio::test]
async fn items_whose_outcome_nobody_saw_are_not_made_again() {
    let world = World::new();
    world.counted.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    world.counted.take();
    let items = vec![unnamed("ann@example.org"), unnamed("bob@example.org")];
    let made = world.service.create_batch(world.scope, items).await;
    assert_eq!(made.len(), 2);
    for made in made {
        assert!(matches!(made, Err(CreateRejection::Store(StoreError::Unknown))), "{made:?}");
    }
    let [_, _, commits, _] = world.counted.take();
    assert_eq!(commits, 1);
}

#[tokio::test]
async fn ids_that_are_minted_together_lie_in_one_shard_and_all_shards_have_their_turn() {
    let world = World::new();
    let shards = world.service.store.shards(cardea_storage::Space::Home);
    assert!(shards.len() > 1);
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let ids = world.service.mint_together(7);
        assert_eq!(ids.len(), 7);
        let slots: Vec<_> = ids.iter().map(cardea_storage::Slot::of_id).collect();
        let there = shards.iter().position(|shard| shard.contains(slots[0])).unwrap();
        assert!(slots.iter().all(|slot| shards[there].contains(*slot)));
        assert!(slots.iter().any(|slot| *slot != slots[0]), "all slots alike");
        met.insert(there);
    }
    assert_eq!(met.len(), shards.len());
}
