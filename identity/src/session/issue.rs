//! Issuing a session, as part of the transaction that earned it.

use std::time::Duration;

use cardea_storage::{StoreError, TableKey as _, Timestamp, Transaction};
use serde_json::json;
use uuid::Uuid;

use super::{Aal, AuthenticationMethod, CredentialKind, Proof, TokenKind, check::Found};
use crate::{
    Service,
    audit::{Act, Actor},
    model::{Client, Identity, IdentityId, Issued, Scope, Session, SessionId, Standing},
    schema::Channel,
    social::{Provider, claims::Upstream},
    table::{
        DeviceRecord, IdentityRecord, MethodRecord, SessionKey, SessionRecord, Sessions, id_bytes,
    },
};

/// The longest user agent that is kept, in bytes.
const USER_AGENT_BYTES_MAX: usize = 512;

/// What somebody has just shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factor<'a> {
    pub(crate) kind: CredentialKind,
    pub(crate) aal: Aal,
    /// How it came, if it is a code.
    pub(crate) via: Option<Channel>,
    /// Where the account is that it shows, if it is one, and how it was authenticated
    /// there.
    pub(crate) provider: Option<(&'a Provider, &'a Upstream)>,
}

impl<'a> Factor<'a> {
    pub(crate) const PASSWORD: Self = Self::first(CredentialKind::Password);
    pub(crate) const PASSKEY: Self = Self::first(CredentialKind::Passkey);
    pub(crate) const TOTP: Self = Self::second(CredentialKind::Totp);
    pub(crate) const LOOKUP_SECRET: Self = Self::second(CredentialKind::LookupSecret);
    pub(crate) const SECURITY_KEY: Self = Self::second(CredentialKind::Webauthn);

    pub(crate) const PASSWORDLESS_KEY: Self = Self::first(CredentialKind::Webauthn);

    /// A first factor that is no code.
    pub(crate) const fn first(kind: CredentialKind) -> Self {
        Self { kind, aal: Aal::Aal1, via: None, provider: None }
    }

    const fn second(kind: CredentialKind) -> Self {
        Self { kind, aal: Aal::Aal2, via: None, provider: None }
    }

    /// A code that logs in or signs up.
    pub(crate) const fn code(via: Channel) -> Self {
        Self { via: Some(via), ..Self::first(CredentialKind::Code) }
    }

    /// A code that is shown beside a first factor.
    pub(crate) const fn second_code(via: Channel) -> Self {
        Self { via: Some(via), ..Self::second(CredentialKind::Code) }
    }

    /// An account at a provider.
    pub(crate) const fn account(at: &'a Provider, upstream: &'a Upstream) -> Self {
        Self { provider: Some((at, upstream)), ..Self::first(CredentialKind::Oidc) }
    }

    pub(crate) fn completed(self, at: Timestamp) -> AuthenticationMethod {
        let (provider, upstream) = self.provider.unzip();
        let both = self.provider.is_some_and(|(provider, said)| provider.vouches_for_two(said));
        AuthenticationMethod {
            method: self.kind,
            // It stays a first factor here, which two were shown for there.
            aal: if both { Aal::Aal2 } else { self.aal },
            completed_at: at,
            via: self.via,
            provider: provider.map(|provider| provider.id.clone()),
            organization: provider.and_then(|provider| provider.organization),
            upstream: upstream.cloned().unwrap_or_default(),
        }
    }
}

/// Ids and tokens of a session to be issued, drawn once, whatever often the
/// transaction is tried.
pub(crate) struct Drawn {
    id: Uuid,
    device: Uuid,
    token: super::Minted,
    logout: super::Minted,
}

impl Service {
    /// Draws what a session of an identity needs.
    pub(crate) fn draw_session(&self, scope: Scope, identity: Uuid) -> Drawn {
        let slot = cardea_storage::Slot::of_id(&identity);
        let entropy = self.store.entropy().as_ref();
        let tokens = &self.keys.tokens;
        let token = tokens.mint(entropy, TokenKind::Session, scope.tenant, slot);
        let logout = tokens.logout_of(&token.token, scope.tenant, slot);
        Drawn { id: self.mint_in(slot), device: self.mint(), token, logout }
    }

