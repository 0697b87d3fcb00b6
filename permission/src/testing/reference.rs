//! The reference: every question that could matter is written down with what it
//! depends on, and answered by going over all of them again and again. No order, no
//! limits, no memory of what was read, no reads.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::{
    Subject, SubjectSet, Tuple,
    engine::value::{Between, Finding, Value, Why},
    language::{BodyId, Declared, Formula, Language},
};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Has(String),
    Walk(String, BodyId),
    Body(BodyId),
}

type Question = (String, String, Asked);

enum Rule {
    Known(Finding),
    Ask(Question),
    Or(Vec<Rule>),
    And(Vec<Rule>),
    Not(Box<Rule>),
}

/// Whether a tuple that was made counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is there.
    There,
    /// Its condition lacks something.
    Doubted,
}

/// Whether the subject has the relation, if all tuples are there.
pub(crate) fn check(
    language: &Language,
    tuples: &BTreeSet<Tuple>,
    set: &SubjectSet,
    subject: &Subject,
) -> Value {
    let tuples = tuples.iter().map(|tuple| (tuple.clone(), Standing::There)).collect();
    check_where(language, &tuples, set, subject)
}

/// Whether the subject has the relation, if tuples stand so; those whose condition
/// fails, and those that expired, are not among them.
pub(crate) fn check_where(
    language: &Language,
    tuples: &BTreeMap<Tuple, Standing>,
    set: &SubjectSet,
    subject: &Subject,
) -> Value {
    let root = (set.namespace.clone(), set.object.clone(), Asked::Has(set.relation.clone()));
    let mut rules: BTreeMap<Question, Rule> = BTreeMap::new();
    let mut left = vec![root.clone()];
    while let Some(question) = left.pop() {
        if let Entry::Vacant(vacant) = rules.entry(question) {
            let rule = rule(language, tuples, vacant.key(), subject);
            each(&rule, false, &mut |asked, _| left.push(asked.clone()));
            vacant.insert(rule);
        }
    }
    solve(&rules)[&root].value
}

fn rule(
    language: &Language,
    tuples: &BTreeMap<Tuple, Standing>,
    (namespace, object, asked): &Question,
    subject: &Subject,
) -> Rule {
    let of = |relation: &str| {
        let (namespace, object, relation) =
            (namespace.clone(), object.clone(), relation.to_owned());
        tuples.iter().filter(move |(tuple, _)| {
            tuple.namespace == namespace && tuple.object == object && tuple.relation == relation
        })
    };
    let gated = |rule, standing: &Standing| match standing {
        Standing::There => rule,
        Standing::Doubted => Rule::And(vec![Rule::Known(Finding::undecided(Why::Context)), rule]),
    };
    let said = |name: &str| {
        let rules = of(name).map(|(tuple, standing)| {
            let rule = match &tuple.subject {
                named if named == subject => Rule::Known(Finding::YES),
                Subject::Set(set) if !set.relation.is_empty() => Rule::Ask((
                    set.namespace.clone(),
                    set.object.clone(),
                    Asked::Has(set.relation.clone()),
                )),
                _ => Rule::Known(Finding::NO),
            };
            gated(rule, standing)
        });
        Rule::Or(rules.collect())
    };
    let about = |formula: &Formula| bind(namespace, object, formula, subject);
    match asked {
        Asked::Has(name) => match language.declared(namespace, name) {
            Declared::NoNamespace | Declared::Undeclared => {
                Rule::Known(Finding::doubt(Why::Undeclared))
            }
            Declared::Relation | Declared::Free => said(name),
            Declared::Permission(formula) => Rule::Or(vec![said(name), about(formula)]),
        },
        Asked::Walk(relation, body) => Rule::Or(
            of(relation)
                .filter_map(|(tuple, standing)| match &tuple.subject {
                    Subject::Set(set) => {
                        let asked = match language.body(*body) {
                            Formula::Has(name) => Asked::Has(name.clone()),
                            _ => Asked::Body(*body),
                        };
                        let to = (set.namespace.clone(), set.object.clone(), asked);
                        Some(gated(Rule::Ask(to), standing))
                    }
                    Subject::Id(_) => None,
                })
                .collect(),
        ),
        Asked::Body(_) if !language.has(namespace) => Rule::Known(Finding::doubt(Why::Undeclared)),
        Asked::Body(body) => about(language.body(*body)),
    }
}

