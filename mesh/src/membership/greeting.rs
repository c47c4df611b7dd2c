//! The proof that a node belongs to the cluster, and every reason for which a greeting is refused.
//!
//! A greeting is a mutual challenge and response: each side proves by HMAC-SHA256 that it knows the cluster's key, over
//! everything that either side said. The labels differ by side, so that no proof can be sent back to whoever made it.
//! The key itself is NEVER sent, shown or logged.

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::record::{Incarnation, NodeId};
use crate::wire::{Bytes32, Hello};

/// Why a greeting was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The nodes speak different protocols.
    #[error("speaks protocol {theirs}, the other node speaks {ours}")]
    OtherVersion {
        /// The greeting node's.
        theirs: u32,
        /// The refusing node's.
        ours: u32,
    },
    /// The nodes belong to different clusters.
    #[error("belongs to cluster {theirs:?}, the other node to {ours:?}")]
    OtherCluster {
        /// The greeting node's.
        theirs: String,
        /// The refusing node's.
        ours: String,
    },
    /// The nodes belong to different districts.
    #[error("belongs to district {theirs:?}, the other node to {ours:?}")]
    OtherDistrict {
        /// The greeting node's.
        theirs: String,
        /// The refusing node's.
        ours: String,
    },
    /// Somebody else lives at this address now.
    #[error("looked for another: {node} with incarnation {} lives there", .incarnation.0)]
    NotMe {
        /// Who lives there.
        node: NodeId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// The nodes do not have the same cluster key.
    #[error("does not have the same cluster key")]
    WrongKey,
    /// The directory does not show the greeting node, or shows another life of it.
    #[error("is not in the directory with this incarnation")]
    Unregistered,
    /// The greeting could not be understood.
    #[error("sent a greeting that makes no sense")]
    Malformed,
}

impl Refusal {
    /// True if it may be over in a moment, without anybody repairing anything.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Refusal::NotMe { .. } | Refusal::Unregistered)
    }
}

/// The cluster's key.
#[derive(Clone)]
pub(crate) struct Key(Vec<u8>);

/// Whose proof it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The node that said hello.
    Greeter,
    /// The node that was greeted.
    Greeted,
}

impl Key {
    pub(crate) fn new(key: Vec<u8>) -> Key {
        Key(key)
    }

    fn mac(&self, label: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of every length; the fallback keeps this total without a panic.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| Hmac::new(&Default::default()));
        part(&mut mac, label);
        mac
    }

    /// A seed that nobody without the key can foretell.
    pub(crate) fn seed(&self, seed: u64, incarnation: Incarnation) -> Bytes32 {
        let mut mac = self.mac(b"wildmesh nonces");
        part(&mut mac, &seed.to_le_bytes());
        part(&mut mac, &incarnation.0.to_le_bytes());
        mac.finalize().into_bytes().into()
    }

    pub(crate) fn prove(&self, side: Side, exchange: &Exchange<'_>) -> Bytes32 {
        self.proof(side, exchange).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub(crate) fn verify(&self, side: Side, exchange: &Exchange<'_>, proof: &Bytes32) -> bool {
        self.proof(side, exchange).verify_slice(proof).is_ok()
    }

    fn proof(&self, side: Side, exchange: &Exchange<'_>) -> Hmac<Sha256> {
        let Exchange { hello, record, nonce } = exchange;
        let mut mac = self.mac(match side {
            Side::Greeter => b"wildmesh greeter",
            Side::Greeted => b"wildmesh greeted",
        });
        part(&mut mac, &hello.protocol.to_le_bytes());
        part(&mut mac, hello.cluster.as_bytes());
        part(&mut mac, hello.district.as_bytes());
        part(&mut mac, hello.node.as_bytes());
        part(&mut mac, &hello.incarnation.0.to_le_bytes());
        part(&mut mac, hello.to.as_bytes());
        part(&mut mac, &hello.to_incarnation.0.to_le_bytes());
        part(&mut mac, &hello.number.to_le_bytes());
        part(&mut mac, &hello.nonce);
        part(&mut mac, record);
        part(&mut mac, nonce.as_slice());
        mac
    }
}

/// Everything that was said before the proofs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a> {
    /// The hello.
    pub(crate) hello: &'a Hello,
    /// Its body.
    pub(crate) record: &'a [u8],
    /// The greeted node's challenge.
    pub(crate) nonce: &'a Bytes32,
}

/// Each part goes in with its length, so that no two exchanges make the same bytes.
fn part(mac: &mut Hmac<Sha256>, bytes: &[u8]) {
    mac.update(&(bytes.len() as u64).to_le_bytes());
    mac.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            protocol: 1,
            cluster: "home".into(),
            district: "north".into(),
            node: "zoo-1".into(),
            incarnation: Incarnation(7),
            to: "zoo-2".into(),
            to_incarnation: Incarnation(9),
            number: 1,
            nonce: [1; 32],
        }
    }

    #[test]
    fn a_proof_holds_for_its_own_exchange_and_side_and_key_only() {
        let key = Key::new(b"secret".to_vec());
        let said = hello();
        let exchange = Exchange { hello: &said, record: b"record", nonce: &[2; 32] };
        let proof = key.prove(Side::Greeter, &exchange);
        assert!(key.verify(Side::Greeter, &exchange, &proof));
        assert!(!key.verify(Side::Greeted, &exchange, &proof), "not sent back");
        assert!(!Key::new(b"other".to_vec()).verify(Side::Greeter, &exchange, &proof));
        assert!(!key.verify(Side::Greeter, &Exchange { nonce: &[3; 32], ..exchange }, &proof), "not replayed");
        assert!(!key.verify(Side::Greeter, &Exchange { record: b"recorD", ..exchange }, &proof));
        let changes: [fn(&mut Hello); 9] = [
            |h| h.protocol = 2,
            |h| h.cluster.push('x'),
            |h| h.district = "south".into(),
            |h| h.node = "zoo-3".into(),
            |h| h.incarnation = Incarnation(8),
            |h| h.to = "zoo-3".into(),
            |h| h.to_incarnation = Incarnation(8),
            |h| h.number = 2,
            |h| h.nonce[31] = 0,
        ];
        for change in changes {
            let mut other = said.clone();
            change(&mut other);
            assert!(!key.verify(Side::Greeter, &Exchange { hello: &other, ..exchange }, &proof), "{other:?}");
        }
    }

    #[test]
    fn moving_a_letter_between_two_fields_changes_the_proof() {
        let key = Key::new(b"secret".to_vec());
        let (mut left, mut right) = (hello(), hello());
        (left.cluster, left.district) = ("ab".into(), "c".into());
        (right.cluster, right.district) = ("a".into(), "bc".into());
        let of = |hello| key.prove(Side::Greeter, &Exchange { hello, record: b"", nonce: &[0; 32] });
        assert_ne!(of(&left), of(&right));
    }
}
