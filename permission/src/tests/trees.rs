//! How large trees may be.

use cardea_storage::Consistency;

use crate::{
    ReadRejection, SubjectSet,
    engine::Why,
    expand::LEVELS_MAX,
    testing::{TENANT, World},
};

/// A permission whose formula is nested so deep.
fn nested(deep: u32) -> String {
    let term = "this.related.a.includes(ctx.subject)";
    let mut body = term.to_owned();
    for level in 0..deep {
        let sign = if level % 2 == 0 { "&&" } else { "||" };
        body.push_str(&format!(" {sign} {term}"));
    }
    format!(
        "class D implements Namespace {{ precedence = \"keto\" related: {{ a: D[] }} \
         permits = {{ p: (ctx) => {body} }} }}"
    )
}

#[tokio::test]
async fn tree_of_more_levels_than_anybody_reads_is_refused() {
    let set: SubjectSet = "D:1#p".parse().unwrap();
    for (deep, taken) in [(LEVELS_MAX - 20, true), (LEVELS_MAX + 20, false)] {
        let world = World::of(&nested(deep), &["D:1#a@ann"]).await;
        assert_eq!(world.check("D:1#p@ann").await, "yes");
        for depth in [0, 3] {
            let tree = world.service.expand(TENANT, &set, depth, Consistency::Strong).await;
            match tree {
                Ok(tree) => assert!(taken && tree.value.is_some(), "{deep}"),
                Err(ReadRejection::Unanswered(told)) => {
                    assert!(!taken && told.why == Why::Depth, "{deep}: {told}");
                }
                Err(error) => panic!("{deep}: {error}"),
            }
        }
    }
}
