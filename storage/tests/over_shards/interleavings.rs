//! The interleavings by name.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cardea_storage::{
    Clock, Consistency, KeyRange, Store, StoreError, Table, Timestamp,
    engine::Order,
    protocol::{
        pin::PinnedRead,
        shards::{Shards, Terms},
    },
    store::{Draft, Read, ReadRequest, Scan, Verdict},
    txn::{
        Condition, Effect, Outcome, Put, Txn,
        command::{Action, Decide, Finish, Prepare, Time},
    },
};

use crate::{
    flaky::Flaky,
    tables::{Account, AccountKey, Accounts, Note, NoteKey, Notes, title_key},
};

fn place(number: u16) -> Bytes {
    Accounts::key(&AccountKey(number)).as_bytes().clone()
}

fn put(number: u16, balance: i64) -> Effect {
    let value = prost::Message::encode_to_vec(&Account { balance }).into();
    Effect::Put(Put { key: place(number), value, expires_at: 0 })
}

fn txn(id: u8, not_after: Timestamp, checks: &[Condition], ops: &[Effect]) -> Txn {
    Txn {
        request_id: Bytes::copy_from_slice(&[id; 16]),
        read_time: 0,
        not_after: not_after.0,
        checks: checks.iter().cloned().map(Into::into).collect(),
        ops: ops.iter().cloned().map(Into::into).collect(),
    }
}

async fn propose(flaky: &Arc<Flaky>, number: u16, action: Action) -> Outcome {
    let slot = Accounts::key(&AccountKey(number)).slot();
    let shard = flaky.locate(slot).unwrap();
    flaky.propose(shard, action, Terms::ORDINARY).await.unwrap()
}

async fn balance(store: &Arc<dyn Store>, number: u16) -> Option<i64> {
    let view = store.view(Consistency::Strong);
    let account = view.get::<Accounts>(&AccountKey(number)).await.unwrap();
    account.map(|account| account.record.balance)
}

fn soon(flaky: &Flaky) -> Timestamp {
    flaky.clock.now().after(Duration::from_secs(6))
}

