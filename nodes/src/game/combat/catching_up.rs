//! Catching up: a room read from its document takes over what was shown of it after it was saved.
//!
//! What somebody has seen has happened. Exchanges that a view still shows are carried out as they were shown, without planning
//! them anew; where some in between are shown no longer, the health that members are shown with counts. Nothing that is older
//! than the room EVER changes it.

use cartographer::geometry::ObjectId;

use super::Room;
use crate::game::battle::{Battle, Exchange};
use crate::game::content::Content;
use crate::methods::living::Freed;

impl Room {
    /// Takes over what was last shown of this battle; how many exchanges that were.
    pub fn catch_up(&mut self, content: &Content, seen: &Battle, now: u64) -> u64 {
        let before = self.exchanges;
        let fresh: Vec<Exchange> = seen.exchanges.iter().filter(|it| it.number > before).copied().collect();
        let Some(last) = fresh.last().map(|exchange| exchange.number) else { return 0 };
        for exchange in fresh {
            let actor = ObjectId(exchange.actor);
            self.waiting.retain(|command| (command.actor, command.cause) != (actor, exchange.cause));
            if let Some(member) = self.standing(actor).filter(|_| exchange.cause != 0) {
                member.cause = exchange.cause;
            }
            self.land(content, now, exchange);
        }
        for &(id, _, health) in &seen.members {
            let Some(member) = self.standing(ObjectId(id)) else { continue };
            member.fighter.health = health.min(100);
            if health == 0 {
                // It fell by a blow that is shown no longer.
                member.end = Some(Freed::Defeated);
                self.share(content, ObjectId(id));
            }
        }
        self.judge();
        last - before
    }
}
