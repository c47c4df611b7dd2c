//! Combat: what happens in a battle, as a pure state machine.
//!
//! A [`Room`] is one battle: its members, what they may do and when, and its exchanges, each planned as a whole ([`plan`]).
//! Whoever runs it hands in events and the time ([`Room::step`]) and carries out what comes of them; the room itself says
//! what is still owed for it ([`Room::debts`]): members to be given back, spoils to be paid. It NEVER reads a clock, draws
//! from the system's randomness or touches a socket: chance comes from the battle's number and the exchange's, so that the
//! same battle goes on the same wherever it is run. Health is NEVER below 0 or above 100, exchanges are numbered without
//! gaps, and who has fallen or left NEVER acts again.
//!
//! A member whose owner is gone is *absent*: it neither acts nor is struck, and leaves after [`GRACE_MS`]; whoever has taken it
//! over joins again, and it goes on with its wounds. A room that is taken up from its document catches up with what was shown
//! of it since ([`Room::catch_up`]), so that no wound that somebody has seen is undone.

mod member;
mod words;

mod catching_up;
mod mind;
mod plan;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use cartographer::geometry::{IslandId, ObjectId, Place};
use serde::{Deserialize, Serialize};

use super::battle::{Battle, Exchange, SHOWN};
use super::content::{Content, Tuning};
use crate::methods::living::{Fighter, Freed};

pub use member::Member;
pub use plan::Chance;
pub use words::{Debt, Effect, Event, Refused, Spoil};

/// Members of one battle, at most, counting those who are still to be given back.
pub const MEMBERS: usize = 32;

/// Exchanges of one battle in one tick, at most; others wait for the next one. Half of what a view shows, so that one lost
/// frame hides none.
pub const EXCHANGES_A_TICK: usize = SHOWN / 2;

/// How long a guard lasts, in milliseconds.
pub const GUARD_MS: u64 = 3_000;

/// A battle in which nobody commands or strikes for this long ends, in milliseconds.
pub const IDLE_MS: u64 = 120_000;

/// How long a member whose owner is gone stays in the battle, in milliseconds: its player may come back elsewhere.
pub const GRACE_MS: u64 = 20_000;

/// How long the last exchange is shown after the battle's end, in milliseconds.
pub const LINGER_MS: u64 = 1_500;

const _: () = assert!(EXCHANGES_A_TICK > 0 && EXCHANGES_A_TICK <= SHOWN);
const _: () = assert!(GRACE_MS < IDLE_MS);

/// What a fighter does, as it goes over the wire.
pub mod blow {
    /// A blow.
    pub const STRIKE: u8 = 0;
    /// A guard is taken up.
    pub const GUARD: u8 = 1;
    /// A heavy blow: twice as strong, and twice as long until the next.
    pub const HEAVY: u8 = 2;
    /// Flight.
    pub const FLEE: u8 = 3;
}

/// How the other reacts, as it goes over the wire.
pub mod reaction {
    /// Is struck.
    pub const STRUCK: u8 = 0;
    /// Guards.
    pub const GUARDS: u8 = 1;
    /// Dodges.
    pub const DODGES: u8 = 2;
    /// Is struck, and strikes back.
    pub const STRIKES_BACK: u8 = 3;
    /// Falls.
    pub const FALLS: u8 = 4;
    /// Of a flight: gets away.
    pub const GETS_AWAY: u8 = 5;
    /// Of a flight: is held.
    pub const HELD: u8 = 6;
}

/// A command that was accepted and waits for its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Command {
    actor: ObjectId,
    blow: u8,
    target: ObjectId,
    cause: u64,
}

/// One battle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its number.
    pub number: u64,
    /// Where it is fought.
    pub island: IslandId,
    /// Where it is fought.
    pub place: Place,
    members: Vec<Member>,
    /// The number of the last exchange.
    exchanges: u64,
    /// The last ones, oldest first.
    shown: VecDeque<Shown>,
    spoils: Vec<Spoil>,
    /// When somebody last commanded or struck.
    stirred_ms: u64,
    over: bool,
    /// Accepted commands: their players have been told so, and they are carried out wherever the battle goes on.
    #[serde(default)]
    waiting: VecDeque<Command>,
    /// Exchanges since the last tick.
    #[serde(skip)]
    this_tick: usize,
}

