//! Which relations and permissions a subject has on an object.

use cardea_storage::Consistency;

use crate::{
    Context, ReadRejection, Subject,
    testing::{TENANT, World},
};

#[tokio::test]
async fn every_name_that_a_namespace_declares_is_checked() {
    let language = "
class U implements Namespace {}
class D implements Namespace {
  related: { owners: U[]; viewers: U[]; banned: U[] }
  permits = {
    view: (ctx: Context): boolean =>
      (this.related.viewers.includes(ctx.subject) || this.permits.edit(ctx)) &&
      !this.related.banned.includes(ctx.subject),
    edit: (ctx: Context): boolean => this.related.owners.includes(ctx.subject),
  }
}";
    let tuples = ["D:1#owners@ann", "D:1#viewers@bob", "D:1#owners@eve", "D:1#banned@eve"];
    let world = World::of(language, &tuples).await;
    let actions = async |object: &str, id: &str| {
        let subject = Subject::Id(id.to_owned());
        let (service, strong) = (&world.service, Consistency::Strong);
        service
            .list_actions(TENANT, "D", object, &subject, &Context::new(), strong)
            .await
            .unwrap()
            .value
    };
    assert_eq!(actions("1", "ann").await, ["edit", "owners", "view"]);
    assert_eq!(actions("1", "bob").await, ["view", "viewers"]);
    assert_eq!(actions("1", "eve").await, ["banned", "edit", "owners"]);
    assert_eq!(actions("2", "ann").await, [] as [&str; 0]);
    let nobody = Subject::Id("x".to_owned());
    let unknown = world
        .service
        .list_actions(TENANT, "X", "1", &nobody, &Context::new(), Consistency::Strong)
        .await;
    assert!(matches!(unknown, Err(ReadRejection::UnknownNamespace(_))));
}
