//! Looking up the other way round: the objects that a subject has a relation on, and
//! the subjects that have one on an object.
//!
//! 1. From what is given, the subject sets and bodies of traversals are followed that
//!    lead to what is sought ([`reach`]): the groups of a subject, the folders that it
//!    views. What lies at the end of them is not read yet.
//! 2. What is sought lies behind each of these in the order of names, so candidates are
//!    merged from there as far as a page needs ([`stream`]), and a page token names the
//!    last of them. Where more than [`MERGED_MAX`] lead there, or what is sought leads on
//!    to itself, all candidates are collected, and kept for the pages to come ([`kept`]).
//! 3. A candidate that alternatives alone lead to is certain. Others are checked, as is
//!    one that was kept since an earlier state: nothing is listed that does not hold at
//!    the instant of its page.
//!
//! Where a formula can hold of an object that nothing leads to (`!this.related.banned…`),
//! all objects of the namespace are candidates.
//!
//! Everything that a look-up finds is given as a whole, too, as of one instant, part by
//! part while it is looked for ([`flow`]).
//!
//! Pages are each of an instant of their own. What is given after the first page may be
//! on the pages to come, or not. A page may have fewer names than it could, even none,
//! and not be the last: no more than [`CHECKS_MAX`] candidates are checked for one.

mod candidates;
pub mod flow;
mod kept;
mod objects;
mod reach;
mod sought;
mod stream;
mod subjects;

use cardea_storage::{Consistency, Snaptoken, Tenant};

pub(crate) use self::kept::KeptLists;
use self::{
    candidates::Candidates,
    flow::{Given, Taker},
    kept::{List, Taken},
};
use crate::{
    ReadRejection, Service, Subject, SubjectSet,
    check::is_askable,
    condition::{Context, bounded},
    engine::{Engine, Limits, Unanswered, Why},
    graph::Graph,
    list::{Page, PageRequest},
    model::TupleRefused,
    page::BadPageToken,
    service::Answered,
};

/// Most subject sets and bodies behind which candidates are merged page by page: a read
/// for each and each of its relations, so that a page costs some milliseconds at most.
pub(crate) const MERGED_MAX: usize = 512;
/// Most candidates that are checked for one page.
const CHECKS_MAX: usize = 10_000;
/// Checks after which others use the thread: some hundred microseconds.
const CHECKS_BEFORE_OTHERS: usize = 16;
/// How many questions or names a look-up remembers for each that a check may ask: it
/// keeps less of them.
const REACHED_A_QUESTION: usize = 3;

impl Service {
    /// A page of the objects of a namespace that a subject has a relation or permission
    /// on, in their order.
    ///
    /// # Errors
    /// See [`ReadRejection`].
    #[expect(clippy::too_many_arguments, reason = "each is a part of the question")]
    pub async fn list_objects(
        &self,
        tenant: Tenant,
        namespace: &str,
        relation: &str,
        subject: &Subject,
        given: &Context,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Answered<Page<String>>, ReadRejection> {
        let lookup = self.objects_lookup(namespace, relation, subject, given)?;
        self.page_of_names(tenant, &lookup, page, consistency).await
    }

    /// Gives all objects of a namespace that a subject has a relation or permission on,
    /// in their order, to somebody who takes them; see [`flow`].
    ///
    /// # Errors
    /// See [`ReadRejection`]; what was given before holds all the same.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the question")]
    pub async fn give_objects(
        &self,
        tenant: Tenant,
        namespace: &str,
        relation: &str,
        subject: &Subject,
        given: &Context,
        consistency: Consistency,
        taker: &mut dyn Taker,
    ) -> Result<Given, ReadRejection> {
        let lookup = self.objects_lookup(namespace, relation, subject, given)?;
        self.give_names(tenant, &lookup, consistency, taker).await
    }

    /// A page of the subjects of a kind that have a relation or permission on an
    /// object, in their order. Subject sets are looked through, not listed.
    ///
    /// # Errors
    /// See [`ReadRejection`]; a permission of all whom it does not exclude is that of
    /// [everybody](ReadRejection::Everybody).
    pub async fn list_subjects(
        &self,
        tenant: Tenant,
        set: &SubjectSet,
        kind: &SubjectKind,
        given: &Context,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Answered<Page<String>>, ReadRejection> {
        let lookup = self.subjects_lookup(set, kind, given)?;
        self.page_of_names(tenant, &lookup, page, consistency).await
    }

    /// Gives all subjects of a kind that have a relation or permission on an object, in
    /// their order, to somebody who takes them; see [`flow`].
    ///
    /// # Errors
    /// As [`list_subjects`](Self::list_subjects); what was given before holds all the
    /// same.
    pub async fn give_subjects(
        &self,
        tenant: Tenant,
        set: &SubjectSet,
        kind: &SubjectKind,
        given: &Context,
        consistency: Consistency,
        taker: &mut dyn Taker,
    ) -> Result<Given, ReadRejection> {
        let lookup = self.subjects_lookup(set, kind, given)?;
        self.give_names(tenant, &lookup, consistency, taker).await
    }

    fn objects_lookup<'a>(
        &self,
        namespace: &str,
        relation: &str,
        subject: &'a Subject,
        given: &'a Context,
    ) -> Result<Lookup<'a>, ReadRejection> {
        subject.validate()?;
        let about = SubjectSet::new(namespace, "", relation);
        self.lookup(about, Sought::Objects(subject), given)
    }