/// An exchange as it is kept: the fields of [`Exchange`] in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shown(u64, u64, u8, u64, u8, u8, u8, u64);

impl From<Exchange> for Shown {
    fn from(e: Exchange) -> Shown {
        Shown(e.number, e.actor, e.blow, e.target, e.harm, e.reaction, e.back, e.cause)
    }
}

impl From<Shown> for Exchange {
    fn from(Shown(number, actor, blow, target, harm, reaction, back, cause): Shown) -> Exchange {
        Exchange { number, actor, blow, target, harm, reaction, back, cause }
    }
}

impl Room {
    /// A battle that begins between two, each with the life of the node that owns it.
    ///
    /// Refused if they are of one side, or one of them has no health.
    pub fn open(
        number: u64,
        (island, place): (IslandId, Place),
        opener: (Fighter, u64),
        target: (Fighter, u64),
        now: u64,
    ) -> Result<Room, Refused> {
        let two = [&opener.0, &target.0];
        if opener.0.side == target.0.side || two.iter().any(|fighter| fighter.side > 1) {
            return Err(Refused::Forbidden);
        }
        if two.iter().any(|fighter| fighter.health == 0) {
            return Err(Refused::Defeated);
        }
        let members = [opener, target].map(|(fighter, life)| Member::new(fighter, life, now)).into();
        Ok(Room {
            number,
            island,
            place,
            members,
            exchanges: 0,
            shown: VecDeque::new(),
            spoils: Vec::new(),
            stirred_ms: now,
            over: false,
            waiting: VecDeque::new(),
            this_tick: 0,
        })
    }

    /// The members, in the order in which they came, those who only wait to be given back included.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The number of the last exchange; 0 before the first.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// True once nobody has an opponent any more.
    pub fn over(&self) -> bool {
        self.over
    }

    /// True once nothing is owed any more and the last exchange has been shown: the room may go.
    pub fn done(&self, now: u64) -> bool {
        self.over && self.members.is_empty() && self.spoils.is_empty() && now >= self.stirred_ms + LINGER_MS
    }

    /// What others see.
    pub fn view(&self) -> Battle {
        // Who fell is shown with no health until it is given back; who left is not shown.
        let shown = self.members.iter().filter(|m| matches!(m.end, None | Some(Freed::Defeated | Freed::Won)));
        let members = shown.map(|m| (m.id().0, m.fighter.side, m.fighter.health)).collect();
        Battle { members, exchanges: self.shown.iter().map(|shown| (*shown).into()).collect() }
    }

    /// What is owed: spoils first. A fallen animal is owed to its owner only when its spoils are paid.
    pub fn debts(&self) -> Vec<Debt> {
        let spoils = self.spoils.iter().map(|spoil| Debt::Spoil { animal: spoil.animal, player: spoil.player });
        let ended = self.members.iter().filter(|member| !member.stands()).map(Member::id);
        let free = ended.filter(|id| self.spoils.iter().all(|spoil| spoil.animal != *id));
        spoils.chain(free.map(Debt::Member)).collect()
    }

    /// A spoil that is owed.
    pub fn spoil(&self, animal: ObjectId, player: ObjectId) -> Option<&Spoil> {
        self.spoils.iter().find(|spoil| (spoil.animal, spoil.player) == (animal, player))
    }

    /// A member.
    pub fn member(&self, id: ObjectId) -> Option<&Member> {
        self.members.iter().find(|member| member.id() == id)
    }

