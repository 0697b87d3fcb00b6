//! What settings must satisfy together: listeners that face a network, bounds
//! that must lie in order.

use std::{net::SocketAddr, time::Duration};

use cardea_identity::password::Argon2Cost;

use super::{
    layers::Layers,
    refusal::Refusal,
    settings::{AdminAuth, ClusterTls, Config, SameSite},
    share::memory_here,
    value::{Size, show_duration},
};
use crate::layers::argon2_cost;

/// Everything that the configuration breaks.
pub(super) fn check(config: &Config, layers: &Layers) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |name: &str, message: String| {
        refusals.push(Refusal {
            origin: Some(layers.origin(name)),
            message: format!("{name}: {message}"),
        });
    };
    check_admin(config, &mut refuse);
    check_cluster(config, &mut refuse);
    check_public(config, &mut refuse);
    super::relying_party::check(config, &mut refuse);
    check_permission(config, &mut refuse);
    check_passwords(config, &mut refuse);
    check_bounds(config, &mut refuse);
    check_listeners(config, &mut refuse);
    check_log(config, &mut refuse);
    refusals
}

/// No two listeners can stand on one port.
fn check_listeners(config: &Config, refuse: &mut impl FnMut(&str, String)) {
    let permission = &config.permission;
    let listeners = [
        ("public.listen", Some(config.public.listen)),
        ("admin.listen", Some(config.admin.listen)),
        ("cluster.listen", Some(config.cluster.listen)),
        ("permission.read_listen", permission.read_listen),
        ("permission.write_listen", permission.write_listen),
        ("permission.opl_listen", permission.opl_listen),
    ];
    let all: Vec<_> =
        listeners.into_iter().filter_map(|(name, listen)| Some((name, listen?))).collect();
    for (at, (name, listen)) in all.iter().enumerate() {
        let meets = |other: &SocketAddr| {
            let anywhere = listen.ip().is_unspecified() || other.ip().is_unspecified();
            listen.port() != 0
                && listen.port() == other.port()
                && (anywhere || listen.ip() == other.ip())
        };
        if let Some((other, _)) = all[..at].iter().find(|(_, other)| meets(other)) {
            refuse(name, format!("{listen} is taken by {other}"));
        }
    }
}

/// A word alone in `log.level` is a level: the filter would take any other for the name of a
/// part of the program, and say nothing of all others.
fn check_log(config: &Config, refuse: &mut impl FnMut(&str, String)) {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let parts = config.log.level.split(',').map(str::trim);
    for word in parts.filter(|part| part.bytes().all(|byte| byte.is_ascii_alphabetic())) {
        if !levels.iter().any(|level| word.eq_ignore_ascii_case(level)) {
            refuse("log.level", format!("\"{word}\" is no level: {}", levels.join(", ")));
        }
    }
}

fn check_admin(config: &Config, refuse: &mut impl FnMut(&str, String)) {
    let admin = &config.admin;
    let has_tls = pair(
        "admin.tls_certificate_file",
        admin.tls_certificate_file.is_some(),
        "admin.tls_key_file",
        admin.tls_key_file.is_some(),
        refuse,
    );
    match admin.auth {
        None if !admin.listen.ip().is_loopback() => refuse(
            "admin.listen",
            format!(
                "{} is reachable by others, and the admin listener answers everything; write \
                 admin.auth = \"key\", \"mtls\" or \"none\"",
                admin.listen
            ),
        ),
        Some(AdminAuth::Mtls) if !has_tls || admin.client_authority_file.is_none() => refuse(
            "admin.auth",
            "\"mtls\" needs admin.tls_certificate_file, admin.tls_key_file and \
             admin.client_authority_file"
                .to_owned(),
        ),
        Some(AdminAuth::Key)
            if !has_tls
                && !admin.listen.ip().is_loopback()
                && config.proxies.trusted.is_empty() =>
        {
            refuse(
                "admin.auth",
                "\"key\" would send API keys in the clear; name admin.tls_certificate_file and \
                 admin.tls_key_file, or the TLS proxy before it in proxies.trusted"
                    .to_owned(),
            );
        }
        _ => {}
    }
    if admin.client_authority_file.is_some() && !has_tls {
        let why = "certificates are shown over TLS alone: name admin.tls_certificate_file and \
                   admin.tls_key_file too";
        refuse("admin.client_authority_file", why.to_owned());
    }
    for host in &admin.hosts {
        if host.is_empty() || host.contains(['/', '*']) || host.contains(':') {
            let why = "expected host names without scheme and port, such as admin.internal";
            refuse("admin.hosts", format!("{why}; found \"{host}\""));
        }
    }
    check_url("admin.url", admin.url.as_deref(), refuse);
}

