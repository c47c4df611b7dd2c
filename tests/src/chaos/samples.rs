//! Memory and descriptors of every process, sampled while chaos goes on, and whether they have grown.
//!
//! What counts is memory of a process's own, without what it maps from the store's file. Growth is judged by medians: of the
//! last third of the samples against the first third and, so that a world filling up is no leak, against the middle third.

use std::collections::BTreeMap;

use crate::processes::Process;

/// A process may have grown by this much, in MiB, and by this part, before it counts as grown.
const GROWTH_MIB: f64 = 48.0;
const GROWTH_PART: f64 = 0.35;
/// A process may have so many descriptors more than in the beginning: links on their way, files just being read, players
/// who came over from others.
const GROWTH_DESCRIPTORS: f64 = 48.0;
/// The fewest samples that say anything.
const LEAST: usize = 9;

/// One look at one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Milliseconds since 1970.
    pub(super) at_ms: u64,
    pub(super) memory_mib: f64,
    pub(super) descriptors: f64,
}

/// All looks, by the names of processes.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) of: BTreeMap<String, Vec<Sample>>,
}

impl Samples {
    /// Looks at a process, if it is there.
    pub(super) fn look(&mut self, process: &Process, at_ms: u64) {
        let Some(memory_mib) = process.own_memory_mib() else { return };
        let Some(descriptors) = std::fs::read_dir(format!("/proc/{}/fd", process.pid)).ok() else { return };
        let sample = Sample { at_ms, memory_mib, descriptors: descriptors.count() as f64 };
        self.of.entry(process.name.clone()).or_default().push(sample);
    }

    /// Medians of the first, middle and last third of a process's samples: memory and descriptors.
    fn thirds(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> Option<[f64; 3]> {
        if samples.len() < LEAST {
            return None;
        }
        let third = samples.len() / 3;
        let part = |from: usize, to: usize| {
            let mut values: Vec<f64> = samples[from..to].iter().map(&value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Some([part(0, third), part(third, 2 * third), part(2 * third, samples.len())])
    }

    /// What has grown beyond the tolerance, in words.
    pub(super) fn grown(&self) -> Vec<String> {
        let mut grown = Vec::new();
        for (name, samples) in &self.of {
            if let Some([first, middle, last]) = Samples::thirds(samples, |sample| sample.memory_mib) {
                let limit = first * (1.0 + GROWTH_PART) + GROWTH_MIB;
                if last > limit && last > middle * 1.05 {
                    grown.push(format!(
                        "{name} has grown from {first:.0} over {middle:.0} to {last:.0} MiB (medians of thirds; tolerated: {limit:.0})"
                    ));
                }
            }
            if let Some([first, middle, last]) = Samples::thirds(samples, |sample| sample.descriptors) {
                let limit = first * (1.0 + GROWTH_PART) + GROWTH_DESCRIPTORS;
                if last > limit && last > middle {
                    grown.push(format!(
                        "{name} has gone from {first:.0} over {middle:.0} to {last:.0} descriptors (tolerated: {limit:.0})"
                    ));
                }
            }
        }
        grown
    }

    /// The medians of the first and last third, by process: for the report.
    pub(super) fn medians(&self, value: impl Fn(&Sample) -> f64) -> BTreeMap<String, [f64; 2]> {
        let thirds = self.of.iter().filter_map(|(name, samples)| {
            let [first, _, last] = Samples::thirds(samples, &value)?;
            Some((name.clone(), [first.round(), last.round()]))
        });
        thirds.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(u64) -> f64, descriptors: impl Fn(u64) -> f64) -> Samples {
        let one = |i: u64| Sample { at_ms: i, memory_mib: memory(i), descriptors: descriptors(i) };
        Samples { of: BTreeMap::from([("zoo-0".to_owned(), (0..60).map(one).collect())]) }
    }

    #[test]
    fn what_goes_up_and_stays_is_no_growth_and_what_goes_on_rising_is() {
        assert!(samples(|i| if i < 10 { 20.0 } else { 60.0 }, |_| 40.0).grown().is_empty());
        assert!(samples(|i| if i < 30 { 20.0 } else { 21.0 }, |i| 40.0 + (i % 7) as f64).grown().is_empty());
        let leaks = samples(|i| 20.0 + 4.0 * i as f64, |i| 40.0 + 3.0 * i as f64).grown();
        assert_eq!(leaks.len(), 2, "{leaks:?}");
    }
}
