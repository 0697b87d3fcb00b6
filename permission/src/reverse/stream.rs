//! Names from many ranges of rows, each in their order, merged into one order: read as
//! far as is needed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use cardea_storage::{
    Fault, KeyRange, Row,
    engine::Order,
    store::{Read, Scan},
};

use crate::{
    ReadRejection, Subject,
    condition::{Context, Verdict},
    engine::{Unanswered, Why},
    graph::Graph,
    model::{SubjectSet, Tuple},
    table::{read_condition, read_tuple},
};

/// Fewest and most rows that are read of a range at once.
const ROWS_MIN: usize = 8;
const ROWS_MAX: usize = 1_000;
/// Rows of all ranges that are read ahead, about, however many ranges there are.
const AHEAD_MAX: usize = 65_536;
/// Ranges that are read together when all is collected.
const TOGETHER: usize = 64;

/// Tells tuples that are there from those that are not.
pub(super) struct Sieve<'g> {
    graph: &'g Graph,
    given: &'g Context,
    /// Whether what it let through does not change with time alone.
    pub(super) timeless: bool,
}

impl<'g> Sieve<'g> {
    pub(super) fn new(graph: &'g Graph, given: &'g Context) -> Self {
        Self { graph, given, timeless: true }
    }

    /// A row's tuple, with whether it surely is there; `None` if it is not.
    pub(super) fn tuple(&mut self, row: &Row) -> Result<Option<(Tuple, bool)>, Fault> {
        self.timeless &= row.expires_at.is_none() && row.value.is_empty();
        let Some(tuple) = read_tuple(row) else { return Ok(None) };
        let verdict = read_condition(row)?.map(|it| it.verdict(self.given, self.graph.time()));
        Ok(match verdict {
            None | Some(Verdict::Holds) => Some((tuple, true)),
            Some(Verdict::Fails) => None,
            Some(Verdict::Missing(_) | Verdict::Failed(_)) => Some((tuple, false)),
        })
    }
}

/// What a row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// The object.
    Object,
    /// The object of the subject set.
    SubjectObject,
    /// The subject id.
    Id,
    /// The object of the subject set, if that has no relation.
    ObjectAsSubject,
}

impl Names {
    fn of(self, tuple: Tuple) -> Option<String> {
        match (self, tuple.subject) {
            (Self::Object, _) => Some(tuple.object),
            (Self::SubjectObject, Subject::Set(set)) => Some(set.object),
            (Self::Id, Subject::Id(id)) => Some(id),
            (Self::ObjectAsSubject, Subject::Set(set)) => {
                set.relation.is_empty().then_some(set.object)
            }
            _ => None,
        }
    }
}

/// A range of rows in the order of the names in them.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) range: KeyRange,
    pub(super) names: Names,
    /// Whether what is named surely answers, if the tuple is there.
    pub(super) certain: bool,
}

/// Everything that leads to candidates.
pub(super) struct Lead<'g> {
    pub(super) about: SubjectSet,
    pub(super) sieve: Sieve<'g>,
    /// Candidates that were met on the way.
    pub(super) known: BTreeMap<String, bool>,
    pub(super) streams: Vec<Stream>,
    /// Behind this name; of the known ones too.
    pub(super) after: Option<String>,
    /// Whether little led here, so that it can be found again for each page.
    pub(super) short: bool,
    /// Most names that may be collected.
    pub(super) names_max: usize,
}

/// Candidates, ready.
pub(super) enum Opened<'g> {
    /// To be read on as needed.
    Merged(Merge<'g>),
    /// All there are, from the first on.
    Collected {
        names: BTreeMap<String, bool>,
        /// Whether they do not change with time alone.
        timeless: bool,
    },
}

impl<'g> Lead<'g> {
    /// Reads what a page of about `limit` needs, or everything.
    pub(super) async fn open(
        self,
        graph: &'g Graph,
        limit: usize,
    ) -> Result<Opened<'g>, ReadRejection> {
        if self.short {
            return Ok(Opened::Merged(Merge::new(graph, self, limit).await?));
        }
        let Self { about, mut sieve, known: mut names, streams, names_max, .. } = self;
        let mut left: VecDeque<Stream> = streams.into();
        while !left.is_empty() {
            let part: Vec<Stream> = left.drain(..left.len().min(TOGETHER)).collect();
            let reads = part.iter().map(|stream| scan(&stream.range, ROWS_MAX)).collect();
            for (mut stream, rows) in part.into_iter().zip(graph.read(reads, true).await?) {
                for row in &rows.rows {
                    let Some((tuple, surely)) = sieve.tuple(row)? else { continue };
                    let Some(name) = stream.names.of(tuple) else { continue };
                    *names.entry(name).or_insert(false) |= stream.certain && surely;
                }
                if let Some(last) = rows.rows.last().filter(|_| rows.more) {
                    stream.range.start = last.key.successor();
                    left.push_back(stream);
                }
            }
            if names.len() > names_max {
                return Err(Unanswered::new(Why::Size, &about).into());
            }
        }
        Ok(Opened::Collected { names, timeless: sieve.timeless })
    }
}

