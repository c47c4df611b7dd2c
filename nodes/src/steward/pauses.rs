//! What fails is not tried again at once, but after growing pauses: each thing by its own name.

use std::collections::BTreeMap;

/// The pause after the first failure, in seconds; it doubles with each further one.
const FIRST_S: u64 = 5;

/// The longest pause, in seconds.
const LONGEST_S: u64 = 600;

/// Things that are remembered, at most; what failed longest ago is forgotten first.
const KEPT: usize = 256;

/// What failed lately.
#[derive(Debug, Default)]
pub struct Pauses(BTreeMap<String, Pause>);

#[derive(Debug)]
struct Pause {
    failures: u32,
    until_s: u64,
    error: String,
}

impl Pauses {
    /// Whether this may be tried now.
    pub fn over(&self, what: &str, now_s: u64) -> bool {
        self.0.get(what).is_none_or(|pause| now_s >= pause.until_s)
    }

    /// It has failed.
    pub fn failed(&mut self, what: &str, now_s: u64, error: &str) {
        if self.0.len() >= KEPT && !self.0.contains_key(what) {
            let oldest = self.0.iter().min_by_key(|(_, pause)| pause.until_s).map(|(what, _)| what.clone());
            oldest.map(|what| self.0.remove(&what));
        }
        let pause = self.0.entry(what.to_owned()).or_insert(Pause { failures: 0, until_s: 0, error: String::new() });
        let length = FIRST_S.saturating_mul(1 << pause.failures.min(16)).min(LONGEST_S);
        pause.failures += 1;
        pause.until_s = now_s + length;
        pause.error = error.to_owned();
    }

    /// It has worked.
    pub fn worked(&mut self, what: &str) {
        self.0.remove(what);
    }

    /// What does not work, for people.
    pub fn told(&self, now_s: u64) -> Vec<String> {
        let told = |(what, pause): (&String, &Pause)| {
            let Pause { failures, until_s, error } = pause;
            let left = until_s.saturating_sub(now_s);
            format!("{what} has failed {failures} times and is tried again in {left} s: {error}")
        };
        self.0.iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_end_with_success() {
        let mut pauses = Pauses::default();
        let (mut now, mut lengths) = (0, Vec::new());
        for _ in 0..10 {
            assert!(pauses.over("make a", now));
            pauses.failed("make a", now, "no");
            let from = now;
            while !pauses.over("make a", now) {
                now += 1;
            }
            lengths.push(now - from);
        }
        assert_eq!(lengths, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert!(pauses.over("make b", 0) && pauses.told(now)[0].contains("10 times"));
        pauses.worked("make a");
        assert!(pauses.over("make a", 0) && pauses.told(now).is_empty());
        for n in 0..2 * KEPT {
            pauses.failed(&format!("{n}"), now, "no");
        }
        assert!(pauses.0.len() <= KEPT);
    }
}