fn check_cluster(config: &Config, refuse: &mut impl FnMut(&str, String)) {
    let cluster = &config.cluster;
    match cluster.tls {
        ClusterTls::Off if !cluster.listen.ip().is_loopback() => refuse(
            "cluster.tls",
            format!(
                "\"off\" is for loopback; {} is reachable by others, and whoever speaks as a node owns \
                 the cluster. Make certificates with `cardea cert authority` and `cardea cert node`",
                cluster.listen
            ),
        ),
        ClusterTls::Files => {
            for (name, file) in [
                ("cluster.authority_file", &cluster.authority_file),
                ("cluster.certificate_file", &cluster.certificate_file),
                ("cluster.key_file", &cluster.key_file),
            ] {
                if file.is_none() {
                    refuse(
                        name,
                        "is needed by cluster.tls = \"files\"; make the files with `cardea cert authority` \
                         and `cardea cert node`"
                            .to_owned(),
                    );
                }
            }
        }
        ClusterTls::Off => {}
    }
    if cluster.advertise.is_none() && cluster.listen.ip().is_unspecified() {
        refuse(
            "cluster.advertise",
            format!(
                "other nodes cannot dial {}; name the host and port under which they reach this node",
                cluster.listen
            ),
        );
    }
    let advertised = cluster.advertise.iter().map(|address| ("cluster.advertise", address));
    let joined = cluster.join.iter().map(|address| ("cluster.join", address));
    for (name, address) in advertised.chain(joined) {
        if !is_host_port(address) {
            refuse(name, format!("expected host:port, found \"{address}\""));
        } else if address.parse().is_ok_and(|address: SocketAddr| address.ip().is_unspecified()) {
            refuse(name, format!("{address} is everywhere: nobody finds a node by it"));
        }
    }
    for rule in &cluster.dial {
        if !rule.split_once('=').is_some_and(|(from, to)| is_host_port(from) && is_host_port(to)) {
            refuse("cluster.dial", format!("expected host:port=host:port, found \"{rule}\""));
        }
    }
}

fn check_public(config: &Config, refuse: &mut impl FnMut(&str, String)) {
    let public = &config.public;
    pair(
        "public.tls_certificate_file",
        public.tls_certificate_file.is_some(),
        "public.tls_key_file",
        public.tls_key_file.is_some(),
        refuse,
    );
    check_url("public.url", public.url.as_deref(), refuse);
    let pages = &config.pages;
    for (name, url) in [
        ("pages.logo_url", &pages.logo_url),
        ("pages.login_url", &pages.login_url),
        ("pages.registration_url", &pages.registration_url),
        ("pages.settings_url", &pages.settings_url),
        ("pages.recovery_url", &pages.recovery_url),
        ("pages.verification_url", &pages.verification_url),
        ("pages.error_url", &pages.error_url),
        ("pages.default_return_url", &pages.default_return_url),
    ] {
        if url.as_ref().is_some_and(|url| url.parse::<http::Uri>().is_err() || !url.contains(':')) {
            refuse(name, "expected a whole URL such as https://app.example.com/login".to_owned());
        }
    }
    for url in &pages.allowed_return_urls {
        if !url.contains(':') || url.contains('*') {
            let why = "expected whole URLs such as https://app.example.com, without patterns";
            refuse("pages.allowed_return_urls", format!("{why}; found \"{url}\""));
        }
    }
    if public.redirect_admin && config.admin.url.is_none() {
        refuse("public.redirect_admin", "needs admin.url, to know where to".to_owned());
    }
    if config.sessions.cookie_same_site == SameSite::None && !config.sessions.cookie_secure {
        refuse(
            "sessions.cookie_secure",
            "browsers refuse cookies with SameSite=None that are not Secure".to_owned(),
        );
    }
    let name = &config.sessions.cookie_name;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        refuse("sessions.cookie_name", format!("\"{name}\" is no cookie name"));
    }
}

