//! What somebody does itself with all that is held of it: takes a copy along, or has it
//! erased (GDPR, articles 15, 17 and 20).
//!
//! Both need a session with every factor that its identity has, whose holder was
//! authenticated a short while ago: a browser that was left open gives away nothing, and
//! deletes nothing. A copy costs reads, so asking for copies is slowed down as attempts
//! at codes are. An erasure names who is to be erased, so that nothing is deleted by a
//! request that only looks like another.

use cardea_storage::StoreError;
use thiserror::Error;

use super::{EraseRejection, Erasure, Export, ExportRejection};
use crate::{
    Service,
    audit::Actor,
    flow::{CodeRejection, TooEarly, sent_code::Budget},
    model::{Client, Identity, IdentityId, Scope},
    session::Proof,
};

/// Why nothing is handed out or erased.
#[derive(Debug, Error)]
pub enum OneselfRejection {
    /// It is not offered.
    #[error("this is not offered")]
    NotOffered,
    /// The caller has no session (`session_inactive`).
    #[error("no active session")]
    NoSession,
    /// The session needs a second factor for this (`session_aal2_required`).
    #[error("the session does not have the assurance level that is required")]
    SecondFactorRequired,
    /// Its holder must prove itself again first (`session_refresh_required`).
    #[error("the session is too old for this")]
    RefreshRequired,
    /// It was not said who is to be erased, or somebody else was.
    #[error("the erasure was not confirmed")]
    NotConfirmed,
    /// Too many copies.
    #[error("too many copies, retry after {:?}", .0.retry_after)]
    Throttled(TooEarly),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Who may take a copy of itself along now, or have itself erased.
    ///
    /// # Errors
    /// See [`OneselfRejection`].
    pub async fn fresh_self(
        &self,
        scope: Scope,
        proof: Option<&Proof>,
    ) -> Result<Identity, OneselfRejection> {
        let me = match proof {
            Some(proof) => self.me(scope, proof).await?,
            None => None,
        };
        let me = me.ok_or(OneselfRejection::NoSession)?;
        if !self.may_see_settings(&me) {
            return Err(OneselfRejection::SecondFactorRequired);
        }
        if !self.is_privileged(&me, self.now()) {
            return Err(OneselfRejection::RefreshRequired);
        }
        Ok(Identity::public(IdentityId(me.identity_id), &me.identity))
    }

    /// Puts together what is held of the caller.
    ///
    /// # Errors
    /// See [`OneselfRejection`].
    pub async fn export_self(
        &self,
        scope: Scope,
        proof: Option<&Proof>,
        client: &Client,
    ) -> Result<Export, OneselfRejection> {
        if !self.settings.self_export {
            return Err(OneselfRejection::NotOffered);
        }
        let me = self.fresh_self(scope, proof).await?;
        let charged = self.charge_code(scope, me.id.0, Budget::Copying).await;
        charged.map_err(|rejection| match rejection {
            CodeRejection::Throttled(early) => OneselfRejection::Throttled(early),
            CodeRejection::Store(error) => error.into(),
            _ => OneselfRejection::NoSession,
        })?;
        let export = self.export_identity(scope, me.id, Actor::Oneself(client)).await;
        export.map_err(|rejection| match rejection {
            ExportRejection::NotFound => OneselfRejection::NoSession,
            ExportRejection::Store(error) => error.into(),
        })
    }

