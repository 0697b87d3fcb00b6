//! The rows that simulated clients work on, and what they do with them: always
//! through the [`Store`] of some node, as a layer would.

pub mod books;
mod request;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cardea_storage::{
    IndexRow, Key, Row, Slot, Space, Store, StoreError, Table, TableKey, Tag, Tenant, Timestamp,
    Transaction,
    key::{KeyReader, KeyWriter},
    store::{Consistency, ReadRequest},
};

use self::request::Refused;
pub use self::request::{Fresh, Reply, Request};

/// Where a cell lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellKey {
    slot: Slot,
    number: u64,
}

impl CellKey {
    /// A cell of a space; cells of one kind are spread over its slots.
    pub fn new(space: Space, kind: CellKind, number: u64) -> Self {
        let kind = kind as u64;
        let slot = u16::try_from((number * 1_361 + kind * 97) % 4_096).unwrap_or(0);
        Self { slot: Slot::new(space, slot), number: kind << 32 | number }
    }
}

/// What a cell is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellKind {
    /// A value that is read, written and swapped.
    Register = 1,
    /// Who owns an identifier: a row in the index and one at home.
    Identifier = 2,
    /// How often something was counted.
    Count = 3,
    /// Two sides, of which one may be taken: one in the index, one at home.
    Pair = 4,
    /// 1 while good, 2 once revoked.
    Session = 5,
    /// A row that lives for a while, with an index row that lives as long.
    Loan = 6,
    /// [`PURSE`], divided between a row in the index and one at home.
    Purse = 7,
    /// A book on a shelf, with a row in an index that older nodes do not know.
    Book = 8,
}

impl CellKind {
    const ALL: [Self; 8] = [
        Self::Register,
        Self::Identifier,
        Self::Count,
        Self::Pair,
        Self::Session,
        Self::Loan,
        Self::Purse,
        Self::Book,
    ];
}

/// What is in both parts of a purse together.
pub const PURSE: u64 = 100;

/// The kind, number and value of a cell's row.
pub fn read_row(row: &Row) -> Option<(CellKind, u64, u64)> {
    if row.key.tag() != Cells::TAG {
        return None;
    }
    let entry = Cells::decode(row).ok()?;
    let kind = CellKind::ALL.into_iter().find(|kind| *kind as u64 == entry.key.number >> 32)?;
    Some((kind, entry.key.number & u64::from(u32::MAX), entry.record.value))
}

/// What a cell holds.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Cell {
    /// Whatever its kind means by it.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

/// The cells.
pub struct Cells;

impl TableKey for CellKey {
    fn slot(&self) -> Slot {
        self.slot
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64(self.number);
    }

    fn read(slot: Slot, _: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { slot, number: rest.u64()? })
    }
}

impl Table for Cells {
    const TAG: Tag = Tag::TEST;
    type Key = CellKey;
    type Record = Cell;
}

/// Rows that live for a while, each with an index row that lives as long.
pub struct Loans;

impl Table for Loans {
    const TAG: Tag = Tag::TEST;
    const INDEXED: bool = true;
    type Key = CellKey;
    type Record = Cell;

    fn index_rows(key: &CellKey, _: &Cell) -> Vec<IndexRow> {
        vec![IndexRow { key: lender(key.number), value: Bytes::from_static(b"lent") }]
    }
}

/// The loan that an index row is of.
pub fn loan_of_index(key: &Key) -> Option<u64> {
    let bytes = key.as_bytes();
    let number = bytes.get(bytes.len().checked_sub(8)?..)?;
    Some(u64::from_be_bytes(number.try_into().ok()?) & u64::from(u32::MAX))
}

/// Where the index row of a loan lies.
fn lender(number: u64) -> Key {
    let slot = Slot::new(Space::Index, 7);
    let mut key = KeyWriter::new(slot, Tag::TEST_INDEX, Tenant(0));
    key.u64(number);
    key.finish()
}

fn home(kind: CellKind, number: u64) -> CellKey {
    CellKey::new(Space::Home, kind, number)
}

fn index(kind: CellKind, number: u64) -> CellKey {
    CellKey::new(Space::Index, kind, number)
}

fn sides(pair: u64) -> [CellKey; 2] {
    [home(CellKind::Pair, pair), index(CellKind::Pair, pair)]
}

async fn value(t: &Transaction, key: &CellKey) -> Result<u64, StoreError> {
    Ok(t.get::<Cells>(key).await?.map_or(0, |cell| cell.record.value))
}

async fn set(t: &Transaction, key: &CellKey, value: u64) -> Result<(), StoreError> {
    t.put::<Cells>(key, &Cell { value }, None).await
}

