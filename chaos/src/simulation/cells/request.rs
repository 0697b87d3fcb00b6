//! What clients ask of cells, and what they are told.

use cardea_storage::{StoreError, Timestamp, store::Snaptoken};

/// How fresh a count must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Fresh {
    /// Linearizable.
    Strong,
    /// At most so many milliseconds old.
    Bounded(u64),
    /// Not before this, at which it was at least that.
    AtLeast(Snaptoken, u64),
    /// Whatever is near.
    Eventual,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// The value of a register.
    Read(u64),
    /// A register is to hold a value.
    Write(u64, u64),
    /// A register is to hold the last if it holds the second.
    Swap(u64, u64, u64),
    /// An identifier is to be somebody's, with a row at home that says so.
    Claim(u64, u64),
    /// An identifier is to be nobody's again, if it is his.
    Release(u64, u64),
    /// Whose an identifier is, by the index.
    Lookup(u64),
    /// Whose it is, by the row at home.
    Owner(u64),
    /// Whose it is by the index and by the row at home, in one transaction.
    Audit(u64),
    /// A count is to be one more.
    Increment(u64),
    /// What a count is.
    Count(u64, Fresh),
    /// One side of a pair is to be taken, unless the other is.
    Take(u64, bool),
    /// One side of a pair is to be free.
    Free(u64, bool),
    /// Whether both sides of a pair are taken, in one transaction.
    Sides(u64),
    /// A session is to begin.
    Issue(u64),
    /// A session is to end.
    Revoke(u64),
    /// Whether a session is good.
    Check(u64),
    /// A row is to live for so many milliseconds; each is lent once.
    Lend(u64, u64),
    /// A row that is there is to live for at least so many more.
    Renew(u64, u64),
    /// Whether that row is there.
    Lent(u64),
    /// Until when the row and its index row live, in one transaction; 0 for one that is
    /// not there.
    Loan(u64),
    /// So much is to move from one part of a purse to the other.
    Move(u64, u64, bool),
    /// What is in both parts of a purse, in one transaction.
    Purse(u64),
    /// A book is to stand on a shelf.
    Shelve(u64, u64),
    /// A book is to be gone.
    Discard(u64),
    /// The shelves that a book stands on by its row, and by the index, as bits, in one
    /// transaction.
    Book(u64),
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A value; 0 for nothing.
    Value(u64),
    /// A count, and where it was read or written.
    Counted(u64, Snaptoken),
    /// It was done.
    Done,
    /// It was refused by what is there.
    Differs,
    /// Two values of one instant.
    Both(u64, u64),
    /// A row is there, until when, judged at what time.
    Until(Timestamp, Timestamp),
    /// A row is not there, judged at what time.
    Gone(Timestamp),
    /// Nothing was done.
    Not(String),
    /// Nobody knows.
    Unknown,
    /// What no store may answer.
    Absurd(String),
}

pub(super) enum Refused {
    Differs,
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Differs => Self::Differs,
            Refused::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Reply {
    fn from(error: StoreError) -> Self {
        match error {
            // The process that answers so is about to stop.
            StoreError::Unknown | StoreError::Fault(_) => Self::Unknown,
            StoreError::Unavailable { .. }
            | StoreError::Overloaded { .. }
            | StoreError::IndexNotWhole { .. }
            | StoreError::Contended { .. } => Self::Not(error.to_string()),
            error => Self::Absurd(error.to_string()),
        }
    }
}
