//! The routes that this crate answers, as data: routers are made from it, and so
//! are the tables of listeners and the tests that walk route by route.

use std::fmt;

use http::Method;

/// For whom a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// Browsers and applications.
    Public,
    /// Operators and backends.
    Admin,
}

/// What an API key must be allowed to call a route of the [`Surface::Admin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Reading in an area.
    Read(&'static str),
    /// Changing in an area.
    Write(&'static str),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(area) => write!(f, "{area}:read"),
            Self::Write(area) => write!(f, "{area}:write"),
        }
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    /// Its method. A route for GET answers HEAD too, unless HEAD has its own.
    pub method: Method,
    /// Its path, parameters as `{name}`.
    pub path: &'static str,
    /// For whom it is.
    pub surface: Surface,
    /// The operation of Ory's specification that it is.
    pub operation_id: &'static str,
    /// What an API key needs; `None` on public routes.
    pub scope: Option<Scope>,
}

impl RouteInfo {
    pub(crate) const fn public(
        method: Method,
        path: &'static str,
        operation_id: &'static str,
    ) -> Self {
        Self { method, path, surface: Surface::Public, operation_id, scope: None }
    }

    pub(crate) const fn admin(
        method: Method,
        path: &'static str,
        operation_id: &'static str,
        scope: Scope,
    ) -> Self {
        Self { method, path, surface: Surface::Admin, operation_id, scope: Some(scope) }
    }
}