/// Does what is asked at the store of a node, whose binary is the newest or the one
/// before.
pub async fn perform(store: Arc<dyn Store>, request: Request, newest: bool) -> Reply {
    match attempt(&store, request, newest).await {
        Ok(reply) => reply,
        Err(refused) => refused.into(),
    }
}

async fn attempt(store: &Arc<dyn Store>, request: Request, newest: bool) -> Result<Reply, Refused> {
    match request {
        Request::Read(n) => strong(store, home(CellKind::Register, n)).await,
        Request::Lookup(n) => strong(store, index(CellKind::Identifier, n)).await,
        Request::Check(n) => strong(store, home(CellKind::Session, n)).await,
        Request::Write(n, to) => write(store, home(CellKind::Register, n), to).await,
        Request::Issue(n) => write(store, home(CellKind::Session, n), 1).await,
        Request::Swap(n, from, to) => {
            swap(store, vec![home(CellKind::Register, n)], from, to).await
        }
        Request::Revoke(n) => swap(store, vec![home(CellKind::Session, n)], 1, 2).await,
        Request::Claim(n, who) => swap(store, both(n), 0, who).await,
        Request::Release(n, who) => swap(store, both(n), who, 0).await,
        Request::Owner(n) => strong(store, home(CellKind::Identifier, n)).await,
        Request::Audit(n) => two(store, both(n)).await,
        Request::Purse(n) => two(store, purse(n).to_vec()).await,
        Request::Move(n, amount, out) => move_between(store, purse(n), amount, out).await,
        Request::Sides(n) => two(store, sides(n).to_vec()).await,
        Request::Increment(n) => increment(store, home(CellKind::Count, n)).await,
        Request::Count(n, fresh) => count(store, home(CellKind::Count, n), fresh).await,
        Request::Take(n, side) => take(store, n, side).await,
        Request::Free(n, side) => write(store, sides(n)[usize::from(side)], 0).await,
        Request::Lend(n, ms) => {
            lend(store, home(CellKind::Loan, n), Duration::from_millis(ms)).await
        }
        Request::Renew(n, ms) => {
            renew(store, home(CellKind::Loan, n), Duration::from_millis(ms)).await
        }
        Request::Lent(n) => lent(store, home(CellKind::Loan, n)).await,
        Request::Loan(n) => loan(store, home(CellKind::Loan, n)).await,
        Request::Shelve(n, _) | Request::Discard(n) | Request::Book(n) => {
            let book = home(CellKind::Book, n);
            match request {
                Request::Shelve(_, on) => books::shelve(store, book, Some(on), newest).await,
                Request::Discard(_) => books::shelve(store, book, None, newest).await,
                _ => books::look(store, book).await,
            }
        }
    }
}

fn purse(number: u64) -> [CellKey; 2] {
    [home(CellKind::Purse, number), index(CellKind::Purse, number)]
}

fn both(identifier: u64) -> Vec<CellKey> {
    vec![index(CellKind::Identifier, identifier), home(CellKind::Identifier, identifier)]
}

async fn strong(store: &Arc<dyn Store>, key: CellKey) -> Result<Reply, Refused> {
    let cell = store.view(Consistency::Strong).get::<Cells>(&key).await?;
    Ok(Reply::Value(cell.map_or(0, |cell| cell.record.value)))
}

async fn write(store: &Arc<dyn Store>, key: CellKey, to: u64) -> Result<Reply, Refused> {
    store
        .transact(|t| async move {
            match to {
                0 => t.delete::<Cells>(&key).await?,
                to => set(&t, &key, to).await?,
            }
            Ok::<_, Refused>(())
        })
        .await?;
    Ok(Reply::Done)
}

async fn swap(
    store: &Arc<dyn Store>,
    keys: Vec<CellKey>,
    from: u64,
    to: u64,
) -> Result<Reply, Refused> {
    store
        .transact(|t| {
            let keys = keys.clone();
            async move {
                for key in &keys {
                    if value(&t, key).await? != from {
                        return Err(Refused::Differs);
                    }
                    match to {
                        0 => t.delete::<Cells>(key).await?,
                        to => set(&t, key, to).await?,
                    }
                }
                Ok(())
            }
        })
        .await?;
    Ok(Reply::Done)
}

async fn two(store: &Arc<dyn Store>, keys: Vec<CellKey>) -> Result<Reply, Refused> {
    let seen = store
        .transact(|t| {
            let keys = keys.clone();
            async move {
                Ok::<_, Refused>((value(&t, &keys[0]).await?, value(&t, &keys[1]).await?))
            }
        })
        .await?;
    Ok(Reply::Both(seen.value.0, seen.value.1))
}

