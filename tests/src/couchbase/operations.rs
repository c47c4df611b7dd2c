//! The test server's document operations, each as Couchbase documents it.

use bytes::{BufMut, Bytes, BytesMut};

use super::Shared;
use super::cluster::Cluster;
use super::documents::{Bucket, Document, Seen, expires};
use super::session::{FEATURE_COLLECTIONS, FEATURE_DURABILITY, FEATURE_FRAMES, FEATURE_PRESERVE_EXPIRY, Session};
use super::wire::{FRAME_DURABILITY, FRAME_PRESERVE_EXPIRY, Reply, Request, op, split_key, status};

/// The longest value.
const VALUE_BYTES: usize = 20 * 1024 * 1024;

/// The longest key, without its collection.
const KEY_BYTES: usize = 246;

/// What a write asks for beside its value.
struct Terms {
    flags: u32,
    expiry: u32,
    preserve_expiry: bool,
    durability: Option<u8>,
}

/// The number of `SCOPE.COLLECTION`.
pub(super) fn collection_id(shared: &Shared, session: &Session, request: &Request) -> Reply {
    let cluster = shared.cluster();
    let Some(bucket) = session.bucket.as_ref().and_then(|name| cluster.buckets.get(name)) else {
        return Reply::status(status::NO_BUCKET);
    };
    let name = String::from_utf8_lossy(&request.value).into_owned();
    let (scope, collection) = name.split_once('.').unwrap_or((&name, "_default"));
    if !bucket.scopes.contains_key(scope) {
        return Reply::status(status::SCOPE_UNKNOWN);
    }
    let Some(id) = bucket.collection(scope, collection) else {
        return Reply::status(status::COLLECTION_UNKNOWN);
    };
    let mut extras = BytesMut::new();
    extras.put_u64(bucket.manifest);
    extras.put_u32(id);
    Reply { extras: extras.freeze(), ..Reply::default() }
}

/// An operation on a document.
pub(super) fn document(shared: &Shared, session: &Session, request: &Request) -> Reply {
    let mut cluster = shared.cluster();
    if !session.features.contains(&FEATURE_COLLECTIONS) {
        return Reply::status(status::INVALID);
    }
    let Some((collection, key)) = split_key(&request.key) else { return Reply::status(status::INVALID) };
    if !cluster.holds(session.node, request.vbucket) {
        cluster.misdirected += 1;
        let config = cluster.config(session.node, session.bucket.as_deref()).to_string();
        return Reply { status: status::NOT_MY_VBUCKET, ..Reply::value(config) };
    }
    let known = session.bucket.as_ref().and_then(|name| cluster.buckets.get(name));
    if !known.is_some_and(|bucket| bucket.has_collection(collection)) {
        return Reply::status(status::COLLECTION_UNKNOWN);
    }
    if key.is_empty() || key.len() > KEY_BYTES {
        return Reply::status(status::INVALID);
    }
    match request.opcode {
        op::GET | op::GET_META => read(&mut cluster, session, request, collection, &key),
        op::SET | op::ADD | op::REPLACE | op::DELETE | op::TOUCH | op::GET_AND_TOUCH => {
            let terms = match terms(&cluster, session, request) {
                Ok(terms) => terms,
                Err(status) => return Reply::status(status),
            };
            let reply = write(&mut cluster, session, request, collection, &key, &terms);
            cluster.see(Seen {
                opcode: request.opcode,
                key: String::from_utf8_lossy(&key).into_owned(),
                durability: terms.durability,
                preserve_expiry: terms.preserve_expiry,
                applied: reply.status == status::OK,
            });
            reply
        }
        _ => Reply::status(status::UNKNOWN_COMMAND),
    }
}

