//! Issuing a session, as part of the transaction that earned it.

use std::time::Duration;

use cardea_storage::{Timestamp, Transaction};
use uuid::Uuid;

use super::{Aal, AuthenticationMethod, CredentialKind, TokenKind};
use crate::{
    Service,
    model::{Client, Identity, IdentityId, Issued, Scope, Session, SessionId},
    table::{
        DeviceRecord, IdentityRecord, MethodRecord, SessionKey, SessionRecord, Sessions, id_bytes,
    },
};

/// The longest user agent that is kept, in bytes.
const USER_AGENT_BYTES_MAX: usize = 512;

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
        Drawn {
            id: self.mint_in(slot),
            device: self.mint(),
            token: tokens.mint(entropy, TokenKind::Session, scope.tenant, slot),
            logout: tokens.mint(entropy, TokenKind::Logout, scope.tenant, slot),
        }
    }

    /// Writes a session that a password has earned.
    pub(crate) fn issue_session(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: (Uuid, &IdentityRecord),
        drawn: &Drawn,
        client: &Client,
    ) -> Issued {
        let now = t.now();
        let (owner, record) = identity;
        let expires_at = now.after(self.settings.session_lifespan);
        let method = AuthenticationMethod {
            method: CredentialKind::Password,
            aal: Aal::Aal1,
            completed_at: now,
        };
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
        };
        let key = SessionKey { tenant: scope.tenant, id: drawn.id };
        t.insert::<Sessions>(&key, &session, Some(self.kept_until(expires_at)));
        let mut view = Session::of(SessionId(drawn.id), &session, Some(record.session_epoch), now);
        view.identity = Some(Identity::public(IdentityId(owner), record));
        Issued {
            session: view,
            token: drawn.token.token.clone(),
            logout_token: drawn.logout.token.clone(),
        }
    }

    /// When the row of a session that ends then ceases to exist.
    pub(crate) fn kept_until(&self, expires_at: Timestamp) -> Timestamp {
        expires_at.after(self.settings.session_retention.max(Duration::from_secs(1)))
    }
}

/// The beginning of a text, at most that many bytes, no character halved.
fn cut(text: &str, bytes_max: usize) -> &str {
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
