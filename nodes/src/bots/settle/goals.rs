//! Goals, and the next step towards each: walk there, do something, or do something else first.
//!
//! Each goal has its patience; a goal that fails takes along everything for which it was. Nothing here waits.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::account::{Counts, Effect, counts};
use super::eyes::{CHUNK, middle, tile_of};
use super::mind::NEAR;
use super::{Asked, Eyes, Settler};
use crate::game::{kind, pose, thing};
use crate::protocol::{Act, UNITS_PER_TILE, Wares};

/// Goals within goals.
pub(super) const DEEPEST: usize = 8;
/// Tries of one goal that others spoilt.
pub(super) const TRIES: u32 = 6;
/// Legs in a row that led nowhere, before a goal is given up.
const BLOCKED_MOST: u32 = 8;
/// The longest leg, in units.
const LEG: i32 = 12 * UNITS_PER_TILE;
/// A natural object that gave nothing is left alone for so long.
const SPENT: Duration = Duration::from_secs(60);
/// So near one goes to whatever one does something with, in tiles; less than what players reach.
const REACH: i32 = 2;
/// Animals that are tougher than this are left alone, in percent of a player's health.
const TOO_TOUGH: u16 = 160;

/// What a settler wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Gather { item: String, left: u64 },
    Craft { recipe: String },
    Build { facility: String },
    Demolish,
    Use { object: u64 },
    Claim,
    GiveUp,
    Store,
    Fetch,
    Eat,
    Hunt { item: Option<String>, target: Option<u64> },
    Join { battle: u64 },
    Trade { player: u64 },
    Gift { player: u64 },
    Invite { player: u64 },
    Leave,
    Lead,
    Dissolve,
    Say { channel: u8 },
    Sail { island: u32 },
    Wander { x: i32, y: i32 },
}

impl What {
    pub(super) fn name(&self) -> &'static str {
        match self {
            What::Gather { .. } => "gather",
            What::Craft { .. } => "craft",
            What::Build { .. } => "build",
            What::Demolish => "demolish",
            What::Use { .. } => "use",
            What::Claim => "claim",
            What::GiveUp => "give_up",
            What::Store => "store",
            What::Fetch => "fetch",
            What::Eat => "eat",
            What::Hunt { .. } => "hunt",
            What::Join { .. } => "join",
            What::Trade { .. } => "trade",
            What::Gift { .. } => "gift",
            What::Invite { .. } => "invite",
            What::Leave => "leave",
            What::Lead => "lead",
            What::Dissolve => "dissolve",
            What::Say { .. } => "say",
            What::Sail { .. } => "sail",
            What::Wander { .. } => "wander",
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(match self {
            What::Sail { .. } => 120,
            What::Build { .. } | What::Craft { .. } => 90,
            What::Hunt { .. } | What::Claim => 60,
            What::Wander { .. } => 20,
            _ => 45,
        })
    }
}

/// A goal on the stack.
#[derive(Debug)]
pub(super) struct Goal {
    pub(super) what: What,
    pub(super) until: Instant,
    pub(super) tries: u32,
    /// Whether its last act was done.
    acted: bool,
}

impl Goal {
    pub(super) fn new(what: What, now: Instant) -> Goal {
        Goal { until: now + what.patience(), what, tries: 0, acted: false }
    }
}

/// The next step towards a goal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Rest,
    Walk((i32, i32)),
    Act(Act),
    First(What),
    Done,
    Failed,
}

/// Whether two rectangles of tiles have one in common.
fn overlap(one: (u16, u16), size: (i32, i32), other: (u16, u16), of: (i32, i32)) -> bool {
    let along = |one: u16, size: i32, other: u16, of: i32| {
        i32::from(one) < i32::from(other) + of && i32::from(other) < i32::from(one) + size
    };
    along(one.0, size.0, other.0, of.0) && along(one.1, size.1, other.1, of.1)
}

