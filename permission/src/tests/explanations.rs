//! Explanations: what they say is there, and suffices.

use std::collections::BTreeSet;

use cardea_storage::Consistency;
use proptest::prelude::*;

use crate::{
    ReadRejection, SubjectSet, Tuple,
    engine::Value,
    explain::{STEPS_MAX, Says},
    testing::{
        TENANT, World,
        model::{Chance, Kept, questions, read, subjects},
        reference, tuple,
    },
    write::Change,
};

/// After each write of a random history.
async fn proofs_suffice(seed: u64) {
    let chance = Chance::new(seed);
    let text = chance.language(false);
    let language = read(&text);
    let world = World::of(&text, &[]).await;
    let mut kept = Kept::new();
    for step in 0..3 {
        let new: Kept = (0..10).map(|_| chance.tuple()).collect();
        let gone: Kept = kept.iter().filter(|_| chance.below(4) == 0).cloned().collect();
        let inserts = new.iter().map(|tuple| Change::Insert(tuple.clone().into()));
        let deletes = gone.iter().map(|tuple| Change::Delete(tuple.clone()));
        let changes = inserts.chain(deletes).collect();
        world.service.change_tuples(TENANT, changes).await.unwrap();
        kept.extend(new);
        kept.retain(|tuple| !gone.contains(tuple));
        for set in questions() {
            for subject in subjects() {
                let asked = Tuple {
                    namespace: set.namespace.clone(),
                    object: set.object.clone(),
                    relation: set.relation.clone(),
                    subject: subject.clone(),
                };
                let found =
                    world.service.explain(TENANT, &asked, 0, Consistency::Eventual).await.unwrap();
                let told = || {
                    format!(
                        "seed {seed}, step {step}: {asked} by {:#?} in\n{text}\n{kept:#?}",
                        found.value
                    )
                };
                let expected = reference::check(&language, &kept, &set, &subject) == Value::Yes;
                assert_eq!(found.value.allowed, expected, "{}", told());
                let proof: BTreeSet<Tuple> = found
                    .value
                    .steps
                    .iter()
                    .filter_map(|step| match &step.says {
                        Says::Tuple(found) => Some(found.tuple.clone()),
                        _ => None,
                    })
                    .collect();
                assert!(proof.is_subset(&kept), "{}", told());
                if expected {
                    let alone = reference::check(&language, &proof, &set, &subject);
                    assert_eq!(alone, Value::Yes, "{}", told());
                } else {
                    assert!(found.value.steps.is_empty());
                }
            }
        }
    }
}

#[tokio::test]
async fn proof_tells_once_what_many_of_its_steps_rest_on() {
    const LEVELS: usize = 14;
    let mut permits = format!("p{LEVELS}: (ctx) => this.related.a.includes(ctx.subject)");
    for level in 0..LEVELS {
        let next = format!("this.permits.p{}(ctx)", level + 1);
        permits.push_str(&format!(", p{level}: (ctx) => {next} && {next}"));
    }
    let language = format!(
        "class D implements Namespace {{ related: {{ a: D[] }} permits = {{ {permits} }} }}"
    );
    let world = World::of(&language, &["D:1#a@ann"]).await;
    let asked = tuple("D:1#p0@ann");
    let found = world.service.explain(TENANT, &asked, 0, Consistency::Strong).await.unwrap().value;
    assert!(found.allowed);
    let said = |says: &Says| found.steps.iter().filter(|step| step.says == *says).count();
    assert_eq!(said(&Says::Tuple(tuple("D:1#a@ann").into())), 1);
    for level in 0..LEVELS {
        let set = SubjectSet::new("D", "1", format!("p{level}"));
        assert_eq!(said(&Says::Permission(set.clone())), 1, "{level}");
        assert_eq!(said(&Says::Told(set)), usize::from(level > 0), "{level}");
    }
    assert!(found.steps.len() < 4 * LEVELS, "{}", found.steps.len());
}

#[tokio::test]
async fn proof_of_too_many_steps_is_not_told() {
    const RELATIONS: usize = 480;
    let names: Vec<String> = (0..RELATIONS).map(|at| format!("r{at}")).collect();
    let related: Vec<String> = names.iter().map(|name| format!("{name}: D[]")).collect();
    let asks: Vec<String> =
        names.iter().map(|name| format!("this.related.{name}.includes(ctx.subject)")).collect();
    let all = asks.join(" && ");
    let number = STEPS_MAX / RELATIONS + 1;
    let each: Vec<String> = (0..number).map(|at| format!("p{at}: (ctx) => {all}")).collect();
    let whole: Vec<String> = (0..number).map(|at| format!("this.permits.p{at}(ctx)")).collect();
    let language = format!(
        "class D implements Namespace {{ related: {{ {} }} permits = {{ {}, p: (ctx) => {} }} }}",
        related.join(" "),
        each.join(", "),
        whole.join(" && ")
    );
    let tuples: Vec<String> = names.iter().map(|name| format!("D:1#{name}@ann")).collect();
    let tuples: Vec<&str> = tuples.iter().map(String::as_str).collect();
    let world = World::of(&language, &tuples).await;
    let explain = async |text: &str| {
        world.service.explain(TENANT, &tuple(text), 0, Consistency::Strong).await
    };
    assert!(explain("D:1#p0@ann").await.unwrap().value.allowed);
    let refused = explain("D:1#p@ann").await.unwrap_err();
    assert!(matches!(refused, ReadRejection::TooMany { limit: STEPS_MAX, .. }), "{refused}");
    assert_eq!(world.check("D:1#p@ann").await, "yes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn grant_follows_from_the_tuples_of_its_proof_alone(seed in any::<u64>()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(proofs_suffice(seed));
    }
}
