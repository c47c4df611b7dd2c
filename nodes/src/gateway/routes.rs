//! Every path and method that the gateway answers. The API's description has exactly these: a test compares the two.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, delete, get, post};

use super::edge::{self, BODY_BYTES, Edge};
use super::error::{no_method, no_route};
use super::{App, accounts, census, checks, feed, islands, land, pages, sessions};

/// One path and method, with what answers it.
pub struct Route {
    /// In lower case, as OpenAPI writes it.
    pub method: &'static str,
    /// With parameters as `{name}`, which axum and OpenAPI write alike.
    pub path: &'static str,
    handler: MethodRouter<Arc<App>>,
}

/// All routes, in the order in which people read them.
pub fn routes() -> Vec<Route> {
    let route = |method, path, handler| Route { method, path, handler };
    vec![
        route("post", "/v1/accounts", post(accounts::create)),
        route("post", "/v1/sessions", post(sessions::create)),
        route("get", "/v1/sessions/{id}", get(sessions::get)),
        route("delete", "/v1/sessions/{id}", delete(sessions::close)),
        route("get", "/v1/queue", get(sessions::queue)),
        route("get", "/v1/islands", get(islands::list)),
        route("get", "/v1/islands/{id}/map.png", get(islands::picture)),
        route("get", "/v1/islands/{id}/chunks/{x}/{y}", get(land::chunk)),
        route("get", "/v1/stewards", get(islands::stewards)),
        route("get", "/v1/holdings/{id}", get(land::holding)),
        route("get", "/v1/map", get(feed::live)),
        route("get", "/v1/nodes", get(census::nodes)),
        route("get", "/v1/mesh", get(census::whole_mesh)),
        route("get", "/v1/openapi.json", get(pages::openapi)),
        route("get", "/health", get(checks::health)),
        route("get", "/ready", get(checks::ready)),
        route("get", "/metrics", get(checks::metrics)),
        route("get", "/", get(pages::index)),
        route("get", "/map.js", get(pages::map_js)),
        route("get", "/map/{module}", get(pages::map_module)),
        route("get", "/msgpack.js", get(pages::msgpack_js)),
        route("get", "/style.css", get(pages::style)),
    ]
}

/// The router over all routes, inside the edge.
pub fn router(app: Arc<App>, edge: Arc<Edge>) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(edge, edge::pass))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::pages::OPENAPI;
    use super::*;

    fn described() -> Value {
        serde_json::from_str(OPENAPI).expect("the description is JSON")
    }

    #[test]
    fn the_description_has_every_route_and_nothing_else() {
        let described = described();
        let paths = described["paths"].as_object().expect("paths");
        let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
        let written: BTreeSet<String> = paths
            .iter()
            .flat_map(|(path, item)| {
                let here = item.as_object().expect("a path item").keys().filter(|key| methods.contains(&key.as_str()));
                here.map(move |method| format!("{method} {path}"))
            })
            .collect();
        let built: BTreeSet<String> = routes().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(written, built);
    }

    #[test]
    fn every_reference_in_the_description_leads_somewhere() {
        fn walk(value: &Value, root: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.strip_prefix('#').expect("references are within the document");
                        assert!(root.pointer(pointer).is_some(), "{reference} leads nowhere");
                    }
                    fields.values().for_each(|value| walk(value, root));
                }
                Value::Array(values) => values.iter().for_each(|value| walk(value, root)),
                _ => {}
            }
        }
        let described = described();
        walk(&described, &described);
    }

    #[test]
    fn every_operation_is_described_for_people() {
        let described = described();
        for route in routes() {
            let operation = &described["paths"][route.path][route.method];
            for field in ["operationId", "summary", "tags", "responses"] {
                assert!(!operation[field].is_null(), "{} {} has no {field}", route.method, route.path);
            }
        }
    }
}