    fn subjects_lookup<'a>(
        &self,
        set: &SubjectSet,
        kind: &'a SubjectKind,
        given: &'a Context,
    ) -> Result<Lookup<'a>, ReadRejection> {
        let nobody = kind.subject(self.store.entropy().uuid().to_string());
        self.lookup(set.clone(), Sought::Subjects { kind, nobody }, given)
    }

    fn lookup<'a>(
        &self,
        about: SubjectSet,
        sought: Sought<'a>,
        given: &'a Context,
    ) -> Result<Lookup<'a>, ReadRejection> {
        about.validate()?;
        bounded(given).map_err(TupleRefused::Condition)?;
        let (limits, merged_max) = (self.limits(0), self.merged_max);
        Ok(Lookup { about, sought, given, limits, merged_max })
    }

    async fn page_of_names(
        &self,
        tenant: Tenant,
        lookup: &Lookup<'_>,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Answered<Page<String>>, ReadRejection> {
        let name = lookup.name();
        let position = match page.token() {
            Some(token) => Some(Position::from_bytes(&self.pages.open(tenant, &name, token)?)?),
            None => None,
        };
        let list = List { tenant, name };
        let NamesPage { names, next } =
            self.names_behind(&list, lookup, position, page.limit(), &consistency).await?;
        let seal = |position: Position| {
            let entropy = self.store.entropy().as_ref();
            self.pages.seal(entropy, tenant, &list.name, &position.to_bytes())
        };
        let page = Page { items: names.value, next: next.map(seal) };
        Ok(Answered { value: page, snaptoken: names.snaptoken })
    }

    /// Some names behind a position.
    async fn names_behind(
        &self,
        list: &List,
        lookup: &Lookup<'_>,
        position: Option<Position>,
        limit: usize,
        fresh: &Consistency,
    ) -> Result<NamesPage, ReadRejection> {
        let position = position.as_ref();
        let walked = self
            .walk(list.tenant, fresh, |graph| async move {
                lookup.vet(&graph).await?;
                let after = position.map(|position| position.after.as_str());
                let begun = position.map(|position| &position.begun);
                let mut candidates = match self.kept.take(list, &graph, begun, fresh) {
                    Some(taken) => Candidates::kept(taken, after),
                    None => lookup.candidates(&graph, after, limit).await?,
                };
                let part = lookup.pick(&graph, &mut candidates, limit, CHECKS_MAX).await?;
                Ok((part, candidates.into_kept(), graph.snaptoken(), graph.time()))
            })
            .await?;
        let ((part, kept, at, time), snaptoken) = (walked.value, walked.snaptoken);
        if let (Some(kept), Some(_)) = (kept, &part.next) {
            self.kept.keep(list, kept, time);
        }
        let next = part.next.map(|after| {
            let begun = position.map_or(at, |position| position.begun.clone());
            Position { after, begun }
        });
        Ok(NamesPage { names: Answered { value: part.names, snaptoken }, next })
    }
}

