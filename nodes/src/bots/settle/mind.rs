//! What a settler wants next: each kind of goal has a use by what the bot has and sees, and the most useful is chosen.
//!
//! Uses are drawn a little at random, and what was chosen lately waits, so that bots differ and every kind of goal has its
//! turn.

use std::time::Duration;

use rand::Rng;

use super::goals::What;
use super::{Asked, Eyes, Settler, codes};
use crate::game::{kind, pose, thing};
use crate::protocol::{Act, UNITS_PER_TILE};

/// What was chosen is less useful for so long.
const AGAIN: Duration = Duration::from_secs(45);
/// Others are neighbours within this distance, in units.
pub(super) const NEAR: u32 = 14 * UNITS_PER_TILE as u32;
/// Below this health a bot thinks of food first, in percent.
pub(super) const WEAK: u8 = 50;

impl Settler {
    /// The most useful goal now.
    pub(super) fn choose(&mut self, eyes: &Eyes<'_>) -> What {
        let mut options = self.options(eyes);
        // There is always something to do.
        options.push((8, self.wander()));
        let mut best: Option<(f64, What)> = None;
        for (usefulness, what) in options {
            let waited = self.chosen.get(what.name()).map_or(AGAIN, |at| eyes.now.saturating_duration_since(*at));
            let fresh = (waited.as_secs_f64() / AGAIN.as_secs_f64()).min(1.0);
            let score = f64::from(usefulness) * fresh * self.rng.random_range(0.4..1.6);
            if best.as_ref().is_none_or(|(most, _)| score > *most) {
                best = Some((score, what));
            }
        }
        let what = best.map_or(What::Wander { x: 1, y: 1 }, |(_, what)| what);
        self.chosen.insert(what.name(), eyes.now);
        what
    }

    fn options(&mut self, eyes: &Eyes<'_>) -> Vec<(u32, What)> {
        let mut options = self.errands(eyes);
        self.company(eyes, &mut options);
        let item = self.what_grows(eyes);
        options.push((30, What::Gather { item, left: 4 + u64::from(self.below(6)) }));
        if self.health >= 70 {
            let near = eyes.nearest(kind::ANIMAL, |seen| seen.view.health > 0).is_some();
            options.extend(near.then_some((30, What::Hunt { item: None, target: None })));
            options
                .push((if self.account.has("spear") > 0 { 34 } else { 18 }, What::Hunt { item: None, target: None }));
        }
        let others = self.commons.other_islands(eyes.island);
        if !others.is_empty() {
            let island = others[self.below(others.len() as u32) as usize];
            options.push((14, What::Sail { island }));
        }
        options
    }

    /// An item that something near yields; wood if nothing is known to.
    fn what_grows(&mut self, eyes: &Eyes<'_>) -> String {
        let (x, y) = eyes.chunk();
        let grows = self.commons.naturals((eyes.island, x, y)).filter(|all| !all.is_empty());
        let Some(all) = grows else { return "wood".to_owned() };
        let (_, name) = &all[self.below(u32::try_from(all.len()).unwrap_or(1)) as usize];
        let natural = self.commons.content.naturals.get(name).filter(|it| it.tool.is_none());
        natural.map_or_else(|| "wood".to_owned(), |natural| natural.yields.clone())
    }

    /// What serves the bot's own life.
    fn errands(&mut self, eyes: &Eyes<'_>) -> Vec<(u32, What)> {
        let mut options = Vec::new();
        let has = |item: &str| self.account.has(item);
        let stands = |name: &str| eyes.all(kind::FACILITY).any(|seen| seen.view.name == name);
        let own = |name: &str| self.built.iter().any(|(_, it, island, _)| it == name && *island == eyes.island);
        let craft = |recipe: &str| What::Craft { recipe: recipe.to_owned() };
        let build = |facility: &str| What::Build { facility: facility.to_owned() };
        if self.health < 95 && self.food().is_some() {
            options.push((if self.health < WEAK { 120 } else { 20 }, What::Eat));
        }
        for (tool, use_) in [("axe", 60), ("pick", 30), ("knife", 25), ("spear", 40)] {
            if has(tool) == 0 {
                options.push((use_, craft(tool)));
            }
        }
        if has("meat") > 0 {
            options.push((45, craft("roast")));
        }
        if has("herb") > 0 && has("fibre") > 1 {
            options.push((25, craft("bandage")));
        }
        let land = self.land.iter().any(|(island, ..)| *island == eyes.island);
        let stable = self.commons.island(eyes.island).is_none_or(|island| island.stability != "unstable");
        if stable {
            options.push((if land { 4 } else { 45 }, What::Claim));
        }
        if !own("box") {
            options.push((if land { 50 } else { 30 }, build("box")));
        }
        if !stands("hearth") {
            options.push((35, build("hearth")));
        }
        if !stands("workbench") && has("axe") > 0 {
            options.push((10, build("workbench")));
        }
        if land {
            options.push((10, build(["fence", "door", "bed", "hut"][(self.next_number % 4) as usize])));
            options.push((1, What::GiveUp));
            options.push((2, What::Demolish));
        }
        let carried: u64 = self.account.stacks().map(|(_, count)| count).sum();
        if own("box") {
            options.push((if carried > 15 { 45 } else { 6 }, What::Store));
            options.push((14, What::Fetch));
        }
        if let Some(door) = eyes.nearest(kind::FACILITY, |seen| self.opens(&seen.view.name)) {
            options.push((6, What::Use { object: door.id }));
        }
        options
    }

