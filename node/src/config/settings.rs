//! Every setting: its name, type, default and meaning, declared once. What the node
//! reads, what errors suggest and the lines of `config check` come from here.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use cardea_api::kratos::pages::theme::Colour;
use cardea_identity::language::Language;

pub use super::{
    choices::{AddressProof, AdminAuth, ClusterTls, LogFormat, RequiredAal, SameSite},
    setting::Setting,
};
use super::{
    cidr::Cidr,
    layers::Layers,
    refusal::Refusal,
    share::Share,
    tables::Tables,
    value::{FromRaw, Size},
    web_origin::WebOrigin,
};

macro_rules! sections {
    ($( $(#[doc = $about:literal])+ $name:ident as $field:ident = $section:literal { $(
        $(#[doc = $doc:literal])+ $key:ident : $kind:ty = $default:expr
    ),+ $(,)? } )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone)]
            pub struct $name { $( $(#[doc = $doc])+ pub $key: $kind ),+ }

            impl $name {
                const SETTINGS: &'static [Setting] = &[ $( Setting {
                    section: $section,
                    key: stringify!($key),
                    default: $default,
                    form: <$kind as FromRaw>::FORM,
                    doc: concat!($($doc),+),
                } ),+ ];

                fn read(layers: &mut Layers, refusals: &mut Vec<Refusal>) -> Option<Self> {
                    let mut next = Self::SETTINGS.iter();
                    $( let $key = next.next().and_then(|s| layers.read::<$kind>(s, refusals)); )+
                    Some(Self { $( $key: $key? ),+ })
                }
            }
        )+

        /// The whole configuration of a node.
        #[derive(Debug, Clone)]
        pub struct Config {
            $( $(#[doc = $about])+ pub $field: $name, )+
            /// What there is many of.
            pub tables: Tables,
        }

        impl Config {
            /// Reads every setting; `None` if any was refused.
            pub(super) fn read(layers: &mut Layers, refusals: &mut Vec<Refusal>) -> Option<Self> {
                $( let $field = $name::read(layers, refusals); )+
                Some(Self { $( $field: $field?, )+ tables: layers.tables.clone() })
            }
        }

        /// Every setting there is.
        pub fn settings() -> impl Iterator<Item = &'static Setting> {
            [$( $name::SETTINGS ),+].into_iter().flatten()
        }
    };
}