/// Which subjects are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectKind {
    /// Subject ids.
    Ids,
    /// Objects of a namespace that are subjects themselves: subject sets without a
    /// relation.
    Objects(String),
}

impl SubjectKind {
    /// The subject of that kind with a name.
    pub fn subject(&self, name: String) -> Subject {
        match self {
            Self::Ids => Subject::Id(name),
            Self::Objects(namespace) => Subject::Set(SubjectSet::new(&**namespace, name, "")),
        }
    }

    /// Whether an object of a namespace is a subject of that kind.
    fn is_in(&self, namespace: &str) -> bool {
        match self {
            Self::Ids => true,
            Self::Objects(wanted) => wanted == namespace,
        }
    }
}

/// What names are sought.
#[derive(Debug)]
enum Sought<'a> {
    /// Objects of the namespace that is asked about, which this subject has the relation
    /// on.
    Objects(&'a Subject),
    /// Subjects that have the relation on the object that is asked about.
    Subjects {
        kind: &'a SubjectKind,
        /// One that no tuple names.
        nobody: Subject,
    },
}

/// A question that names answer.
#[derive(Debug)]
struct Lookup<'a> {
    about: SubjectSet,
    sought: Sought<'a>,
    given: &'a Context,
    limits: Limits,
    merged_max: usize,
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
struct Position {
    /// Behind this name.
    after: String,
    /// What its first page had seen.
    begun: Snaptoken,
}

/// Names, and where it goes on.
struct NamesPage {
    names: Answered<Vec<String>>,
    next: Option<Position>,
}

/// A part of a list.
struct Part {
    names: Vec<String>,
    /// The last name that was looked at, if there are others.
    next: Option<String>,
}

impl Position {
    /// Stands between the name and the token; in no text.
    const BOUNDARY: u8 = 0xff;

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.after.clone().into_bytes();
        bytes.push(Self::BOUNDARY);
        bytes.extend_from_slice(&self.begun.to_bytes());
        bytes
    }

    /// A position without a token is one of a list whose pages each began anew.
    fn from_bytes(bytes: &[u8]) -> Result<Self, BadPageToken> {
        let mut parts = bytes.splitn(2, |byte| *byte == Self::BOUNDARY);
        let after = parts.next().unwrap_or_default().to_vec();
        let after = String::from_utf8(after).map_err(|_| BadPageToken)?;
        let begun = Snaptoken::from_bytes(parts.next().unwrap_or_default());
        Ok(Self { after, begun: begun.map_err(|_| BadPageToken)? })
    }
}