    /// Erases the caller, which says its own id to confirm it.
    ///
    /// # Errors
    /// See [`OneselfRejection`].
    pub async fn erase_self(
        &self,
        scope: Scope,
        proof: Option<&Proof>,
        confirmed: Option<IdentityId>,
        client: &Client,
    ) -> Result<Erasure, OneselfRejection> {
        if !self.settings.self_erasure {
            return Err(OneselfRejection::NotOffered);
        }
        let me = self.fresh_self(scope, proof).await?;
        if confirmed != Some(me.id) {
            return Err(OneselfRejection::NotConfirmed);
        }
        let erased = self.erase_by(scope, me.id, Actor::Oneself(client), proof).await;
        erased.map_err(|rejection| match rejection {
            EraseRejection::NotFound | EraseRejection::NoSession => OneselfRejection::NoSession,
            EraseRejection::Store(error) => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cardea_storage::Consistency;

    use super::*;
    use crate::{
        Settings,
        audit::{Act, AuditFilter},
        page::{PAGE_SIZE_MAX, PageRequest},
        testing::{World, client, settings},
    };

    async fn joined(world: &World, email: &str) -> (Proof, IdentityId) {
        let registered = world.register(email).await;
        (Proof::Token(registered.issued.unwrap().token), registered.identity.id)
    }

    #[tokio::test]
    async fn who_has_itself_erased_is_gone_with_its_sessions_and_nobody_else() {
        let world = World::new();
        let (proof, ann) = joined(&world, "ann@example.org").await;
        let (bobs, bob) = joined(&world, "bob@example.org").await;
        let (scope, from) = (world.scope, &client("192.0.2.1"));
        for confirmed in [None, Some(bob)] {
            let refused = world.service.erase_self(scope, Some(&proof), confirmed, from).await;
            assert!(matches!(refused, Err(OneselfRejection::NotConfirmed)), "{refused:?}");
        }
        let erasure = world.service.erase_self(scope, Some(&proof), Some(ann), from).await.unwrap();
        assert_eq!((erasure.identity, erasure.done_at), (ann, None));
        assert!(!world.recognised(&proof).await && world.recognised(&bobs).await);
        let again = world.service.erase_self(scope, Some(&proof), Some(ann), from).await;
        assert!(matches!(again, Err(OneselfRejection::NoSession)), "{again:?}");
        assert_eq!(world.service.pending_erasures().await.unwrap(), [erasure]);
        let filter = AuditFilter { identity: Some(ann), act: Some(Act::IdentityDeleted) };
        let page = PageRequest { size: PAGE_SIZE_MAX, token: None };
        let events = world.service.list_audit_events(scope, filter, &page, Consistency::Strong);
        assert_eq!(events.await.unwrap().items[0].actor, "self");
    }

    #[tokio::test]
    async fn stale_session_takes_nothing_along_and_erases_nothing() {
        let world = World::new();
        let (proof, ann) = joined(&world, "ann@example.org").await;
        let (scope, from) = (world.scope, &client("192.0.2.1"));
        world.clock.advance(Duration::from_secs(3601));
        let refused = world.service.export_self(scope, Some(&proof), from).await;
        assert!(matches!(refused, Err(OneselfRejection::RefreshRequired)), "{refused:?}");
        let refused = world.service.erase_self(scope, Some(&proof), Some(ann), from).await;
        assert!(matches!(refused, Err(OneselfRejection::RefreshRequired)), "{refused:?}");
        let refused = world.service.erase_self(scope, None, Some(ann), from).await;
        assert!(matches!(refused, Err(OneselfRejection::NoSession)), "{refused:?}");
        assert!(world.recognised(&proof).await);
    }

    /// What is acknowledged to be revoked erases nobody, however close it was.
    #[tokio::test]
    async fn session_that_ends_meanwhile_erases_nothing() {
        for reads in 0.. {
            let world = World::new();
            let (proof, ann) = joined(&world, "ann@example.org").await;
            let (service, scope) = (world.service.clone(), world.scope);
            let ends = async move {
                service.revoke_identity_sessions(scope, ann).await.unwrap();
            };
            *world.counted.meanwhile.lock() = Some((reads, Box::pin(ends)));
            let from = &client("192.0.2.1");
            let erased = world.service.erase_self(scope, Some(&proof), Some(ann), from).await;
            if world.counted.meanwhile.lock().take().is_some() {
                assert!(reads > 2 && erased.is_ok());
                break;
            }
            let told = matches!(erased, Err(OneselfRejection::NoSession));
            assert!(told, "before read {reads}: {erased:?}");
        }
    }

    #[tokio::test]
    async fn copies_are_complete_and_slowed_down() {
        let world = World::new();
        let (proof, ann) = joined(&world, "ann@example.org").await;
        let (scope, from) = (world.scope, &client("192.0.2.1"));
        let copy = world.service.export_self(scope, Some(&proof), from).await.unwrap();
        assert_eq!((copy.identity.id, copy.sessions.len(), copy.is_cut), (ann, 1, false));
        assert!(copy.events.iter().any(|e| e.kind == "identity.exported" && e.actor == "self"));
        let mut throttled = false;
        for _ in 0..8 {
            let copy = world.service.export_self(scope, Some(&proof), from).await;
            throttled |= matches!(copy, Err(OneselfRejection::Throttled(_)));
        }
        assert!(throttled);
    }

    #[tokio::test]
    async fn neither_is_offered_where_an_operator_says_so() {
        let off = Settings { self_export: false, self_erasure: false, ..settings() };
        let world = World::with(off);
        let (proof, ann) = joined(&world, "ann@example.org").await;
        let (scope, from) = (world.scope, &client("192.0.2.1"));
        let copy = world.service.export_self(scope, Some(&proof), from).await;
        assert!(matches!(copy, Err(OneselfRejection::NotOffered)));
        let erased = world.service.erase_self(scope, Some(&proof), Some(ann), from).await;
        assert!(matches!(erased, Err(OneselfRejection::NotOffered)));
        assert!(world.recognised(&proof).await);
    }
}