#[tokio::test(start_paused = true)]
async fn a_strong_reader_between_decide_and_finish_sees_the_commit() {
    let (flaky, store) = Flaky::new(1, 4);
    flaky.lose_finishes(true);
    let draft = Draft {
        ops: vec![put(0, 1).into(), put(1, 2).into()],
        read_time: flaky.clock.now(),
        ..Draft::default()
    };
    assert!(matches!(store.commit(draft).await.unwrap(), Verdict::Committed(_)));
    assert_eq!(balance(&store, 0).await, Some(1));
    assert_eq!(balance(&store, 1).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_commit_is_honoured_before_its_finish() {
    let (flaky, store) = Flaky::new(1, 4);
    flaky.lose_finishes(true);
    let draft = Draft { ops: vec![put(0, 1).into(), put(1, 2).into()], ..Draft::default() };
    let Verdict::Committed(committed) = store.commit(draft).await.unwrap() else { panic!() };
    let request = ReadRequest::new(Consistency::AtLeast(committed.snaptoken))
        .get(Accounts::key(&AccountKey(0)))
        .get(Accounts::key(&AccountKey(1)));
    let answer = store.read(request).await.unwrap();
    assert!(answer.results.iter().all(|rows| rows.rows.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn a_lock_left_by_a_dead_coordinator_is_settled_by_whoever_meets_it() {
    let (flaky, store) = Flaky::new(1, 4);
    let late = soon(&flaky);
    let prepare = Prepare { txn: Some(txn(1, late, &[], &[put(1, 5)])), decider: place(0) };
    let outcome = propose(&flaky, 1, Action::Prepare(prepare)).await;
    assert!(matches!(outcome, Outcome::Prepared { .. }));
    assert_eq!(balance(&store, 1).await, None, "undecided: the old value, at once");

    flaky.clock.advance(Duration::from_secs(7));
    let draft = Draft { ops: vec![put(1, 6).into()], ..Draft::default() };
    assert!(matches!(store.commit(draft).await.unwrap(), Verdict::Committed(_)));
    assert_eq!(balance(&store, 1).await, Some(6));

    // The coordinator was only asleep.
    let decide =
        Decide { txn: Some(txn(1, late, &[], &[put(0, 5)])), participants: vec![place(1)] };
    assert_eq!(propose(&flaky, 0, Action::Decide(decide)).await, Outcome::Aborted);
    assert_eq!(balance(&store, 0).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_late_duplicate_of_a_prepare_locks_nothing() {
    let (flaky, store) = Flaky::new(1, 4);
    let late = soon(&flaky);
    let prepare = || {
        Action::Prepare(Prepare { txn: Some(txn(1, late, &[], &[put(1, 5)])), decider: place(0) })
    };
    let decide =
        Decide { txn: Some(txn(1, late, &[], &[put(0, 5)])), participants: vec![place(1)] };
    let finish = Action::Finish(Finish {
        request_id: Bytes::copy_from_slice(&[1; 16]),
        not_after: late.0,
        commit: true,
    });
    propose(&flaky, 1, prepare()).await;
    propose(&flaky, 0, Action::Decide(decide)).await;
    propose(&flaky, 1, finish).await;
    assert!(matches!(propose(&flaky, 1, prepare()).await, Outcome::Finished { .. }));
    let draft = Draft { ops: vec![put(1, 6).into()], ..Draft::default() };
    store.commit(draft).await.unwrap();
    flaky.clock.advance(Duration::from_secs(120));
    assert_eq!(propose(&flaky, 1, prepare()).await, Outcome::Unknown);
    assert_eq!(balance(&store, 1).await, Some(6));
    let shard = flaky.locate(Accounts::key(&AccountKey(1)).slot()).unwrap();
    let view = flaky.local.machine(shard).unwrap().view().unwrap();
    assert_eq!(view.outstanding(10).unwrap(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_late_duplicate_of_a_refused_transaction_stays_refused() {
    let (flaky, store) = Flaky::new(1, 4);
    let late = soon(&flaky);
    let held = Prepare { txn: Some(txn(9, late, &[], &[put(0, 1)])), decider: place(1) };
    propose(&flaky, 0, Action::Prepare(held)).await;
    let blind = || Action::Commit(txn(1, late, &[], &[put(0, 7)]));
    assert!(matches!(propose(&flaky, 0, blind()).await, Outcome::Locked(_)));
    let release =
        Finish { request_id: Bytes::copy_from_slice(&[9; 16]), not_after: late.0, commit: false };
    propose(&flaky, 0, Action::Finish(release)).await;
    // Nothing stands in its way any more, but its client has come back under a new id.
    assert!(matches!(propose(&flaky, 0, blind()).await, Outcome::Locked(_)));
    flaky.clock.advance(Duration::from_secs(7));
    assert!(matches!(propose(&flaky, 0, blind()).await, Outcome::Locked(_)));
    flaky.clock.advance(Duration::from_secs(70));
    assert_eq!(propose(&flaky, 0, blind()).await, Outcome::Unknown);
    assert_eq!(balance(&store, 0).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_decision_does_not_lapse_before_its_finish() {
    let (flaky, store) = Flaky::new(1, 4);
    flaky.lose_finishes(true);
    let draft = Draft { ops: vec![put(0, 1).into(), put(1, 2).into()], ..Draft::default() };
    store.commit(draft).await.unwrap();
    // Long past every receipt.
    flaky.clock.advance(Duration::from_secs(3600));
    for number in 0..2 {
        let tick = Action::Time(Time {});
        propose(&flaky, number, tick).await;
    }
    assert_eq!(balance(&store, 0).await, Some(1));
    assert_eq!(balance(&store, 1).await, Some(2));
    flaky.sweep_all().await;
    assert_eq!(balance(&store, 1).await, Some(2));
}

/// Two doctors may not both go off call: each checks the other and writes itself.
#[tokio::test(start_paused = true)]
async fn write_skew_over_two_shards_is_refused() {
    for seed in 0..20 {
        let (flaky, store) = Flaky::new(seed, 4);
        for number in 0..2 {
            store
                .transact(|t| async move {
                    t.insert::<Accounts>(&AccountKey(number), &Account { balance: 1 }, None);
                    Ok::<_, StoreError>(())
                })
                .await
                .unwrap();
        }
        flaky.set(crate::flaky::Faults { delay_ms: 30, ..Default::default() });
        let leave = |own: u16, other: u16| {
            let store = store.clone();
            async move {
                store
                    .transact(|t| async move {
                        let colleague = t.get::<Accounts>(&AccountKey(other)).await?;
                        if colleague.unwrap().record.balance == 0 {
                            return Ok::<_, StoreError>(false);
                        }
                        t.put::<Accounts>(&AccountKey(own), &Account { balance: 0 }, None).await?;
                        Ok(true)
                    })
                    .await
                    .map(|done| done.value)
            }
        };
        let (first, second) = tokio::join!(leave(0, 1), leave(1, 0));
        let left = u8::from(first.unwrap()) + u8::from(second.unwrap());
        assert_eq!(left, 1, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_who_want_one_name_exactly_one_gets_it() {
    for seed in 0..20 {
        let (flaky, store) = Flaky::new(seed, 4);
        flaky.set(crate::flaky::Faults { delay_ms: 30, ..Default::default() });
        let register = |number: u64| {
            let store = store.clone();
            async move {
                store
                    .transact(|t| async move {
                        let taken = t.rows(&[title_key("ada")], true).await?[0].is_some();
                        if !taken {
                            let note = Note { title: "ada".into() };
                            t.insert::<Notes>(&NoteKey(number), &note, None);
                        }
                        Ok::<_, StoreError>(!taken)
                    })
                    .await
                    .map(|done| done.value)
            }
        };
        let (first, second) = tokio::join!(register(1), register(2));
        assert!(first.unwrap() ^ second.unwrap(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_row_lives_and_dies_with_its_record() {
    let (flaky, store) = Flaky::new(1, 4);
    let until = flaky.clock.now().after(Duration::from_secs(10));
    let later = flaky.clock.now().after(Duration::from_secs(60));
    let put = |title: &'static str, expires_at| {
        let store = store.clone();
        async move {
            store
                .transact(|t| async move {
                    let note = Note { title: title.into() };
                    t.put::<Notes>(&NoteKey(1), &note, Some(expires_at)).await
                })
                .await
                .map_err(|error: StoreError| error)
                .unwrap();
        }
    };
    let indexed = |title: &'static str| {
        let store = store.clone();
        async move {
            let view = store.view(Consistency::Strong);
            view.rows(&[title_key(title)], false).await.unwrap()[0].is_some()
        }
    };
    put("a", until).await;
    assert!(indexed("a").await);
    // The record lives longer: so does its index row.
    put("a", later).await;
    flaky.clock.advance(Duration::from_secs(11));
    assert!(indexed("a").await, "the index row did not move with its record");
    // Another title: the old index row goes.
    put("b", later).await;
    assert!(!indexed("a").await && indexed("b").await);
    flaky.clock.advance(Duration::from_secs(60));
    assert!(!indexed("b").await, "the index row outlived its record");
}

#[tokio::test(start_paused = true)]
async fn what_appears_in_a_range_that_was_read_is_a_conflict() {
    let (_flaky, store) = Flaky::new(1, 4);
    let range = || {
        Notes::slot_range(
            cardea_storage::Slot::new(cardea_storage::Space::Home, 7),
            Default::default(),
        )
    };
    let tries = std::sync::atomic::AtomicU32::new(0);
    let (tries, other) = (&tries, &store);
    let count = store
        .transact(|t| async move {
            let (notes, _) = t.scan::<Notes>(range(), 10, Order::Forward).await?;
            if tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                other
                    .transact(|t| async move {
                        t.insert::<Notes>(&NoteKey(5), &Note { title: "x".into() }, None);
                        Ok::<_, StoreError>(())
                    })
                    .await?;
            }
            t.insert::<Notes>(&NoteKey(6), &Note { title: "y".into() }, None);
            Ok::<_, StoreError>(notes.len())
        })
        .await
        .unwrap();
    assert_eq!(count.value, 1, "the first attempt saw none and must not have committed");
}

#[tokio::test(start_paused = true)]
async fn too_large_or_too_wide_is_refused_before_anything_is_done() {
    let (flaky, store) = Flaky::new(1, 16);
    let proposals = || flaky.proposals.load(std::sync::atomic::Ordering::SeqCst);
    let before = proposals();
    let value = Bytes::from(vec![0; 1 << 20]);
    let large = Effect::Put(Put { key: place(0), value, expires_at: 0 });
    let draft = Draft { ops: vec![large.into()], ..Draft::default() };
    assert!(matches!(store.commit(draft).await, Err(StoreError::TooLarge { .. })));
    let wide = (0..9).map(|n| {
        let slot = cardea_storage::Slot::new(cardea_storage::Space::Home, n * 256);
        let key = cardea_storage::key::KeyWriter::new(
            slot,
            cardea_storage::Tag::TEST,
            Default::default(),
        );
        Effect::Delete(key.finish().as_bytes().clone()).into()
    });
    let draft = Draft { ops: wide.collect(), ..Draft::default() };
    assert!(matches!(store.commit(draft).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(proposals(), before);
}

#[tokio::test(start_paused = true)]
async fn a_page_from_which_a_commit_takes_rows_is_full_all_the_same() {
    let (flaky, store) = Flaky::new(1, 4);
    // In two slots three each, of which the first is to go.
    for number in [0, 4, 8, 1, 5, 9] {
        let draft = Draft { ops: vec![put(number, 7).into()], ..Draft::default() };
        store.commit(draft).await.unwrap();
    }
    flaky.lose_finishes(true);
    let delete = |number| Effect::Delete(place(number)).into();
    let draft = Draft { ops: vec![delete(0), delete(1)], ..Draft::default() };
    assert!(matches!(store.commit(draft).await.unwrap(), Verdict::Committed(_)));
    flaky.lose_finishes(false);
    for first in [0, 1] {
        let slot = Accounts::key(&AccountKey(first)).slot();
        let range = Accounts::slot_range(slot, Default::default());
        let view = store.view(Consistency::Strong);
        let (page, more) = view.peek_range::<Accounts>(range, 1, Order::Forward).await.unwrap();
        let numbers: Vec<u16> = page.iter().map(|entry| entry.key.0).collect();
        assert_eq!((numbers, more), (vec![first + 4], true));
    }
}

#[tokio::test(start_paused = true)]
async fn pinned_reads_are_of_one_instant_and_of_one_shard() {
    let (flaky, store) = Flaky::new(1, 4);
    let set = async |balance| {
        let draft = Draft { ops: vec![put(0, balance).into()], ..Draft::default() };
        store.commit(draft).await.unwrap()
    };
    let key = |number| Accounts::key(&AccountKey(number));
    let Verdict::Committed(first) = set(1).await else { panic!() };
    let pinned = store.pin(key(0).slot(), &Consistency::Strong).await.unwrap().unwrap();
    set(2).await;
    let PinnedRead::Rows(rows) = pinned.read(&[Read::Get(key(0))]).unwrap() else { panic!() };
    assert_eq!(Accounts::decode(&rows[0].rows[0]).unwrap().record.balance, 1);
    assert_eq!(pinned.snaptoken(), first.snaptoken);
    assert_eq!(balance(&store, 0).await, Some(2));
    assert_ne!(flaky.locate(key(0).slot()).unwrap(), flaky.locate(key(1).slot()).unwrap());
    assert_eq!(pinned.read(&[Read::Get(key(1))]).unwrap(), PinnedRead::Elsewhere);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_read_that_meets_a_lock_says_so() {
    let (flaky, store) = Flaky::new(1, 4);
    flaky.lose_finishes(true);
    let draft = Draft { ops: vec![put(0, 1).into(), put(1, 2).into()], ..Draft::default() };
    store.commit(draft).await.unwrap();
    let locked = async |number: u16, other: u16| {
        let key = Accounts::key(&AccountKey(number));
        let pinned = store.pin(key.slot(), &Consistency::Strong).await.unwrap().unwrap();
        let range = KeyRange { start: key.as_bytes().clone(), end: key.successor() };
        let scan = Read::Scan(Scan { range, limit: 1, order: Order::Forward });
        let far = Accounts::key(&AccountKey(other));
        assert_eq!(far.slot(), key.slot());
        let untouched = pinned.read(&[Read::Get(far)]).unwrap();
        assert!(matches!(untouched, PinnedRead::Rows(_)), "other rows are read");
        let found = [pinned.read(&[Read::Get(key)]).unwrap(), pinned.read(&[scan]).unwrap()];
        found.map(|read| read == PinnedRead::Locked)
    };
    let same_slot = |number: u16| {
        let slot = Accounts::key(&AccountKey(number)).slot();
        let others = (2..u16::MAX).filter(|other| *other != number);
        others.into_iter().find(|other| Accounts::key(&AccountKey(*other)).slot() == slot).unwrap()
    };
    let all = [locked(0, same_slot(0)).await, locked(1, same_slot(1)).await];
    assert!(all.contains(&[true, true]), "the participant's row is held: {all:?}");
}
