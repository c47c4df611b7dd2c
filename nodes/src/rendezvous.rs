//! Rendezvous hashing: which of several nodes looks after something, agreed on by all who know the same nodes.
//!
//! Each node's weight for a key is a hash of both; the heaviest has it (Thaler and Ravishankar, 1998). When a node goes,
//! only what it had moves, and spreads evenly. It is a preference: who really owns something is settled by a claim.

use mesh::NodeId;

/// The node that looks after `key`, among `nodes`; `None` without nodes.
pub fn choose<'a>(key: &[u8], nodes: impl IntoIterator<Item = &'a NodeId>) -> Option<&'a NodeId> {
    nodes.into_iter().max_by_key(|node| (weight(key, node.as_str().as_bytes()), node.as_str()))
}

/// All of `nodes`, whoever looks after `key` first, then whoever would without the ones before.
pub fn ranked<'a>(key: &[u8], nodes: impl IntoIterator<Item = &'a NodeId>) -> Vec<&'a NodeId> {
    let mut ranked: Vec<&NodeId> = nodes.into_iter().collect();
    ranked.sort_by_cached_key(|node| std::cmp::Reverse((weight(key, node.as_str().as_bytes()), node.as_str())));
    ranked
}

/// A hash of both that is the same everywhere and for ever: FNV-1a, then the mixing of SplitMix64.
fn weight(key: &[u8], node: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in key.iter().chain(&[0]).chain(node) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<NodeId> {
        (0..count).map(|i| NodeId::new(&format!("zoo-{i}")).expect("a name")).collect()
    }

    #[test]
    fn keys_are_spread_evenly_and_only_a_lost_nodes_keys_move() {
        let all = nodes(5);
        let mut had = std::collections::BTreeMap::<&str, u32>::new();
        for key in 0..10_000_u32 {
            let before = choose(&key.to_be_bytes(), &all).expect("a node");
            *had.entry(before.as_str()).or_default() += 1;
            let after = choose(&key.to_be_bytes(), &all[1..]).expect("a node");
            assert!(before == after || before == &all[0]);
        }
        assert!(had.values().all(|count| (1_800..2_200).contains(count)), "{had:?}");
        assert_eq!(choose(b"key", &nodes(0)), None);
    }

    #[test]
    fn the_next_in_rank_is_who_would_be_chosen_without_those_before() {
        let all = nodes(5);
        for key in 0..100_u32 {
            let key = key.to_be_bytes();
            let ranked = ranked(&key, &all);
            assert_eq!(ranked.len(), 5);
            for (passed, node) in ranked.iter().enumerate() {
                let left = all.iter().filter(|node| !ranked[..passed].contains(node));
                assert_eq!(choose(&key, left), Some(*node));
            }
        }
    }
}
