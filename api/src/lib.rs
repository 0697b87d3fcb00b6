//! What is spoken: the HTTP and gRPC APIs of the Ory services, one folder per service, one
//! file per route group. Wire types stand apart from handlers, and handlers are
//! thin: extract, convert, one call into a layer, convert back.
//!
//! It never decides a business rule, never knows how the store is replicated, and
//! asks nobody for a key: listeners do, by [`ROUTES`].
//!
//! Reading order: [`route`] (what is answered), [`error`] (what is refused, and how),
//! [`request`], [`body`], [`query`], [`consistency`], [`paging`] (what handlers take),
//! then [`kratos`] and [`keto`].

use std::sync::LazyLock;

mod answer;
pub mod body;
pub mod consistency;
pub mod error;
pub mod keto;
pub mod kratos;
pub mod paging;
pub mod query;
pub mod request;
pub mod route;

pub use error::ApiError;
pub use request::{ClientAddress, StillAllowed};
pub use route::{RouteInfo, Scope, Surface};

/// Every route of every service: listeners and tests are made from it.
pub static ROUTES: LazyLock<Vec<RouteInfo>> =
    LazyLock::new(|| kratos::routes().chain(keto::routes()).cloned().collect());
