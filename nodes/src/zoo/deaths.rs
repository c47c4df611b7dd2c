//! Deaths, until they are known to be saved.
//!
//! Whoever dies is saved with its habitat at once, and lies where it fell until that is done: a zoo that dies in between leaves
//! the sight of a dead animal, and whoever takes over knows. Only then is whoever dealt the death told that it is so. What
//! waits for an answer is bounded by [`ANSWER_MS`]; a death that cannot be told in time is asked for again. A death is NEVER
//! forgotten here before it is saved, or its habitat is somebody else's.

use std::collections::BTreeMap;

use bytes::Bytes;
use cartographer::geometry::ObjectId;
use mesh::{CallRefusal, IncomingCall};

use super::habitats::HabitatId;
use super::rules::ZooRules;
use crate::game::GameWorld;
use crate::protocol::codes;

/// How long whoever dealt a death waits to be told, in milliseconds: less than the patience of its call.
const ANSWER_MS: u64 = 1_500;

/// Deaths that are not known to be saved.
#[derive(Default)]
pub(super) struct Deaths(BTreeMap<ObjectId, Death>);

struct Death {
    habitat: HabitatId,
    /// The save by which it is saved.
    number: Option<u64>,
    /// Who is to be told, and what, and until when.
    asked: Vec<(IncomingCall, Bytes, u64)>,
}

impl Deaths {
    /// Whether a habitat has any.
    pub(super) fn any(&self, habitat: HabitatId) -> bool {
        self.0.values().any(|death| death.habitat == habitat)
    }

    /// The habitats of those that no save under way will save.
    fn unsaved(&self) -> Vec<HabitatId> {
        let mut habitats: Vec<HabitatId> =
            self.0.values().filter(|death| death.number.is_none()).map(|death| death.habitat).collect();
        habitats.sort_unstable();
        habitats.dedup();
        habitats
    }

    /// A save of the habitat is under way that holds all its deaths.
    pub(super) fn saving(&mut self, habitat: HabitatId, number: u64) {
        for death in self.0.values_mut().filter(|death| death.habitat == habitat) {
            death.number.get_or_insert(number);
        }
    }

    /// It has failed.
    pub(super) fn not_saved(&mut self, habitat: HabitatId) {
        self.0.values_mut().filter(|death| death.habitat == habitat).for_each(|death| death.number = None);
    }

    /// Whoever waits too long is told to ask again.
    fn age(&mut self, now: u64) {
        for death in self.0.values_mut() {
            let asked = std::mem::take(&mut death.asked);
            let (late, waits) = asked.into_iter().partition(|(_, _, until)| now >= *until);
            death.asked = waits;
            for (call, _, _) in Vec::<(IncomingCall, Bytes, u64)>::into_iter(late) {
                call.answer(Err(CallRefusal::new(codes::UNAVAILABLE, "the animal's death is not saved yet")));
            }
        }
    }

    /// The habitat is somebody else's: what it knows of these is its own matter.
    pub(super) fn forget(&mut self, habitat: HabitatId) {
        // Calls that are dropped are refused, and made again.
        self.0.retain(|_, death| death.habitat != habitat);
    }
}

impl ZooRules {
    /// An animal has just died here.
    pub(super) fn has_died(&mut self, world: &mut GameWorld, now: u64, animal: ObjectId) {
        let Some(habitat) = self.dens.of(animal) else { return };
        self.counts.deaths.inc();
        self.deaths.0.insert(animal, Death { habitat, number: None, asked: Vec::new() });
        self.save(world, now, habitat);
    }

    /// Answers a call when the death of an animal is saved; at once if it is not one that has just died.
    pub(super) fn when_saved(&mut self, now: u64, animal: ObjectId, call: IncomingCall, answer: Bytes) {
        match self.deaths.0.get_mut(&animal) {
            Some(death) => death.asked.push((call, answer, now + ANSWER_MS)),
            None => call.answer(Ok(answer)),
        }
    }

    /// The deaths of a habitat are saved that a save under this number held.
    pub(super) fn deaths_saved(&mut self, world: &mut GameWorld, now: u64, habitat: HabitatId, number: u64) {
        let saved = |death: &Death| death.habitat == habitat && death.number.is_some_and(|by| by <= number);
        let all: Vec<ObjectId> = self.deaths.0.iter().filter(|(_, it)| saved(it)).map(|(animal, _)| *animal).collect();
        for animal in all {
            self.dens.bury(world, now, animal);
            for (call, answer, _) in self.deaths.0.remove(&animal).into_iter().flat_map(|death| death.asked) {
                call.answer(Ok(answer));
            }
        }
    }

    /// Once a tick: whoever waits too long is told so.
    pub(super) fn mourn(&mut self, now: u64) {
        if !self.deaths.0.is_empty() {
            self.deaths.age(now);
        }
    }

    /// Once a second: what could not be saved is tried again.
    pub(super) fn save_deaths(&mut self, world: &mut GameWorld, now: u64) {
        for habitat in self.deaths.unsaved() {
            self.save(world, now, habitat);
        }
    }
}
