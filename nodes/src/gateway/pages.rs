//! Files that are part of the binary: the web pages and the API's description, with their types, tags and policies.

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::error::{ApiError, ApiResult};

/// The API's description, OpenAPI 3.1.
pub const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/openapi.json"));

const INDEX: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/index.html"));
const MAP_JS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/map.js"));

/// The parts of the page's script, by name.
const MODULES: [(&str, &str); 8] = [
    ("camera.js", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/map/camera.js"))),
    ("common.js", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/map/common.js"))),
    ("control.js", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/map/control.js"))),
    ("kinds.js", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/map/kinds.js"))),
    ("link.js", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/map/link.js"))),
    ("painter.js", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/map/painter.js"))),
    ("panel.js", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/map/panel.js"))),
    ("world.js", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/map/world.js"))),
];

const MSGPACK_JS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/msgpack.js"));
const STYLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/web/style.css"));

/// A copy may be kept, and is asked for again before use: pages change with the binary.
const REVALIDATE: &str = "no-cache";

/// What the page may load: its own files; and WebSockets anywhere, because frontends have addresses of their own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`
pub async fn index(headers: HeaderMap) -> Response {
    let mut response = file(&headers, INDEX, "text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// `GET /map.js`
pub async fn map_js(headers: HeaderMap) -> Response {
    file(&headers, MAP_JS, "text/javascript; charset=utf-8")
}

/// `GET /map/{module}`
pub async fn map_module(Path(module): Path<String>, headers: HeaderMap) -> ApiResult<Response> {
    let found = MODULES.iter().find(|(name, _)| *name == module);
    let (_, text) = found.ok_or_else(|| ApiError::unknown("unknown_module", "the page has no such module"))?;
    Ok(file(&headers, text, "text/javascript; charset=utf-8"))
}

/// `GET /msgpack.js`
pub async fn msgpack_js(headers: HeaderMap) -> Response {
    file(&headers, MSGPACK_JS, "text/javascript; charset=utf-8")
}

/// `GET /style.css`
pub async fn style(headers: HeaderMap) -> Response {
    file(&headers, STYLE, "text/css; charset=utf-8")
}

/// `GET /v1/openapi.json`
pub async fn openapi(headers: HeaderMap) -> Response {
    file(&headers, OPENAPI, "application/json")
}

fn file(headers: &HeaderMap, text: &'static str, kind: &'static str) -> Response {
    cached(headers, Bytes::from_static(text.as_bytes()), kind, REVALIDATE, &tag(text.as_bytes()))
}

/// The tag of some content: equal exactly if the content is.
pub fn tag(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    let hex: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// Content with its tag, or "not modified" if the client has it already.
pub fn cached(headers: &HeaderMap, content: Bytes, kind: &'static str, control: &'static str, tag: &str) -> Response {
    let asked = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or("");
    let known = asked.split(',').any(|one| one.trim() == "*" || one.trim().trim_start_matches("W/") == tag);
    let common = [(ETAG, tag.to_owned()), (CACHE_CONTROL, control.to_owned())];
    if known {
        (StatusCode::NOT_MODIFIED, common).into_response()
    } else {
        (common, [(CONTENT_TYPE, kind)], content).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: Option<&str>, expected: u16) {
        let mut headers = HeaderMap::new();
        if let Some(asked) = asked {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(asked).unwrap());
        }
        let response = cached(&headers, Bytes::from_static(b"x"), "text/plain", REVALIDATE, "\"t\"");
        assert_eq!(response.status(), expected, "{asked:?}");
        assert_eq!(response.headers()[ETAG], "\"t\"");
    }

    #[test]
    fn a_client_that_has_the_content_is_told_so() {
        check(None, 200);
        check(Some("\"other\""), 200);
        check(Some("\"t\""), 304);
        check(Some("\"other\", W/\"t\""), 304);
        check(Some("*"), 304);
    }
}
