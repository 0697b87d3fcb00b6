//! What the operations share: the store, keys, hashing threads, schemas and
//! settings of a node.

use std::{fmt, io, sync::Arc, time::Duration};

use cardea_storage::{Entropy, Keyring, Store, Tenant, Timestamp};
use parking_lot::RwLock;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    courier::{self, Templates},
    flow::{AddressProof, captcha::ProofOfWork, finished::Finished, throttle::Throttle},
    hook::Hooks,
    language::Language,
    outbound::{NoWayOut, Outbound, request::Request},
    outbox::tally::Tallies,
    page::PageKeys,
    password::{Argon2Cost, Breaches, Passwords, Policy, PoolOptions, PoolUsage},
    schema::Schemas,
    session::{CookieKeys, ImportedCookies, RequiredAal, Sliding, TokenKeys, tokenize},
    social::{self, Providers, organization::Organizations},
    webauthn::RelyingParty,
};

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a session lasts.
    pub session_lifespan: Duration,
    /// How long a session is listed after it is over.
    pub session_retention: Duration,
    /// How shortly before its end a session may be extended; `None`: at any time.
    pub session_extend_before_end: Option<Duration>,
    /// How sessions last anew when they are checked; `None`: they end when they end.
    pub session_sliding: Option<Sliding>,
    /// How long a login or registration flow may take.
    pub flow_lifespan: Duration,
    /// How long a flow that is over says so, before it is forgotten.
    pub flow_retention: Duration,
    /// How long after logging in somebody may change how it logs in.
    pub privileged_session_max_age: Duration,
    /// Whether signing up logs in, where no hook says it.
    pub session_after_registration: bool,
    /// What a password must be.
    pub password_policy: Policy,
    /// Who is asked whether a password was breached, beside the list that is included;
    /// `None`: nobody.
    pub breaches: Option<Breaches>,
    /// The cost of new password hashes.
    pub argon2: Argon2Cost,
    /// Who knows the passwords that were not brought along, and is asked when their owners
    /// log in first; `None`: nobody.
    pub password_migration: Option<Request>,
    /// How large the pool of hashing threads is.
    pub pool: PoolOptions,
    /// How attempts are slowed down.
    pub throttle: Throttle,
    /// How many messages strangers may bring about.
    pub message_limits: courier::Limits,
    /// Whether signing up sends a code that verifies the address, and anybody may ask
    /// for one.
    pub verification: bool,
    /// Schemas that somebody who signs up may name, beside the default one.
    pub selectable_schemas: Vec<String>,
    /// Whether a code that is sent to an address logs in and signs up.
    pub code_login: bool,
    /// Whether a code that is sent to an address is a second factor.
    pub code_second_factor: bool,
    /// Whether an address lets its owner back in.
    pub recovery: bool,
    /// How long a code is good.
    pub code_lifespan: Duration,
    /// How long a link is good.
    pub link_lifespan: Duration,
    /// How an address shows that it lets its owner back in.
    pub recovery_proof: AddressProof,
    /// How an address is verified.
    pub verification_proof: AddressProof,
    /// What a session must be for whoever asks whose it is.
    pub session_required_aal: RequiredAal,
    /// What a session must be to see and change settings.
    pub settings_required_aal: RequiredAal,
    /// Whether time-based codes are offered, and what apps call who asks for them.
    pub totp: Option<String>,
    /// Whether backup codes are offered.
    pub lookup_secrets: bool,
    /// Whom public keys are for; `None`: they are not offered.
    pub relying_party: Option<RelyingParty>,
    /// Whether passkeys are offered, if public keys are.
    pub passkeys: bool,
    /// Whether security keys are offered as a second factor, if public keys are.
    pub security_keys: bool,
    /// Whether security keys that are added log in alone, as a first factor, and sign up;
    /// otherwise they are a second one.
    pub passwordless_keys: bool,
    /// Whether session tokens are taken that another system made, of sessions that were
    /// brought along.
    pub imported_tokens: bool,
    /// Which flows ask for work before they take anything.
    pub proof_of_work: ProofOfWork,
    /// How tokens are made of sessions.
    pub tokenizers: tokenize::Templates,
    /// Opens session cookies that Kratos made, of such sessions.
    pub imported_cookies: Option<ImportedCookies>,
    /// Whether taking away or replacing a factor ends all other sessions.
    pub factor_change_ends_sessions: bool,
    /// Whether people are told by mail when how they log in has changed.
    pub notify_changes: bool,
    /// Whether people take a copy of what is held of them themselves.
    pub self_export: bool,
    /// Whether people delete their accounts themselves.
    pub self_erasure: bool,
    /// Where a completed flow leads that names no other place.
    pub default_return_url: String,
    /// How long what happened is kept.
    pub audit_retention: Duration,
    /// Where people may come from: social sign-in.
    pub providers: Providers,
    /// Organizations, which have providers of their own.
    pub organizations: Organizations,
    /// What else happens when flows begin and complete.
    pub hooks: Hooks,
    /// The texts of messages.
    pub templates: Templates,
    /// The language of messages whose reader's is not known.
    pub language: Language,
    /// Where clients reach the public API: actions of forms begin with it. Without a
    /// slash at the end.
    pub public_url: String,
}

