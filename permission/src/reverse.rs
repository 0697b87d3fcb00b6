//! Looking up the other way round: the objects that a subject has a relation on, and
//! the subjects that have one on an object.
//!
//! Objects are found by going from the subject through the tuples that name it, the
//! subject sets that these make it a member of, and the formulas that ask for those.
//! What is reached through alternatives alone is certain; the rest is checked, and so
//! is what a condition may keep from being there. Where a
//! formula can hold of an object that nothing leads to (`!this.related.banned…`), all
//! objects of the namespace are checked.
//!
//! Pages are each of an instant of their own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use cardea_storage::{
    Consistency, KeyRange, Tenant,
    engine::Order,
    store::{Read, Scan},
};

use crate::{
    ReadRejection, Service, Subject, SubjectSet, Tuple,
    check::is_askable,
    condition::{Context, Verdict, bounded},
    engine::{
        Engine, Limits, Unanswered, Why,
        node::{Question, What},
    },
    graph::Graph,
    language::{Declared, Formula},
    list::{Page, PageRequest},
    model::TupleRefused,
    service::Answered,
    table::{read_condition, read_tuple},
};

/// Rows that are read together.
const ROWS: u32 = 1_000;
/// How many questions a look-up remembers for each that a check may ask: it keeps less of
/// them. With the default, 300,000 objects of a permission over one relation.
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
        let asked = format!("{namespace:?} {relation:?} {subject:?} {given:?}");
        let list = format!("objects {}", blake3::hash(asked.as_bytes()));
        let found =
            self.all_objects(tenant, namespace, relation, subject, given, consistency).await?;
        self.page_of_names(tenant, &list, page, found)
    }

    /// All objects of a namespace that a subject has a relation or permission on.
    ///
    /// # Errors
    /// See [`ReadRejection`].
    pub async fn all_objects(
        &self,
        tenant: Tenant,
        namespace: &str,
        relation: &str,
        subject: &Subject,
        given: &Context,
        consistency: Consistency,
    ) -> Result<Answered<BTreeSet<String>>, ReadRejection> {
        subject.validate()?;
        bounded(given).map_err(TupleRefused::Condition)?;
        let set = SubjectSet::new(namespace, "", relation);
        set.validate()?;
        let (set, limits) = (&set, self.limits(0));
        self.walk(tenant, &consistency, |graph| async move {
            is_askable(graph.language(), set)?;
            objects(&graph, set, subject, limits, given).await
        })
        .await
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
        let asked = format!("{set:?} {kind:?} {given:?}");
        let list = format!("subjects {}", blake3::hash(asked.as_bytes()));
        let found = self.all_subjects(tenant, set, kind, given, consistency).await?;
        self.page_of_names(tenant, &list, page, found)
    }

    /// All subjects of a kind that have a relation or permission on an object.
    ///
    /// # Errors
    /// As [`list_subjects`](Self::list_subjects).
    pub async fn all_subjects(
        &self,
        tenant: Tenant,
        set: &SubjectSet,
        kind: &SubjectKind,
        given: &Context,
        consistency: Consistency,
    ) -> Result<Answered<BTreeSet<String>>, ReadRejection> {
        set.validate()?;
        bounded(given).map_err(TupleRefused::Condition)?;
        let limits = self.limits(0);
        let nobody = kind.subject(self.store.entropy().uuid().to_string());
        let nobody = &nobody;
        self.walk(tenant, &consistency, |graph| async move {
            is_askable(graph.language(), set)?;
            subjects(&graph, set, kind, nobody, limits, given).await
        })
        .await
    }

    fn page_of_names(
        &self,
        tenant: Tenant,
        list: &str,
        page: &PageRequest,
        found: Answered<BTreeSet<String>>,
    ) -> Result<Answered<Page<String>>, ReadRejection> {
        let after = match page.token() {
            Some(token) => Some(
                String::from_utf8(self.pages.open(tenant, list, token)?)
                    .map_err(|_| crate::page::BadPageToken)?,
            ),
            None => None,
        };
        let limit = page.limit();
        let behind = found.value.into_iter().filter(|name| after.as_ref() < Some(name));
        let mut items: Vec<String> = behind.take(limit + 1).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| {
            self.pages.seal(self.store.entropy().as_ref(), tenant, list, last.as_bytes())
        });
        Ok(Answered { value: Page { items, next }, snaptoken: found.snaptoken })
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

    /// The name of a subject, if it is of that kind.
    fn name_of(&self, subject: &Subject) -> Option<String> {
        match (self, subject) {
            (Self::Ids, Subject::Id(id)) => Some(id.clone()),
            (Self::Objects(namespace), Subject::Set(set)) => {
                (set.relation.is_empty() && set.namespace == *namespace).then(|| set.object.clone())
            }
            _ => None,
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

/// All tuples of a range that are there, or may be for want of context: each with
/// whether it surely is.
async fn scan(
    graph: &Graph,
    given: &Context,
    mut range: KeyRange,
) -> Result<Vec<(Tuple, bool)>, ReadRejection> {
    let mut tuples = Vec::new();
    loop {
        let scan = Scan { range: range.clone(), limit: ROWS, order: Order::Forward };
        // The first page is short more often than not.
        let large = !tuples.is_empty();
        let rows = graph.read(vec![Read::Scan(scan)], large).await?;
        let rows = rows.into_iter().next().unwrap_or_default();
        for row in &rows.rows {
            let Some(tuple) = read_tuple(row) else { continue };
            match read_condition(row)?.map(|condition| condition.verdict(given, graph.time())) {
                None | Some(Verdict::Holds) => tuples.push((tuple, true)),
                Some(Verdict::Fails) => {}
                Some(Verdict::Missing(_) | Verdict::Failed(_)) => tuples.push((tuple, false)),
            }
        }
        match rows.rows.last().filter(|_| rows.more) {
            Some(last) => range.start = last.key.successor(),
            None => return Ok(tuples),
        }
    }
}

/// Where a formula asks something, and whether that alone makes it hold.
fn asks(formula: &Formula, asked: &Formula, alone: bool) -> Option<bool> {
    match formula {
        Formula::Or(terms) => terms.iter().filter_map(|term| asks(term, asked, alone)).max(),
        Formula::And(terms) => terms.iter().filter_map(|term| asks(term, asked, false)).max(),
        Formula::Not(inner) => asks(inner, asked, false),
        other => (other == asked).then_some(alone),
    }
}

/// Whether a formula holds where nothing does that it asks.
fn is_open(formula: &Formula) -> bool {
    match formula {
        Formula::Or(terms) => terms.iter().any(is_open),
        Formula::And(terms) => terms.iter().all(is_open),
        Formula::Not(inner) => !is_open(inner),
        Formula::Has(_) | Formula::Walk(..) | Formula::IsSubject => false,
    }
}

struct Reach<'a> {
    graph: &'a Graph,
    given: &'a Context,
    limits: Limits,
    about: SubjectSet,
    reached: HashMap<Question, bool>,
    left: Vec<(Question, bool)>,
}

impl<'a> Reach<'a> {
    fn new(graph: &'a Graph, about: &SubjectSet, limits: Limits, given: &'a Context) -> Self {
        let (reached, left) = (HashMap::new(), Vec::new());
        Self { graph, given, limits, about: about.clone(), reached, left }
    }

    fn reach(&mut self, question: Question, certain: bool) -> Result<(), ReadRejection> {
        let known = self.reached.get(&question).copied();
        if known.is_some_and(|known| known || !certain) {
            return Ok(());
        }
        if self.reached.len() >= self.limits.size.saturating_mul(REACHED_A_QUESTION) {
            return Err(Unanswered::new(Why::Size, &self.about).into());
        }
        self.reached.insert(question.clone(), certain);
        self.left.push((question, certain));
        Ok(())
    }

    fn reach_tuple(&mut self, tuple: &Tuple, certain: bool) -> Result<(), ReadRejection> {
        match self.graph.language().declared(&tuple.namespace, &tuple.relation) {
            Declared::NoNamespace | Declared::Undeclared => Ok(()),
            _ => self.reach(Question::has(&tuple.set()), certain),
        }
    }

    /// What holds of an object because a part of a formula does.
    fn follow(
        &mut self,
        namespace: &str,
        object: &str,
        asked: &Formula,
        certain: bool,
    ) -> Result<(), ReadRejection> {
        let at =
            |what| Question { namespace: namespace.to_owned(), object: object.to_owned(), what };
        let language = self.graph.language();
        let mut found = Vec::new();
        for (permit, formula) in language.permits(namespace) {
            if let Some(alone) = asks(formula, asked, true) {
                found.push((at(What::Has(permit.to_owned())), certain && alone));
            }
        }
        for (body, formula) in language.bodies() {
            if let Some(alone) = asks(formula, asked, true) {
                found.push((at(What::Body(body)), certain && alone));
            }
        }
        found.into_iter().try_for_each(|(question, certain)| self.reach(question, certain))
    }

    async fn go_on(&mut self) -> Result<(), ReadRejection> {
        while let Some((question, certain)) = self.left.pop() {
            let Question { namespace, object, what } = &question;
            match what {
                What::Has(name) => {
                    self.follow(namespace, object, &Formula::Has(name.clone()), certain)?;
                    let set = Subject::Set(question.set());
                    for place in self.graph.places() {
                        let range = place.subject(&set, None, None);
                        for (tuple, surely) in scan(self.graph, self.given, range).await? {
                            self.reach_tuple(&tuple, certain && surely)?;
                        }
                    }
                }
                What::Body(body) => {
                    for place in self.graph.places() {
                        let range = place.naming(namespace, Some(object));
                        for (tuple, surely) in scan(self.graph, self.given, range).await? {
                            let walk = Formula::Walk(tuple.relation.clone(), *body);
                            let certain = certain && surely;
                            self.follow(&tuple.namespace, &tuple.object, &walk, certain)?;
                        }
                    }
                }
                What::Walk(..) => {}
            }
        }
        Ok(())
    }
}

async fn objects(
    graph: &Arc<Graph>,
    about: &SubjectSet,
    subject: &Subject,
    limits: Limits,
    given: &Context,
) -> Result<BTreeSet<String>, ReadRejection> {
    let language = graph.language();
    let mut reach = Reach::new(graph, about, limits, given);
    for place in graph.places() {
        let range = place.subject(subject, None, None);
        for (tuple, surely) in scan(graph, given, range).await? {
            reach.reach_tuple(&tuple, surely)?;
        }
    }
    match subject {
        Subject::Id(id) => {
            for namespace in language.namespaces() {
                reach.follow(namespace, id, &Formula::IsSubject, true)?;
            }
        }
        Subject::Set(set) if set.relation.is_empty() && language.has(&set.namespace) => {
            reach.follow(&set.namespace, &set.object, &Formula::IsSubject, true)?;
        }
        Subject::Set(_) => {}
    }
    reach.go_on().await?;
    let wanted = What::Has(about.relation.clone());
    let mut candidates: BTreeMap<String, bool> = reach
        .reached
        .into_iter()
        .filter(|(question, _)| question.namespace == about.namespace && question.what == wanted)
        .map(|(question, certain)| (question.object, certain))
        .collect();
    let permits = language.namespaces().flat_map(|namespace| language.permits(namespace));
    let mut formulas = permits.map(|(_, f)| f).chain(language.bodies().map(|(_, f)| f));
    if formulas.any(is_open) {
        let place = graph.place(&about.namespace);
        let range = place.namespace(Some(&about.namespace));
        for (tuple, _) in scan(graph, given, range).await? {
            candidates.entry(tuple.object).or_insert(false);
        }
        for place in graph.places() {
            let range = place.naming(&about.namespace, None);
            for (tuple, _) in scan(graph, given, range).await? {
                if let Subject::Set(set) = tuple.subject {
                    candidates.entry(set.object).or_insert(false);
                }
            }
        }
    }
    let mut engine = Engine::new(graph, subject.clone(), limits, given);
    let mut found = BTreeSet::new();
    for (object, certain) in candidates {
        let set = SubjectSet { object, ..about.clone() };
        if certain || engine.decide_on(&set).await? {
            found.insert(set.object);
        }
    }
    Ok(found)
}

async fn subjects(
    graph: &Arc<Graph>,
    about: &SubjectSet,
    kind: &SubjectKind,
    nobody: &Subject,
    limits: Limits,
    given: &Context,
) -> Result<BTreeSet<String>, ReadRejection> {
    let mut engine = Engine::new(graph, nobody.clone(), limits, given);
    if engine.decide_on(about).await? {
        return Err(ReadRejection::Everybody(about.clone()));
    }
    let mut candidates: BTreeMap<String, bool> = BTreeMap::new();
    let mut reach = Reach::new(graph, about, limits, given);
    let mut add = |id: String, certain: bool| {
        let known = candidates.entry(id).or_insert(false);
        *known |= certain;
    };
    reach.reach(Question::has(about), true)?;
    while let Some((question, certain)) = reach.left.pop() {
        let place = graph.place(&question.namespace);
        let formula = match &question.what {
            What::Body(_) if !graph.language().has(&question.namespace) => continue,
            What::Body(body) => Some(graph.language().body(*body)),
            What::Has(name) => match graph.language().declared(&question.namespace, name) {
                Declared::NoNamespace | Declared::Undeclared => continue,
                Declared::Free | Declared::Relation => None,
                Declared::Permission(formula) => Some(formula),
            },
            What::Walk(_, body) => {
                let range = place.sets_of(&question.set());
                for (tuple, surely) in scan(graph, given, range).await? {
                    let Subject::Set(to) = tuple.subject else { continue };
                    let what = What::Body(*body);
                    let next = Question { namespace: to.namespace, object: to.object, what };
                    reach.reach(next, certain && surely)?;
                }
                continue;
            }
        };
        if matches!(question.what, What::Has(_)) {
            let range = place.subjects_of(&question.set());
            for (tuple, surely) in scan(graph, given, range).await? {
                let certain = certain && surely;
                if let Some(name) = kind.name_of(&tuple.subject) {
                    add(name, certain);
                }
                if let Subject::Set(set) = tuple.subject
                    && !set.relation.is_empty()
                {
                    reach.reach(Question::has(&set), certain)?;
                }
            }
        }
        let mut parts: Vec<&Formula> = Vec::new();
        if let Some(formula) = formula {
            formula.visit(&mut |part| parts.push(part));
        }
        for part in parts {
            let alone = formula.and_then(|formula| asks(formula, part, true)).unwrap_or(false);
            let what = match part {
                Formula::Has(name) => What::Has(name.clone()),
                Formula::Walk(relation, body) => What::Walk(relation.clone(), *body),
                Formula::IsSubject => {
                    if kind.is_in(&question.namespace) {
                        add(question.object.clone(), certain && alone);
                    }
                    continue;
                }
                Formula::Or(_) | Formula::And(_) | Formula::Not(_) => continue,
            };
            let (namespace, object) = (question.namespace.clone(), question.object.clone());
            reach.reach(Question { namespace, object, what }, certain && alone)?;
        }
    }
    let mut found = BTreeSet::new();
    for (id, certain) in candidates {
        let mut engine = Engine::new(graph, kind.subject(id.clone()), limits, given);
        if certain || engine.decide_on(about).await? {
            found.insert(id);
        }
    }
    Ok(found)
}