    /// Writes a session that a factor has earned.
    pub(crate) async fn issue_session(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: (Uuid, &IdentityRecord),
        drawn: &Drawn,
        (factor, client): (Factor<'_>, &Client),
    ) -> Result<Issued, StoreError> {
        let (owner, record) = identity;
        let era = self.session_era(t, scope, &owner, true).await?;
        let now = t.now();
        let expires_at = now.after(self.settings.session_lifespan);
        let method = factor.completed(now);
        let device = DeviceRecord {
            id: id_bytes(&drawn.device),
            ip_address: client.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            user_agent: cut(&client.user_agent, USER_AGENT_BYTES_MAX).to_owned(),
            location: String::new(),
        };
        let session = SessionRecord {
            identity: id_bytes(&owner),
            token_digest: drawn.token.digest.0.to_vec().into(),
            logout_digest: drawn.logout.digest.0.to_vec().into(),
            revoked_at: 0,
            issued_at: now.as_millis(),
            authenticated_at: now.as_millis(),
            expires_at: expires_at.as_millis(),
            methods: vec![MethodRecord::of(&method)],
            devices: vec![device],
            epoch: record.session_epoch,
            era,
            imported_digest: bytes::Bytes::new(),
        };
        let key = SessionKey { tenant: scope.tenant, id: drawn.id };
        t.insert::<Sessions>(&key, &session, Some(self.kept_until(expires_at)));
        let details = json!({
            "session_id": drawn.id.to_string(),
            "method": factor.kind.name(),
            "aal": method.aal.name(),
        });
        let what = (Act::SessionIssued, Actor::Oneself(client));
        self.audit(t, scope, owner, what, details).await?;
        let standing = Some(Standing { epoch: record.session_epoch, era });
        let mut view = Session::of(SessionId(drawn.id), &session, standing, now);
        view.identity = Some(Identity::public(IdentityId(owner), record));
        self.count_second_codes(&mut view, record);
        Ok(Issued {
            session: view,
            token: drawn.token.token.clone(),
            logout_token: drawn.logout.token.clone(),
        })
    }

    /// Writes that the holder of a session was authenticated again, or by another
    /// factor. A browser's session gets another token with it, so that whoever knew
    /// the former one does not rise too; a native client keeps the token it has.
    pub(crate) async fn strengthen_session(
        &self,
        t: &Transaction,
        scope: Scope,
        (found, proof): (Found, &Proof),
        drawn: &Drawn,
        (factor, client): (Factor<'_>, &Client),
    ) -> Result<Issued, StoreError> {
        let now = t.now();
        let mut session = found.session;
        add_method(&mut session, factor, now);
        session.authenticated_at = now.as_millis();
        let expires_at = now.after(self.settings.session_lifespan);
        session.expires_at = session.expires_at.max(expires_at.as_millis());
        let slot = found.key.slot();
        let (token, logout) = match proof {
            Proof::Cookie(_) => (drawn.token.token.clone(), drawn.logout.clone()),
            Proof::Token(token) => {
                (token.clone(), self.keys.tokens.logout_of(token, scope.tenant, slot))
            }
        };
        if matches!(proof, Proof::Cookie(_)) {
            session.token_digest = drawn.token.digest.0.to_vec().into();
            session.imported_digest = bytes::Bytes::new();
        }
        session.logout_digest = logout.digest.0.to_vec().into();
        let kept = self.kept_until(Timestamp(session.expires_at));
        t.put::<Sessions>(&found.key, &session, Some(kept)).await?;
        let standing = Some(Standing { epoch: found.identity.session_epoch, era: found.era });
        let mut view = Session::of(SessionId(found.key.id), &session, standing, now);
        view.identity = Some(Identity::public(IdentityId(found.identity_id), &found.identity));
        self.count_second_codes(&mut view, &found.identity);
        let details = json!({
            "session_id": found.key.id.to_string(),
            "method": factor.kind.name(),
            "aal": view.aal.name(),
        });
        let what = (Act::SessionStrengthened, Actor::Oneself(client));
        self.audit(t, scope, found.identity_id, what, details).await?;
        Ok(Issued { session: view, token, logout_token: logout.token })
    }

    /// Says of a session whether its identity has a second factor beside what it shows,
    /// codes included.
    fn count_second_codes(&self, session: &mut Session, identity: &IdentityRecord) {
        let has_codes = !self.second_addresses(identity, &session.methods).is_empty();
        if let Some(shown) = &mut session.identity {
            shown.has_second_factor |= has_codes;
        }
    }

    /// When the row of a session that ends then ceases to exist.
    pub(crate) fn kept_until(&self, expires_at: Timestamp) -> Timestamp {
        expires_at.after(self.settings.session_retention.max(Duration::from_secs(1)))
    }
}

/// Writes into a session that its holder has shown a factor.
pub(crate) fn add_method(session: &mut SessionRecord, factor: Factor<'_>, now: Timestamp) {
    let method = MethodRecord::of(&factor.completed(now));
    let same = |known: &MethodRecord| {
        let again = MethodRecord {
            completed_at: method.completed_at,
            upstream_acr: method.upstream_acr.clone(),
            upstream_amr: method.upstream_amr.clone(),
            ..known.clone()
        };
        again == method
    };
    session.methods.retain(|known| !same(known));
    session.methods.push(method);
}

/// The beginning of a text, at most that many bytes, no character halved.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("é", 0), "");
        assert_eq!(cut("abc", 9), "abc");
    }
}