fn check_permission(config: &Config, refuse: &mut impl FnMut(&str, String)) {
    let permission = &config.permission;
    for (name, listen) in [
        ("permission.read_listen", permission.read_listen),
        ("permission.write_listen", permission.write_listen),
        ("permission.opl_listen", permission.opl_listen),
    ] {
        if let Some(listen) = listen.filter(|listen| !listen.ip().is_loopback())
            && config.admin.auth.is_none()
        {
            refuse(
                name,
                format!(
                    "{listen} is reachable by others; write admin.auth = \"key\", \"mtls\" or \
                     \"none\", which guards it too"
                ),
            );
        }
    }
    for (name, value) in [
        ("permission.max_depth", permission.max_depth),
        ("permission.max_width", permission.max_width),
        ("permission.max_size", permission.max_size),
    ] {
        if value == 0 {
            refuse(name, "0 would answer nothing".to_owned());
        }
    }
}

fn check_passwords(config: &Config, refuse: &mut impl FnMut(&str, String)) {
    let passwords = &config.passwords;
    for (name, length) in [
        ("passwords.min_length", passwords.min_length),
        ("passwords.min_length_with_second_factor", passwords.min_length_with_second_factor),
    ] {
        if !(6..=64).contains(&length) {
            refuse(name, format!("expected 6 to 64 characters, found {length}"));
        }
    }
    check_url("passwords.breaches_url", Some(&passwords.breaches_url), refuse);
    let in_clear = passwords.breaches_url.starts_with("http://") && !config.outbound.plain_http;
    if passwords.breaches && in_clear {
        refuse("passwords.breaches_url", "plain HTTP needs outbound.plain_http = true".to_owned());
    }
    if passwords.breaches_timeout.is_zero() {
        refuse("passwords.breaches_timeout", "must be longer than nothing".to_owned());
    }
}