    fn opens(&self, facility: &str) -> bool {
        self.commons.content.facilities.get(facility).is_some_and(|it| it.door)
    }

    /// What is done with and for others.
    fn company(&mut self, eyes: &Eyes<'_>, options: &mut Vec<(u32, What)>) {
        let neighbours: Vec<u64> = eyes
            .all(kind::PLAYER)
            .filter(|seen| seen.id != self.me && seen.view.pose != pose::FIGHTS && eyes.away(seen.place) < NEAR)
            .map(|seen| seen.id)
            .collect();
        options.push((24, What::Say { channel: if self.people.in_party() && self.below(2) == 0 { 1 } else { 0 } }));
        options.push((8, What::Say { channel: 2 }));
        if self.people.in_party() {
            options.push((2, What::Leave));
            if self.people.leads(self.me) {
                options.push((4, What::Lead));
                options.push((1, What::Dissolve));
            }
        }
        if self.health > WEAK {
            let fought = eyes.nearest(kind::BATTLE, |seen| eyes.away(seen.place) < NEAR && seen.view.tie > 0);
            options.extend(fought.map(|battle| (30, What::Join { battle: battle.id })));
        }
        if let Some(met) = self.people.met(&neighbours, self.rng.random()) {
            options.push((22, What::Gift { player: met }));
        }
        if neighbours.is_empty() {
            return;
        }
        let player = neighbours[self.below(neighbours.len() as u32) as usize];
        if self.account.stacks().next().is_some() {
            options.push((28, What::Trade { player }));
        }
        if !self.people.in_party() || self.people.leads(self.me) {
            options.push((18, What::Invite { player }));
        }
    }

    pub(super) fn wander(&mut self) -> What {
        let step = |rng: &mut rand::rngs::StdRng| rng.random_range(-24..=24);
        What::Wander { x: step(&mut self.rng), y: step(&mut self.rng) }
    }

    /// The best food in the bag.
    pub(super) fn food(&self) -> Option<String> {
        let content = &self.commons.content;
        let food = |item: &String| content.items.get(item).map_or(0, |it| it.food);
        let best = self.account.stacks().map(|(item, _)| item).filter(|item| food(item) > 0);
        best.max_by_key(|item| (food(item), (*item).clone())).cloned()
    }

    /// An act was done.
    pub(super) fn done(&mut self, asked: &Asked, made: Option<u64>, eyes: &Eyes<'_>) {
        let act = &asked.act;
        self.book(asked, made, eyes);
        match act {
            Act::Build { facility, x, y, .. } => {
                if let Some(object) = made {
                    if self.built.len() >= super::BUILT_KEPT {
                        self.built.remove(0);
                    }
                    self.built.push((object, facility.clone(), asked.place.0, (*x, *y)));
                }
            }
            Act::Demolish { object } => self.built.retain(|(it, ..)| it != object),
            Act::Claim {} => {
                self.land.retain(|chunk| *chunk != asked.place);
                self.land.push(asked.place);
            }
            Act::GiveUp {} => self.land.retain(|chunk| *chunk != asked.place),
            Act::Trade { .. } => self.people.trade_since = Some(eyes.now),
            Act::Attack { .. } | Act::Join { .. } => {
                self.battles.begun(made, eyes.now);
                self.commons.report().battles += 1;
            }
            _ => {}
        }
        self.progress(act, eyes);
    }

    /// An act was refused.
    pub(super) fn refused(&mut self, act: &Act, code: &str, eyes: &Eyes<'_>) {
        match act {
            Act::Gather { x, y } if code == codes::MISSING || code == "owned" => {
                self.spent.insert((eyes.island, *x, *y), eyes.now);
                return;
            }
            Act::Blow { .. } | Act::Flee {} => {
                if code == codes::NO_BATTLE || code == codes::MISSING {
                    self.battles.over(eyes.now);
                }
                return;
            }
            Act::Chat { .. } | Act::Bag {} => {}
            Act::Consent { .. } if code == codes::TOO_FAR => {
                self.people.consented = None;
                return;
            }
            Act::Offer { .. } | Act::Consent { .. } | Act::Withdraw { .. } => {
                if code != codes::BUSY && code != codes::UNAVAILABLE {
                    self.people.trade = None;
                }
                return;
            }
            Act::Demolish { object } | Act::Put { object, .. } | Act::Take { object, .. } | Act::Look { object }
                if code == codes::MISSING || code == codes::FORBIDDEN =>
            {
                self.built.retain(|(it, ..)| it != object);
            }
            _ => {}
        }
        let busy = [codes::BUSY, codes::UNAVAILABLE, codes::TOO_SOON, codes::TOO_FAR].contains(&code);
        match self.goals.last_mut() {
            Some(goal) if busy || matches!(act, Act::Build { .. }) => {
                goal.tries += 1;
                if goal.tries > super::goals::TRIES {
                    self.give_up();
                }
            }
            _ => self.give_up(),
        }
    }

    /// Whether a facility burns as it is seen.
    pub(super) fn is_lit(state: u8) -> bool {
        state & thing::state::LIT != 0
    }
}
