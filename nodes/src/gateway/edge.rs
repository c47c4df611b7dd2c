//! What every request passes: the bound on requests under way, the deadline, CORS, security headers, counting, and a net
//! under handlers that panic. Nothing here knows what a request is about.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::error::{ApiError, Refused};
use super::server::PeerAddress;
use crate::metrics::Metrics;

/// The largest request body, in bytes.
pub const BODY_BYTES: usize = 16 * 1024;

/// Requests under way at once, at most; beyond it they are shed.
const REQUESTS: usize = 2_048;

/// How long a request may take, its body's arrival included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// What every request passes.
#[derive(Debug)]
pub struct Edge {
    metrics: Arc<Metrics>,
    places: Semaphore,
    trust_forwarded: bool,
}

/// The address a request is counted under.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

impl Edge {
    /// `trust_forwarded`: requests come through a balancer, whose `x-forwarded-for` names the client.
    pub fn new(metrics: Arc<Metrics>, trust_forwarded: bool) -> Arc<Edge> {
        Arc::new(Edge { metrics, places: Semaphore::new(REQUESTS), trust_forwarded })
    }

    fn client(&self, request: &Request) -> ClientAddress {
        let peer = request.extensions().get::<PeerAddress>().map_or(IpAddr::from([127, 0, 0, 1]), |peer| peer.0);
        // The balancer appends the address it saw: only the last entry is its word, the others are the client's.
        let forwarded = request.headers().get_all("x-forwarded-for").iter().next_back().and_then(last_address);
        ClientAddress(if self.trust_forwarded { forwarded.unwrap_or(peer) } else { peer })
    }
}

fn last_address(header: &HeaderValue) -> Option<IpAddr> {
    header.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// The middleware around every route and both fallbacks.
pub async fn pass(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let open_to_all = request.uri().path().starts_with("/v1/");
    let client = edge.client(&request);
    request.extensions_mut().insert(client);

    let mut response =
        if open_to_all && is_preflight(&request) { preflight() } else { bounded(&edge, request, next).await };

    if let Some(&Refused(code)) = response.extensions().get::<Refused>() {
        edge.metrics.refused(code);
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if open_to_all {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, etag"));
    }
    let status = response.status();
    edge.metrics.http_requests.with_label_values(&[method, route, status.as_str()]).inc();
    edge.metrics.http_seconds.with_label_values(&[route]).observe(started.elapsed().as_secs_f64());
    tracing::debug!(method, route, status = status.as_u16(), client = %client.0, "request");
    response
}

/// Runs the handler within the bounds, and catches it if it panics.
async fn bounded(edge: &Edge, request: Request, next: Next) -> Response {
    let Ok(_place) = edge.places.try_acquire() else {
        return ApiError::unavailable("busy", "too many requests at once; ask again shortly", 1).into_response();
    };
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(REQUEST_TIMEOUT, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            // The panic's own message went to the log through the panic hook.
            tracing::error!("a handler panicked");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here").into_response()
        }
        Err(_) => {
            ApiError::unavailable("timeout", "the request took too long; it may have happened", 1).into_response()
        }
    }
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Clients may send any method; only the common ones become labels.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balancers_word_is_the_last_address() {
        let check = |header: &str, expected: Option<&str>| {
            let got = last_address(&HeaderValue::from_str(header).unwrap());
            assert_eq!(got, expected.map(|text| text.parse().unwrap()), "{header}");
        };
        check("192.0.2.1", Some("192.0.2.1"));
        check("10.9.9.9, 192.0.2.1", Some("192.0.2.1"));
        check("192.0.2.1, 2001:db8::1", Some("2001:db8::1"));
        check("192.0.2.1, unknown", None);
        check("", None);
    }
}
