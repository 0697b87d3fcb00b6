//! What leads from an object to the subjects that have a relation on it: its subject
//! sets, their subject sets, and what formulas ask. Their ids are not read on the way.

use std::collections::BTreeMap;

use super::{
    Lookup, SubjectKind,
    reach::Reach,
    stream::{Lead, Names, Stream},
};
use crate::{
    ReadRejection, Subject,
    engine::node::{Question, What},
    graph::Graph,
    language::{Declared, Formula},
};

/// See the [module](self).
pub(super) async fn lead<'g>(
    lookup: &Lookup<'g>,
    graph: &'g Graph,
    kind: &SubjectKind,
    after: Option<&str>,
) -> Result<Lead<'g>, ReadRejection> {
    let mut reach = Reach::new(graph, lookup);
    let mut known = BTreeMap::new();
    reach.reach(Question::has(&lookup.about), true)?;
    loop {
        while let Some((question, certain)) = reach.next() {
            follow(&mut reach, &mut known, kind, question, certain)?;
        }
        let read = reach.read().await?;
        if read.is_empty() {
            break;
        }
        for (scanned, tuples) in read {
            let Some(question) = scanned.question else { continue };
            for (tuple, surely) in tuples {
                let Subject::Set(set) = tuple.subject else { continue };
                let what = match &question.what {
                    What::Walk(_, body) => What::Body(*body),
                    _ if set.relation.is_empty() => continue,
                    _ => What::Has(set.relation),
                };
                let (namespace, object) = (set.namespace, set.object);
                let next = Question { namespace, object, what };
                reach.reach(next, scanned.certain && surely)?;
            }
        }
    }
    let short = lookup.is_short(&reach);
    let mut streams = Vec::new();
    // What is collected is collected from the first name on: it serves other pages too.
    let behind = after.filter(|_| short);
    for (question, certain) in &reach.reached {
        let (true, What::Has(_)) = (is_said(graph, question), &question.what) else { continue };
        let (place, set) = (graph.place(&question.namespace), question.set());
        let (range, names) = match kind {
            SubjectKind::Ids => (place.ids_of(&set, behind), Names::Id),
            SubjectKind::Objects(namespace) => {
                (place.sets_within(&set, namespace, behind), Names::ObjectAsSubject)
            }
        };
        streams.push(Stream { range, names, certain: *certain });
    }
    Ok(Lead {
        about: lookup.about.clone(),
        sieve: reach.sieve,
        known,
        streams,
        after: after.map(str::to_owned),
        short,
        names_max: lookup.names_max(),
    })
}

/// Whether tuples say who has it.
fn is_said(graph: &Graph, question: &Question) -> bool {
    match &question.what {
        What::Has(name) => !matches!(
            graph.language().declared(&question.namespace, name),
            Declared::NoNamespace | Declared::Undeclared
        ),
        What::Walk(..) | What::Body(_) => false,
    }
}

/// Notes what a question depends on, and what is to be read for it.
fn follow(
    reach: &mut Reach<'_, '_>,
    known: &mut BTreeMap<String, bool>,
    kind: &SubjectKind,
    question: Question,
    certain: bool,
) -> Result<(), ReadRejection> {
    let graph = reach.graph;
    let place = graph.place(&question.namespace);
    let formula = match &question.what {
        What::Body(_) if !graph.language().has(&question.namespace) => return Ok(()),
        What::Body(body) => Some(graph.language().body(*body)),
        What::Has(name) => match graph.language().declared(&question.namespace, name) {
            Declared::NoNamespace | Declared::Undeclared => return Ok(()),
            Declared::Free | Declared::Relation => None,
            Declared::Permission(formula) => Some(formula),
        },
        What::Walk(..) => None,
    };
    let mut parts: Vec<(&Formula, bool)> = Vec::new();
    if let Some(formula) = formula {
        formula.visit(&mut |part| {
            let alone = super::sought::asks(formula, part, true).unwrap_or(false);
            parts.push((part, certain && alone));
        });
    }
    for (part, certain) in parts {
        let what = match part {
            Formula::Has(name) => What::Has(name.clone()),
            Formula::Walk(relation, body) => What::Walk(relation.clone(), *body),
            Formula::IsSubject => {
                if kind.is_in(&question.namespace) {
                    *known.entry(question.object.clone()).or_insert(false) |= certain;
                }
                continue;
            }
            Formula::Or(_) | Formula::And(_) | Formula::Not(_) => continue,
        };
        let (namespace, object) = (question.namespace.clone(), question.object.clone());
        reach.reach(Question { namespace, object, what }, certain)?;
    }
    if !matches!(question.what, What::Body(_)) {
        let range = place.sets_of(&question.set());
        reach.scan(Some(question), certain, range);
    }
    Ok(())
}
