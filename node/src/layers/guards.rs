//! The routes of the layers, each with the scope that it asks for.

use cardea_api::keto;

use crate::{apikey::Scope, listener::table::Route};

/// The routes of all layers.
pub fn routes() -> Vec<Route> {
    cardea_api::ROUTES.iter().map(guarded).collect()
}

/// The routes of one of the listeners that Keto's clients know.
pub fn keto_routes(door: keto::Door) -> Vec<Route> {
    keto::routes_of(door).map(guarded).collect()
}

fn guarded(route: &cardea_api::RouteInfo) -> Route {
    let method = route.method.clone();
    let guarded = match (route.surface, route.scope) {
        (cardea_api::Surface::Public, _) => Route::open(method, route.path),
        (cardea_api::Surface::Admin, Some(cardea_api::Scope::Read(area))) => {
            Route::guarded(method, route.path, Scope::Read(area))
        }
        (cardea_api::Surface::Admin, Some(cardea_api::Scope::Write(area))) => {
            Route::guarded(method, route.path, Scope::Write(area))
        }
        // An administrative route that names no scope takes them all.
        (cardea_api::Surface::Admin, None) => Route::guarded(method, route.path, Scope::Admin),
    };
    guarded.refusable()
}