    /// Lets something happen. A refusal changes nothing.
    pub fn step(&mut self, content: &Content, now: u64, event: Event) -> Result<Vec<Effect>, Refused> {
        let mut effects = Vec::new();
        match event {
            Event::Join(fighter, life) => self.join(fighter, life, now, &mut effects)?,
            Event::Leave(object) => {
                if let Some(member) = self.standing(object) {
                    member.end = Some(Freed::Left);
                }
            }
            Event::Act { actor, blow, target, cause } => {
                self.accept(&content.tuning, now, Command { actor, blow, target, cause })?;
                self.carry_out(content, now, &mut effects);
            }
            Event::Tick => {
                self.this_tick = 0;
                self.carry_out(content, now, &mut effects);
                self.animals(content, now, &mut effects);
                self.patience(now);
            }
            Event::Living(lives) => {
                for member in &mut self.members {
                    let here = lives.iter().any(|(node, life)| *node == member.fighter.node && *life == member.life);
                    member.away_ms = if here { None } else { member.away_ms.or(Some(now)) };
                }
            }
            Event::Settled(Debt::Spoil { animal, player }) => {
                self.spoils.retain(|spoil| (spoil.animal, spoil.player) != (animal, player));
            }
            Event::Settled(Debt::Member(object)) => {
                self.members.retain(|member| member.id() != object || member.stands());
            }
        }
        self.judge();
        Ok(effects)
    }

    /// The room as it is to be saved: times become what is left of them.
    pub fn at_rest(&self, now: u64) -> Room {
        let mut room = self.clone();
        room.shift(|time| time.saturating_sub(now));
        room.this_tick = 0;
        room
    }

    /// A room that was [`Room::at_rest`] goes on at `now`, with the wounds that everybody had.
    pub fn awake(mut self, now: u64) -> Room {
        self.shift(|time| time.saturating_add(now));
        self.stirred_ms = now;
        if planted::is("battle_resumed_unhurt") {
            self.members.iter_mut().for_each(|member| member.fighter.health = 100);
        }
        self
    }

    fn shift(&mut self, time: impl Fn(u64) -> u64) {
        self.stirred_ms = time(self.stirred_ms);
        for member in &mut self.members {
            for at in [&mut member.rested_ms, &mut member.guard_ms, &mut member.ready_ms] {
                *at = time(*at);
            }
            member.away_ms = member.away_ms.map(&time);
        }
    }

    fn join(&mut self, fighter: Fighter, life: u64, now: u64, effects: &mut Vec<Effect>) -> Result<(), Refused> {
        if let Some(member) = self.members.iter_mut().find(|member| member.id() == fighter.object) {
            if !member.stands() && (&member.fighter.node, member.life) == (&fighter.node, life) {
                return Err(if self.over { Refused::Missing } else { Refused::Busy });
            }
            // It comes back, from wherever its owner is now, with the wounds that it has here. Who has fallen or left
            // meanwhile is given back to its new owner.
            let health = member.fighter.health;
            (member.fighter.node, member.life, member.away_ms) = (fighter.node, life, None);
            effects.push(Effect::Told { node: member.fighter.node.clone(), object: fighter.object, health });
            return Ok(());
        }
        if self.over {
            return Err(Refused::Missing);
        }
        if fighter.health == 0 {
            return Err(Refused::Defeated);
        }
        if fighter.side > 1 {
            return Err(Refused::Forbidden);
        }
        if self.members.len() >= MEMBERS {
            return Err(Refused::Full);
        }
        self.members.push(Member::new(fighter, life, now));
        self.stirred_ms = now;
        Ok(())
    }