/// Takes extras and framing extras apart; what was not agreed on in HELLO is refused.
fn terms(cluster: &Cluster, session: &Session, request: &Request) -> Result<Terms, u16> {
    let number =
        |at: usize| request.extras.get(at..at + 4).map(|bytes| bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b)));
    let (flags, expiry) = match request.opcode {
        op::DELETE => (Some(0), Some(0)),
        op::TOUCH | op::GET_AND_TOUCH => (Some(0), number(0)),
        _ => (number(0), number(4)),
    };
    let mut terms = Terms {
        flags: flags.ok_or(status::INVALID)?,
        expiry: expiry.ok_or(status::INVALID)?,
        preserve_expiry: false,
        durability: None,
    };
    if !request.frames.is_empty() && !session.features.contains(&FEATURE_FRAMES) {
        return Err(status::INVALID);
    }
    for (number, bytes) in &request.frames {
        match (*number, bytes.len()) {
            (FRAME_DURABILITY, 1 | 3)
                if session.features.contains(&FEATURE_DURABILITY) && (1..=3).contains(&bytes[0]) =>
            {
                terms.durability = Some(bytes[0]);
            }
            (FRAME_PRESERVE_EXPIRY, 0) if session.features.contains(&FEATURE_PRESERVE_EXPIRY) => {
                terms.preserve_expiry = true;
            }
            _ => return Err(status::INVALID),
        }
    }
    if terms.durability.is_some() && cluster.durability_impossible {
        return Err(status::DURABILITY_IMPOSSIBLE);
    }
    Ok(terms)
}

fn bucket<'a>(cluster: &'a mut Cluster, session: &Session) -> Option<&'a mut Bucket> {
    cluster.buckets.get_mut(session.bucket.as_deref()?)
}

fn read(cluster: &mut Cluster, session: &Session, request: &Request, collection: u32, key: &Bytes) -> Reply {
    let now = cluster.now();
    let found = bucket(cluster, session).and_then(|bucket| bucket.live(collection, key, now));
    let Some(document) = found else { return Reply::status(status::NOT_FOUND) };
    let mut extras = BytesMut::new();
    if request.opcode == op::GET_META {
        extras.put_u32(0);
        extras.put_u32(document.flags);
        extras.put_u32(document.expires);
        extras.put_u64(0);
        extras.put_u8(0);
        return Reply { cas: document.cas, extras: extras.freeze(), ..Reply::default() };
    }
    extras.put_u32(document.flags);
    Reply { cas: document.cas, extras: extras.freeze(), ..Reply::value(document.value.clone()) }
}

fn write(
    cluster: &mut Cluster,
    session: &Session,
    request: &Request,
    collection: u32,
    key: &Bytes,
    terms: &Terms,
) -> Reply {
    let now = cluster.now();
    let cas = cluster.next_cas();
    let Some(bucket) = bucket(cluster, session) else { return Reply::status(status::NO_BUCKET) };
    let found = bucket.live(collection, key, now);
    if request.value.len() > VALUE_BYTES {
        return Reply::status(status::TOO_BIG);
    }
    match (request.opcode, &found) {
        (op::ADD, Some(_)) => return Reply::status(status::EXISTS),
        (op::REPLACE | op::DELETE | op::TOUCH | op::GET_AND_TOUCH, None) => return Reply::status(status::NOT_FOUND),
        (_, Some(document)) if request.cas != 0 && request.cas != document.cas => {
            return Reply::status(status::EXISTS);
        }
        _ => {}
    }
    let written = match found {
        Some(document) if matches!(request.opcode, op::TOUCH | op::GET_AND_TOUCH) => {
            let until = expires(terms.expiry, now);
            // The version stays if nothing changes, as with the real one.
            if until != document.expires {
                (document.expires, document.cas) = (until, cas);
            }
            let extras = Bytes::copy_from_slice(&document.flags.to_be_bytes());
            let reply = Reply { cas: document.cas, extras, ..Reply::default() };
            return match request.opcode {
                op::TOUCH => Reply { extras: Bytes::new(), ..reply },
                _ => Reply { value: document.value.clone(), ..reply },
            };
        }
        Some(_) if request.opcode == op::DELETE => {
            bucket.documents.remove(&(collection, key.clone()));
            return Reply { cas, ..Reply::default() };
        }
        Some(document) if terms.preserve_expiry => document.expires,
        _ => expires(terms.expiry, now),
    };
    let document = Document { value: request.value.clone(), flags: terms.flags, cas, expires: written };
    bucket.documents.insert((collection, key.clone()), document);
    Reply { cas, ..Reply::default() }
}
