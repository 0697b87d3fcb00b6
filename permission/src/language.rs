//! A permission language, made ready for evaluation: names become small numbers,
//! bodies of traversals become [`BodyId`]s, and what a permission needs to be true is
//! known beforehand.

use std::collections::{BTreeMap, BTreeSet};

use cardea_storage::Slot;

use crate::{
    opl::{self, Class, Expr, ExprKind, SourceError, SourceFile},
    table::DEFAULT_SLOT,
};

/// Names the body of a traversal, within one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(pub u32);

/// What a formula says of the object at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formula {
    /// One of these.
    Or(Vec<Formula>),
    /// All of these.
    And(Vec<Formula>),
    /// Not this.
    Not(Box<Formula>),
    /// The subject has this relation or permission on the object.
    Has(String),
    /// The body holds of something that the relation leads to.
    Walk(String, BodyId),
    /// The object is the subject.
    IsSubject,
}

/// What a name of a namespace stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared<'a> {
    /// A relation: who tuples say.
    Relation,
    /// A permission: whom the formula admits, and, as in Keto, who tuples say.
    Permission(&'a Formula),
    /// The namespace declares other names, and not this one.
    Undeclared,
    /// The namespace declares no names at all, so that any means what tuples say.
    Free,
    /// There is no such namespace.
    NoNamespace,
}

#[derive(Debug)]
struct Namespace {
    class: Class,
    permits: BTreeMap<String, Formula>,
}

/// A language, ready.
#[derive(Debug, Default)]
pub struct Language {
    namespaces: BTreeMap<String, Namespace>,
    bodies: Vec<Formula>,
    slots: BTreeMap<String, Slot>,
}

impl Language {
    /// Reads a language.
    ///
    /// # Errors
    /// What is wrong with its sources.
    pub fn read(files: &[SourceFile]) -> Result<Self, Vec<SourceError>> {
        Ok(Self::of(opl::parse(files)?))
    }

    /// With the slots that its namespaces were created with.
    pub fn with_slots(mut self, slots: BTreeMap<String, Slot>) -> Self {
        self.slots = slots;
        self
    }

    /// The slot of a namespace's tuples; of one that is not declared, the default.
    pub fn slot(&self, namespace: &str) -> Slot {
        self.slots.get(namespace).copied().unwrap_or(DEFAULT_SLOT)
    }

    /// Every slot with tuples, the default one among them.
    pub fn slots(&self) -> BTreeSet<Slot> {
        self.slots.values().copied().chain([DEFAULT_SLOT]).collect()
    }

    fn of(classes: Vec<Class>) -> Self {
        let mut language = Self::default();
        for class in classes {
            let permits = class
                .permits
                .iter()
                .map(|permit| (permit.name.clone(), language.formula(&permit.body)))
                .collect();
            language.namespaces.insert(class.name.clone(), Namespace { class, permits });
        }
        language
    }

    fn formula(&mut self, expr: &Expr) -> Formula {
        match &expr.kind {
            ExprKind::Or(terms) => Formula::Or(terms.iter().map(|t| self.formula(t)).collect()),
            ExprKind::And(terms) => Formula::And(terms.iter().map(|t| self.formula(t)).collect()),
            ExprKind::Not(inner) => Formula::Not(Box::new(self.formula(inner))),
            ExprKind::Includes(name) | ExprKind::Permits(name) => Formula::Has(name.clone()),
            ExprKind::IsSubject => Formula::IsSubject,
            ExprKind::Traverse { relation, body, .. } => {
                let body = self.formula(body);
                let id = match self.bodies.iter().position(|known| *known == body) {
                    Some(at) => at,
                    None => {
                        self.bodies.push(body);
                        self.bodies.len() - 1
                    }
                };
                Formula::Walk(relation.clone(), BodyId(u32::try_from(id).unwrap_or(u32::MAX)))
            }
        }
    }

    /// What a name stands for.
    pub fn declared(&self, namespace: &str, name: &str) -> Declared<'_> {
        let Some(known) = self.namespaces.get(namespace) else { return Declared::NoNamespace };
        if let Some(formula) = known.permits.get(name) {
            return Declared::Permission(formula);
        }
        if known.class.relation(name).is_some() {
            return Declared::Relation;
        }
        if known.class.relations.is_empty() && known.permits.is_empty() {
            Declared::Free
        } else {
            Declared::Undeclared
        }
    }

    /// The body of a traversal.
    pub fn body(&self, id: BodyId) -> &Formula {
        // Only this language gives its ids.
        &self.bodies[id.0 as usize]
    }

    /// All bodies with their ids.
    pub fn bodies(&self) -> impl Iterator<Item = (BodyId, &Formula)> {
        (0..).map(BodyId).zip(&self.bodies)
    }

    /// Whether there is such a namespace.
    pub fn has(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The names of the namespaces, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }

    /// The permissions of a namespace, by name.
    pub fn permits(&self, namespace: &str) -> impl Iterator<Item = (&str, &Formula)> {
        let known = self.namespaces.get(namespace);
        known.into_iter().flat_map(|n| n.permits.iter().map(|(name, f)| (name.as_str(), f)))
    }

    /// The relations and permissions of a namespace.
    pub fn names(&self, namespace: &str) -> impl Iterator<Item = &str> {
        let known = self.namespaces.get(namespace);
        known.into_iter().flat_map(|n| {
            let relations = n.class.relations.iter().map(|relation| relation.name.as_str());
            relations.chain(n.class.permits.iter().map(|permit| permit.name.as_str()))
        })
    }
}

impl Formula {
    /// Visits this formula and all beneath, bodies of traversals not included.
    pub fn visit<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        match self {
            Self::Or(terms) | Self::And(terms) => {
                terms.iter().for_each(|term| term.visit(visit));
            }
            Self::Not(inner) => inner.visit(visit),
            Self::Has(_) | Self::Walk(..) | Self::IsSubject => {}
        }
    }
}