async fn increment(store: &Arc<dyn Store>, key: CellKey) -> Result<Reply, Refused> {
    let done = store
        .transact(|t| async move {
            let next = value(&t, &key).await? + 1;
            set(&t, &key, next).await?;
            Ok::<_, Refused>(next)
        })
        .await?;
    Ok(Reply::Counted(done.value, done.snaptoken))
}

async fn count(store: &Arc<dyn Store>, key: CellKey, fresh: Fresh) -> Result<Reply, Refused> {
    let consistency = match fresh {
        Fresh::Strong => Consistency::Strong,
        Fresh::Bounded(ms) => Consistency::Bounded(Duration::from_millis(ms)),
        Fresh::AtLeast(token, _) => Consistency::AtLeast(token),
        Fresh::Eventual => Consistency::Eventual,
    };
    let view = store.view(consistency);
    let cell = view.get::<Cells>(&key).await?;
    Ok(Reply::Counted(cell.map_or(0, |cell| cell.record.value), view.seen()))
}

async fn take(store: &Arc<dyn Store>, pair: u64, side: bool) -> Result<Reply, Refused> {
    let keys = sides(pair);
    let (own, other) = (keys[usize::from(side)], keys[usize::from(!side)]);
    store
        .transact(|t| async move {
            if value(&t, &other).await? != 0 {
                return Err(Refused::Differs);
            }
            set(&t, &own, 1).await?;
            Ok(())
        })
        .await?;
    Ok(Reply::Done)
}

async fn move_between(
    store: &Arc<dyn Store>,
    [home, index]: [CellKey; 2],
    amount: u64,
    out: bool,
) -> Result<Reply, Refused> {
    store
        .transact(|t| async move {
            let (at_home, beside) = (value(&t, &home).await?, value(&t, &index).await?);
            // A purse that nobody touched is full at home.
            let (at_home, beside) =
                if at_home + beside == 0 { (PURSE, 0) } else { (at_home, beside) };
            let amount = amount.min(if out { at_home } else { beside });
            let moved = |held: u64, takes: bool| if takes { held - amount } else { held + amount };
            set(&t, &home, moved(at_home, out)).await?;
            set(&t, &index, moved(beside, !out)).await?;
            Ok::<_, Refused>(())
        })
        .await?;
    Ok(Reply::Done)
}

async fn lend(store: &Arc<dyn Store>, key: CellKey, time: Duration) -> Result<Reply, Refused> {
    let done = store
        .transact(|t| async move {
            let until = t.now().after(time);
            t.put::<Loans>(&key, &Cell { value: 1 }, Some(until)).await?;
            Ok::<_, Refused>(until)
        })
        .await?;
    Ok(Reply::Until(done.value, done.time))
}

/// Extends a row that is there: what a replay must find, though it expired since.
async fn renew(store: &Arc<dyn Store>, key: CellKey, time: Duration) -> Result<Reply, Refused> {
    let done = store
        .transact(|t| async move {
            let Some(mut loan) = t.get::<Loans>(&key).await? else { return Err(Refused::Differs) };
            let until = loan.expires_at.max(Some(t.now().after(time)));
            loan.record.value += 1;
            t.put::<Loans>(&key, &loan.record, until).await?;
            Ok(until.unwrap_or_default())
        })
        .await?;
    Ok(Reply::Until(done.value, done.time))
}

/// Until when both rows live, in milliseconds: 0 for one that is not there, and the end
/// of time for one without an expiry.
async fn loan(store: &Arc<dyn Store>, key: CellKey) -> Result<Reply, Refused> {
    let seen = store
        .transact(|t| async move {
            let rows = t.rows(&[Loans::key(&key), lender(key.number)], true).await?;
            let until = |at: usize| rows.get(at).and_then(Option::as_ref).map_or(0, lives_until);
            Ok::<_, Refused>((until(0), until(1)))
        })
        .await?;
    Ok(Reply::Both(seen.value.0, seen.value.1))
}

fn lives_until(row: &Row) -> u64 {
    row.expires_at.map_or(u64::MAX, Timestamp::as_millis)
}

async fn lent(store: &Arc<dyn Store>, key: CellKey) -> Result<Reply, Refused> {
    let request = ReadRequest::new(Consistency::Strong).get(Cells::key(&key));
    let answer = store.read(request).await?;
    let row = answer.results.into_iter().next().unwrap_or_default().into_row();
    match row.and_then(|row| row.expires_at) {
        Some(until) => Ok(Reply::Until(until, answer.time)),
        None => Ok(Reply::Gone(answer.time)),
    }
}
