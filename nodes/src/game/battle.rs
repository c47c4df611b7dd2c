//! What a battle looks like from outside: who is in it, and its last exchanges, each blow with its reaction.
//!
//! A battle is an object that stands where it is fought. Each exchange changes its view, so that blow and reaction reach
//! every watcher in one packet, by the same frames as everything else.

use super::{View, kind};

/// Exchanges that a view still shows: those of the last ticks, so that one lost frame hides none.
pub const SHOWN: usize = 8;

/// A battle, as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Battle {
    /// Who is in it: object, side (0 players, 1 animals), health in percent.
    pub members: Vec<(u64, u8, u8)>,
    /// The last exchanges, oldest first; at most [`SHOWN`].
    pub exchanges: Vec<Exchange>,
}

/// A blow and the reaction to it, planned as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Counts the battle's exchanges from 1.
    pub number: u64,
    /// Who strikes.
    pub actor: u64,
    /// 0 a blow, 1 a guard taken up, 2 a heavy blow, 3 flight.
    pub blow: u8,
    /// Who is struck; the actor itself for a guard or a flight.
    pub target: u64,
    /// What the target loses, in percent of its health.
    pub harm: u8,
    /// How the target reacts: 0 is struck, 1 guards, 2 dodges, 3 strikes back, 4 falls, 5 gets away, 6 is held.
    pub reaction: u8,
    /// What the actor loses by the reaction.
    pub back: u8,
    /// The command that caused it, as its player numbered it; 0 for an animal's.
    pub cause: u64,
}

impl Battle {
    /// What others see: `detail` is `[[members], [exchange]…]` with members as `object, side, health` in turn, and an exchange
    /// as `[number, actor, blow, target, harm, reaction, back, cause]`.
    pub fn view(&self) -> View {
        let members = self.members.iter().flat_map(|&(id, side, health)| [id, side.into(), health.into()]);
        let mut detail = vec![members.collect()];
        detail.extend(self.exchanges.iter().map(|e| {
            let Exchange { number, actor, blow, target, harm, reaction, back, cause } = *e;
            vec![number, actor, blow.into(), target, harm.into(), reaction.into(), back.into(), cause]
        }));
        let last = self.exchanges.last().map_or(0, |e| e.number);
        View { kind: kind::BATTLE, name: String::new(), hue: 0, pose: 0, health: 100, tie: last, detail }
    }

    /// Reads a view's detail back; `None` if it is no battle's.
    pub fn of(detail: &[Vec<u64>]) -> Option<Battle> {
        let (members, exchanges) = detail.split_first()?;
        let byte = |number: u64| u8::try_from(number).ok();
        let members = members.chunks(3).map(|m| Some((*m.first()?, byte(*m.get(1)?)?, byte(*m.get(2)?)?)));
        let exchange = |e: &Vec<u64>| {
            let &[number, actor, blow, target, harm, reaction, back, cause] = e.as_slice() else { return None };
            let (blow, harm) = (byte(blow)?, byte(harm)?);
            Some(Exchange { number, actor, blow, target, harm, reaction: byte(reaction)?, back: byte(back)?, cause })
        };
        let exchanges = exchanges.iter().map(exchange).collect::<Option<_>>()?;
        Some(Battle { members: members.collect::<Option<_>>()?, exchanges })
    }
}
