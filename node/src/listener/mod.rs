//! The HTTP listeners: *public*, which browsers and applications call, and
//! *admin*, which answers everything.
//!
//! Every request passes a [`gate::Gate`]; every route stands in a
//! [`table::RouteTable`] that says for whom it is.

pub mod admission;
pub mod client;
pub mod cors;
pub mod gate;
pub mod grpc;
pub mod health;
pub mod keys;
pub mod origin;
pub mod refusal;
pub mod serve;
pub mod stall;
pub mod table;
pub mod tls;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use cardea_storage::Entropy;

use crate::config::settings::{AdminAuth, Config};
use cors::Origins;
use gate::{GateOptions, Side};
use origin::Hosts;
use serve::ServeLimits;

/// How the public listener judges requests under this configuration.
pub fn public_gate(config: &Config, entropy: Arc<dyn Entropy>) -> GateOptions {
    GateOptions {
        side: Side::Public,
        trusts_callers: false,
        hosts: Hosts::default(),
        origins: Origins::new(&config.public.cors_origins, true),
        trusted_proxies: config.proxies.trusted.clone(),
        tls: config.public.tls_certificate_file.is_some(),
        hsts: config.public.hsts,
        body: config.limits.body,
        timeout: config.limits.request_timeout,
        unhurried: crate::operator::routes::UNHURRIED,
        redirect_admin: config.admin.url.clone().filter(|_| config.public.redirect_admin),
        access_log: config.log.access,
        entropy,
    }
}

/// How the admin listener judges requests under this configuration.
pub fn admin_gate(config: &Config, entropy: Arc<dyn Entropy>) -> GateOptions {
    let url_host = config
        .admin
        .url
        .as_deref()
        .and_then(|url| url.parse::<http::Uri>().ok())
        .and_then(|uri| uri.host().map(str::to_owned));
    GateOptions {
        side: Side::Admin,
        // Without `auth`, the configuration is only accepted on loopback.
        trusts_callers: match config.admin.auth {
            None => config.admin.listen.ip().is_loopback(),
            Some(AdminAuth::Mtls | AdminAuth::None) => true,
            Some(AdminAuth::Key) => false,
        },
        hosts: Hosts::new(config.admin.hosts.iter().cloned().chain(url_host)),
        origins: Origins::default(),
        trusted_proxies: config.proxies.trusted.clone(),
        tls: config.admin.tls_certificate_file.is_some(),
        hsts: config.admin.hsts,
        body: config.limits.admin_body,
        timeout: config.limits.request_timeout,
        unhurried: crate::operator::routes::UNHURRIED,
        redirect_admin: None,
        access_log: config.log.access,
        entropy,
    }
}

/// How a listener for Keto's clients judges requests: as the admin listener does, at
/// its own address, and for the pages that are listed.
pub fn keto_gate(
    config: &Config,
    listen: std::net::SocketAddr,
    entropy: Arc<dyn Entropy>,
) -> GateOptions {
    let trusts_callers = match config.admin.auth {
        None => listen.ip().is_loopback(),
        Some(AdminAuth::Mtls | AdminAuth::None) => true,
        Some(AdminAuth::Key) => false,
    };
    let origins = Origins::new(&config.permission.cors_origins, false);
    GateOptions { trusts_callers, origins, ..admin_gate(config, entropy) }
}

/// The bounds of all listeners' connections.
pub fn serve_limits(config: &Config) -> ServeLimits {
    ServeLimits {
        connections: config.limits.connections,
        head_bytes: config.limits.head.as_usize(),
        head_timeout: config.limits.head_timeout,
        write_timeout: config.limits.write_timeout,
        drain_timeout: config.limits.drain_timeout,
    }
}
