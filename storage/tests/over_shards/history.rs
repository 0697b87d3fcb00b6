//! Random histories: money moves between accounts on four shards while messages
//! are lost, repeated and delayed, and coordinators die. Nothing may be lost or
//! made, and nothing acknowledged may be undone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cardea_storage::{Consistency, Store, StoreError};
use parking_lot::Mutex;

use crate::{
    flaky::{Faults, Flaky},
    tables::{Account, AccountKey, Accounts},
};

const ACCOUNTS: u16 = 8;
const OPENING: i64 = 1000;

async fn open_accounts(store: &Arc<dyn Store>) {
    for number in 0..ACCOUNTS {
        store
            .transact(|t| async move {
                t.insert::<Accounts>(&AccountKey(number), &Account { balance: OPENING }, None);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    }
}

async fn transfer(
    store: &Arc<dyn Store>,
    from: u16,
    to: u16,
    amount: i64,
) -> Result<bool, StoreError> {
    let done = store
        .transact(|t| async move {
            let keys = [AccountKey(from), AccountKey(to)];
            let accounts = t.get_many::<Accounts>(&keys).await?;
            let balance = |at: usize| accounts[at].as_ref().unwrap().record.balance;
            if balance(0) < amount {
                return Ok::<_, StoreError>(false);
            }
            let (less, more) = (balance(0) - amount, balance(1) + amount);
            t.put::<Accounts>(&keys[0], &Account { balance: less }, None).await?;
            t.put::<Accounts>(&keys[1], &Account { balance: more }, None).await?;
            Ok(true)
        })
        .await?;
    Ok(done.value)
}

/// All balances, as one serializable transaction of checks only.
async fn balances(store: &Arc<dyn Store>) -> Result<Vec<i64>, StoreError> {
    let read = store
        .transact(|t| async move {
            let mut balances = Vec::new();
            for number in 0..ACCOUNTS {
                let account = t.get::<Accounts>(&AccountKey(number)).await?;
                balances.push(account.unwrap().record.balance);
            }
            Ok::<_, StoreError>(balances)
        })
        .await?;
    Ok(read.value)
}

async fn run(seed: u64, faults: Faults) {
    let (flaky, store) = Flaky::new(seed, 4);
    open_accounts(&store).await;
    flaky.set(faults);
    let acknowledged: Arc<Mutex<BTreeMap<(u16, u16), i64>>> = Arc::default();
    let mut people = Vec::new();
    for person in 0..6_u64 {
        let (flaky, store, acknowledged) = (flaky.clone(), store.clone(), acknowledged.clone());
        people.push(tokio::spawn(async move {
            for _ in 0..12 {
                let draw = |bound: u16| u16::try_from(flaky.below(bound.into())).unwrap();
                let from = draw(ACCOUNTS);
                let to = (from + 1 + draw(ACCOUNTS - 1)) % ACCOUNTS;
                let amount = i64::from(draw(50));
                if person == 0 {
                    let read = tokio::time::timeout(Duration::from_secs(60), balances(&store));
                    if let Ok(Ok(balances)) = read.await {
                        assert_eq!(balances.iter().sum::<i64>(), OPENING * i64::from(ACCOUNTS));
                    }
                    continue;
                }
                let moved = transfer(&store, from, to, amount);
                if let Ok(Ok(true)) = tokio::time::timeout(Duration::from_secs(60), moved).await {
                    *acknowledged.lock().entry((from, to)).or_default() += amount;
                }
                flaky.clock.advance(Duration::from_millis(20));
            }
        }));
    }
    for person in people {
        person.await.unwrap();
    }
    flaky.sweep_all().await;
    let end = balances(&store).await.unwrap();
    assert_eq!(end.iter().sum::<i64>(), OPENING * i64::from(ACCOUNTS), "seed {seed}: {end:?}");
    assert!(end.iter().all(|balance| *balance >= 0), "seed {seed}: {end:?}");
}

#[tokio::test(start_paused = true)]
async fn money_is_neither_lost_nor_made_on_a_good_day() {
    for seed in 0..10 {
        run(seed, Faults::default()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn money_is_neither_lost_nor_made_under_loss_and_repetition() {
    let faults = Faults {
        lose_request: 60,
        lose_answer: 60,
        repeat_old: 200,
        delay_ms: 20,
        ..Faults::default()
    };
    for seed in 100..130 {
        run(seed, faults).await;
    }
}

#[tokio::test(start_paused = true)]
async fn money_is_neither_lost_nor_made_when_coordinators_die() {
    let faults = Faults { die: 25, repeat_old: 100, delay_ms: 40, ..Faults::default() };
    for seed in 200..230 {
        run(seed, faults).await;
    }
}

#[tokio::test(start_paused = true)]
async fn money_is_neither_lost_nor_made_when_clocks_are_off() {
    let faults = Faults {
        lose_answer: 40,
        die: 10,
        repeat_old: 200,
        delay_ms: 60,
        skew_ms: 9_000,
        ..Faults::default()
    };
    for seed in 300..312 {
        run(seed, faults).await;
    }
}

/// An acknowledged increment is never lost, and none is applied twice.
#[tokio::test(start_paused = true)]
async fn each_acknowledged_deposit_counts_once() {
    for seed in 400..420 {
        let (flaky, store) = Flaky::new(seed, 4);
        open_accounts(&store).await;
        flaky.set(Faults {
            lose_request: 80,
            lose_answer: 80,
            repeat_old: 300,
            ..Faults::default()
        });
        let (mut acknowledged, mut unknown) = (0, 0);
        for _ in 0..40 {
            let deposit = store.transact(|t| async move {
                for key in [AccountKey(0), AccountKey(1)] {
                    let account = t.get::<Accounts>(&key).await?.unwrap().record;
                    let balance = account.balance + 1;
                    t.put::<Accounts>(&key, &Account { balance }, None).await?;
                }
                Ok::<_, StoreError>(())
            });
            match deposit.await {
                Ok(_) => acknowledged += 1,
                Err(StoreError::Unknown) => unknown += 1,
                Err(_) => {}
            }
        }
        flaky.sweep_all().await;
        let view = store.view(Consistency::Strong);
        let balance = view.get::<Accounts>(&AccountKey(0)).await.unwrap().unwrap().record.balance;
        let other = view.get::<Accounts>(&AccountKey(1)).await.unwrap().unwrap().record.balance;
        assert_eq!(balance, other, "seed {seed}");
        let deposits = balance - OPENING;
        assert!(
            (acknowledged..=acknowledged + unknown).contains(&deposits),
            "seed {seed}: {deposits} deposits, {acknowledged} acknowledged, {unknown} unknown",
        );
        assert!(store.clock().now() > crate::flaky::START);
    }
}
