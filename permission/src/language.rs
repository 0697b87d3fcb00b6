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
    /// Permissions that are told from several relations of their object.
    broad: BTreeSet<String>,
}

/// Reads of one object from which on a permission is broad: who has a relation is read
/// in two, what it leads to in one.
const BROAD: usize = 3;

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

    /// Whether all tuples lie in the default slot.
    pub fn is_of_one_slot(&self) -> bool {
        self.slots.values().all(|slot| *slot == DEFAULT_SLOT)
    }

    fn of(classes: Vec<Class>) -> Self {
        let mut language = Self::default();
        for class in classes {
            let permits = class
                .permits
                .iter()
                .map(|permit| (permit.name.clone(), language.formula(&permit.body)))
                .collect();
            let namespace = Namespace { class, permits, broad: BTreeSet::new() };
            language.namespaces.insert(namespace.class.name.clone(), namespace);
        }
        for namespace in language.namespaces.values_mut() {
            let names = namespace.permits.keys();
            let broad = names.filter(|name| namespace.reads(name) >= BROAD).cloned().collect();
            namespace.broad = broad;
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

    /// Whether a permission asks so many relations of its object that all tuples of the
    /// object are best read together.
    pub fn is_broad(&self, namespace: &str, permission: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|known| known.broad.contains(permission))
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

impl Namespace {
    /// How many reads of its object a permission takes at most, those of the permissions
    /// it rests on with it.
    fn reads(&self, permission: &str) -> usize {
        let mut reached = BTreeSet::from([permission]);
        let mut left = vec![permission];
        let (mut has, mut walks) = (BTreeSet::new(), BTreeSet::new());
        while let Some(formula) = left.pop().and_then(|name| self.permits.get(name)) {
            formula.visit(&mut |formula| match formula {
                Formula::Has(name) if self.permits.contains_key(name) => {
                    left.extend(reached.insert(name.as_str()).then_some(name.as_str()));
                }
                Formula::Has(name) => {
                    has.insert(name.as_str());
                }
                Formula::Walk(relation, _) => {
                    walks.insert(relation.as_str());
                }
                _ => {}
            });
        }
        has.len() * 2 + walks.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_is_broad_if_it_asks_several_relations_of_its_object() {
        let text = r#"
class User implements Namespace {}
class Folder implements Namespace {
  related: { parents: Folder[]; viewers: User[]; owners: User[]; banned: User[] }
  permits = {
    see: (ctx: Context): boolean => this.related.viewers.includes(ctx.subject),
    climb: (ctx: Context): boolean => this.related.parents.traverse((p) => p.permits.view(ctx)),
    view: (ctx: Context): boolean => this.permits.see(ctx) || this.permits.climb(ctx),
    twice: (ctx: Context): boolean => this.permits.see(ctx) && this.permits.twice(ctx),
    open: (ctx: Context): boolean =>
      this.related.owners.includes(ctx.subject) && !this.related.banned.includes(ctx.subject),
  }
}"#;
        let files = [SourceFile { name: "t.ts".to_owned(), text: text.to_owned() }];
        let language = Language::read(&files).unwrap();
        for (name, broad) in
            [("see", false), ("climb", false), ("view", true), ("twice", false), ("open", true)]
        {
            assert_eq!(language.is_broad("Folder", name), broad, "{name}");
        }
        assert!(!language.is_broad("User", "view") && !language.is_broad("Nowhere", "view"));
    }
}