fn bind(namespace: &str, object: &str, formula: &Formula, subject: &Subject) -> Rule {
    let all = |terms: &[Formula]| {
        terms.iter().map(|term| bind(namespace, object, term, subject)).collect()
    };
    let ask = |asked| Rule::Ask((namespace.to_owned(), object.to_owned(), asked));
    match formula {
        Formula::Or(terms) => Rule::Or(all(terms)),
        Formula::And(terms) => Rule::And(all(terms)),
        Formula::Not(inner) => Rule::Not(Box::new(bind(namespace, object, inner, subject))),
        Formula::Has(name) => ask(Asked::Has(name.clone())),
        Formula::Walk(relation, body) => ask(Asked::Walk(relation.clone(), *body)),
        Formula::IsSubject => {
            let is = match subject {
                Subject::Id(id) => id == object,
                Subject::Set(set) => *set == SubjectSet::new(namespace, object, ""),
            };
            Rule::Known(if is { Finding::YES } else { Finding::NO })
        }
    }
}

fn each<'a>(rule: &'a Rule, negated: bool, visit: &mut impl FnMut(&'a Question, bool)) {
    match rule {
        Rule::Known(_) => {}
        Rule::Ask(question) => visit(question, negated),
        Rule::Or(rules) | Rule::And(rules) => {
            rules.iter().for_each(|rule| each(rule, negated, visit));
        }
        Rule::Not(inner) => each(inner, true, visit),
    }
}

fn evaluate(rule: &Rule, of: &impl Fn(&Question) -> Between) -> Between {
    match rule {
        Rule::Known(finding) => Between::just(*finding),
        Rule::Ask(question) => of(question),
        Rule::Or(rules) => rules
            .iter()
            .fold(Between::just(Finding::NO), |found, rule| found.or(evaluate(rule, of))),
        Rule::And(rules) => rules
            .iter()
            .fold(Between::just(Finding::YES), |found, rule| found.and(evaluate(rule, of))),
        Rule::Not(inner) => evaluate(inner, of).not(),
    }
}

/// Answers follow from answers; where nothing follows any more, questions that only
/// wait for one another do not hold, or, through a negation, have no answer.
fn solve(rules: &BTreeMap<Question, Rule>) -> BTreeMap<Question, Finding> {
    let mut answers: BTreeMap<Question, Finding> = BTreeMap::new();
    while answers.len() < rules.len() {
        let before = answers.len();
        for (question, rule) in rules {
            let known = |asked: &Question| {
                answers.get(asked).map_or(Between::ANYTHING, |answer| Between::just(*answer))
            };
            if !answers.contains_key(question)
                && let Some(answer) = evaluate(rule, &known).decided()
            {
                answers.insert(question.clone(), answer);
            }
        }
        if answers.len() == before {
            answer_a_knot(rules, &mut answers);
        }
    }
    answers
}

