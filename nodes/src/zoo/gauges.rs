//! What a zoo counts of itself. It NEVER decides anything.

use prometheus::IntGauge;

use crate::metrics::Metrics;

/// What a zoo tells of itself.
pub(super) struct Gauges {
    /// Habitats that are awake.
    pub(super) habitats: IntGauge,
    /// Their animals.
    pub(super) animals: IntGauge,
    /// Animals that may be.
    pub(super) most: IntGauge,
    /// Habitats for which there is no room.
    pub(super) crowded_out: IntGauge,
    /// Decisions of minds.
    pub(super) decisions: IntGauge,
    /// Minds that a threat woke.
    pub(super) alarms: IntGauge,
    /// Animals in battles.
    pub(super) fighting: IntGauge,
    /// Animals that took the places of dead ones.
    pub(super) born: IntGauge,
    /// Animals that died.
    pub(super) deaths: IntGauge,
    /// Animals that were eaten.
    pub(super) meals: IntGauge,
    /// Battles that animals opened.
    pub(super) opened: IntGauge,
    /// Habitats taken over from zoos that died, and handed on to others.
    pub(super) taken_over: IntGauge,
    pub(super) handed_on: IntGauge,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics) -> Gauges {
        let gauge = |name: &str, help: &str| metrics.gauge(name, help);
        Gauges {
            habitats: gauge("zoo_habitats_awake", "Habitats that are awake."),
            animals: gauge("zoo_animals_awake", "Animals that are awake."),
            most: gauge("zoo_animals_most", "Animals that may be awake at most."),
            crowded_out: gauge("zoo_habitats_crowded_out", "Habitats that stay asleep because too many are awake."),
            decisions: gauge("zoo_decisions", "Decisions of minds so far."),
            alarms: gauge("zoo_alarms", "Minds that a threat woke so far."),
            fighting: gauge("zoo_animals_fighting", "Animals in battles."),
            born: gauge("zoo_animals_replaced", "Animals that took the places of dead ones so far."),
            deaths: gauge("zoo_animals_died", "Animals that died so far."),
            meals: gauge("zoo_animals_eaten", "Animals that were eaten so far."),
            opened: gauge("zoo_battles_opened", "Battles that animals wanted so far."),
            taken_over: gauge("zoo_habitats_taken_over", "Habitats that another zoo had when it died or left, so far."),
            handed_on: gauge("zoo_habitats_handed_on", "Habitats that another zoo has woken for this one, so far."),
        }
    }
}