impl Settler {
    /// The next step towards the topmost goal.
    pub(super) fn step(&mut self, eyes: &Eyes<'_>, what: What) -> Step {
        if self.goals.last().is_some_and(|goal| goal.acted) {
            return Step::Done;
        }
        let step = match what {
            What::Gather { item, left } => self.gather(eyes, &item, left),
            What::Craft { recipe } => self.craft(eyes, &recipe),
            What::Build { facility } => self.build(eyes, &facility),
            What::Demolish => self.demolish(eyes),
            What::Use { object } => self.at_thing(eyes, object).map(|()| Step::Act(Act::Use { object })),
            What::Claim => self.claim(eyes),
            What::GiveUp => self.at_own_land(eyes).map(|()| Step::Act(Act::GiveUp {})),
            What::Store => self.store(eyes),
            What::Fetch => self.fetch(eyes),
            What::Eat => Ok(self.food().map_or(Step::Failed, |item| Step::Act(Act::Eat { item }))),
            What::Hunt { item, target } => self.hunt(eyes, item, target),
            What::Join { battle } => self.at_thing(eyes, battle).map(|()| Step::Act(Act::Join { battle })),
            What::Trade { player } => self.at_thing(eyes, player).map(|()| Step::Act(Act::Trade { player })),
            What::Gift { player } => Ok(self.gift(player)),
            What::Invite { player } => Ok(Step::Act(Act::Invite { player })),
            What::Leave => Ok(Step::Act(Act::Leave {})),
            What::Lead => Ok(self.people.other(self.me).map_or(Step::Failed, |player| Step::Act(Act::Lead { player }))),
            What::Dissolve => Ok(Step::Act(Act::Dissolve {})),
            What::Say { channel } => Ok(Step::Act(Act::Chat { channel, text: self.saying() })),
            What::Sail { island } => self.sail(eyes, island),
            What::Wander { x, y } => self.go(eyes, x, y),
        };
        step.unwrap_or_else(|step| step)
    }

    /// The last act was done: how far the goal is.
    pub(super) fn progress(&mut self, act: &Act, eyes: &Eyes<'_>) {
        let Some(goal) = self.goals.last_mut() else { return };
        match (&mut goal.what, act) {
            (What::Gather { item, left }, Act::Gather { x, y }) => {
                let natural = self.commons.naturals((eyes.island, x / CHUNK, y / CHUNK));
                let name = natural.as_ref().and_then(|all| all.iter().find(|(tile, _)| *tile == (*x, *y)));
                let natural = name.and_then(|(_, name)| self.commons.content.naturals.get(name));
                let got = natural.filter(|it| it.yields == *item).map_or(1, |it| it.count);
                *left = left.saturating_sub(got);
                goal.acted = *left == 0;
            }
            // A hearth that was lit for something, and a box that was looked into.
            (What::Craft { .. }, Act::Use { .. }) | (What::Fetch, Act::Look { .. }) => {}
            (_, Act::Bag {} | Act::Offer { .. } | Act::Consent { .. } | Act::Withdraw { .. } | Act::Enter { .. }) => {}
            (_, Act::Blow { .. } | Act::Flee {}) => {}
            _ => goal.acted = true,
        }
    }

    /// What an act changes in the bag if it is done; `None` if that cannot be known.
    pub(super) fn effect(&self, act: &Act, eyes: &Eyes<'_>) -> Option<Effect> {
        let content = &self.commons.content;
        let one = |item: &str, count: u64| Counts::from([(item.to_owned(), count)]);
        let more = |more: Counts| Some(Effect { more, ..Effect::default() });
        let less = |less: Counts| Some(Effect { less, ..Effect::default() });
        match act {
            Act::Gather { x, y } => {
                let all = self.commons.naturals((eyes.island, x / CHUNK, y / CHUNK))?;
                let (_, name) = all.iter().find(|(tile, _)| *tile == (*x, *y))?;
                let natural = content.naturals.get(name)?;
                more(one(&natural.yields, natural.count))
            }
            Act::Craft { recipe } => {
                let recipe = content.recipes.get(recipe)?;
                Some(Effect { more: one(&recipe.makes, recipe.count), less: recipe.takes.clone() })
            }
            Act::Eat { item } => less(one(item, 1)),
            Act::Build { facility, .. } => less(content.facilities.get(facility)?.takes.clone()),
            Act::Put { wares, .. } | Act::Gift { wares, .. } => less(counts(wares)),
            Act::Take { wares, .. } => more(counts(wares)),
            Act::Use { object } => {
                let facility = content.facilities.get(&eyes.one(*object)?.view.name)?;
                less(facility.burns.as_ref().map(|(fuel, _)| one(fuel, 1)).unwrap_or_default())
            }
            _ => Some(Effect::default()),
        }
    }