impl Lookup<'_> {
    /// What its page tokens are sealed for, and what is kept of it goes by.
    fn name(&self) -> String {
        let (kind, of) = match &self.sought {
            Sought::Objects(subject) => ("objects", format!("{subject:?}")),
            Sought::Subjects { kind, .. } => ("subjects", format!("{kind:?}")),
        };
        let asked = format!("{:?} {of} {:?}", self.about, self.given);
        format!("{kind} {}", blake3::hash(asked.as_bytes()))
    }

    /// Most names that are remembered at once.
    fn names_max(&self) -> usize {
        self.limits.size.saturating_mul(REACHED_A_QUESTION)
    }

    /// Whether so little was reached that it can be reached anew for each page.
    fn is_short(&self, reach: &reach::Reach<'_, '_>) -> bool {
        reach.reached.len() <= self.merged_max
    }

    fn too_large(&self) -> ReadRejection {
        Unanswered::new(Why::Size, &self.about).into()
    }

    /// Refuses what cannot be listed.
    async fn vet(&self, graph: &Graph) -> Result<(), ReadRejection> {
        is_askable(graph.language(), &self.about)?;
        let Sought::Subjects { nobody, .. } = &self.sought else { return Ok(()) };
        let mut engine = Engine::new(graph, nobody.clone(), self.limits, self.given);
        if engine.decide_on(&self.about).await? {
            return Err(ReadRejection::Everybody(self.about.clone()));
        }
        Ok(())
    }

    /// Whatever may answer it, behind a name: a page of about `limit` is wanted.
    async fn candidates<'g>(
        &self,
        graph: &'g Graph,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Candidates<'g>, ReadRejection>
    where
        Self: 'g,
    {
        let reached = match &self.sought {
            Sought::Objects(subject) => objects::lead(self, graph, subject, after).await?,
            Sought::Subjects { kind, .. } => subjects::lead(self, graph, kind, after).await?,
        };
        let merge = reached.open(graph, limit).await?;
        match merge {
            stream::Opened::Merged(merge) => Ok(Candidates::Merged(merge)),
            stream::Opened::Collected { names, timeless } => {
                let at = graph.snaptoken();
                let language = graph.language_held().clone();
                let kept = kept::Kept::new(names, at, language, timeless);
                let taken = Taken { kept: kept.into(), trusted: true };
                Ok(Candidates::kept(taken, after))
            }
        }
    }

    /// The next of the candidates that answer it: at most `limit`, of which at most
    /// `checks` are checked.
    async fn pick(
        &self,
        graph: &Graph,
        candidates: &mut Candidates<'_>,
        limit: usize,
        checks: usize,
    ) -> Result<Part, ReadRejection> {
        let (mut names, mut checked, mut last) = (Vec::new(), 0, None);
        let mut engine = None;
        while let Some((name, certain)) = candidates.next().await? {
            checked += usize::from(!certain);
            if checked > checks {
                return Ok(Part { names, next: last });
            }
            let_others(certain, checked).await;
            if certain || self.holds_of(graph, &mut engine, &name).await? {
                // One beyond the page is looked for, so that the last page says it is.
                if names.len() == limit {
                    return Ok(Part { names, next: last });
                }
                names.push(name.clone());
            }
            last = Some(name);
        }
        Ok(Part { names, next: None })
    }

    /// Checks a candidate.
    async fn holds_of<'g>(
        &'g self,
        graph: &'g Graph,
        kept: &mut Option<Engine<'g>>,
        name: &str,
    ) -> Result<bool, ReadRejection> {
        match &self.sought {
            Sought::Objects(subject) => {
                // What is known of the subject's groups serves the next object too; it
                // must not count as what that one needs.
                let fits = |engine: &Engine<'_>| engine.nodes().len() < self.limits.size / 4;
                let engine = match kept.take().filter(fits) {
                    Some(engine) => engine,
                    None => Engine::new(graph, (*subject).clone(), self.limits, self.given),
                };
                let set = SubjectSet { object: name.to_owned(), ..self.about.clone() };
                kept.insert(engine).decide_on(&set).await
            }
            Sought::Subjects { kind, .. } => {
                let subject = kind.subject(name.to_owned());
                let mut engine = Engine::new(graph, subject, self.limits, self.given);
                engine.decide_on(&self.about).await
            }
        }
    }
}

/// Lets others use the thread from time to time, of so many checks; a look-up that nobody
/// awaits any more ends there.
async fn let_others(certain: bool, checked: usize) {
    if !certain && checked.is_multiple_of(CHECKS_BEFORE_OTHERS) {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use cardea_storage::Revision;

    use super::*;

    #[test]
    fn bytes_of_a_position_are_frozen_and_older_ones_are_read() {
        let mut begun = Snaptoken { incarnation: 1, ..Snaptoken::default() };
        begun.note(3, Revision(300));
        let position = Position { after: "dé".to_owned(), begun };
        let bytes = position.to_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "64c3a9ff08011205080310ac02");
        assert_eq!(Position::from_bytes(&bytes), Ok(position));
        let older = Position { after: "dé".to_owned(), begun: Snaptoken::default() };
        assert_eq!(Position::from_bytes("dé".as_bytes()), Ok(older));
        assert_eq!(Position::from_bytes(&[0xc3, 0xff]), Err(BadPageToken));
        assert_eq!(Position::from_bytes(&[b'd', 0xff, 0x12, 0x7f]), Err(BadPageToken));
    }
}