sections! {
    /// The node itself.
    Node as node = "node" {
        /// The region that the node stands in; placement spreads voters over regions.
        region: String = "local",
        /// The failure zone within the region.
        zone: Option<String> = "",
        /// Where the node keeps its data.
        data_dir: PathBuf = "cardea-data",
    }

    /// The cluster and the node-to-node listener.
    Cluster as cluster = "cluster" {
        /// The cluster's name, for people; nodes recognise each other by an id.
        name: String = "cardea",
        /// Where the node listens for other nodes.
        listen: SocketAddr = "0.0.0.0:7433",
        /// The host and port under which other nodes reach this one; by default `cluster.listen`.
        advertise: Option<String> = "",
        /// Hosts and ports of nodes to join through.
        join: Vec<String> = "",
        /// "files" (mutual TLS) or "off" (loopback only).
        tls: ClusterTls = "files",
        /// The cluster authority's certificate (PEM).
        authority_file: Option<PathBuf> = "",
        /// This node's certificate (PEM).
        certificate_file: Option<PathBuf> = "",
        /// This node's private key (PEM).
        key_file: Option<PathBuf> = "",
        /// Rewritten addresses of other nodes, each "advertised=dialled", for nodes behind translated addresses.
        dial: Vec<String> = "",
    }

    /// The public listener: what browsers and applications call.
    Public as public = "public" {
        /// Where it listens.
        listen: SocketAddr = "127.0.0.1:4433",
        /// The base URL that people see; by default made from the address.
        url: Option<String> = "",
        /// Its certificate chain (PEM), for HTTPS without a proxy.
        tls_certificate_file: Option<PathBuf> = "",
        /// Its private key (PEM).
        tls_key_file: Option<PathBuf> = "",
        /// For how long browsers are to come back by HTTPS alone (Strict-Transport-Security), told over HTTPS only; 0ms: they are not told.
        hsts: Duration = "0ms",
        /// Answer administrative routes without a key by 307 to `admin.url`, as Ory Kratos does, instead of 401.
        redirect_admin: bool = "false",
        /// Origins of web pages elsewhere that may call this listener, with the visitor's cookies, each whole, such as `https://app.example.com`; none by default.
        cors_origins: Vec<WebOrigin> = "",
    }

    /// The admin listener: every route.
    Admin as admin = "admin" {
        /// Where it listens.
        listen: SocketAddr = "127.0.0.1:4434",
        /// Its base URL; by default made from the address.
        url: Option<String> = "",
        /// "key", "mtls" or "none"; loopback needs none, any other address one of them, written out.
        auth: Option<AdminAuth> = "",
        /// Host names accepted in the Host header beside addresses, localhost and the host of `admin.url`.
        hosts: Vec<String> = "",
        /// Its certificate chain (PEM).
        tls_certificate_file: Option<PathBuf> = "",
        /// Its private key (PEM).
        tls_key_file: Option<PathBuf> = "",
        /// As `public.hsts`, for who opens the admin listener in a browser.
        hsts: Duration = "0ms",
        /// The authority of client certificates (PEM), for `auth = "mtls"`.
        client_authority_file: Option<PathBuf> = "",
    }

    /// Proxies in front of the listeners.
    Proxies as proxies = "proxies" {
        /// Address ranges whose X-Forwarded-For or Forwarded header names the client.
        trusted: Vec<Cidr> = "",
    }

    /// What a request may cost.
    Limits as limits = "limits" {
        /// The largest body on the public listener.
        body: Size = "1MiB",
        /// The largest body on the admin listener.
        admin_body: Size = "5MiB",
        /// The largest request head.
        head: Size = "32KiB",
        /// Connections held open at once, per listener.
        connections: u32 = "8192",
        /// How long a request's head may take to arrive.
        head_timeout: Duration = "10s",
        /// How long a request may take, body and answer included.
        request_timeout: Duration = "30s",
        /// How long a write to a client may make no progress.
        write_timeout: Duration = "30s",
        /// How long running requests are given at shutdown.
        drain_timeout: Duration = "20s",
    }

    /// Logging.
    Log as log = "log" {
        /// "json" or "human".
        format: LogFormat = "human",
        /// Levels by target, such as "info" or "info,cardea_raft=debug".
        level: String = "info,openraft=error,openraft::core::heartbeat=off",
        /// Write a line for each request, but for probes and scrapes that are answered well.
        access: bool = "true",
    }

    /// Memory that all shards of the node share.
    Memory as memory = "memory" {
        /// What is kept of tablets: as much as is used of it is taken.
        block_cache: Share = "20%",
        /// The write buffers of the storage engine.
        write_buffers: Size = "16MiB",
    }

    /// The disk.
    Disk as disk = "disk" {
        /// Below this much free room the node refuses writes.
        reserve: Size = "512MiB",
        /// An fsync older than this makes the node hand its leaderships over.
        stall_handover: Duration = "2s",
        /// An fsync older than this stops the process.
        stall_stop: Duration = "20s",
    }

    /// Raft's clockwork.
    Raft as raft = "raft" {
        /// Between heartbeats; longer than the slowest round trip between nodes.
        heartbeat: Duration = "180ms",
        /// The shortest election timeout.
        election_min: Duration = "270ms",
        /// The longest election timeout, and the lease of a leader.
        election_max: Duration = "450ms",
        /// Shards that nobody writes to stop their clocks.
        rest: bool = "true",
        /// Entries between snapshots of a shard.
        snapshot_entries: u32 = "50000",
        /// Bytes of snapshots that the node sends to others in a second, at most; by default 8 MiB for each core, up to 64 MiB.
        snapshot_rate: Option<Size> = "",
    }

    /// Password hashing: argon2id, by OWASP's recommendation.
    Argon2 as argon2 = "argon2" {
        /// Memory of one hash.
        memory: Size = "19MiB",
        /// Passes over it.
        iterations: u32 = "2",
        /// Lanes of one hash, each a thread.
        parallelism: u32 = "1",
        /// Memory of all hashes at work at once; bounds how many run together.
        pool_memory: Size = "152MiB",
        /// Hashes that may wait; more are refused with 429.
        queue: u32 = "512",
    }

    /// Which new passwords are taken; those that people have already keep working.
    Passwords as passwords = "passwords" {
        /// The fewest characters of a password that stands alone, at least 6 (NIST SP 800-63B-4 asks for 15).
        min_length: u32 = "15",
        /// The fewest characters of a password whose owner has a second factor; `passwords.min_length` if that is less.
        min_length_with_second_factor: u32 = "8",
        /// Refuse passwords that resemble what their owner signs in with.
        similarity_check: bool = "true",
        /// Ask a server whether a new password is known from breaches, by 5 of the 40 digits of its SHA-1, beside the list that is included.
        breaches: bool = "false",
        /// That server, which speaks the range protocol of Have I Been Pwned.
        breaches_url: String = "https://api.pwnedpasswords.com",
        /// How often a password may have been found.
        breaches_max: u32 = "0",
        /// How long that server may take to answer.
        breaches_timeout: Duration = "2s",
        /// Take a password of which that server says nothing.
        breaches_ignore_network_errors: bool = "true",
    }

    /// The password migration hook: a server that knows the passwords of identities that were brought with `use_password_migration_hook`.
    PasswordMigration as password_migration = "password_migration" {
        /// Where it is; none by default.
        url: Option<String> = "",
        /// How it is asked; "POST" by default.
        verb: Option<String> = "",
        /// Jsonnet that makes the body of `ctx.identifier` and `ctx.password`: `base64://…`, or a file; by default both as JSON.
        body: Option<String> = "",
        /// How long it may take; by default `outbound.timeout`.
        timeout: Option<String> = "",
        /// The user, where it asks for one.
        basic_user: Option<String> = "",
        /// A file with that user's password.
        basic_password_file: Option<PathBuf> = "",
        /// The name of the header or cookie with our key.
        api_key_name: Option<String> = "",
        /// Where our key goes; "header" by default, or "cookie".
        api_key_in: Option<String> = "",
        /// A file with that key.
        api_key_file: Option<PathBuf> = "",
    }

    /// Sessions.
    Sessions as sessions = "sessions" {
        /// How long a session lives.
        lifespan: Duration = "24h",
        /// How long before its end a session may be extended; 0ms: at any time.
        earliest_extend: Duration = "0ms",
        /// Sessions slide: one that is checked with no more than this left lasts a whole lifespan anew; 0ms: they end when they end.
        sliding: Duration = "0ms",
        /// How long a sliding session lasts at most after its holder proved itself.
        sliding_max: Duration = "30d",
        /// The session cookie's name.
        cookie_name: String = "ory_kratos_session",
        /// The session cookie's domain; by default the host alone.
        cookie_domain: Option<String> = "",
        /// The session cookie's SameSite attribute: "lax", "strict" or "none".
        cookie_same_site: SameSite = "lax",
        /// Send cookies over HTTPS only.
        cookie_secure: bool = "true",
        /// Keep the session cookie when the browser is closed, as long as the session lives.
        cookie_persistent: bool = "true",
        /// Take session tokens of Ory Kratos, of sessions that `import ory --sessions` brought.
        imported_tokens: bool = "false",
        /// How long proxies may keep a session check, told in Ory-Session-Cache-For; 0ms: not at all.
        cache_for: Duration = "0ms",
        /// What a session check asks for: "aal1", or "highest_available", a second factor of those who have one.
        required_aal: RequiredAal = "highest_available",
    }

    /// Second factors, and passkeys.
    Factors as factors = "factors" {
        /// Offer authenticator apps (time-based codes).
        totp: bool = "true",
        /// What apps show of who asks for codes; by default `pages.name`.
        totp_issuer: Option<String> = "",
        /// Offer backup codes.
        lookup_secrets: bool = "true",
        /// Offer codes to numbers and addresses as a second factor; who takes over a number, or reads the mail, has it.
        code: bool = "false",
        /// Offer passkeys, to log in and sign up without a password; by default wherever browsers can: HTTPS and a host name, or localhost.
        passkeys: Option<bool> = "",
        /// Offer security keys as a second factor; by default wherever browsers can.
        security_keys: Option<bool> = "",
        /// Let security keys that are added log in alone, as a first factor, and sign up; they are no second factor then.
        security_keys_passwordless: bool = "false",
        /// The domain that passkeys and security keys are bound to: keys are lost when it changes; by default the host of `public.url`.
        rp_id: Option<String> = "",
        /// Origins of pages that use passkeys and security keys, beside that of `public.url`; each within `factors.rp_id`.
        rp_origins: Vec<String> = "",
        /// End all other sessions when a factor is taken away or replaced.
        change_ends_sessions: bool = "true",
        /// Tell people by mail when how they log in has changed; by default if there is a mail server.
        notify: Option<bool> = "",
    }

    /// Pages, and where browsers may be sent.
    Pages as pages = "pages" {
        /// The name of what people sign in to.
        name: String = "Cardea",
        /// A picture in place of the name.
        logo_url: Option<String> = "",
        /// The colour of buttons.
        accent: Colour = "#3b4fd8",
        /// A style sheet after the pages' own.
        css_file: Option<PathBuf> = "",
        /// The page of logins; by default the one that is included.
        login_url: Option<String> = "",
        /// The page of registrations; by default the one that is included.
        registration_url: Option<String> = "",
        /// The page of settings; by default the one that is included.
        settings_url: Option<String> = "",
        /// The page of recoveries; by default the one that is included.
        recovery_url: Option<String> = "",
        /// The page of verifications; by default the one that is included.
        verification_url: Option<String> = "",
        /// The page that shows errors; by default the one that is included.
        error_url: Option<String> = "",
        /// Where a completed flow goes that names no other place; by default an included page.
        default_return_url: Option<String> = "",
        /// What return_to may name beside this host: origins, or URLs whose path must be the same.
        allowed_return_urls: Vec<String> = "",
    }

    /// Self-service flows.
    Flows as flows = "flows" {
        /// How long a flow lives.
        lifespan: Duration = "1h",
        /// Send a code that verifies the address to whoever signs up; by default if messages go anywhere.
        verification: Option<bool> = "",
        /// Identity schemas that whoever signs up may name (`identity_schema`), beside the default one.
        registration_schemas: Vec<String> = "",
        /// Let people sign in and sign up by a code to an address that their schema says codes go to.
        code_login: bool = "false",
        /// Log in whoever signs up, where no `session` hook says after which methods.
        session_after_registration: bool = "true",
        /// Let people back in by a code to their address; by default if messages go anywhere.
        recovery: Option<bool> = "",
        /// How long such a code is good.
        code_lifespan: Duration = "1h",
        /// What lets people back in: "code", or "link", which they follow.
        recovery_use: AddressProof = "code",
        /// What verifies an address: "code", or "link", which people follow.
        verification_use: AddressProof = "code",
        /// How long such a link is good.
        link_lifespan: Duration = "1h",
        /// How long after logging in somebody may change how it logs in.
        privileged_session_max_age: Duration = "1h",
        /// What settings ask of a session: "aal1", or "highest_available".
        settings_required_aal: RequiredAal = "highest_available",
        /// Let people download all that is held of them.
        export: bool = "true",
        /// Let people delete their accounts.
        erasure: bool = "true",
        /// How long an expired flow is still answered with 410.
        retention: Duration = "1h",
    }

    /// Asking other servers: providers of social sign-in, webhooks.
    Outbound as outbound = "outbound" {
        /// Address ranges that may be reached though they are private or special, such as 10.1.0.0/16.
        allowed_ranges: Vec<Cidr> = "",
        /// Whether servers are asked without TLS, too.
        plain_http: bool = "false",
        /// How long a question may take.
        timeout: Duration = "10s",
        /// The largest answer that is read.
        max_answer: Size = "1MiB",
        /// An authority to trust beside the system's (PEM).
        authority_file: Option<PathBuf> = "",
    }

    /// Permissions.
    Permission as permission = "permission" {
        /// Where a listener for Keto's read API stands (Keto's is 4466), guarded as the admin listener is; none by default, for the others answer it too.
        read_listen: Option<SocketAddr> = "",
        /// Where a listener for Keto's write API stands (Keto's is 4467).
        write_listen: Option<SocketAddr> = "",
        /// Where a listener for Keto's language API stands (Keto's is 4469).
        opl_listen: Option<SocketAddr> = "",
        /// Origins of web pages that may call these listeners, each whole, such as `https://app.example.com`; none by default; a page shows an API key even on loopback.
        cors_origins: Vec<WebOrigin> = "",
        /// Most hops that a check makes; more is told as an error, never as "no".
        max_depth: u32 = "256",
        /// Most subject sets on one object and relation that a check looks at, at most 10000.
        max_width: u32 = "10000",
        /// Most objects and relations that a check looks at in all.
        max_size: u32 = "200000",
        /// Most watches of changes that a node serves at a time.
        max_watchers: u32 = "1000",
        /// The type of AuthZEN subjects that stands for subject ids; every other type is a namespace.
        authzen_subject_type: String = "user",
    }

    /// A captcha without a third party: proof of work, which the included pages do by themselves.
    Captcha as captcha = "captcha" {
        /// Flows that ask for it before they take anything: "login", "registration", "recovery", "verification".
        flows: Vec<String> = "",
        /// How much: zero bits of a SHA-256; each doubles the work.
        bits: u32 = "16",
    }

    /// Messages: where they are handed over, and what they say.
    Courier as courier = "courier" {
        /// The mail server: smtps://host, or smtp://host, which must offer STARTTLS; a user as in smtp://user@host:587. Without one, messages wait.
        smtp_url: Option<String> = "",
        /// An authority to trust beside the system's (PEM), for the mail server.
        smtp_authority_file: Option<PathBuf> = "",
        /// The address that messages are from.
        from_address: String = "no-reply@localhost.localdomain",
        /// The name beside that address.
        from_name: Option<String> = "",
        /// The language of messages to people whose own is not known: en, de, fr, es, ja or zh.
        language: Language = "en",
        /// A folder with texts in place of the included ones, laid out as Ory Kratos has it; for one language as in email.subject.de.gotmpl.
        templates_dir: Option<PathBuf> = "",
    }

    /// How many messages people may bring about who ask for codes; 0: as many as they like.
    Messages as messages = "messages" {
        /// How long what was sent counts.
        window: Duration = "1h",
        /// Messages to one address.
        max_per_address: u32 = "10",
        /// Messages that one source asks for: an address, for IPv6 its /64.
        max_per_source: u32 = "100",
        /// Mails in all.
        max_mails: u32 = "20000",
        /// Text messages in all.
        max_texts: u32 = "2000",
        /// Text messages to one country, by its prefix.
        max_texts_per_country: u32 = "500",
        /// Prefixes of the numbers that text messages go to, such as +49; by default all.
        text_prefixes: Vec<String> = "",
    }

    /// Secrets: files that hold them. In the environment, the secret itself is CARDEA_SECRET_ and the name without `_file`.
    Secrets as secrets = "secrets" {
        /// The key under which the cluster's keys are sealed: 32 bytes in hex or base64.
        master_key_file: Option<PathBuf> = "",
        /// Former master keys, still able to open what they sealed.
        former_master_key_files: Vec<PathBuf> = "",
        /// The password of the user in courier.smtp_url.
        smtp_password_file: Option<PathBuf> = "",
        /// Ory Kratos's `secrets.cookie`, one a line: browsers stay signed in whose sessions `import ory --sessions` brought.
        imported_cookies_file: Option<PathBuf> = "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_unique_and_documented() {
        let mut variables = std::collections::BTreeSet::new();
        for setting in settings() {
            assert!(variables.insert(setting.variable()), "{}", setting.name());
            assert!(setting.doc.trim().len() > 8, "{}", setting.name());
            assert!(Setting::find(&setting.name()).is_some());
        }
        assert!(variables.contains("CARDEA_PUBLIC_LISTEN"));
    }
}