    /// Books in the bot's own accounts what an act that was done has changed.
    pub(super) fn book(&mut self, asked: &Asked, made: Option<u64>, eyes: &Eyes<'_>) {
        match &asked.effect {
            Some(effect) => self.account.change(effect, eyes.now),
            None => self.account.doubt(),
        }
        self.works.done(&asked.act, asked.place, made);
        match &asked.act {
            Act::Gift { player, wares } => self.commons.gave(*player, &counts(wares)),
            Act::Attack { .. } | Act::Join { .. } | Act::Blow { .. } => self.account.fights(eyes.now),
            Act::Bag {} => self.account.answered(eyes.now),
            _ => {}
        }
    }

    /// `Ok` once within so many tiles of a place; else the step there.
    pub(super) fn near(&mut self, eyes: &Eyes<'_>, to: (i32, i32), within: i32) -> Result<(), Step> {
        if eyes.away(to) <= (within * UNITS_PER_TILE) as u32 {
            self.heading = None;
            return Ok(());
        }
        if self.blocked > BLOCKED_MOST {
            return Err(Step::Failed);
        }
        let moved =
            |heading: (i32, i32)| heading.0.abs_diff(to.0).max(heading.1.abs_diff(to.1)) > 2 * UNITS_PER_TILE as u32;
        let on_the_way = self.heading.is_some_and(|heading| !moved(heading) || self.blocked > 0);
        if eyes.walking && on_the_way {
            return Err(Step::Rest);
        }
        self.heading = Some(to);
        let (dx, dy) = (f64::from(to.0 - eyes.place.0), f64::from(to.1 - eyes.place.1));
        let (mut angle, mut length) = (dy.atan2(dx), dx.hypot(dy).min(f64::from(LEG)));
        if self.blocked > 0 {
            // Round the obstacle: now on this side, now on that, further round each time.
            let side = if self.me & 1 == 0 { 1.0 } else { -1.0 };
            angle += side * (0.5 * f64::from(self.blocked) + self.rng.random_range(-0.3..0.3));
            length = f64::from(6 * UNITS_PER_TILE);
        }
        let along = |from: i32, part: f64| from.saturating_add((length * part) as i32).max(0);
        Err(Step::Walk((along(eyes.place.0, angle.cos()), along(eyes.place.1, angle.sin()))))
    }

    /// `Ok` once beside something that is seen.
    fn at_thing(&mut self, eyes: &Eyes<'_>, object: u64) -> Result<(), Step> {
        let seen = eyes.one(object).ok_or(Step::Failed)?;
        self.near(eyes, seen.place, REACH)
    }

    fn go(&mut self, eyes: &Eyes<'_>, x: i32, y: i32) -> Result<Step, Step> {
        // The goal is relative until the first step; then it is a place, which is far from 0.
        let Some(goal) = self.goals.last_mut() else { return Err(Step::Failed) };
        if goal.tries == 0 {
            goal.tries = 1;
            let (x, y) = (eyes.place.0 + x * UNITS_PER_TILE, eyes.place.1 + y * UNITS_PER_TILE);
            let (x, y) = (x.max(UNITS_PER_TILE), y.max(UNITS_PER_TILE));
            goal.what = What::Wander { x, y };
            return self.near(eyes, (x, y), REACH).map(|()| Step::Done);
        }
        self.near(eyes, (x, y), REACH).map(|()| Step::Done)
    }