impl Default for Settings {
    /// Sessions of 24 hours, listed for 7 days more; flows of one hour.
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self {
            session_lifespan: 24 * hour,
            session_retention: 7 * 24 * hour,
            session_extend_before_end: None,
            session_sliding: None,
            flow_lifespan: hour,
            flow_retention: hour,
            privileged_session_max_age: hour,
            session_after_registration: true,
            password_policy: Policy::default(),
            breaches: None,
            argon2: Argon2Cost::default(),
            password_migration: None,
            pool: PoolOptions::default(),
            throttle: Throttle::default(),
            message_limits: courier::Limits::default(),
            verification: false,
            selectable_schemas: Vec::new(),
            code_login: false,
            code_second_factor: false,
            recovery: false,
            code_lifespan: hour,
            link_lifespan: hour,
            recovery_proof: AddressProof::default(),
            verification_proof: AddressProof::default(),
            default_return_url: "http://127.0.0.1:4433/ui/welcome".to_owned(),
            audit_retention: 90 * 24 * hour,
            providers: Providers::default(),
            organizations: Organizations::default(),
            hooks: Hooks::default(),
            templates: Templates::default(),
            language: Language::default(),
            session_required_aal: RequiredAal::HighestAvailable,
            settings_required_aal: RequiredAal::HighestAvailable,
            totp: Some("Cardea".to_owned()),
            lookup_secrets: true,
            relying_party: None,
            passkeys: true,
            security_keys: true,
            passwordless_keys: false,
            imported_tokens: false,
            imported_cookies: None,
            proof_of_work: ProofOfWork::default(),
            tokenizers: tokenize::Templates::default(),
            factor_change_ends_sessions: true,
            notify_changes: false,
            self_export: true,
            self_erasure: true,
            public_url: "http://127.0.0.1:4433".to_owned(),
        }
    }
}

/// Keys of this layer, each derived from the cluster's for one use.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Session and logout tokens.
    pub tokens: TokenKeys,
    /// Session cookies.
    pub cookies: CookieKeys,
    /// Page tokens.
    pub pages: PageKeys,
    /// Digests of identifiers and sources.
    pub(crate) index: Keyring,
    /// Imported hashes, seeds, backup codes, messages.
    pub(crate) seal: Keyring,
    /// Links of what happened.
    pub(crate) audit: Keyring,
}

impl Keys {
    /// Derives them all from one ring. Rotating the ring keeps tokens, cookies and
    /// page tokens of its older keys good.
    pub fn new(cluster: &Keyring) -> Self {
        Self::from_rings(cluster, cluster, cluster, cluster)
    }

    /// Derives them from the cluster's rings, each of which is rotated by itself.
    pub fn from_rings(
        token: &Keyring,
        index: &Keyring,
        sealing: &Keyring,
        cursor: &Keyring,
    ) -> Self {
        Self {
            tokens: TokenKeys::new(token),
            cookies: CookieKeys::new(sealing),
            pages: PageKeys::new(cursor),
            index: index.derive("cardea identity index v1"),
            seal: sealing.derive("cardea identity sealing v1"),
            audit: index.derive("cardea audit chain v1"),
        }
    }
}

