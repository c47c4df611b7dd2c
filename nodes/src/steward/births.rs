//! Nodes that vanish within seconds of their birth, again and again: told by role, so that somebody looks at them.
//!
//! A pure state. A life that was there at the first look has no known birth and is NEVER counted as short.

use std::collections::{BTreeMap, VecDeque};

use mesh::{Incarnation, NodeId, Role};

/// A life that ended this soon after its birth was short, in seconds.
pub const SHORT_S: u64 = 20;

/// Short lives are remembered for this long, in seconds.
pub const MEMORY_S: u64 = 600;

/// From this many short lives of one role on it is a loop.
pub const LOOP: usize = 3;

/// Short lives that are remembered for each role, at most.
const KEPT: usize = 64;

/// What was seen of nodes' lives.
#[derive(Debug, Default)]
pub struct Births {
    looked: bool,
    /// Who lives, and since when if the birth was seen.
    lives: BTreeMap<Incarnation, (NodeId, Role, Option<u64>)>,
    /// Ends of short lives: when, and whose.
    short: BTreeMap<&'static str, VecDeque<(u64, NodeId)>>,
}

impl Births {
    /// Takes in who lives now.
    pub fn look<'a>(&mut self, now_s: u64, nodes: impl Iterator<Item = (&'a NodeId, Role, Incarnation)>) {
        let mut before = std::mem::take(&mut self.lives);
        for (node, role, life) in nodes {
            let known = before.remove(&life).map(|(_, _, since)| since);
            let since = known.unwrap_or(self.looked.then_some(now_s));
            self.lives.insert(life, (node.clone(), role, since));
        }
        self.looked = true;
        for (node, role, since) in before.into_values() {
            if since.is_some_and(|since| now_s < since + SHORT_S) {
                let ends = self.short.entry(role.as_str()).or_default();
                ends.push_back((now_s, node));
                if ends.len() > KEPT {
                    ends.pop_front();
                }
            }
        }
        for ends in self.short.values_mut() {
            while ends.front().is_some_and(|(when, _)| now_s >= when + MEMORY_S) {
                ends.pop_front();
            }
        }
    }

    /// The loops, for people.
    pub fn loops(&self) -> Vec<String> {
        let looping = self.short.iter().filter(|(_, ends)| ends.len() >= LOOP);
        looping
            .filter_map(|(role, ends)| {
                let (_, last) = ends.back()?;
                let count = ends.len();
                Some(format!(
                    "{count} lives of nodes of role {role} ended within {SHORT_S} s of their birth in the last {} \
                     minutes; the last was {last}",
                    MEMORY_S / 60
                ))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(births: &mut Births, now_s: u64, lives: &[(&str, u64)]) {
        let named: Vec<(NodeId, u64)> =
            lives.iter().map(|(name, life)| (NodeId::new(name).expect("a name"), *life)).collect();
        births.look(now_s, named.iter().map(|(name, life)| (name, Role::Zoo, Incarnation(*life))));
    }

    #[test]
    fn a_node_that_keeps_dying_young_is_named_and_forgotten_when_it_lives() {
        let mut births = Births::default();
        look(&mut births, 0, &[("old", 1), ("other", 2)]);
        look(&mut births, 5, &[("old", 1)]);
        for n in 0..3 {
            assert_eq!(births.loops(), Vec::<String>::new(), "after {n} short lives");
            look(&mut births, 10 + n * 30, &[("old", 1), ("zoo-7", 100 + n)]);
            look(&mut births, 20 + n * 30, &[("old", 1)]);
        }
        assert!(births.loops()[0].contains("zoo-7"), "{:?}", births.loops());
        look(&mut births, 100, &[("old", 1), ("zoo-7", 900)]);
        look(&mut births, 20 + 60 + MEMORY_S, &[("old", 1), ("zoo-7", 900)]);
        assert_eq!(births.loops(), Vec::<String>::new());
    }

    #[test]
    fn a_restart_under_the_same_name_is_the_end_of_a_life() {
        let mut births = Births::default();
        look(&mut births, 0, &[]);
        for n in 0..4 {
            look(&mut births, 1 + n * 3, &[("zoo-7", n)]);
        }
        assert_eq!(births.loops().len(), 1);
    }
}
