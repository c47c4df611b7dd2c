//! What a failed call to etcd means: whether it surely did nothing, was refused, or may have happened. Pure.
//!
//! Where it is not sure, it says so: a failure counts as harmless ONLY if it is known to be.

use std::error::Error as StdError;
use std::io::ErrorKind;

use crate::directory::{Error, LeaseId};

/// What a call would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it reads.
    None,
    /// It writes.
    Write,
    /// It writes under this lease (0: none).
    Under(LeaseId),
    /// It renews or ends this lease; doing it twice is harmless.
    Lease(LeaseId),
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It never reached etcd, or etcd turned it away before doing anything: trying again is safe.
    NotSent(String),
    /// The lease that it names does not exist.
    NoLease(String),
    /// etcd answered that it will not do it.
    Refused(String),
    /// It may have happened.
    Unknown(String),
}

/// gRPC's numbers for what a server answers when it will not do something. etcd gives them only before it acts.
const REFUSALS: [i32; 8] = [3, 5, 6, 7, 9, 11, 12, 16];

/// gRPC's number for "too much": etcd's "too many requests" and "no space", both without effect.
const RESOURCE_EXHAUSTED: i32 = 8;

/// etcd turns calls away with this text before acting on them while it has no leader.
const NO_LEADER: &str = "etcdserver: no leader";

/// The client gave up before sending, because what drives its connections is gone. It does not recover.
const NOT_READY: &str = "Service was not ready";

impl Failure {
    pub(super) fn of(error: &etcd_client::Error) -> Failure {
        use etcd_client::Error as Etcd;
        match error {
            Etcd::GRpcStatus(status) => {
                let never_sent = never_connected(status);
                let told = status.message();
                let text = if told.is_empty() { innermost(status) } else { told.to_owned() };
                Failure::from_status(status.code() as i32, text, never_sent)
            }
            Etcd::TransportError(error) => {
                never_connected(error).map_or_else(|| Failure::Unknown(innermost(error)), Failure::NotSent)
            }
            Etcd::LeaseKeepAliveError(text) if text.contains("not found") => Failure::NoLease(text.clone()),
            Etcd::InvalidArgs(_) | Etcd::InvalidUri(_) | Etcd::InvalidMetadataValue(_) | Etcd::EndpointError(_) => {
                Failure::Refused(error.to_string())
            }
            other => Failure::Unknown(other.to_string()),
        }
    }

    fn from_status(code: i32, text: String, never_sent: Option<String>) -> Failure {
        if let Some(reason) = never_sent {
            Failure::NotSent(reason)
        } else if text.starts_with(NO_LEADER) || text.starts_with(NOT_READY) {
            Failure::NotSent(text)
        } else if text.contains("requested lease not found") {
            Failure::NoLease(text)
        } else if REFUSALS.contains(&code) || code == RESOURCE_EXHAUSTED {
            Failure::Refused(text)
        } else {
            Failure::Unknown(text)
        }
    }

    /// True if only a new client can do better.
    pub(super) fn ends_client(&self) -> bool {
        matches!(self, Failure::NotSent(reason) if reason.starts_with(NOT_READY))
    }

    /// True if the call may be made again without asking the caller.
    pub(super) fn may_retry(&self, effect: Effect) -> bool {
        match self {
            Failure::NotSent(_) => true,
            Failure::Unknown(_) => matches!(effect, Effect::None | Effect::Lease(_)),
            Failure::NoLease(_) | Failure::Refused(_) => false,
        }
    }

    pub(super) fn into_error(self, effect: Effect, endpoints: &str) -> Error {
        let unavailable = |reason| Error::Unavailable { endpoints: endpoints.to_owned(), reason };
        match (self, effect) {
            (Failure::NotSent(reason), _) => unavailable(reason),
            (Failure::Unknown(reason), Effect::None) => unavailable(reason),
            (Failure::Unknown(reason), _) => Error::Ambiguous { reason },
            (Failure::NoLease(_), Effect::Under(lease) | Effect::Lease(lease)) => Error::LeaseGone(lease),
            (Failure::NoLease(reason) | Failure::Refused(reason), _) => Error::Refused(reason),
        }
    }
}

/// True for the answer to a read at a revision that no longer exists.
pub(super) fn is_compaction(reason: &str) -> bool {
    reason.contains("required revision has been compacted")
}

/// The reason, if the error can only have come from the attempt to connect, before anything was sent.
fn never_connected(error: &(dyn StdError + 'static)) -> Option<String> {
    let connecting = causes(error).any(|cause| cause.to_string().contains("tcp connect error"));
    let refused = causes(error).filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|io| {
        matches!(io.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
    });
    (connecting || refused).then(|| innermost(error))
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_harmless_counts_as_harmless() {
        let check = |code: i32, text: &str, expected: fn(String) -> Failure| {
            assert_eq!(Failure::from_status(code, text.to_owned(), None), expected(text.to_owned()), "{code} {text}");
        };
        check(14, "etcdserver: no leader", Failure::NotSent);
        check(2, "Service was not ready: transport error", Failure::NotSent);
        check(2, "anything else", Failure::Unknown);
        check(14, "etcdserver: request timed out", Failure::Unknown);
        check(14, "etcdserver: leader changed", Failure::Unknown);
        check(4, "context deadline exceeded", Failure::Unknown);
        check(1, "operation was canceled", Failure::Unknown);
        check(13, "h2 protocol error", Failure::Unknown);
        check(5, "etcdserver: requested lease not found", Failure::NoLease);
        check(8, "etcdserver: mvcc: database space exceeded", Failure::Refused);
        check(3, "etcdserver: duplicate key given in txn request", Failure::Refused);
        check(16, "etcdserver: invalid auth token", Failure::Refused);
    }

    #[test]
    fn an_unknown_outcome_is_ambiguous_for_writes_only() {
        let unknown = || Failure::Unknown("lost".to_owned());
        let told = |effect| unknown().into_error(effect, "a");
        assert!(matches!(told(Effect::None), Error::Unavailable { .. }));
        assert!(matches!(told(Effect::Write), Error::Ambiguous { .. }));
        assert!(matches!(told(Effect::Under(1)), Error::Ambiguous { .. }));
        assert!(unknown().may_retry(Effect::None));
        assert!(!unknown().may_retry(Effect::Write));
        assert!(!unknown().may_retry(Effect::Under(1)));
        let gone = Failure::NoLease("gone".to_owned()).into_error(Effect::Under(7), "a");
        assert!(matches!(gone, Error::LeaseGone(7)));
    }
}