fn scan(range: &KeyRange, rows: usize) -> Read {
    let limit = u32::try_from(rows).unwrap_or(u32::MAX);
    Read::Scan(Scan { range: range.clone(), limit, order: Order::Forward })
}

/// How far a stream was read.
struct Open {
    stream: Stream,
    ahead: VecDeque<(String, bool)>,
    /// Whether rows are left behind those.
    more: bool,
    rows: usize,
}

impl Open {
    /// Goes past a name; whether it is certain by what it passes.
    fn skip(&mut self, name: &str) -> bool {
        let mut certain = false;
        while self.ahead.front().is_some_and(|(next, _)| next == name) {
            certain |= self.ahead.pop_front().is_some_and(|(_, certain)| certain);
        }
        certain
    }
}

/// See the [module](self).
pub(super) struct Merge<'g> {
    graph: &'g Graph,
    sieve: Sieve<'g>,
    streams: Vec<Open>,
    known: std::collections::btree_map::IntoIter<String, bool>,
    /// The first of the known ones.
    head: Option<(String, bool)>,
    /// The first name of each stream that has one.
    heads: BinaryHeap<Reverse<(String, usize)>>,
    /// Most rows that are read of a range at once.
    rows_max: usize,
}

impl<'g> Merge<'g> {
    async fn new(graph: &'g Graph, lead: Lead<'g>, limit: usize) -> Result<Self, ReadRejection> {
        let Lead { sieve, mut known, streams, after, .. } = lead;
        if let Some(after) = after {
            known.retain(|name, _| *name > after);
        }
        let number = streams.len().max(1);
        let rows_max = (AHEAD_MAX / number).clamp(ROWS_MIN, ROWS_MAX);
        let rows = (limit / number).saturating_add(1).clamp(ROWS_MIN, rows_max);
        let open = |stream| Open { stream, ahead: VecDeque::new(), more: true, rows };
        let mut known = known.into_iter();
        let mut merge = Self {
            graph,
            sieve,
            streams: streams.into_iter().map(open).collect(),
            head: known.next(),
            known,
            heads: BinaryHeap::new(),
            rows_max,
        };
        merge.fill((0..merge.streams.len()).collect(), None).await?;
        Ok(merge)
    }

    /// The next name, and whether it surely answers.
    pub(super) async fn next(&mut self) -> Result<Option<(String, bool)>, ReadRejection> {
        let streamed = self.heads.peek().map(|Reverse((name, _))| name);
        let known = self.head.as_ref().map(|(name, _)| name);
        let Some(name) = [streamed, known].into_iter().flatten().min().cloned() else {
            return Ok(None);
        };
        let mut certain = false;
        if known == Some(&name) {
            certain |= self.head.take().is_some_and(|(_, certain)| certain);
            self.head = self.known.next();
        }
        let mut empty = Vec::new();
        while let Some(Reverse((head, _))) = self.heads.peek()
            && *head == name
            && let Some(Reverse((_, at))) = self.heads.pop()
        {
            certain |= self.streams[at].skip(&name);
            match self.streams[at].ahead.front() {
                Some((next, _)) => self.heads.push(Reverse((next.clone(), at))),
                None => empty.push(at),
            }
        }
        certain |= self.fill(empty, Some(&name)).await?;
        Ok(Some((name, certain)))
    }

    /// Reads streams on until each has another name than this, or ends; whether one of
    /// their rows makes this one certain.
    async fn fill(
        &mut self,
        mut empty: Vec<usize>,
        name: Option<&str>,
    ) -> Result<bool, ReadRejection> {
        let mut certain = false;
        while !empty.is_empty() {
            self.read(&empty).await?;
            let mut still = Vec::new();
            for at in empty {
                let open = &mut self.streams[at];
                if let Some(name) = name {
                    certain |= open.skip(name);
                }
                match open.ahead.front() {
                    Some((next, _)) => self.heads.push(Reverse((next.clone(), at))),
                    None if open.more => still.push(at),
                    None => {}
                }
            }
            empty = still;
        }
        Ok(certain)
    }

    /// Reads the next rows of streams that have some.
    async fn read(&mut self, which: &[usize]) -> Result<(), ReadRejection> {
        let which: Vec<usize> = which.iter().copied().filter(|at| self.streams[*at].more).collect();
        let (mut reads, mut rows) = (Vec::with_capacity(which.len()), 0);
        for at in &which {
            let open = &self.streams[*at];
            rows += open.rows;
            reads.push(scan(&open.stream.range, open.rows));
        }
        if reads.is_empty() {
            return Ok(());
        }
        let found = self.graph.read(reads, rows > ROWS_MIN * ROWS_MIN).await?;
        for (at, rows) in which.into_iter().zip(found) {
            let open = &mut self.streams[at];
            for row in &rows.rows {
                let Some((tuple, surely)) = self.sieve.tuple(row)? else { continue };
                let Some(name) = open.stream.names.of(tuple) else { continue };
                open.ahead.push_back((name, open.stream.certain && surely));
            }
            open.rows = (open.rows * 2).min(self.rows_max);
            open.more = rows.more;
            if let Some(last) = rows.rows.last() {
                open.stream.range.start = last.key.successor();
            }
        }
        Ok(())
    }
}
