//! What makes sense: every name is declared, once, and what a traversal finds has
//! what is asked of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    ERRORS_MAX, SourceError,
    syntax::{Class, Expr, ExprKind, Place},
};

/// What makes no sense, about [`ERRORS_MAX`] of it at most: a short source can be wrong in
/// millions of ways. Each class comes with the file that it is from.
pub fn check(classes: &[(usize, Class)]) -> Vec<SourceError> {
    let mut by_name: BTreeMap<&str, &Class> = BTreeMap::new();
    let mut errors = Vec::new();
    for (file, class) in classes {
        if by_name.insert(&class.name, class).is_some() {
            let message = format!("the namespace {} is declared twice", class.name);
            errors.push(at(*file, class.name_span, message));
        }
    }
    let mut checker =
        Checker { by_name: &by_name, file: 0, errors: &mut errors, found: BTreeMap::new() };
    for (file, class) in classes {
        checker.file = *file;
        checker.class(class);
    }
    errors
}

fn at(file: usize, place: Place, message: String) -> SourceError {
    SourceError { file, ..SourceError::new(place.0, message) }
}

/// What a traversal begins at, and the relation that it follows.
type Way<'a> = (Vec<&'a str>, &'a str);

struct Checker<'a, 'e> {
    by_name: &'e BTreeMap<&'a str, &'a Class>,
    file: usize,
    errors: &'e mut Vec<SourceError>,
    /// What traversals find: relations have many types, and are followed often.
    found: BTreeMap<Way<'a>, Rc<[&'a Class]>>,
}

impl<'a> Checker<'a, '_> {
    /// Whether so much is wrong that no more is looked for.
    fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    fn error(&mut self, place: Place, message: String) {
        self.errors.push(at(self.file, place, message));
    }

    fn class(&mut self, class: &'a Class) {
        let mut names = BTreeSet::new();
        let relations = class.relations.iter().map(|relation| (&relation.name, relation.span));
        let permits = class.permits.iter().map(|permit| (&permit.name, permit.span));
        for (name, place) in relations.chain(permits) {
            if !names.insert(name) {
                self.error(place, format!("{} declares {name} twice", class.name));
            }
        }
        for relation in &class.relations {
            for subject in &relation.types {
                if self.is_full() {
                    return;
                }
                let Some(of) = self.by_name.get(subject.namespace.as_str()).copied() else {
                    let message = unknown(
                        &format!("the namespace {} is not declared", subject.namespace),
                        &subject.namespace,
                        self.by_name.keys().copied(),
                    );
                    self.error(subject.span, message);
                    continue;
                };
                if let Some(name) = &subject.relation
                    && !has(of, name)
                {
                    let message = unknown(
                        &format!("{} has no relation or permission {name}", of.name),
                        name,
                        names_of(of),
                    );
                    self.error(subject.span, message);
                }
            }
        }
        for permit in &class.permits {
            self.expression(&permit.body, &[class]);
        }
    }

    /// Checks an expression about an object of any of these classes.
    fn expression(&mut self, expr: &'a Expr, of: &[&'a Class]) {
        if self.is_full() {
            return;
        }
        match &expr.kind {
            ExprKind::Or(terms) | ExprKind::And(terms) => {
                terms.iter().for_each(|term| self.expression(term, of));
            }
            ExprKind::Not(inner) => self.expression(inner, of),
            ExprKind::IsSubject => {}
            ExprKind::Includes(name) => {
                for class in of {
                    if self.is_full() {
                        return;
                    }
                    if class.relation(name).is_none() {
                        let message = if class.permit(name).is_some() {
                            format!(
                                "{name} is a permission of {}, not a relation: ask \
                                 permits.{name}(ctx)",
                                class.name
                            )
                        } else {
                            let names = class.relations.iter().map(|r| r.name.as_str());
                            unknown(&format!("{} has no relation {name}", class.name), name, names)
                        };
                        self.error(expr.span, message);
                    }
                }
            }
            ExprKind::Permits(name) => {
                for class in of {
                    if self.is_full() {
                        return;
                    }
                    if class.permit(name).is_none() {
                        let message = if class.relation(name).is_some() {
                            format!(
                                "{name} is a relation of {}, not a permission: ask \
                                 related.{name}.includes(ctx.subject)",
                                class.name
                            )
                        } else {
                            let names = class.permits.iter().map(|p| p.name.as_str());
                            unknown(
                                &format!("{} has no permission {name}", class.name),
                                name,
                                names,
                            )
                        };
                        self.error(expr.span, message);
                    }
                }
            }
            ExprKind::Traverse { relation, body, .. } => {
                if let Some(found) = self.traversed(expr.span, relation, of) {
                    self.expression(body, &found);
                }
            }
        }
    }

    /// What a relation of each of these classes leads to; `None` if one has none.
    fn traversed(
        &mut self,
        place: Place,
        relation: &'a str,
        of: &[&'a Class],
    ) -> Option<Rc<[&'a Class]>> {
        let way: Way<'a> = (of.iter().map(|class| class.name.as_str()).collect(), relation);
        if let Some(found) = self.found.get(&way) {
            return Some(found.clone());
        }
        let mut found: BTreeMap<&str, &'a Class> = BTreeMap::new();
        let mut known = true;
        for class in of {
            if self.is_full() {
                return None;
            }
            let Some(declared) = class.relation(relation) else {
                let names = class.relations.iter().map(|r| r.name.as_str());
                let message =
                    unknown(&format!("{} has no relation {relation}", class.name), relation, names);
                self.error(place, message);
                known = false;
                continue;
            };
            for subject in &declared.types {
                if let Some(class) = self.by_name.get(subject.namespace.as_str()) {
                    found.insert(&class.name, class);
                }
            }
        }
        let found: Rc<[&'a Class]> = known.then(|| found.into_values().collect())?;
        self.found.insert(way, found.clone());
        Some(found)
    }
}

fn names_of(class: &Class) -> impl Iterator<Item = &str> {
    let relations = class.relations.iter().map(|relation| relation.name.as_str());
    relations.chain(class.permits.iter().map(|permit| permit.name.as_str()))
}

fn has(class: &Class, name: &str) -> bool {
    names_of(class).any(|known| known == name)
}

/// A message with the nearest known name, if one is near.
fn unknown<'a>(message: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((distance, known)) if distance * 3 <= name.chars().count() => {
            format!("{message}; did you mean {known}?")
        }
        _ => message.to_owned(),
    }
}

/// How many characters must be put in, taken out or changed. Names are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let changed = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
