//! What an animal does in a battle: whom it strikes, when it guards, when it flees.
//!
//! A function of the members and a [`Chance`]: the same battle makes the same choices wherever it is run.

use cartographer::geometry::ObjectId;

use super::plan::{self, Chance};
use super::{Member, blow};
use crate::game::content::Tuning;

/// Below this stamina an animal may take breath behind its guard.
const TIRED: u8 = 20;
/// Above this stamina it may strike heavily.
const FRESH: u8 = 70;
/// How often it does, in percent.
const HEAVY: u64 = 25;
const GUARD: u64 = 50;

/// What an animal does now, and to whom; `None` if nobody is there to be struck. Who is absent is not.
pub(super) fn choose(mut chance: Chance, me: &Member, members: &[Member], now: u64) -> Option<(u8, ObjectId)> {
    let foes = || members.iter().filter(|m| m.is_present() && m.fighter.side != me.fighter.side);
    // Whoever struck it last; else the weakest, and of equals the one who came first.
    let last = foes().find(|foe| Some(foe.id()) == me.struck_by);
    let target = last.or_else(|| foes().min_by_key(|foe| foe.fighter.health))?;
    let fear = me.fighter.fear.min(100);
    // It thinks of flight when it has lost more than its courage, and the more it fears the surer.
    if me.fighter.health < fear && chance.percent(u64::from(fear)) {
        return Some((blow::FLEE, me.id()));
    }
    let stamina = plan::stamina(me, now);
    if stamina < TIRED && !me.guards(now) && chance.percent(GUARD) {
        return Some((blow::GUARD, me.id()));
    }
    let heavy = stamina > FRESH && chance.percent(HEAVY);
    Some((if heavy { blow::HEAVY } else { blow::STRIKE }, target.id()))
}

/// How much longer than a player an animal waits after its blow, in milliseconds: animals do not keep time.
pub(super) fn hesitation_ms(tuning: &Tuning, chance: Chance) -> u64 {
    tuning.blow_ms / 4 + chance.and(1).below(tuning.blow_ms / 2 + 1)
}