    /// The nearest natural object that yields an item and that the bot has the tool for.
    fn find(&mut self, eyes: &Eyes<'_>, item: &str) -> Result<(u16, u16), Step> {
        let (island, (cx, cy)) = (eyes.island, eyes.chunk());
        let content = self.commons.content.clone();
        self.spent.retain(|_, at| eyes.now.saturating_duration_since(*at) < SPENT);
        let used_up: Vec<(u16, u16)> = eyes
            .all(kind::NATURE)
            .filter(|seen| seen.view.pose & thing::state::USED_UP != 0)
            .map(|seen| seen.tile())
            .collect();
        let wanted = |name: &String| {
            let natural = content.naturals.get(name);
            natural.is_some_and(|it| it.yields == item && self.has_tool(it.tool.as_deref()))
        };
        let (mut best, mut unknown) = (None, false);
        for key in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))) {
            let (Some(x), Some(y)) = (cx.checked_add_signed(key.0), cy.checked_add_signed(key.1)) else { continue };
            let Some(naturals) = self.commons.naturals((island, x, y)) else {
                unknown = true;
                continue;
            };
            for (tile, name) in naturals.iter() {
                let free = !self.spent.contains_key(&(island, tile.0, tile.1)) && !used_up.contains(tile);
                if free && wanted(name) {
                    let away = eyes.away(middle(*tile));
                    best = best.filter(|(least, _)| *least <= away).or(Some((away, *tile)));
                }
            }
        }
        match best {
            Some((_, tile)) => Ok(tile),
            None if unknown => Err(Step::Rest),
            None => Err(Step::First(self.wander())),
        }
    }

    fn has_tool(&self, tool: Option<&str>) -> bool {
        let content = &self.commons.content;
        let held = |tool: &str| {
            content.items.iter().any(|(name, it)| it.tool.as_deref() == Some(tool) && self.account.has(name) > 0)
        };
        tool.is_none_or(held)
    }

    fn gather(&mut self, eyes: &Eyes<'_>, item: &str, left: u64) -> Result<Step, Step> {
        if left == 0 {
            return Ok(Step::Done);
        }
        let (x, y) = self.find(eyes, item)?;
        let near = self.near(eyes, middle((x, y)), REACH);
        if near == Err(Step::Failed) {
            // It cannot be reached from here: another one.
            self.spent.insert((eyes.island, x, y), eyes.now);
            self.blocked = 0;
            return Err(Step::Rest);
        }
        near?;
        Ok(Step::Act(Act::Gather { x, y }))
    }

    /// How to come by an item.
    fn obtain(&mut self, item: &str, count: u64) -> Step {
        let content = self.commons.content.clone();
        let mut sources: Vec<_> = content.naturals.values().filter(|it| it.yields == item).collect();
        sources.sort_by_key(|it| it.tool.is_some());
        if sources.iter().any(|it| self.has_tool(it.tool.as_deref())) {
            return Step::First(What::Gather { item: item.to_owned(), left: count });
        }
        let made = content.recipes.iter().find(|(_, recipe)| recipe.makes == item);
        if let Some((recipe, _)) = made {
            return Step::First(What::Craft { recipe: recipe.clone() });
        }
        if let Some(tool) = sources.first().and_then(|it| it.tool.as_deref()) {
            let is = |name: &str| content.items.get(name).is_some_and(|it| it.tool.as_deref() == Some(tool));
            let recipe = content.recipes.iter().find(|(_, recipe)| is(&recipe.makes));
            return recipe.map_or(Step::Failed, |(name, _)| Step::First(What::Craft { recipe: name.clone() }));
        }
        if content.species.values().any(|it| it.loot.contains_key(item)) {
            return Step::First(What::Hunt { item: Some(item.to_owned()), target: None });
        }
        Step::Failed
    }

    /// `Ok` if everything is in the bag; else how to come by the first thing that is not.
    fn with(&mut self, takes: &Counts) -> Result<(), Step> {
        for (item, count) in takes {
            let has = self.account.has(item);
            if has < *count {
                return Err(self.obtain(item, count - has));
            }
        }
        Ok(())
    }

    fn craft(&mut self, eyes: &Eyes<'_>, name: &str) -> Result<Step, Step> {
        let content = self.commons.content.clone();
        let recipe = content.recipes.get(name).ok_or(Step::Failed)?;
        self.with(&recipe.takes)?;
        let Some(at) = &recipe.at else { return Ok(Step::Act(Act::Craft { recipe: name.to_owned() })) };
        let Some(seen) = eyes.nearest(kind::FACILITY, |seen| seen.view.name == *at) else {
            return Err(Step::First(What::Build { facility: at.clone() }));
        };
        let fuel = content.facilities.get(at).and_then(|it| it.burns.as_ref());
        let cold = !Settler::is_lit(seen.view.pose);
        if let Some((fuel, _)) = fuel.filter(|_| cold) {
            let fuel = Counts::from([(fuel.clone(), 1 + recipe.takes.get(fuel).copied().unwrap_or(0))]);
            self.with(&fuel)?;
        }
        self.at_thing(eyes, seen.id)?;
        if fuel.is_some() && cold {
            return Ok(Step::Act(Act::Use { object: seen.id }));
        }
        Ok(Step::Act(Act::Craft { recipe: name.to_owned() }))
    }

    /// `Ok` once on the bot's own land; without any: claim some.
    fn at_own_land(&mut self, eyes: &Eyes<'_>) -> Result<(), Step> {
        let here = eyes.chunk();
        let own = self.land.iter().filter(|(island, ..)| *island == eyes.island).map(|(_, x, y)| (*x, *y));
        let chunk = |(x, y): (u16, u16)| middle((x * CHUNK + CHUNK / 2, y * CHUNK + CHUNK / 2));
        let nearest = own.min_by_key(|it| eyes.away(chunk(*it)));
        match nearest {
            Some(own) if own == here => Ok(()),
            Some(own) => {
                self.near(eyes, chunk(own), 6)?;
                Ok(())
            }
            None => Err(Step::First(What::Claim)),
        }
    }

    fn build(&mut self, eyes: &Eyes<'_>, name: &str) -> Result<Step, Step> {
        let content = self.commons.content.clone();
        let facility = content.facilities.get(name).ok_or(Step::Failed)?;
        self.with(&facility.takes)?;
        if facility.own_land {
            self.at_own_land(eyes)?;
        }
        let (width, height) = (i32::from(facility.size.0), i32::from(facility.size.1));
        let (x, y) = tile_of(eyes.place);
        // Near enough to reach, each time another tile.
        let along = |tile: u16, side: i32, rng: &mut rand::rngs::StdRng| {
            u16::try_from(i32::from(tile) + rng.random_range(-2..=2) - side / 2).unwrap_or(0)
        };
        let at = (along(x, width, &mut self.rng), along(y, height, &mut self.rng));
        let covered = |tile: (u16, u16)| overlap(at, (width, height), tile, (1, 1));
        let stands = |seen: &super::eyes::Seen<'_>| {
            let side =
                |at: usize| seen.view.detail.first().and_then(|it| i32::try_from(*it.get(at)?).ok()).unwrap_or(1);
            overlap(at, (width, height), seen.tile(), (side(0), side(1)))
        };
        let naturals = self.commons.naturals((eyes.island, at.0 / CHUNK, at.1 / CHUNK)).ok_or(Step::Rest)?;
        let free =
            !naturals.iter().any(|(tile, _)| covered(*tile)) && !eyes.all(kind::FACILITY).any(|seen| stands(&seen));
        if !free {
            let goal = self.goals.last_mut().ok_or(Step::Failed)?;
            goal.tries += 1;
            return if goal.tries > 4 * TRIES { Err(Step::Failed) } else { Err(Step::Rest) };
        }
        Ok(Step::Act(Act::Build { facility: name.to_owned(), x: at.0, y: at.1, turned: 0 }))
    }

    /// Something small that the bot has built, with the way there.
    fn own_thing(&mut self, eyes: &Eyes<'_>, is: impl Fn(&str) -> bool) -> Result<u64, Step> {
        let own = self.built.iter().rev().find(|(_, name, island, _)| *island == eyes.island && is(name));
        let (object, tile) = own.map(|(object, _, _, tile)| (*object, *tile)).ok_or(Step::Failed)?;
        self.near(eyes, middle(tile), REACH)?;
        Ok(object)
    }

    fn demolish(&mut self, eyes: &Eyes<'_>) -> Result<Step, Step> {
        let object = self.own_thing(eyes, |name| name == "fence" || name == "door" || name == "workbench")?;
        Ok(Step::Act(Act::Demolish { object }))
    }

    fn claim(&mut self, eyes: &Eyes<'_>) -> Result<Step, Step> {
        let here = eyes.chunk();
        let own_elsewhere = !self.land.is_empty() && !self.land.iter().any(|(island, ..)| *island == eyes.island);
        if own_elsewhere || self.land.len() >= 4 {
            // One player has one holding.
            return Err(Step::Failed);
        }
        let of = |seen: &super::eyes::Seen<'_>| (seen.tile().0 / CHUNK, seen.tile().1 / CHUNK);
        let taken = eyes.all(kind::LAND).any(|seen| of(&seen) == here);
        if taken {
            return Err(Step::First(self.wander()));
        }
        Ok(Step::Act(Act::Claim {}))
    }

    fn store(&mut self, eyes: &Eyes<'_>) -> Result<Step, Step> {
        let object = self.own_thing(eyes, |name| name == "box" || name == "hut")?;
        let half = self.account.stacks().filter(|(_, count)| *count > 3).map(|(item, count)| (item.clone(), count / 2));
        let stacks: Vec<(String, u64)> = half.take(4).collect();
        if stacks.is_empty() {
            return Err(Step::Failed);
        }
        Ok(Step::Act(Act::Put { object, wares: Wares { stacks, uniques: Vec::new() } }))
    }

    fn fetch(&mut self, eyes: &Eyes<'_>) -> Result<Step, Step> {
        let object = self.own_thing(eyes, |name| name == "box" || name == "hut")?;
        let Some(store) = self.stores.remove(&object) else {
            let goal = self.goals.last_mut().ok_or(Step::Failed)?;
            goal.tries += 1;
            return if goal.tries > 2 { Err(Step::Failed) } else { Ok(Step::Act(Act::Look { object })) };
        };
        let Some((item, count)) = store.stacks.first() else { return Ok(Step::Done) };
        let stacks = vec![(item.clone(), count.div_ceil(2))];
        Ok(Step::Act(Act::Take { object, wares: Wares { stacks, uniques: Vec::new() } }))
    }

    fn hunt(&mut self, eyes: &Eyes<'_>, item: Option<String>, target: Option<u64>) -> Result<Step, Step> {
        if self.health < super::mind::WEAK {
            return Err(if self.food().is_some() { Step::First(What::Eat) } else { Step::Failed });
        }
        let content = self.commons.content.clone();
        let wanted = |seen: &super::eyes::Seen<'_>| {
            let species = content.species.get(&seen.view.name);
            let good = species.is_some_and(|it| {
                it.toughness <= TOO_TOUGH && item.as_ref().is_none_or(|item| it.loot.contains_key(item))
            });
            good && seen.view.health > 0 && seen.view.pose != pose::DEFEATED
        };
        let kept = target.and_then(|id| eyes.one(id)).filter(wanted);
        let Some(prey) = kept.or_else(|| eyes.nearest(kind::ANIMAL, wanted)) else {
            return Err(Step::First(self.wander()));
        };
        if let Some(goal) = self.goals.last_mut() {
            goal.what = What::Hunt { item, target: Some(prey.id) };
        }
        self.near(eyes, prey.place, REACH)?;
        Ok(Step::Act(Act::Attack { target: prey.id }))
    }

    fn gift(&mut self, player: u64) -> Step {
        let some: Vec<(String, u64)> =
            self.account.stacks().filter(|(_, count)| *count > 1).map(|(item, _)| (item.clone(), 1)).collect();
        if some.is_empty() {
            return Step::Failed;
        }
        let one = some[self.below(some.len() as u32) as usize].clone();
        Step::Act(Act::Gift { player, wares: Wares { stacks: vec![one], uniques: Vec::new() } })
    }

    fn sail(&mut self, eyes: &Eyes<'_>, to: u32) -> Result<Step, Step> {
        let island = self.commons.island(eyes.island).ok_or(Step::Failed)?;
        let nearest = island.harbours.iter().map(|it| (it.x, it.y)).min_by_key(|place| eyes.away(*place));
        // Far ones are left to those who begin nearer.
        let harbour = nearest.filter(|place| eyes.away(*place) < 16 * NEAR).ok_or(Step::Failed)?;
        self.near(eyes, harbour, REACH)?;
        Ok(Step::Act(Act::Sail { island: to }))
    }

    fn saying(&mut self) -> String {
        const SAYINGS: [&str; 6] = [
            "Hello!",
            "Has anybody seen flint?",
            "Mind the wolves.",
            "My hearth is lit.",
            "Who trades wood?",
            "Fine day.",
        ];
        SAYINGS[self.below(SAYINGS.len() as u32) as usize].to_owned()
    }
}
