//! The two statements of the query language that the driver sends: keys in order, and the index for them.
//!
//! It NEVER guesses: any other statement is a syntax error.

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::http::Answer;

pub(super) fn answer(cluster: &mut Cluster, may_manage: bool, body: &[u8]) -> Answer {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let statement = request["statement"].as_str().unwrap_or_default();
    let names: Vec<String> = statement.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let [bucket, scope, collection] = names.as_slice() else { return failed(3_000, "syntax error: no keyspace") };
    let now = cluster.now();
    let Some(place) = cluster.buckets.get_mut(bucket) else {
        return failed(12_003, "Keyspace not found in CB datastore");
    };
    let Some(id) = place.collection(scope, collection) else {
        return failed(12_003, "Keyspace not found in CB datastore");
    };
    let index = (scope.clone(), collection.clone());
    if statement.starts_with("CREATE PRIMARY INDEX ON ") {
        if !may_manage {
            return failed(13_014, "User does not have credentials to run index operations");
        }
        return match place.indexes.insert(index) {
            true => rows(Vec::new()),
            false => failed(4_300, "The index #primary already exists."),
        };
    }
    let bound = |name: &str| request[format!("${name}")].as_str().map(str::to_owned);
    let limit = statement.rsplit_once(" LIMIT ").and_then(|(_, limit)| limit.parse::<usize>().ok());
    let (Some(from), Some(limit), true) = (bound("from"), limit, statement.starts_with("SELECT RAW META(d).id FROM "))
    else {
        return failed(3_000, "syntax error: not one of the statements that this server knows");
    };
    if !place.indexes.contains(&index) {
        return failed(4_000, "No index available on keyspace that matches your query.");
    }
    let (after, end) = (statement.contains("id > $from"), bound("end"));
    let keys = place
        .keys_from(id, from.as_bytes(), now)
        .map(|key| String::from_utf8_lossy(key).into_owned())
        .filter(|key| !after || *key != from)
        .take_while(|key| end.as_ref().is_none_or(|end| key < end))
        .take(limit);
    rows(keys.map(Value::from).collect())
}

fn rows(results: Vec<Value>) -> Answer {
    (200, json!({"requestID": "1", "results": results, "errors": [], "status": "success"}))
}

fn failed(code: u32, message: &str) -> Answer {
    let status = if code == 13_014 { 401 } else { 404 };
    (status, json!({"requestID": "1", "errors": [{"code": code, "msg": message}], "status": "fatal"}))
}
