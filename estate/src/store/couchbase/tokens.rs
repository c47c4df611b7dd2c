//! Write tokens: what tells a write of ours from anybody else's of the same value.
//!
//! A document's flags are 32 bits that Couchbase keeps with it. Its SDKs use the highest eight for the value's format;
//! the rest is ours. A token NEVER comes from the operating system: it is drawn from the seed that the store was opened
//! with. Two writes of the same bytes under one key, one of them in doubt, share a token once in sixteen million times.

use std::sync::atomic::{AtomicU64, Ordering};

/// What Couchbase's SDKs take for JSON.
const JSON: u32 = 0x0200_0000;

/// What they take for bytes without meaning.
const BINARY: u32 = 0x0300_0000;

/// The bits of a token.
const TOKEN: u32 = 0x00ff_ffff;

/// Draws tokens.
pub(super) struct Tokens {
    state: AtomicU64,
}

impl Tokens {
    pub(super) fn new(seed: u64) -> Tokens {
        Tokens { state: AtomicU64::new(seed) }
    }

    /// The flags of a new write: its format, a hint for other programs that read the bucket, and its token.
    pub(super) fn flags(&self, value: &[u8]) -> u32 {
        let format = if value.first() == Some(&b'{') && value.last() == Some(&b'}') { JSON } else { BINARY };
        format | (self.draw() as u32 & TOKEN)
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    fn draw(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_write_has_a_token_of_its_own() {
        let (one, other) = (Tokens::new(1), Tokens::new(2));
        let drawn: BTreeSet<u32> = (0..500).flat_map(|_| [one.flags(b"{}"), other.flags(b"{}")]).collect();
        assert!(drawn.len() > 990, "{} of 1000 differ", drawn.len());
        assert!(drawn.iter().all(|flags| flags & !TOKEN == JSON));
        assert_eq!(one.flags(b"\0\xff") & !TOKEN, BINARY);
    }
}
