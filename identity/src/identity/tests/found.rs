//! How identities are found: by pages, external ids, organizations, beginnings.

use super::*;

#[tokio::test]
async fn identities_are_listed_by_pages_each_once() {
    let world = World::new();
    let mut ids = Vec::new();
    for number in 0..25 {
        ids.push(world.create(&format!("ann{number}@example.org"), None).await.unwrap().id);
    }
    ids.sort_unstable();
    let list = |filter: ListFilter, size, token| {
        let service = world.service.clone();
        let scope = world.scope;
        async move {
            let page = PageRequest { size, token };
            service.list_identities(scope, filter, &page, Consistency::Strong).await
        }
    };
    for size in [1, 7, 24, 25, 26] {
        let (mut seen, mut token, mut pages) = (Vec::new(), None, 0);
        loop {
            let page: Page<Identity> = list(ListFilter::default(), size, token).await.unwrap();
            assert!(page.items.len() <= size as usize);
            seen.extend(page.items.iter().map(|identity| identity.id));
            pages += 1;
            match page.next {
                Some(next) => token = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, ids, "pages of {size}");
        assert_eq!(pages, 25_usize.div_ceil(size as usize));
    }
    let some = vec![ids[3], ids[1], ids[1], IdentityId(world.service.mint())];
    let filter = ListFilter { ids: some.clone(), ..ListFilter::default() };
    let listed: Vec<_> = list(filter, 0, None).await.unwrap().items.iter().map(|i| i.id).collect();
    assert_eq!(listed, [ids[1], ids[3]]);
    let both = ListFilter {
        ids: some,
        credentials_identifier: Some("a".to_owned()),
        ..ListFilter::default()
    };
    assert!(matches!(list(both, 0, None).await, Err(ListRejection::FiltersCombined)));
    let many = ListFilter { ids: vec![ids[0]; 501], ..ListFilter::default() };
    assert!(matches!(list(many, 0, None).await, Err(ListRejection::TooManyIds)));
    // N15.
    let forged = list(ListFilter::default(), 1, Some("' OR 1=1 --".to_owned())).await;
    assert!(matches!(forged, Err(ListRejection::BadPageToken(_))));
}

async fn list(world: &World, filter: ListFilter, size: u32) -> Vec<IdentityId> {
    let mut page = PageRequest { size, token: None };
    let mut ids = Vec::new();
    loop {
        let (filter, strong) = (filter.clone(), Consistency::Strong);
        let found =
            world.service.list_identities(world.scope, filter, &page, strong).await.unwrap();
        ids.extend(found.items.into_iter().map(|identity| identity.id));
        page.token = found.next;
        if page.token.is_none() {
            return ids;
        }
    }
}

impl World {
    async fn by_external(
        &self,
        scope: Scope,
        external_id: &str,
    ) -> Result<IdentityId, ReadRejection> {
        let (outline, strong) = (CredentialDetail::Outline, Consistency::Strong);
        let found = self.service.identity_by_external_id(scope, external_id, outline, strong).await;
        found.map(|identity| identity.id)
    }
}

/// Between the two reads it may go to somebody else, or to nobody.
#[tokio::test]
async fn who_has_an_external_id_is_not_who_had_it() {
    for gone in [false, true] {
        for reads in 0.. {
            let world = World::new();
            let named = |email: &str, external_id: Option<&str>| NewIdentity {
                traits: traits(email),
                external_id: external_id.map(str::to_owned),
                ..NewIdentity::default()
            };
            let ann = named("ann@example.org", Some("1"));
            let ann = world.service.create_identity(world.scope, ann).await.unwrap();
            let bob = named("bob@example.org", None);
            let bob = world.service.create_identity(world.scope, bob).await.unwrap();
            let (service, scope) = (world.service.clone(), world.scope);
            let freed = IdentityChange { external_id: Edit::Set(None), ..change(&ann) };
            let taken =
                IdentityChange { external_id: Edit::Set(Some("1".to_owned())), ..change(&bob) };
            let (ann, bob) = (ann.id, bob.id);
            let moves = async move {
                if gone {
                    service.delete_identity(scope, ann).await.unwrap();
                } else {
                    service.update_identity(scope, ann, freed).await.unwrap();
                }
                service.update_identity(scope, bob, taken).await.unwrap();
            };
            *world.counted.meanwhile.lock() = Some((reads, Box::pin(moves)));
            let found = world.by_external(scope, "1").await.unwrap();
            if world.counted.meanwhile.lock().take().is_some() {
                assert!(reads > 1 && found == ann);
                break;
            }
            assert_eq!(found, bob, "before read {reads}");
        }
    }
}

#[tokio::test]
async fn external_id_is_of_one_identity_and_leads_to_it() {
    let world = World::new();
    let named = |email: &str, external_id: &str| NewIdentity {
        traits: traits(email),
        external_id: Some(external_id.to_owned()),
        ..NewIdentity::default()
    };
    let by = async |external_id: &str| world.by_external(world.scope, external_id).await;
    let ann = world.service.create_identity(world.scope, named("ann@example.org", "1")).await;
    let ann = ann.unwrap();
    assert_eq!(ann.external_id.as_deref(), Some("1"));
    assert_eq!(by("1").await.unwrap(), ann.id);
    assert!(matches!(by("2").await, Err(ReadRejection::NotFound)));
    let taken = world.service.create_identity(world.scope, named("bob@example.org", "1")).await;
    assert!(matches!(taken, Err(CreateRejection::DuplicateIdentifier)), "{taken:?}");
    let long = "x".repeat(create::EXTERNAL_ID_BYTES_MAX + 1);
    let refused = world.service.create_identity(world.scope, named("eve@example.org", &long)).await;
    assert!(matches!(refused, Err(CreateRejection::ExternalIdTooLong)), "{refused:?}");

    // It moves with a change, and is free when its identity is gone.
    let renamed = IdentityChange { external_id: Edit::Set(Some("2".to_owned())), ..change(&ann) };
    world.service.update_identity(world.scope, ann.id, renamed).await.unwrap();
    assert!(matches!(by("1").await, Err(ReadRejection::NotFound)));
    assert_eq!(by("2").await.unwrap(), ann.id);
    world.service.update_identity(world.scope, ann.id, change(&ann)).await.unwrap();
    assert_eq!(by("2").await.unwrap(), ann.id, "kept where nothing is said of it");
    let foreign = Scope { tenant: Tenant(5) };
    let seen = world.by_external(foreign, "2").await;
    assert!(matches!(seen, Err(ReadRejection::NotFound)), "{seen:?}");
    world.service.delete_identity(world.scope, ann.id).await.unwrap();
    let again = world.service.create_identity(world.scope, named("bob@example.org", "2")).await;
    assert_eq!(by("2").await.unwrap(), again.unwrap().id);
}

#[tokio::test]
async fn identities_of_an_organization_are_listed_and_leave_it() {
    let world = World::new();
    let acme = uuid::Uuid::from_u128(1);
    let mut members = Vec::new();
    for at in 0..9 {
        let new = NewIdentity {
            traits: traits(&format!("a{at}@example.org")),
            organization: (at % 3 != 0).then_some(acme),
            ..NewIdentity::default()
        };
        let made = world.service.create_identity(world.scope, new).await.unwrap();
        if at % 3 != 0 {
            members.push(made);
        }
    }
    let of = |organization| ListFilter { organization: Some(organization), ..Default::default() };
    let mut found = list(&world, of(acme), 2).await;
    found.sort();
    let mut wanted: Vec<_> = members.iter().map(|identity| identity.id).collect();
    wanted.sort();
    assert_eq!(found, wanted);
    assert_eq!(list(&world, of(uuid::Uuid::from_u128(2)), 2).await, []);
    let gone = members.pop().unwrap();
    let left = IdentityChange { organization: Edit::Set(None), ..change(&gone) };
    world.service.update_identity(world.scope, gone.id, left).await.unwrap();
    assert_eq!(list(&world, of(acme), 250).await.len(), members.len());
}

#[tokio::test]
async fn identifiers_are_searched_by_how_they_begin() {
    let world = World::new();
    let mut ids = std::collections::BTreeMap::new();
    for email in ["anna@example.org", "anne@example.org", "bob@anvil.test", "eve@example.com"] {
        ids.insert(email, world.create(email, None).await.unwrap().id);
    }
    let like = |text: &str| ListFilter {
        credentials_identifier_similar: Some(text.to_owned()),
        ..ListFilter::default()
    };
    let (anna, anne, bob) =
        (ids["anna@example.org"], ids["anne@example.org"], ids["bob@anvil.test"]);
    for size in [1, 2, 250] {
        assert_eq!(list(&world, like(" ANN"), size).await, [anna, anne], "{size}");
        assert_eq!(list(&world, like("an"), size).await, [anna, anne, bob], "{size}");
        assert_eq!(list(&world, like("example.org"), size).await.len(), 2);
        assert_eq!(list(&world, like("zz"), size).await, []);
    }
    let page = PageRequest::default();
    let short = world.service.list_identities(world.scope, like("a"), &page, Consistency::Strong);
    assert!(matches!(short.await, Err(ListRejection::TooShort)));
    let both = ListFilter { ids: vec![anna], ..like("ann") };
    let both = world.service.list_identities(world.scope, both, &page, Consistency::Strong);
    assert!(matches!(both.await, Err(ListRejection::FiltersCombined)));
    world.service.delete_identity(world.scope, anna).await.unwrap();
    assert_eq!(list(&world, like("ann"), 250).await, [anne]);
}

/// N15: a page token of one search is of no use in another.
#[tokio::test]
async fn page_token_of_another_search_is_refused() {
    let world = World::new();
    for email in ["anna@example.org", "anne@example.org"] {
        world.create(email, None).await.unwrap();
    }
    let like = |text: &str| ListFilter {
        credentials_identifier_similar: Some(text.to_owned()),
        ..ListFilter::default()
    };
    let ask = async |text: &str, token: Option<String>| {
        let page = PageRequest { size: 1, token };
        world.service.list_identities(world.scope, like(text), &page, Consistency::Strong).await
    };
    let next = ask("ann", None).await.unwrap().next;
    assert!(ask("ann", next.clone()).await.is_ok());
    let foreign = ask("exa", next).await;
    assert!(matches!(foreign, Err(ListRejection::BadPageToken(_))), "{foreign:?}");
}
