//! The test server's management service over HTTP, and the way in to its query service.
//!
//! As much of HTTP/1.1 as the SDK speaks: a request line, headers, a body of known length.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::{Shared, query};

/// The longest body that is read.
const BODY_BYTES: usize = 1024 * 1024;

/// The most headers that are read.
const HEADERS: usize = 100;

/// An answer: status and body.
pub(super) type Answer = (u16, Value);

struct Request {
    method: String,
    path: String,
    authorization: String,
    body: Vec<u8>,
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    shared: Arc<Shared>,
    node: usize,
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
) -> io::Result<()> {
    let (from, mut to) = tokio::io::split(stream);
    let mut from = BufReader::new(from);
    while let Some(request) = read(&mut from).await? {
        let (status, body) = answer(&shared, node, &request);
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        to.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        to.flush().await?;
    }
    Ok(())
}

async fn read(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if from.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut request = Request { method, path, authorization: String::new(), body: Vec::new() };
    for _ in 0..HEADERS {
        let mut header = String::new();
        from.read_line(&mut header).await?;
        let header = header.trim_end();
        if header.is_empty() {
            from.read_exact(&mut request.body).await?;
            return Ok(Some(request));
        }
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = value.trim().to_owned(),
            "content-length" => {
                let length = value.trim().parse().unwrap_or(0);
                request.body = vec![0; BODY_BYTES.min(length)];
            }
            _ => {}
        }
    }
    Ok(None)
}

fn answer(shared: &Shared, node: usize, request: &Request) -> Answer {
    if !shared.credentials.basic(&request.authorization) {
        return (401, json!("Unauthorized"));
    }
    let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let name = form(&request.body, "name");
    let post = request.method == "POST";
    if post && !shared.may_manage && path.first() == Some(&"pools") {
        return (403, json!({"message": "Forbidden. User needs the following permissions", "permissions": []}));
    }
    let mut cluster = shared.cluster();
    if let ["query", "service"] = path.as_slice() {
        return query::answer(&mut cluster, shared.may_manage, &request.body);
    }
    if let ["pools", "default", "b" | "buckets", bucket, ..] = path.as_slice()
        && !cluster.buckets.contains_key(*bucket)
    {
        return (404, json!("Requested resource not found."));
    }
    match (post, path.as_slice()) {
        (false, ["pools", "default", "nodeServices"]) => (200, cluster.config(node, None)),
        (false, ["pools", "default", "b", bucket]) => (200, cluster.config(node, Some(bucket))),
        (false, ["pools", "default", "buckets", bucket]) => (200, settings(bucket)),
        (true, ["pools", "default", "buckets"]) => match cluster.add_bucket(&name) {
            true => (202, json!("")),
            false => (400, json!({"errors": {"name": "Bucket with given name already exists"}})),
        },
        (false, ["pools", "default", "buckets", bucket, "scopes"]) => {
            let bucket = &cluster.buckets[*bucket];
            let scopes = bucket.scopes.iter().map(|(scope, collections)| {
                let collections: Vec<Value> =
                    collections.iter().map(|(name, id)| json!({"name": name, "uid": format!("{id:x}")})).collect();
                json!({"name": scope, "uid": "0", "collections": collections})
            });
            (200, json!({"uid": format!("{:x}", bucket.manifest), "scopes": scopes.collect::<Vec<_>>()}))
        }
        (true, ["pools", "default", "buckets", bucket, "scopes"]) => match cluster.make_scope(bucket, &name) {
            true => (200, json!({"uid": format!("{:x}", cluster.buckets[*bucket].manifest)})),
            false => (400, json!({"errors": {"_": format!("Scope with name \"{name}\" already exists")}})),
        },
        (true, ["pools", "default", "buckets", bucket, "scopes", scope, "collections"]) => {
            if !cluster.buckets[*bucket].scopes.contains_key(*scope) {
                return (404, json!({"errors": {"_": format!("Scope with name \"{scope}\" is not found")}}));
            }
            match cluster.make_collection(bucket, scope, &name) {
                true => (200, json!({"uid": format!("{:x}", cluster.buckets[*bucket].manifest)})),
                false => {
                    let why = format!("Collection with name \"{name}\" in scope \"{scope}\" already exists");
                    (400, json!({"errors": {"_": why}}))
                }
            }
        }
        _ => (404, json!("Not found.")),
    }
}

fn settings(bucket: &str) -> Value {
    const QUOTA: u64 = 256 * 1024 * 1024;
    json!({
        "name": bucket, "bucketType": "membase", "replicaNumber": 0, "uuid": "0123456789abcdef",
        "quota": {"ram": QUOTA, "rawRAM": QUOTA}, "nodes": [],
    })
}

/// One field of a form. Names hold nothing that forms encode.
fn form(body: &[u8], field: &str) -> String {
    let body = String::from_utf8_lossy(body);
    let value = body.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == field);
    value.map(|(_, value)| value.to_owned()).unwrap_or_default()
}
