//! What a client is told when a request fails: one JSON shape, `{"error": {"code", "message"}}`, for every failure.
//!
//! Codes are constants that programs may rely on; messages are for people and may change. A body NEVER tells anything of
//! the inside (no source errors, no addresses): those go to the log.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::edge::BODY_BYTES;

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after_s: Option<u32>,
}

/// Results of handlers.
pub type ApiResult<T> = Result<T, ApiError>;

/// The code of a failed request, left in the response's extensions for whoever counts refusals.
#[derive(Clone, Copy, Debug)]
pub struct Refused(pub &'static str);

impl ApiError {
    /// A failure of this status, code and message.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into(), retry_after_s: None }
    }

    /// The client's input is wrong.
    pub fn bad(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// There is no such thing.
    pub fn unknown(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, code, message)
    }

    /// It cannot be done now; asking again after `retry_after_s` may help.
    pub fn unavailable(code: &'static str, message: impl Into<String>, retry_after_s: u32) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(retry_after_s)
    }

    /// Tells the client when to ask again.
    pub fn retry_after(mut self, seconds: u32) -> ApiError {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The store or the directory failed: logged in full here, told to the client in one sentence.
    pub fn failed(doing: &'static str, error: &dyn std::error::Error) -> ApiError {
        tracing::warn!(doing, error = chain(error), "a request failed");
        ApiError::unavailable("unavailable", format!("{doing} failed; nothing is wrong with the request"), 1)
    }

    /// The code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(Refused(self.code));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An error and its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// A JSON body, refused with this module's codes when it is not one.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, ApiError> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !is_json(kind) {
            let message = "the body must be JSON, with content-type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|bytes: u64| bytes > BODY_BYTES as u64) {
            return Err(too_large());
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            _ => ApiError::bad("body_unreadable", "the body ended early"),
        })?;
        parse(&bytes).map(Body)
    }
}

fn too_large() -> ApiError {
    let message = format!("the body is larger than {BODY_BYTES} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    let malformed = |error: serde_json::Error| ApiError::bad("malformed_json", error.to_string());
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(malformed)?;
    // A struct would be read from an array too, its fields in order: nobody is to rely on that.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::bad("bad_body", "the body must be a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => ApiError::bad("bad_body", error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => malformed(error),
    })
}

/// The one parameter of a path, refused with this module's codes when it is not text.
#[derive(Debug)]
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Segment, ApiError> {
        let Path(text) = Path::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::bad("bad_path", "the path holds bytes that are not UTF-8"))?;
        Ok(Segment(text))
    }
}

/// The answer to paths that do not exist.
pub async fn no_route() -> ApiError {
    ApiError::unknown("not_found", "there is nothing at this path; /v1/openapi.json lists what there is")
}

/// The answer to methods that a path does not take.
pub async fn no_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[allow(dead_code)]
        name: String,
    }

    fn check(body: &str, code: Option<&str>) {
        let got = parse::<Wanted>(body.as_bytes()).err().map(|e| e.code());
        assert_eq!(got, code, "{body}");
    }

    #[test]
    fn bodies_are_refused_by_what_is_wrong_with_them() {
        check(r#"{"name":"ayu"}"#, None);
        check("", Some("malformed_json"));
        check("{", Some("malformed_json"));
        check(r#"{"name":"ayu"} x"#, Some("malformed_json"));
        check("\u{0}", Some("malformed_json"));
        check(r#"{"name":7}"#, Some("bad_body"));
        check(r#"{"name":null}"#, Some("bad_body"));
        check("{}", Some("bad_body"));
        check("[]", Some("bad_body"));
        check(r#"["ayu"]"#, Some("bad_body"));
        check(r#"{"name":"a","nmae":"b"}"#, Some("bad_body"));
        check(r#"{"name":"a","name":"b"}"#, Some("bad_body"));
        check(r#"{"name":"\ud800"}"#, Some("malformed_json"));
        check(&"[".repeat(10_000), Some("malformed_json"));
    }

    #[test]
    fn json_is_told_by_its_media_type() {
        for good in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["", "text/plain", "application/jsonx", "application/x-www-form-urlencoded"] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
