//! What players hear and learn: words, notes, their bag, their trades and their party.
//!
//! A word goes to the own players who hear it, encoded once. After a change of a trade or party whoever has part in it is shown it as it is then:
//! one look at a time for each, and another if it changed meanwhile, so that an older state is NEVER shown last.

use cartographer::geometry::{Cell, ObjectId, Place};

use super::{FrontInput, Looked, Players};
use crate::frontend::acts::{NEAR, PARTY, SeenParty, look_at_party, look_at_trade, wares_of};
use crate::frontend::shard::Order;
use crate::frontend::wire::Wire;
use crate::game::GameWorld;
use crate::methods::living::{Changed, ChangedWhat, Note, Saying};
use crate::protocol::{ServerMessage, TradeState};
use crate::world_loop::Input;

/// Units in a tile.
const UNITS: i32 = 256;

/// In place of a trade's number: the player's party. No trade has it.
pub(super) const OWN_PARTY: u64 = 0;

/// Open trades of one player that are kept in mind, at most; more expire by themselves.
const TRADES: usize = 64;

impl Players {
    /// Tells own players who hear it what somebody says.
    pub(in crate::frontend) fn hear(&mut self, world: &GameWorld, now: u64, saying: &Saying) {
        let carries = i32::from(self.shared.content.tuning.voice_tiles) * UNITS;
        let hearers: Vec<ObjectId> = match saying.channel {
            NEAR => near(saying, carries)
                .flat_map(|cell| world.reals_in(cell))
                .filter(|real| i64::from(real.place(now).reach(saying.place)) <= i64::from(carries))
                .map(cartographer::world::Real::id)
                .collect(),
            PARTY => self.parties.get(&saying.party).into_iter().flatten().copied().collect(),
            _ => {
                let there = self.players.iter().filter(|(_, player)| player.island == saying.island);
                there.map(|(id, _)| *id).collect()
            }
        };
        let message = ServerMessage::Chat {
            channel: saying.channel,
            player: saying.player.0,
            name: saying.name.clone(),
            text: saying.text.clone(),
        };
        let wire = Wire::new(message.encode());
        for client in hearers.iter().filter_map(|id| self.players.get(id)?.client) {
            self.shards.order(client, Order::Say(wire.clone()));
        }
    }

    /// Tells own players something.
    pub(super) fn noted(&mut self, note: &Note) {
        let Note { players, code, text, number } = note;
        let message = ServerMessage::Note { code: code.clone(), text: text.clone(), number: *number };
        let wire = Wire::new(message.encode());
        for client in players.iter().filter_map(|id| self.players.get(id)?.client) {
            self.shards.order(client, Order::Say(wire.clone()));
        }
    }

    /// Something has changed that concerns own players.
    pub(super) fn changed(&mut self, changed: &Changed) {
        for id in &changed.players {
            let Some(player) = self.players.get(id) else { continue };
            match changed.what {
                ChangedWhat::Promise => player.keeper.visit(),
                ChangedWhat::Trade(number) => self.look_at(*id, number),
                ChangedWhat::Party => self.look_at(*id, OWN_PARTY),
            }
        }
    }

    /// Looks at a trade, or at the party (0), for a player, unless that is being done: then once more after it.
    pub(super) fn look_at(&mut self, id: ObjectId, number: u64) {
        if let Some(again) = self.looking.get_mut(&(id, number)) {
            *again = true;
            return;
        }
        let Some(inputs) = self.inputs.upgrade() else { return };
        self.looking.insert((id, number), false);
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            let looked = match number {
                OWN_PARTY => Looked::Party(look_at_party(&shared, id).await),
                trade => Looked::Trade(trade, look_at_trade(&shared, trade, id).await),
            };
            // An error means that the world has ended.
            let _ = inputs.send(Input::Role(FrontInput::Looked(id, looked))).await;
        });
    }

    /// A trade or the party was looked at for a player.
    pub(super) fn looked(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, looked: Looked) {
        let number = match &looked {
            Looked::Trade(number, _) => *number,
            Looked::Party(_) => OWN_PARTY,
        };
        let again = self.looking.remove(&(id, number)).unwrap_or(false);
        match looked {
            Looked::Trade(_, Some(trade)) => self.show_trade(id, trade),
            Looked::Party(Some(seen)) => self.show_party(world, now, id, seen),
            // It is looked at again when it changes, or the player comes in.
            Looked::Trade(_, None) | Looked::Party(None) => {}
        }
        if again && self.players.contains_key(&id) {
            self.look_at(id, number);
        }
    }

    fn show_trade(&mut self, id: ObjectId, trade: TradeState) {
        let Some(player) = self.players.get_mut(&id) else { return };
        if trade.state != 0 {
            player.trades.remove(&trade.trade);
        } else if player.trades.len() < TRADES {
            player.trades.insert(trade.trade);
        }
        if let Some(client) = player.client {
            self.say(client, &ServerMessage::Trade(trade));
        }
    }

    fn show_party(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, seen: SeenParty) {
        if !self.players.contains_key(&id) {
            return;
        }
        self.quit_party(id);
        let SeenParty { party, leader, members } = seen;
        if party != 0 {
            self.parties.entry(party).or_default().insert(id);
        }
        self.change_body(world, now, id, |body| body.party = party);
        let Some(player) = self.players.get_mut(&id) else { return };
        // Who was in none and is in none need not hear that.
        let news = party != 0 || player.party != 0;
        player.party = party;
        if let Some(client) = player.client.filter(|_| news) {
            self.say(client, &ServerMessage::Party { party, leader, members });
        }
    }

    /// A player is not heard in its party any more.
    pub(super) fn quit_party(&mut self, id: ObjectId) {
        let Some(player) = self.players.get(&id) else { return };
        if let Some(members) = self.parties.get_mut(&player.party) {
            members.remove(&id);
            if members.is_empty() {
                self.parties.remove(&player.party);
            }
        }
    }

    /// Tells players their bags, each once however often they have changed since the last tick.
    pub(super) fn show_bags(&mut self, world: &GameWorld) {
        for id in std::mem::take(&mut self.bags_due) {
            let Some(player) = self.players.get(&id) else { continue };
            let Some(client) = player.client else { continue };
            let carried = player.keeper.carried();
            let (wares, experience) = (wares_of(&carried.bag), carried.experience);
            let health = self.health_of(world, id);
            self.say(client, &ServerMessage::Bag { wares, experience, health });
        }
    }
}

/// The cells in which a voice may be heard.
fn near(saying: &Saying, carries: i32) -> impl Iterator<Item = Cell> {
    let island = saying.island;
    let corner = |by: i32| {
        let at = saying.place.offset(by, by);
        Place::new(at.x.max(0), at.y.max(0)).cell(island)
    };
    let (first, last) = corner(-carries).zip(corner(carries).or_else(|| corner(0))).unwrap_or_default();
    (first.y..=last.y).flat_map(move |y| (first.x..=last.x).map(move |x| Cell::new(island, x, y)))
}
