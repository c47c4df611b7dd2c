//! What the SDK's errors mean for a write: refused, worth asking again, or in doubt.
//!
//! The SDK has no kind of its own for a lost connection, and none for a lost reply. So only what the server itself is
//! known to have answered counts as "surely not done"; everything else is in doubt. This module NEVER calls a write
//! undone because of the wording of a message, but for one that only a server can have said.

use couchbase::error::{Error, ErrorKind};

use crate::store::StoreError;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server has answered no, and will again: this attempt had no effect.
    Refused(StoreError),
    /// The server has answered that it cannot just now: this attempt had no effect, another may.
    Busy(String),
    /// Nobody knows: the attempt may have had its effect, or may yet.
    Unknown(String),
}

/// Sorts an error of the SDK.
pub(super) fn sort(error: &Error) -> Failure {
    use ErrorKind as Kind;
    let unavailable = |why: &str| Failure::Refused(StoreError::Unavailable(format!("{why}: {}", error.kind())));
    match error.kind() {
        Kind::DocumentNotFound => Failure::Refused(StoreError::NotFound),
        Kind::DocumentExists => Failure::Refused(StoreError::Exists),
        Kind::CasMismatch => Failure::Refused(StoreError::Conflict),
        Kind::ValueTooLarge => Failure::Refused(StoreError::Invalid("couchbase finds the value too large".to_owned())),
        Kind::InvalidArgument(_) => Failure::Refused(StoreError::Invalid(error.kind().to_string())),
        Kind::QuotaLimitedFailure => Failure::Refused(StoreError::Full(error.kind().to_string())),
        Kind::AuthenticationFailure => unavailable("the user may not do this"),
        Kind::BucketNotFound | Kind::ScopeNotFound | Kind::CollectionNotFound => unavailable("it is not there"),
        Kind::UnsupportedOperation | Kind::FeatureNotAvailable(_) | Kind::ServiceNotAvailable(_) => {
            unavailable("the cluster cannot do this")
        }
        Kind::DurabilityImpossible | Kind::DurabilityLevelNotAvailable => unavailable(
            "too few nodes hold the document for durable writes (add nodes, lower the bucket's replicas, or write \
             ?durability=none)",
        ),
        Kind::TemporaryFailure
        | Kind::DocumentLocked
        | Kind::DurabilityWriteInProgress
        | Kind::DurableWriteRecommitInProgress
        | Kind::RateLimitedFailure => Failure::Busy(error.kind().to_string()),
        // Found out before anything is sent; the link is replaced meanwhile.
        Kind::ClusterDropped => Failure::Busy(error.kind().to_string()),
        // The server's status 0x82, for which the SDK has no kind.
        Kind::OtherFailure(message) if message.contains("status") && message.ends_with("out of memory") => {
            Failure::Refused(StoreError::Full(message.clone()))
        }
        _ => Failure::Unknown(error.kind().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Outcome;

    #[test]
    fn only_what_the_server_has_answered_counts_as_not_done() {
        let sorted = |kind| sort(&Error::new(kind));
        assert_eq!(sorted(ErrorKind::CasMismatch), Failure::Refused(StoreError::Conflict));
        assert_eq!(sorted(ErrorKind::DocumentExists), Failure::Refused(StoreError::Exists));
        assert_eq!(sorted(ErrorKind::DocumentNotFound), Failure::Refused(StoreError::NotFound));
        for kind in [ErrorKind::TemporaryFailure, ErrorKind::DurabilityWriteInProgress, ErrorKind::DocumentLocked] {
            assert!(matches!(sorted(kind), Failure::Busy(_)));
        }
        for kind in [
            ErrorKind::OtherFailure("request cancelled: closed in flight".to_owned()),
            ErrorKind::OtherFailure("somebody is out of memory".to_owned()),
            ErrorKind::ServerTimeout,
            ErrorKind::RequestCanceled,
            ErrorKind::InternalServerFailure,
            ErrorKind::DurabilityAmbiguous,
        ] {
            assert!(matches!(sorted(kind.clone()), Failure::Unknown(_)), "{kind}");
        }
    }

    #[test]
    fn a_refusal_is_never_in_doubt() {
        for kind in [ErrorKind::DurabilityImpossible, ErrorKind::AuthenticationFailure, ErrorKind::QuotaLimitedFailure]
        {
            match sort(&Error::new(kind)) {
                Failure::Refused(error) => assert_eq!(error.outcome(), Outcome::NotDone),
                other => panic!("{other:?}"),
            }
        }
    }
}