fn check_bounds(config: &Config, refuse: &mut impl FnMut(&str, String)) {
    if !is_name(&config.node.region) {
        refuse(
            "node.region",
            "expected lower-case letters, digits and hyphens, at most 63".to_owned(),
        );
    }
    if !is_name(&config.cluster.name) {
        refuse(
            "cluster.name",
            "expected lower-case letters, digits and hyphens, at most 63".to_owned(),
        );
    }
    let lease = config.raft.election_max;
    if config.raft.heartbeat * 5 / 2 > lease {
        // One may be lost and one late by a tick before a leader is missed.
        let lease = show_duration(lease);
        let why = format!("two and a half must fit into raft.election_max ({lease})");
        refuse("raft.heartbeat", why);
    }
    if config.raft.heartbeat * 3 / 2 > config.raft.election_min {
        // One that is spared comes later, by a tick at most.
        let least = show_duration(config.raft.election_min);
        let why = format!("one and a half must fit into raft.election_min ({least})");
        refuse("raft.heartbeat", why);
    }
    let messages = &config.messages;
    if messages.window.is_zero() {
        refuse("messages.window", "must be longer than nothing".to_owned());
    }
    for prefix in &messages.text_prefixes {
        let digits = prefix.strip_prefix('+').unwrap_or_default();
        if !(1..=15).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            let why = format!("expected the beginnings of numbers such as +49, found \"{prefix}\"");
            refuse("messages.text_prefixes", why);
        }
    }
    for flow in &config.captcha.flows {
        if !matches!(flow.as_str(), "login" | "registration" | "recovery" | "verification") {
            let known = "one of \"login\" \"registration\" \"recovery\" \"verification\"";
            refuse("captcha.flows", format!("expected {known}, found \"{flow}\""));
        }
    }
    if !(1..=26).contains(&config.captcha.bits) {
        refuse("captcha.bits", "must be 1 to 26: a browser takes a minute for the last".to_owned());
    }
    let mut ordered = |less: &str, a: Duration, more: &str, b: Duration| {
        if a >= b {
            let (a, b) = (show_duration(a), show_duration(b));
            refuse(less, format!("{a} must be shorter than {more} ({b})"));
        }
    };
    let (raft, disk) = (&config.raft, &config.disk);
    ordered("raft.election_min", raft.election_min, "raft.election_max", raft.election_max);
    ordered("disk.stall_handover", disk.stall_handover, "disk.stall_stop", disk.stall_stop);
    // Every check would write otherwise.
    ordered(
        "sessions.sliding",
        config.sessions.sliding,
        "sessions.lifespan",
        config.sessions.lifespan,
    );

    if config.sessions.lifespan < Duration::from_secs(60) {
        let lifespan = show_duration(config.sessions.lifespan);
        refuse("sessions.lifespan", format!("{lifespan} is too short: one minute is the least"));
    }
    let mut at_least = |name: &str, value: Size, least: Size| {
        if value < least {
            refuse(name, format!("{value} is below the least that works, {least}"));
        }
    };
    at_least("argon2.memory", config.argon2.memory, Size(7 << 20));
    at_least("argon2.pool_memory", config.argon2.pool_memory, config.argon2.memory);
    at_least("limits.body", config.limits.body, Size(16 << 10));
    at_least("limits.admin_body", config.limits.admin_body, Size(16 << 10));
    at_least("limits.head", config.limits.head, Size(8 << 10));
    at_least("memory.block_cache", config.memory.block_cache.of(memory_here()), Size(1 << 20));
    at_least("memory.write_buffers", config.memory.write_buffers, Size(1 << 20));
    if let Some(rate) = config.raft.snapshot_rate {
        at_least("raft.snapshot_rate", rate, Size(1 << 20));
    }
    let (wanted, usual) = (argon2_cost(config), Argon2Cost::default());
    for (name, cost) in [
        ("argon2.memory", Argon2Cost { memory_kib: wanted.memory_kib, ..usual }),
        ("argon2.iterations", Argon2Cost { passes: wanted.passes, ..usual }),
        ("argon2.parallelism", Argon2Cost { lanes: wanted.lanes, ..usual }),
    ] {
        if !cost.is_within_bounds() {
            let most = "a hash costs at most 1GiB, 10 iterations and a parallelism of 16";
            refuse(name, most.to_owned());
        }
    }
    for (name, value) in [
        ("argon2.queue", config.argon2.queue),
        ("limits.connections", config.limits.connections),
        ("raft.snapshot_entries", config.raft.snapshot_entries),
    ] {
        if value == 0 {
            refuse(name, "must be at least 1".to_owned());
        }
    }
    for (name, value) in [
        ("outbound.timeout", config.outbound.timeout),
        ("limits.head_timeout", config.limits.head_timeout),
        ("limits.request_timeout", config.limits.request_timeout),
        ("limits.write_timeout", config.limits.write_timeout),
        ("raft.heartbeat", config.raft.heartbeat),
    ] {
        if value.is_zero() {
            refuse(name, "must be longer than nothing".to_owned());
        }
    }
}

/// Whether both of two settings are there; one without the other is refused.
fn pair(a: &str, has_a: bool, b: &str, has_b: bool, refuse: &mut impl FnMut(&str, String)) -> bool {
    match (has_a, has_b) {
        (true, false) => refuse(a, format!("needs {b} too")),
        (false, true) => refuse(b, format!("needs {a} too")),
        _ => {}
    }
    has_a && has_b
}

fn check_url(name: &str, url: Option<&str>, refuse: &mut impl FnMut(&str, String)) {
    let Some(url) = url else { return };
    let fine = url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some()
            && uri.query().is_none()
    });
    if !fine {
        refuse(name, format!("expected a URL such as https://id.example.com, found \"{url}\""));
    }
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
