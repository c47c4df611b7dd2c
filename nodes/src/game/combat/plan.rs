//! The planner of exchanges: a blow and the reaction to it, decided as a whole.
//!
//! Everything is integer arithmetic over two members and a [`Chance`]. It changes nothing: the room carries out what is
//! planned.

use super::{Member, blow, reaction};
use crate::game::content::Tuning;

/// What a blow takes more or less than usual, in percent.
const SPREAD: u64 = 20;
/// A heavy blow takes so many times as much, and keeps so many times as long from the next.
const HEAVY: u64 = 2;
/// What a guard leaves of a blow, and of a heavy one, in percent.
const GUARDED: u64 = 25;
const GUARDED_HEAVY: u64 = 50;
/// How often somebody who has the breath for it dodges, and how much more often a heavy blow, in percent.
const DODGE: u64 = 10;
const DODGE_HEAVY: u64 = 15;
/// How often somebody who was struck strikes back, in percent, and with what part of its harm.
const BACK: u64 = 15;
const BACK_PART: u64 = 50;
/// How often a first flight succeeds, and how much more often each further one, in percent.
const FLIGHT: u64 = 30;
const FLIGHT_MORE: u64 = 20;
/// What it costs of stamina.
const TIRES: [u8; 4] = [12, 8, 30, 10];
/// What a dodge or striking back needs of stamina.
const BREATH: u8 = 25;
/// How long one part of 100 of stamina takes to come back, in milliseconds.
const RECOVERS_MS: u64 = 125;
/// What a blow takes without any stamina, in percent of what it would with all.
const EXHAUSTED: u64 = 50;

/// Chance that is the same wherever it is drawn: SplitMix64 (Steele, Lea and Flood, 2014) over what it was made of.
#[derive(Clone, Copy, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The chance of one exchange of one battle.
    pub fn of(battle: u64, exchange: u64) -> Chance {
        Chance(battle).and(exchange)
    }

    /// Another chance, that differs by a number.
    #[must_use]
    pub fn and(self, number: u64) -> Chance {
        let mut next = Chance(self.0 ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Chance(next.draw())
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is above 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }

    /// True in so many of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What will happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Planned {
    /// What the target loses; never more than it has.
    pub(super) harm: u8,
    /// One of [`reaction`].
    pub(super) reaction: u8,
    /// What the actor loses; it NEVER falls by it.
    pub(super) back: u8,
}

/// How long after a blow the next may follow, in milliseconds.
pub(super) fn pause_ms(tuning: &Tuning, blow: u8) -> u64 {
    if blow == blow::HEAVY { tuning.blow_ms * HEAVY } else { tuning.blow_ms }
}

/// What a blow costs of stamina.
pub(super) fn tires(blow: u8) -> u8 {
    TIRES.get(usize::from(blow)).copied().unwrap_or_default()
}

/// Somebody's stamina now, 0 to 100.
pub(super) fn stamina(member: &Member, now: u64) -> u8 {
    let missing = member.rested_ms.saturating_sub(now).div_ceil(RECOVERS_MS);
    100_u64.saturating_sub(missing) as u8
}

/// When somebody whom something costs so much stamina will have all of it again.
pub(super) fn rested_ms(member: &Member, tires: u8, now: u64) -> u64 {
    let rested = member.rested_ms.max(now) + u64::from(tires) * RECOVERS_MS;
    rested.min(now + 100 * RECOVERS_MS)
}

/// Plans an exchange. For a guard or a flight the target is the actor.
pub(super) fn plan(mut chance: Chance, blow: u8, actor: &Member, target: &Member, now: u64) -> Planned {
    match blow {
        blow::GUARD => Planned { reaction: reaction::GUARDS, ..Planned::default() },
        blow::FLEE => {
            let away = chance.percent(FLIGHT + FLIGHT_MORE * u64::from(actor.tries));
            let reaction = if away { reaction::GETS_AWAY } else { reaction::HELD };
            Planned { reaction, ..Planned::default() }
        }
        _ => strike(&mut chance, blow == blow::HEAVY, actor, target, now),
    }
}

fn strike(chance: &mut Chance, heavy: bool, actor: &Member, target: &Member, now: u64) -> Planned {
    let spread = 100 - SPREAD + chance.below(2 * SPREAD + 1);
    let breath = stamina(target, now) >= BREATH;
    let vigour = EXHAUSTED + (100 - EXHAUSTED) * u64::from(stamina(actor, now)) / 100;
    let guards = target.guards(now);
    let dodge = if heavy { DODGE + DODGE_HEAVY } else { DODGE };
    if !guards && breath && chance.percent(dodge) {
        return Planned { reaction: reaction::DODGES, ..Planned::default() };
    }
    let times = if heavy { HEAVY } else { 1 };
    let left = match (guards, heavy) {
        (false, _) => 100,
        (true, false) => GUARDED,
        (true, true) => GUARDED_HEAVY,
    };
    let harm = harm_of(actor, target, &[spread, vigour, left, times * 100]);
    let health = target.fighter.health;
    if harm >= health {
        return Planned { harm: health, reaction: reaction::FALLS, ..Planned::default() };
    }
    if guards {
        return Planned { harm, reaction: reaction::GUARDS, ..Planned::default() };
    }
    // It is not struck down by a reaction: who attacks falls only by what others begin.
    let back = harm_of(target, actor, &[BACK_PART]).min(actor.fighter.health.saturating_sub(1));
    if breath && back > 0 && chance.percent(BACK) {
        return Planned { harm, reaction: reaction::STRIKES_BACK, back };
    }
    Planned { harm, reaction: reaction::STRUCK, ..Planned::default() }
}

/// What a blow of one takes of the other, in percent of the other's health: at least 1, unless the blow takes nothing at
/// all. Each of `parts` is a percentage of what would be left.
fn harm_of(actor: &Member, target: &Member, parts: &[u64]) -> u8 {
    let harm = u64::from(actor.fighter.harm);
    if harm == 0 {
        return 0;
    }
    let whole = u64::from(target.fighter.toughness.max(1));
    // In millionths first, so that small parts are not lost one by one.
    let fine = parts.iter().fold(harm * 1_000_000, |fine, part| fine * part / 100);
    let lost = fine * 100 / whole / 1_000_000;
    // At most 100.
    lost.clamp(1, 100) as u8
}
