//! The route table: every route that a node answers, with who may call it.
//!
//! A request is looked up here before any handler sees it. What is not in the
//! table does not exist, whatever a router may know; so a route cannot be
//! added without saying whom it is for.

use std::collections::BTreeMap;

use http::Method;

use super::admission::Class;
use crate::apikey::Scope;

/// For whom a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Browsers and applications; no key.
    Everyone,
    /// Holders of an API key with this scope; on the admin listener, whoever
    /// that listener trusts.
    Operators(Scope),
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its method; GET answers HEAD too.
    pub method: Method,
    /// Its path, with parameters as `{name}`.
    pub path: &'static str,
    /// For whom it is.
    pub audience: Audience,
    /// With what it is refused under overload; `None`: never.
    pub class: Option<Class>,
}

impl Route {
    /// A route for everyone.
    pub const fn open(method: Method, path: &'static str) -> Self {
        Self { method, path, audience: Audience::Everyone, class: None }
    }

    /// A route for holders of a scope.
    pub const fn guarded(method: Method, path: &'static str, scope: Scope) -> Self {
        Self { method, path, audience: Audience::Operators(scope), class: None }
    }

    /// The same, refused under overload.
    pub fn refusable(self) -> Self {
        Self { class: Some(Class::of(&self.method, self.path)), ..self }
    }
}

/// What a lookup found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The route.
    Route(&'a Route),
    /// The path is known, with these methods only.
    OtherMethods(String),
    /// Nothing answers there.
    Nothing,
}

/// All routes of a node.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// By path, since several methods share one.
    by_path: matchit::Router<usize>,
    paths: Vec<BTreeMap<String, usize>>,
}

/// Two routes cannot both be told from a request.
#[derive(Debug, thiserror::Error)]
#[error("the route {method} {path} clashes with another")]
pub struct Clash {
    method: Method,
    path: &'static str,
}

impl RouteTable {
    /// A table of these routes.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, Clash> {
        let mut table = Self::default();
        let mut index_of: BTreeMap<&'static str, usize> = BTreeMap::new();
        for route in routes {
            let clash = || Clash { method: route.method.clone(), path: route.path };
            let at = match index_of.get(route.path) {
                Some(at) => *at,
                None => {
                    let at = table.paths.len();
                    table.by_path.insert(route.path, at).map_err(|_| clash())?;
                    table.paths.push(BTreeMap::new());
                    index_of.insert(route.path, at);
                    at
                }
            };
            let next = table.routes.len();
            if table.paths[at].insert(route.method.to_string(), next).is_some() {
                return Err(clash());
            }
            table.routes.push(route);
        }
        Ok(table)
    }

    /// Every route, in the order of their declaration; tests walk it.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a request.
    pub fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let Ok(matched) = self.by_path.at(path) else { return Found::Nothing };
        let methods = &self.paths[*matched.value];
        let route = methods.get(method.as_str()).or_else(|| {
            (method == Method::HEAD).then(|| methods.get(Method::GET.as_str())).flatten()
        });
        match route {
            Some(index) => Found::Route(&self.routes[*index]),
            None => {
                let mut names: Vec<&str> = methods.keys().map(String::as_str).collect();
                if methods.contains_key("GET") && !methods.contains_key("HEAD") {
                    names.push("HEAD");
                }
                Found::OtherMethods(names.join(", "))
            }
        }
    }

    /// The path that a lenient listener takes `path` for: a trailing slash is
    /// cut and, if `adds_admin`, a missing `/admin` is put before, in each case
    /// only when nothing answers the path as it was written. `None`: as it is.
    pub fn lenient(&self, path: &str, adds_admin: bool) -> Option<String> {
        let known = |path: &str| self.by_path.at(path).is_ok();
        if known(path) {
            return None;
        }
        let cut = path.trim_end_matches('/');
        if !cut.is_empty() && cut != path && known(cut) {
            return Some(cut.to_owned());
        }
        if adds_admin && !path.starts_with("/admin/") {
            let added = format!("/admin{cut}");
            if known(&added) {
                return Some(added);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> RouteTable {
        RouteTable::new([
            Route::open(Method::GET, "/sessions/whoami"),
            Route::open(Method::GET, "/health/alive"),
            Route::guarded(Method::GET, "/admin/identities", Scope::Read("identity")),
            Route::guarded(Method::POST, "/admin/identities", Scope::Write("identity")),
            Route::guarded(Method::DELETE, "/admin/identities/{id}", Scope::Write("identity")),
        ])
        .unwrap()
    }

    #[test]
    fn a_route_is_found_by_method_and_path() {
        let table = table();
        assert!(matches!(table.find(&Method::GET, "/sessions/whoami"), Found::Route(_)));
        assert!(matches!(table.find(&Method::HEAD, "/sessions/whoami"), Found::Route(_)));
        assert!(matches!(table.find(&Method::DELETE, "/admin/identities/x"), Found::Route(_)));
        assert_eq!(
            table.find(&Method::PUT, "/admin/identities"),
            Found::OtherMethods("GET, POST, HEAD".to_owned())
        );
        assert_eq!(table.find(&Method::GET, "/identities"), Found::Nothing);
    }

    #[test]
    fn only_what_nothing_answers_is_taken_leniently() {
        let table = table();
        assert_eq!(table.lenient("/identities", true).as_deref(), Some("/admin/identities"));
        assert_eq!(table.lenient("/identities/x/", true).as_deref(), Some("/admin/identities/x"));
        assert_eq!(table.lenient("/admin/identities/", true).as_deref(), Some("/admin/identities"));
        assert_eq!(table.lenient("/identities", false), None);
        assert_eq!(table.lenient("/sessions/whoami/", false).as_deref(), Some("/sessions/whoami"));
        assert_eq!(table.lenient("/sessions/whoami", true), None);
        assert_eq!(table.lenient("/nothing", true), None);
        assert_eq!(table.lenient("/", true), None);
    }

    #[test]
    fn clashing_routes_are_refused() {
        let twice = [Route::open(Method::GET, "/a"), Route::open(Method::GET, "/a")];
        assert!(RouteTable::new(twice).is_err());
        let ambiguous = [Route::open(Method::GET, "/a/{x}"), Route::open(Method::GET, "/a/{y}")];
        assert!(RouteTable::new(ambiguous).is_err());
    }
}
