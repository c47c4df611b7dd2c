//! Scanning in the order of keys: the query service names them, the data service gives the documents.
//!
//! The query is given the bounds as parameters, NEVER as part of its text. A document that goes away between the two
//! steps is left out; the scan goes on behind it, so that an empty answer always means the end.

use std::sync::Arc;
use std::time::Duration;

use couchbase::options::query_options::{QueryOptions, ScanConsistency};
use futures_util::TryStreamExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connect::call;
use super::{Inner, Patience};
use crate::store::{SCAN_LIMIT, StoreError, Stored};

/// How long the query service may take to name a page of keys, the wait for its index included.
pub(super) const QUERY: Duration = Duration::from_secs(30);

/// How many documents are read at once.
const READS: usize = 64;

pub(super) async fn scan(
    inner: &Arc<Inner>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Stored)>, StoreError> {
    let limit = limit.min(SCAN_LIMIT);
    let mut after = after.map(str::to_owned);
    let mut documents = Vec::new();
    while documents.len() < limit {
        let wanted = limit - documents.len();
        let keys = keys(inner, prefix, after.as_deref(), wanted).await?;
        let ended = keys.len() < wanted;
        after = keys.last().cloned().or(after);
        documents.extend(read(inner, keys).await?);
        if ended {
            break;
        }
    }
    Ok(documents)
}

async fn keys(inner: &Inner, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
    let config = inner.links.config();
    let from = after.map_or(prefix, |after| after.max(prefix));
    let compared = if after.is_some_and(|after| after >= prefix) { ">" } else { ">=" };
    let end = end_of(prefix);
    let below = if end.is_some() { " AND META(d).id < $end" } else { "" };
    let statement = format!(
        "SELECT RAW META(d).id FROM `{}`.`{}`.`{}` AS d WHERE META(d).id {compared} $from{below} \
         ORDER BY META(d).id LIMIT {limit}",
        config.bucket, config.scope, config.collection
    );
    let failed = |why: String| {
        StoreError::Unavailable(format!(
            "scan failed: {why} (it needs the query service and the index that `wildmesh store init` makes)"
        ))
    };
    let options = QueryOptions::new()
        .read_only(true)
        .server_timeout(QUERY)
        .scan_consistency(ScanConsistency::RequestPlus)
        .add_named_parameter("from", from);
    let options = match &end {
        Some(end) => options.and_then(|options| options.add_named_parameter("end", end)),
        None => options,
    };
    let options = options.map_err(|e| failed(e.kind().to_string()))?;
    let link = inner.links.present();
    let query = async {
        let mut result = link.cluster.query(statement, options).await?;
        result.rows::<String>().try_collect::<Vec<String>>().await
    };
    match timeout(QUERY, call(query)).await {
        Ok(keys) => keys.map_err(|e| failed(e.to_string())),
        Err(_) => Err(failed(format!("no reply within {QUERY:?}"))),
    }
}

/// The documents of some keys, in the keys' order, without those that are no more.
async fn read(inner: &Arc<Inner>, keys: Vec<String>) -> Result<Vec<(String, Stored)>, StoreError> {
    let mut found: Vec<Option<(String, Stored)>> = Vec::new();
    found.resize_with(keys.len(), || None);
    let mut reads = JoinSet::new();
    let mut rest = keys.into_iter().enumerate();
    loop {
        while reads.len() < READS
            && let Some((place, key)) = rest.next()
        {
            let inner = inner.clone();
            reads.spawn(async move {
                let read = inner.read(&key, &mut Patience::new()).await;
                (place, key, read)
            });
        }
        match reads.join_next().await {
            None => return Ok(found.into_iter().flatten().collect()),
            Some(Ok((place, key, read))) => found[place] = read?.map(|document| (key, document.stored)),
            Some(Err(e)) => return Err(StoreError::Unavailable(format!("a read was stopped: {e}"))),
        }
    }
}

/// The first string behind all that start with `prefix`, if any is.
fn end_of(prefix: &str) -> Option<String> {
    let mut rest = prefix.to_owned();
    while let Some(last) = rest.pop() {
        // Surrogates are no characters: the one after U+D7FF is U+E000.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            rest.push(next);
            return Some(rest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_start_with_it() {
        let check = |prefix: &str, end: Option<&str>| assert_eq!(end_of(prefix).as_deref(), end, "{prefix:?}");
        check("", None);
        check("a/", Some("a0"));
        check("한", Some("핝"));
        check("a\u{10ffff}", Some("b"));
        check("\u{10ffff}\u{10ffff}", None);
        check("x\u{d7ff}", Some("x\u{e000}"));
        for prefix in ["a/", "한", "x\u{d7ff}", "a\u{7f}"] {
            let end = end_of(prefix).expect("one");
            assert!(end.as_bytes() > format!("{prefix}\u{10ffff}").as_bytes(), "{prefix:?}");
        }
    }
}
