//! Random languages, tuples and histories: small, so that everything meets everything.

use std::{collections::BTreeSet, sync::Arc};

use cardea_storage::{Entropy, SeededEntropy};

use crate::{
    Subject, SubjectSet, Tuple,
    language::Language,
    opl::{SourceFile, parse_text},
};

const CLASSES: [&str; 2] = ["A", "B"];
const RELATIONS: [&str; 3] = ["r0", "r1", "r2"];
const PERMITS: [&str; 3] = ["p0", "p1", "p2"];
const OBJECTS: [&str; 3] = ["1", "2", "3"];

/// Where a random model comes from.
pub(crate) struct Chance(Arc<dyn Entropy>);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(SeededEntropy::new(seed)))
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap()
    }

    fn of<'a>(&self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A language's text. Without `negations`, it has no `!`.
    pub(crate) fn language(&self, negations: bool) -> String {
        let mut text = String::from("class U implements Namespace {}\n");
        for class in CLASSES {
            text.push_str(&format!("class {class} implements Namespace {{\n  related: {{\n"));
            for relation in RELATIONS {
                text.push_str(&format!("    {relation}: (A | B | SubjectSet<B, \"r1\">)[]\n"));
            }
            text.push_str("  }\n  permits = {\n");
            for permit in PERMITS {
                let body = self.expression("this", 3, negations);
                text.push_str(&format!("    {permit}: (ctx: Context): boolean => {body},\n"));
            }
            text.push_str("  }\n}\n");
        }
        text
    }

    fn expression(&self, subject: &str, depth: usize, negations: bool) -> String {
        let inner = |subject: &str| self.expression(subject, depth - 1, negations);
        let kinds = if depth == 0 { 4 } else { 9 };
        match self.below(kinds) {
            0 | 1 => format!("{subject}.related.{}.includes(ctx.subject)", self.of(&RELATIONS)),
            2 => format!("{subject}.permits.{}(ctx)", self.of(&PERMITS)),
            3 if self.below(4) == 0 => format!("{subject} == ctx.subject"),
            3 => format!("{subject}.related[\"{}\"].includes(ctx.subject)", self.of(&RELATIONS)),
            4 => format!("({} || {})", inner(subject), inner(subject)),
            5 => format!("({} && {})", inner(subject), inner(subject)),
            6 if negations => format!("!({})", inner(subject)),
            _ => {
                let variable = format!("x{depth}");
                let relation = self.of(&RELATIONS);
                let body = inner(&variable);
                format!("{subject}.related.{relation}.traverse(({variable}) => {body})")
            }
        }
    }

    pub(crate) fn subject(&self) -> Subject {
        match self.below(5) {
            0 => Subject::Id("a".to_owned()),
            1 => Subject::Id(self.of(&["b", "1"]).to_owned()),
            2 => Subject::Set(SubjectSet::new(self.of(&CLASSES), self.of(&OBJECTS), "")),
            _ => Subject::Set(self.set()),
        }
    }

    /// Somebody's relation, seldom one that is not declared.
    pub(crate) fn set(&self) -> SubjectSet {
        let namespace = match self.below(12) {
            0 => "U",
            1 => "Nowhere",
            _ => self.of(&CLASSES),
        };
        let relation = match self.below(12) {
            0 => self.of(&PERMITS),
            1 => "undeclared",
            _ => self.of(&RELATIONS),
        };
        SubjectSet::new(namespace, self.of(&OBJECTS), relation)
    }

    pub(crate) fn tuple(&self) -> Tuple {
        let set = self.set();
        Tuple {
            namespace: set.namespace,
            object: set.object,
            relation: set.relation,
            subject: self.subject(),
        }
    }
}

/// The language of a text.
pub(crate) fn read(text: &str) -> Language {
    parse_text(text).unwrap_or_else(|errors| panic!("{text}\n{errors:?}"));
    Language::read(&[SourceFile { name: "m".to_owned(), text: text.to_owned() }]).unwrap()
}

/// Everything that can be asked of the declared namespaces.
pub(crate) fn questions() -> Vec<SubjectSet> {
    let mut questions = Vec::new();
    for namespace in CLASSES {
        for object in OBJECTS {
            for relation in RELATIONS.into_iter().chain(PERMITS) {
                questions.push(SubjectSet::new(namespace, object, relation));
            }
        }
    }
    questions
}

/// Everybody who can be asked about.
pub(crate) fn subjects() -> Vec<Subject> {
    let ids = ["a", "b", "1"].map(|id| Subject::Id(id.to_owned()));
    let sets = [("A", "1", "r0"), ("B", "2", "r1"), ("A", "2", ""), ("B", "1", "p0")];
    let sets = sets.map(|(n, o, r)| Subject::Set(SubjectSet::new(n, o, r)));
    ids.into_iter().chain(sets).collect()
}

/// What a history has done so far.
pub(crate) type Kept = BTreeSet<Tuple>;
