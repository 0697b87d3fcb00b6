//! Explanations: what they say is there, and suffices.

use std::collections::BTreeSet;

use cardea_storage::Consistency;
use proptest::prelude::*;

use crate::{
    Tuple,
    engine::Value,
    explain::Says,
    testing::{
        TENANT, World,
        model::{Chance, Kept, questions, read, subjects},
        reference,
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