fn answer_a_knot(rules: &BTreeMap<Question, Rule>, answers: &mut BTreeMap<Question, Finding>) {
    let waits_for = |question: &Question| {
        let mut reached = BTreeSet::new();
        let mut left = vec![question.clone()];
        while let Some(question) = left.pop() {
            each(&rules[&question], false, &mut |asked, _| {
                if !answers.contains_key(asked) && reached.insert(asked.clone()) {
                    left.push(asked.clone());
                }
            });
        }
        reached
    };
    let open = rules.keys().filter(|question| !answers.contains_key(question));
    let knot = open.map(waits_for).min_by_key(BTreeSet::len).unwrap();
    let mut negated = false;
    for question in &knot {
        each(&rules[question], false, &mut |asked, not| negated |= not && knot.contains(asked));
    }
    let start = if negated { Finding::undecided(Why::Cycle) } else { Finding::doubt(Why::Cycle) };
    let mut supposed: BTreeMap<Question, Finding> =
        knot.iter().map(|question| (question.clone(), start)).collect();
    loop {
        let before = supposed.clone();
        for question in &knot {
            let of = |asked: &Question| {
                Between::just(*answers.get(asked).unwrap_or_else(|| &supposed[asked]))
            };
            let found = evaluate(&rules[question], &of).low;
            if !negated && found.value > supposed[question].value {
                supposed.insert(question.clone(), found);
            }
        }
        if supposed == before {
            break;
        }
    }
    answers.extend(supposed);
}

/// Whether a grant follows from tuples by the simplest of rules: for languages without
/// conditions and negations.
pub(crate) fn follows(
    language: &Language,
    tuples: &BTreeSet<Tuple>,
    set: &SubjectSet,
    subject: &Subject,
) -> bool {
    let mut known: BTreeSet<(String, String, String)> = BTreeSet::new();
    loop {
        let before = known.len();
        for tuple in tuples {
            let key = |s: &SubjectSet| (s.namespace.clone(), s.object.clone(), s.relation.clone());
            let holds = tuple.subject == *subject
                || matches!(&tuple.subject, Subject::Set(set) if known.contains(&key(set)));
            let declared = !matches!(
                language.declared(&tuple.namespace, &tuple.relation),
                Declared::NoNamespace | Declared::Undeclared
            );
            if holds && declared {
                known.insert(key(&tuple.set()));
            }
        }
        let objects: BTreeSet<(String, String)> = tuples
            .iter()
            .flat_map(|tuple| {
                let named = match &tuple.subject {
                    Subject::Set(set) => Some((set.namespace.clone(), set.object.clone())),
                    Subject::Id(_) => None,
                };
                [Some((tuple.namespace.clone(), tuple.object.clone())), named]
            })
            .flatten()
            .chain([(set.namespace.clone(), set.object.clone())])
            .collect();
        for (namespace, object) in &objects {
            for (permit, formula) in language.permits(namespace) {
                if any(language, tuples, &known, namespace, object, formula, subject) {
                    known.insert((namespace.clone(), object.clone(), permit.to_owned()));
                }
            }
        }
        if known.len() == before {
            let asked = (set.namespace.clone(), set.object.clone(), set.relation.clone());
            return known.contains(&asked);
        }
    }
}

fn any(
    language: &Language,
    tuples: &BTreeSet<Tuple>,
    known: &BTreeSet<(String, String, String)>,
    namespace: &str,
    object: &str,
    formula: &Formula,
    subject: &Subject,
) -> bool {
    let holds = |formula| any(language, tuples, known, namespace, object, formula, subject);
    match formula {
        Formula::Or(terms) => terms.iter().any(holds),
        Formula::And(terms) => terms.iter().all(holds),
        Formula::Not(_) => panic!("only for languages without negations"),
        Formula::Has(name) => {
            known.contains(&(namespace.to_owned(), object.to_owned(), name.clone()))
        }
        Formula::IsSubject => match subject {
            Subject::Id(id) => id == object,
            Subject::Set(set) => *set == SubjectSet::new(namespace, object, ""),
        },
        Formula::Walk(relation, body) => tuples.iter().any(|tuple| {
            let Subject::Set(to) = &tuple.subject else { return false };
            // Nothing is permitted in a namespace that is not declared.
            language.has(&to.namespace)
                && tuple.namespace == namespace
                && tuple.object == object
                && tuple.relation == *relation
                && any(
                    language,
                    tuples,
                    known,
                    &to.namespace,
                    &to.object,
                    language.body(*body),
                    subject,
                )
        }),
    }
}