/// The schemas that a node holds.
#[derive(Clone)]
struct Held {
    /// 0 for those that are built in.
    version: u64,
    schemas: Arc<Schemas>,
}

/// The identity layer of a node.
pub struct Service {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: Keys,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) settings: Settings,
    /// The schemas of a node on which nobody put any in force.
    built_in: Arc<Schemas>,
    schemas: RwLock<Held>,
    /// Rung when a message was written.
    pub(crate) post_bell: Arc<Notify>,
    /// Rung when a call of a web hook was written.
    pub(crate) hook_bell: Arc<Notify>,
    /// The way out.
    pub(crate) outbound: Arc<dyn Outbound>,
    /// What providers of social sign-in said.
    pub(crate) said: Arc<social::Cache>,
    /// Flows that are to be told that they were completed.
    pub(crate) finished: Finished,
    /// What became of what was to be sent.
    pub(crate) tallies: Arc<Tallies>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// Starts the layer and its hashing threads.
    ///
    /// # Errors
    /// If the cost of argon2 is out of bounds or no thread can be started.
    pub fn start(
        store: Arc<dyn Store>,
        keys: Keys,
        schemas: Schemas,
        settings: Settings,
    ) -> io::Result<Self> {
        let passwords = Passwords::start(settings.pool, settings.argon2, store.entropy().as_ref())?;
        let (passwords, built_in) = (Arc::new(passwords), Arc::new(schemas));
        let schemas = RwLock::new(Held { version: 0, schemas: built_in.clone() });
        Ok(Self {
            store,
            keys,
            passwords,
            settings,
            built_in,
            schemas,
            post_bell: Arc::default(),
            hook_bell: Arc::default(),
            outbound: Arc::new(NoWayOut),
            said: Arc::default(),
            finished: Finished::default(),
            tallies: Arc::default(),
        })
    }

    /// The same layer, which asks other servers by `outbound`; without one it asks none.
    #[must_use]
    pub fn with_outbound(self, outbound: Arc<dyn Outbound>) -> Self {
        Self { outbound, ..self }
    }

    /// The same layer with other keys; it shares the hashing threads with this one.
    pub fn rekeyed(&self, keys: Keys) -> Self {
        Self {
            store: self.store.clone(),
            keys,
            passwords: self.passwords.clone(),
            settings: self.settings.clone(),
            built_in: self.built_in.clone(),
            schemas: RwLock::new(self.schemas.read().clone()),
            post_bell: self.post_bell.clone(),
            hook_bell: self.hook_bell.clone(),
            outbound: self.outbound.clone(),
            said: self.said.clone(),
            finished: Finished::default(),
            tallies: self.tallies.clone(),
        }
    }

    /// What operators chose.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The keys of tokens and cookies.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The schemas as this node knows them now.
    pub fn schemas(&self) -> Arc<Schemas> {
        self.schemas.read().schemas.clone()
    }

    /// Those of a node on which nobody put any in force.
    pub(crate) fn built_in_schemas(&self) -> &Schemas {
        &self.built_in
    }

    /// Which version of the schemas this node knows; 0 for those that are built in.
    pub fn schemas_version(&self) -> u64 {
        self.schemas.read().version
    }

    /// Replaces the schemas that this node knows by newer ones.
    pub(crate) fn set_schemas(&self, version: u64, schemas: Schemas) {
        let mut held = self.schemas.write();
        if held.version < version {
            *held = Held { version, schemas: Arc::new(schemas) };
        }
    }

    /// What the hashing threads have done and are doing.
    pub fn password_usage(&self) -> PoolUsage {
        self.passwords.usage()
    }

    /// Where chance comes from.
    pub fn entropy(&self) -> &dyn Entropy {
        self.store.entropy().as_ref()
    }

    /// What time it is here.
    pub fn now(&self) -> Timestamp {
        self.store.clock().now()
    }

    /// Where an identifier is filed: its keyed digests, that of the current key first.
    pub(crate) fn identifier_digests(&self, tenant: Tenant, identifier: &str) -> Vec<[u8; 32]> {
        self.keys.index.digests(&keyed("identifier", tenant, identifier.as_bytes()))
    }

    /// The account that stands for an identifier nobody has: same shape, same
    /// place each time, and nobody outside can tell which.
    pub(crate) fn decoy(&self, tenant: Tenant, identifier: &str) -> Uuid {
        let digest = self.keys.index.digest(&keyed("decoy", tenant, identifier.as_bytes()));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Where an address is filed: its keyed digests, that of the current key first.
    pub(crate) fn address_digests(&self, tenant: Tenant, via: u32, value: &str) -> Vec<[u8; 32]> {
        self.keys.index.digests(&keyed("address", tenant, format!("{via} {value}").as_bytes()))
    }

    /// Where an external id is filed: its keyed digests, that of the current key first.
    pub(crate) fn external_digests(&self, tenant: Tenant, external_id: &str) -> Vec<[u8; 32]> {
        self.keys.index.digests(&keyed("external", tenant, external_id.as_bytes()))
    }

    /// The keyed digests of a code, which is good for one flow only.
    pub(crate) fn code_digests(&self, tenant: Tenant, flow: Uuid, code: &str) -> Vec<[u8; 32]> {
        self.keys.index.digests(&keyed("code", tenant, format!("{flow} {code}").as_bytes()))
    }

    /// The keyed digests of an item of a batch.
    pub(crate) fn batch_digests(&self, tenant: Tenant, item: &[u8]) -> Vec<[u8; 32]> {
        self.keys.index.digests(&keyed("batch", tenant, item))
    }

    /// Where an account at a provider is filed: its keyed digests, that of the current
    /// key first.
    pub(crate) fn account_digests(
        &self,
        tenant: Tenant,
        (provider, issuer, subject): (&str, &str, &str),
    ) -> Vec<[u8; 32]> {
        // Lengths tell where each part ends.
        let value = format!("{} {} {provider}{issuer}{subject}", provider.len(), issuer.len());
        self.keys.index.digests(&keyed("account at a provider", tenant, value.as_bytes()))
    }

    /// The keyed digests of a backup code, which is good for one identity only.
    pub(crate) fn lookup_digests(
        &self,
        tenant: Tenant,
        identity: Uuid,
        code: &str,
    ) -> Vec<[u8; 32]> {
        self.keys.index.digests(&keyed(
            "backup code",
            tenant,
            format!("{identity} {code}").as_bytes(),
        ))
    }

    /// Where a user handle of passkeys is filed: its keyed digests, that of the current
    /// key first.
    pub(crate) fn handle_digests(&self, tenant: Tenant, handle: &[u8]) -> Vec<[u8; 32]> {
        self.keys.index.digests(&keyed("user handle", tenant, handle))
    }

    /// The keyed digests of a flow that tries a provider: whom they prove that what came of
    /// it may be shown to.
    pub(crate) fn dry_run_digests(&self, tenant: Tenant, flow: Uuid) -> Vec<[u8; 32]> {
        self.keys.index.digests(&keyed("tried provider", tenant, flow.as_bytes()))
    }

    /// The keyed digests of what a browser asks a provider with itself.
    pub(crate) fn fedcm_digests(&self, tenant: Tenant, bound: &[u8]) -> Vec<[u8; 32]> {
        self.keys.index.digests(&keyed("fedcm nonce", tenant, bound))
    }

    /// The keyed digest of a source.
    pub(crate) fn source_digest(&self, tenant: Tenant, source: &[u8]) -> [u8; 32] {
        self.keys.index.digest(&keyed("source", tenant, source))
    }

    /// The keyed digest of what messages are counted by.
    pub(crate) fn message_digest(&self, tenant: Tenant, by: &str, what: &[u8]) -> [u8; 32] {
        self.keys.index.digest(&keyed(&format!("messages by {by}"), tenant, what))
    }
}

/// What is digested: use and tenant stand before the value, so that no digest
/// means two things.
fn keyed(purpose: &str, tenant: Tenant, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(purpose.len() + 5 + value.len());
    bytes.extend_from_slice(purpose.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&tenant.0.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}
