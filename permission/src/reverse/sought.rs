//! What within a namespace makes a relation or permission hold, found from the language
//! alone: so that candidates are read from the tuples that matter, and from no others.

use std::collections::HashMap;

use crate::language::{BodyId, Declared, Formula, Language};

/// Where a formula asks something, and whether that alone makes it hold.
pub(super) fn asks(formula: &Formula, asked: &Formula, alone: bool) -> Option<bool> {
    match formula {
        Formula::Or(terms) => terms.iter().filter_map(|term| asks(term, asked, alone)).max(),
        Formula::And(terms) => terms.iter().filter_map(|term| asks(term, asked, false)).max(),
        Formula::Not(inner) => asks(inner, asked, false),
        other => (other == asked).then_some(alone),
    }
}

/// Whether a formula holds where nothing does that it asks.
pub(super) fn is_open(formula: &Formula) -> bool {
    match formula {
        Formula::Or(terms) => terms.iter().any(is_open),
        Formula::And(terms) => terms.iter().all(is_open),
        Formula::Not(inner) => !is_open(inner),
        Formula::Has(_) | Formula::Walk(..) | Formula::IsSubject => false,
    }
}

/// What makes a relation or permission of a namespace hold of an object; each with
/// whether it does so alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Roads {
    /// Tuples with this relation.
    pub(super) said: Vec<(String, bool)>,
    /// Tuples with this relation whose subject is on an object of which the body holds.
    pub(super) walked: Vec<(String, BodyId, bool)>,
    /// That the object is the subject.
    pub(super) itself: Option<bool>,
}

impl Roads {
    /// To a relation or permission.
    pub(super) fn to(language: &Language, namespace: &str, relation: &str) -> Self {
        let mut roads = Self::default();
        let mut known: HashMap<String, bool> = HashMap::new();
        let mut left = vec![(relation.to_owned(), true)];
        while let Some((name, alone)) = left.pop() {
            if known.get(&name).is_some_and(|known| *known || !alone) {
                continue;
            }
            known.insert(name.clone(), alone);
            let Declared::Permission(formula) = language.declared(namespace, &name) else {
                continue;
            };
            formula.visit(&mut |part| {
                let alone = alone && asks(formula, part, true).unwrap_or(false);
                match part {
                    Formula::Has(name) => left.push((name.clone(), alone)),
                    Formula::Walk(relation, body) => roads.walk(relation, *body, alone),
                    Formula::IsSubject => roads.itself = roads.itself.max(Some(alone)),
                    Formula::Or(_) | Formula::And(_) | Formula::Not(_) => {}
                }
            });
        }
        let declared = |name: &String| {
            let declared = language.declared(namespace, name);
            !matches!(declared, Declared::NoNamespace | Declared::Undeclared)
        };
        roads.said = known.into_iter().filter(|(name, _)| declared(name)).collect();
        roads.said.sort();
        roads
    }

    fn walk(&mut self, relation: &str, body: BodyId, alone: bool) {
        let same = |(r, b, _): &&mut (String, BodyId, bool)| r == relation && *b == body;
        match self.walked.iter_mut().find(same) {
            Some((_, _, known)) => *known |= alone,
            None => self.walked.push((relation.to_owned(), body, alone)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::files;

    #[test]
    fn roads_are_certain_only_where_alternatives_alone_lead() {
        let text = r#"
class User implements Namespace {}
class Folder implements Namespace { related: { viewers: User[] } }
class Doc implements Namespace {
  related: { owners: User[]; viewers: User[]; banned: User[]; parents: Folder[] }
  permits = {
    own: (ctx: Context): boolean => this.related.owners.includes(ctx.subject),
    view: (ctx: Context): boolean => this.permits.own(ctx) ||
      (this.related.viewers.includes(ctx.subject) && !this.related.banned.includes(ctx.subject)) ||
      this.related.parents.traverse((p) => p.related.viewers.includes(ctx.subject)) ||
      this == ctx.subject,
    other: (ctx: Context): boolean => this.related.parents.traverse((p) => p == ctx.subject),
  }
}"#;
        let language = Language::read(&files(text)).unwrap();
        let roads = Roads::to(&language, "Doc", "view");
        let said: Vec<(&str, bool)> =
            roads.said.iter().map(|(name, alone)| (name.as_str(), *alone)).collect();
        let alone = [("own", true), ("owners", true), ("view", true)];
        assert_eq!(said, [&[("banned", false)], &alone[..], &[("viewers", false)]].concat());
        assert_eq!(roads.walked.len(), 1);
        assert!(roads.walked[0].0 == "parents" && roads.walked[0].2, "{roads:?}");
        assert_eq!(roads.itself, Some(true));
        let direct = Roads::to(&language, "Doc", "viewers");
        assert_eq!(direct.said, [("viewers".to_owned(), true)]);
        assert_eq!((direct.walked.len(), direct.itself), (0, None));
    }
}