    fn standing(&mut self, id: ObjectId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id() == id && member.stands())
    }

    /// Takes a command, if it may be given now.
    fn accept(&mut self, tuning: &Tuning, now: u64, mut command: Command) -> Result<(), Refused> {
        let actor = self.members.iter().find(|m| m.id() == command.actor && m.stands()).ok_or(Refused::Missing)?;
        if command.cause != 0 && command.cause == actor.cause {
            // It was accepted before, and its answer was lost.
            return Ok(());
        }
        if !actor.is_present() {
            return Err(Refused::Away);
        }
        match command.blow {
            blow::STRIKE | blow::HEAVY => {
                let target = self.members.iter().find(|m| m.id() == command.target && m.stands());
                let target = target.ok_or(Refused::Missing)?;
                if target.fighter.side == actor.fighter.side {
                    return Err(Refused::Forbidden);
                }
                if !target.is_present() {
                    return Err(Refused::Away);
                }
            }
            blow::GUARD | blow::FLEE => command.target = command.actor,
            _ => return Err(Refused::Forbidden),
        }
        if actor.ready_ms > now {
            return Err(Refused::TooSoon);
        }
        let pause = plan::pause_ms(tuning, command.blow);
        if let Some(actor) = self.standing(command.actor) {
            (actor.ready_ms, actor.cause) = (now + pause, command.cause);
        }
        // At most one for each member: who has one waiting is not ready again before the next tick.
        self.waiting.retain(|waiting| waiting.actor != command.actor);
        self.waiting.push_back(command);
        self.stirred_ms = now;
        Ok(())
    }

    /// Carries out commands that wait, as many as the tick has room for. One whose actor or target has fallen meanwhile, or
    /// is absent, comes to nothing, and its actor may act again at once.
    fn carry_out(&mut self, content: &Content, now: u64, effects: &mut Vec<Effect>) {
        while self.this_tick < EXCHANGES_A_TICK
            && let Some(command) = self.waiting.pop_front()
        {
            let is_present = |id: ObjectId| self.member(id).is_some_and(Member::is_present);
            if is_present(command.actor) && is_present(command.target) {
                self.exchange(content, now, command, effects);
                self.judge();
            } else if let Some(actor) = self.standing(command.actor) {
                actor.ready_ms = now;
            }
        }
    }

    /// One exchange: planned as a whole, then carried out on both.
    fn exchange(&mut self, content: &Content, now: u64, command: Command, effects: &mut Vec<Effect>) {
        let number = self.exchanges + 1;
        let chance = Chance::of(self.number, number);
        let (Some(actor), Some(target)) = (self.member(command.actor), self.member(command.target)) else { return };
        let plan::Planned { harm, reaction, back } = plan::plan(chance, command.blow, actor, target, now);
        self.this_tick += 1;
        self.stirred_ms = now;
        let Command { actor, blow, target, cause } = command;
        let exchange = Exchange { number, actor: actor.0, blow, target: target.0, harm, reaction, back, cause };
        self.land(content, now, exchange);
        for (object, changed) in [(target, harm > 0), (actor, back > 0)] {
            if changed && let Some(member) = self.member(object) {
                let (node, health) = (member.fighter.node.clone(), member.fighter.health);
                effects.push(Effect::Told { node, object, health });
            }
        }
        effects.push(Effect::Exchange(exchange));
    }

    /// Carries out an exchange on both, and shows it.
    fn land(&mut self, content: &Content, now: u64, exchange: Exchange) {
        let Exchange { number, blow, harm, reaction, back, .. } = exchange;
        let (actor, target) = (ObjectId(exchange.actor), ObjectId(exchange.target));
        self.exchanges = number;
        if let Some(member) = self.standing(actor) {
            member.rested_ms = plan::rested_ms(member, plan::tires(blow), now);
            member.fighter.health = member.fighter.health.saturating_sub(back);
            match (blow, reaction) {
                (blow::GUARD, _) => member.guard_ms = now + GUARD_MS,
                (blow::FLEE, reaction::GETS_AWAY) => member.end = Some(Freed::Left),
                (blow::FLEE, _) => member.tries = member.tries.saturating_add(1),
                // Who strikes gives up its guard.
                _ => member.guard_ms = 0,
            }
        }
        let strikes = matches!(blow, blow::STRIKE | blow::HEAVY);
        if strikes && let Some(member) = self.standing(target) {
            member.fighter.health = member.fighter.health.saturating_sub(harm);
            member.struck_by = Some(actor);
            if !member.strikers.contains(&actor) {
                member.strikers.push(actor);
            }
            if member.fighter.health == 0 {
                member.end = Some(Freed::Defeated);
            }
        }
        if back > 0
            && let Some(member) = self.standing(actor)
        {
            member.struck_by = Some(target);
            if !member.strikers.contains(&target) {
                member.strikers.push(target);
            }
        }
        if reaction == reaction::FALLS {
            self.share(content, target);
        }
        self.shown.push_back(exchange.into());
        while self.shown.len() > SHOWN {
            self.shown.pop_front();
        }
    }

    /// An animal has fallen: what it yields is shared among the players who struck it and still stand. Each item is
    /// dealt out one by one, beginning with the one who struck last; everybody learns all that there is to learn.
    fn share(&mut self, content: &Content, animal: ObjectId) {
        let Some(fallen) = self.member(animal).filter(|member| member.fighter.side == 1) else { return };
        let Some(species) = content.species.get(&fallen.fighter.name) else { return };
        let mut winners: Vec<&Member> = fallen
            .strikers
            .iter()
            .filter_map(|id| self.member(*id))
            .filter(|m| m.stands() && m.fighter.side == 0)
            .collect();
        let last = fallen.struck_by;
        winners.sort_by_key(|member| Some(member.id()) != last);
        let count = winners.len() as u64;
        let spoils: Vec<Spoil> = (0..)
            .zip(winners)
            .map(|(turn, winner)| {
                let dealt = |total: u64| total / count + u64::from(turn < total % count);
                let goods = species.loot.iter().map(|(item, total)| (item.clone(), dealt(*total)));
                let (player, node) = (winner.id(), winner.fighter.node.clone());
                let goods = goods.filter(|(_, share)| *share > 0).collect();
                Spoil { animal, player, node, goods, experience: species.experience }
            })
            .collect();
        // Whoever neither gets nor learns anything is owed nothing.
        self.spoils.extend(spoils.into_iter().filter(|spoil| !spoil.goods.is_empty() || spoil.experience > 0));
    }

    /// Every animal that may act does, within what the tick has room for.
    fn animals(&mut self, content: &Content, now: u64, effects: &mut Vec<Effect>) {
        let able = |m: &&Member| m.is_present() && m.fighter.side == 1 && m.ready_ms <= now;
        let able: Vec<ObjectId> = self.members.iter().filter(able).map(Member::id).collect();
        for id in able {
            if self.this_tick >= EXCHANGES_A_TICK || self.over {
                return;
            }
            let chance = Chance::of(self.number, self.exchanges + 1).and(id.0);
            let Some(me) = self.member(id).filter(|me| me.is_present()) else { continue };
            let Some((blow, target)) = mind::choose(chance, me, &self.members, now) else { continue };
            let command = Command { actor: id, blow, target, cause: 0 };
            // Nothing that a mind chooses is refused; if it were, the animal would lose its turn.
            if self.accept(&content.tuning, now, command).is_ok() {
                if let Some(me) = self.standing(id) {
                    me.ready_ms += mind::hesitation_ms(&content.tuning, chance);
                }
                self.carry_out(content, now, effects);
            }
        }
    }

    /// Members whose owners stay away leave, and a battle in which nothing happens ends.
    fn patience(&mut self, now: u64) {
        let idle = now >= self.stirred_ms + IDLE_MS;
        for member in self.members.iter_mut().filter(|member| member.stands()) {
            let lost = member.away_ms.is_some_and(|since| now >= since + GRACE_MS);
            if idle || lost {
                member.end = Some(Freed::Left);
            }
        }
    }

    /// Who has no opponent any more has won, and the battle is over.
    fn judge(&mut self) {
        let side = |side: u8| self.members.iter().any(|m| m.stands() && m.fighter.side == side);
        if self.over || (side(0) && side(1)) {
            return;
        }
        self.over = true;
        self.waiting.clear();
        for member in self.members.iter_mut().filter(|member| member.stands()) {
            member.end = Some(Freed::Won);
        }
    }
}
