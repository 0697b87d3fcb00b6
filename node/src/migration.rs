//! The password migration hook as a configuration names it: checked, with its secrets and
//! its program read.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use cardea_identity::outbound::request::{Request, program};

use crate::{
    config::Config,
    request::{described, request},
};

/// What it is sent unless a program says otherwise, as Kratos has it.
const DEFAULT_BODY: &str = "function(ctx) { identifier: ctx.identifier, password: ctx.password }";

/// The hook of a configuration; `None` if it names none.
///
/// # Errors
/// If it is not what it may be, or its secrets or program cannot be read.
pub fn hook(config: &Config) -> anyhow::Result<Option<Request>> {
    let table = &config.password_migration;
    if table.url.is_none() {
        return Ok(None);
    }
    let headers = BTreeMap::new();
    let described = described!(table, &headers);
    let made = request(config, "password_migration", &described, || Ok(program(DEFAULT_BODY)?));
    let made = made.context("password_migration")?;
    ensure!(
        made.within < config.limits.request_timeout,
        "password_migration.timeout: somebody waits for it, and is given up after \
         limits.request_timeout"
    );
    Ok(Some(made))
}
