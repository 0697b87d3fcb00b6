//! What leads from a subject to the objects that it has a relation on: the tuples that
//! name it, the subject sets that these make it a member of, and the formulas that ask
//! for those.

use super::{
    Lookup,
    reach::Reach,
    sought::{Roads, is_open},
    stream::{Lead, Names, Stream},
};
use crate::{
    ReadRejection, Subject,
    engine::node::What,
    graph::Graph,
    language::{BodyId, Formula},
    model::SubjectSet,
    table::{Place, read_tuple},
};

use cardea_storage::{
    engine::Order,
    store::{Read, Scan},
};

/// Ranges that are read together.
const TOGETHER: usize = 256;

/// See the [module](self).
pub(super) async fn lead<'g>(
    lookup: &Lookup<'g>,
    graph: &'g Graph,
    subject: &Subject,
    after: Option<&str>,
) -> Result<Lead<'g>, ReadRejection> {
    let (language, about) = (graph.language(), &lookup.about);
    let mut reach = Reach::new(graph, lookup);
    reach.find_ends().await?;
    for place in graph.places() {
        reach.scan(None, true, place.subject(subject, None, None));
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
    go_on(&mut reach).await?;

    let mut lead = Lead {
        about: about.clone(),
        short: lookup.is_short(&reach),
        names_max: lookup.names_max(),
        after: after.map(str::to_owned),
        known: [].into(),
        streams: Vec::new(),
        sieve: reach.sieve,
    };
    // What is collected is collected from the first name on: it serves other pages too.
    let after = after.filter(|_| lead.short);
    if reach.ends.contains(&about.namespace) {
        let roads = Roads::to(language, &about.namespace, &about.relation);
        let place = graph.place(&about.namespace);
        let mut named = vec![(subject.clone(), true)];
        let mut bodies = Vec::new();
        for (question, certain) in &reach.reached {
            match question.what {
                What::Has(_) => named.push((Subject::Set(question.set()), *certain)),
                What::Body(body) => bodies.push((body, question.set(), *certain)),
                What::Walk(..) => {}
            }
        }
        let stream = |subject: &Subject, relation: &str, certain| Stream {
            range: place.objects_of(subject, &about.namespace, relation, after),
            names: Names::Object,
            certain,
        };
        for (relation, alone) in &roads.said {
            let of = |(subject, certain): &(Subject, bool)| {
                stream(subject, relation, *certain && *alone)
            };
            lead.streams.extend(named.iter().map(of));
        }
        let asked = |body: &BodyId| roads.walked.iter().any(|(_, asked, _)| asked == body);
        bodies.retain(|(body, _, _)| asked(body));
        for (subject, body, certain) in named_as(graph, place, bodies).await? {
            let roads = roads.walked.iter().filter(|(_, asked, _)| *asked == body);
            lead.streams.extend(
                roads.map(|(relation, _, alone)| stream(&subject, relation, certain && *alone)),
            );
        }
        if let Some(alone) = roads.itself {
            lead.known.extend(itself(subject, &about.namespace).map(|name| (name, alone)));
        }
    } else {
        let wanted = What::Has(about.relation.clone());
        let found = reach.reached.into_iter().filter(|(question, _)| {
            question.namespace == about.namespace && question.what == wanted
        });
        lead.known = found.map(|(question, certain)| (question.object, certain)).collect();
    }
    let permits = language.namespaces().flat_map(|namespace| language.permits(namespace));
    let mut formulas = permits.map(|(_, f)| f).chain(language.bodies().map(|(_, f)| f));
    if formulas.any(is_open) {
        let (certain, namespace) = (false, &about.namespace);
        let range = graph.place(namespace).objects_behind(namespace, after);
        lead.streams.push(Stream { range, names: Names::Object, certain });
        for place in graph.places() {
            let range = place.named_behind(namespace, after);
            lead.streams.push(Stream { range, names: Names::SubjectObject, certain });
        }
    }
    Ok(lead)
}

async fn go_on(reach: &mut Reach<'_, '_>) -> Result<(), ReadRejection> {
    loop {
        while let Some((question, certain)) = reach.next() {
            let (namespace, object) = (&question.namespace, &question.object);
            match &question.what {
                What::Has(name) => {
                    reach.follow(namespace, object, &Formula::Has(name.clone()), certain)?;
                    let set = Subject::Set(question.set());
                    for place in reach.graph.places() {
                        let range = place.subject(&set, None, None);
                        reach.scan(Some(question.clone()), certain, range);
                    }
                }
                What::Body(_) => {
                    for place in reach.graph.places() {
                        let range = place.naming(namespace, Some(object));
                        reach.scan(Some(question.clone()), certain, range);
                    }
                }
                What::Walk(..) => {}
            }
        }
        let read = reach.read().await?;
        if read.is_empty() {
            return Ok(());
        }
        for (scanned, tuples) in read {
            let body = scanned.question.as_ref().and_then(|question| match question.what {
                What::Body(body) => Some(body),
                _ => None,
            });
            for (tuple, surely) in tuples {
                let certain = scanned.certain && surely;
                match body {
                    None => reach.reach_tuple(&tuple, certain)?,
                    Some(body) => {
                        let walk = Formula::Walk(tuple.relation.clone(), body);
                        reach.follow(&tuple.namespace, &tuple.object, &walk, certain)?;
                    }
                }
            }
        }
    }
}

/// The object that is the subject itself.
fn itself(subject: &Subject, namespace: &str) -> Option<String> {
    match subject {
        Subject::Id(id) => Some(id.clone()),
        Subject::Set(set) => {
            (set.relation.is_empty() && set.namespace == namespace).then(|| set.object.clone())
        }
    }
}

/// The subject sets that tuples name objects by, with any relation. Tuples of one are
/// skipped to find the next.
async fn named_as(
    graph: &Graph,
    place: Place,
    bodies: Vec<(BodyId, SubjectSet, bool)>,
) -> Result<Vec<(Subject, BodyId, bool)>, ReadRejection> {
    let mut found = Vec::new();
    let range = |set: &SubjectSet| place.naming(&set.namespace, Some(&set.object));
    let mut left: Vec<_> =
        bodies.into_iter().map(|(body, set, certain)| (range(&set), body, certain)).collect();
    while !left.is_empty() {
        let part = left.split_off(left.len().saturating_sub(TOGETHER));
        let reads = part.iter().map(|(range, _, _)| {
            Read::Scan(Scan { range: range.clone(), limit: 1, order: Order::Forward })
        });
        let rows = graph.read(reads.collect(), part.len() == TOGETHER).await?;
        for ((mut range, body, certain), rows) in part.into_iter().zip(rows) {
            let Some(tuple) = rows.rows.first().and_then(read_tuple) else { continue };
            range.start = place.subject(&tuple.subject, None, None).end;
            found.push((tuple.subject, body, certain));
            if range.start < range.end {
                left.push((range, body, certain));
            }
        }
    }
    Ok(found)
}
