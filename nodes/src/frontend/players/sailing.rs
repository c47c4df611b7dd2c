//! What comes to players by their islands: warnings, the way home from an island that sinks, and leaving for another district.
//!
//! Looked at once a second, from what the archipelago says at that moment: nobody is forgotten because a message was lost.
//! A player is NEVER brought to an island that sinks.

use cartographer::geometry::ObjectId;
use tokio::sync::oneshot;

use super::show::farewell;
use super::{FrontInput, Players};
use crate::frontend::wire::Wire;
use crate::game::GameWorld;
use crate::islands::Chart;
use crate::islands::record::IslandState;
use crate::protocol::{ServerMessage, codes};
use crate::world_loop::Input;

/// When those on an island that sinks are told again, in seconds before it does.
const REMINDERS_S: [u64; 3] = [60, 30, 10];

impl Players {
    /// Looks how it stands with the islands on which players are.
    pub(super) fn look_at_islands(&mut self, world: &mut GameWorld, now: u64) {
        if !self.lease_held {
            return;
        }
        let (chart, now_s) = (self.shared.islands.chart(), self.shared.calendar.now_s());
        let mut warned = Vec::new();
        let mut lost = Vec::new();
        for (id, player) in &self.players {
            let there = chart.get(player.island).is_some();
            match chart.record(player.island).filter(|_| there) {
                Some(record) if record.state == IslandState::Sinking => lost.push(*id),
                Some(record) if record.state == IslandState::Warned => {
                    let left_s = record.ends_s.saturating_sub(now_s);
                    let stage = REMINDERS_S.iter().filter(|at| left_s <= **at).count();
                    warned.push((*id, player.island, stage, left_s));
                }
                _ if !there => lost.push(*id),
                _ => {}
            }
        }
        // What two clients are told in one second comes in the same order in every run.
        warned.sort_unstable();
        lost.sort_unstable();
        self.warned.retain(|id, _| warned.binary_search_by_key(id, |it| it.0).is_ok());
        for (id, island, stage, left_s) in warned {
            if self.warned.insert(id, (island, stage)) != Some((island, stage)) {
                self.tell(id, "island_sinks", format!("this island sinks in {left_s} s"), left_s);
            }
        }
        for id in lost {
            self.bring_home(world, now, id, &chart);
        }
    }

    /// Brings a player to its home, or to another island that lasts.
    fn bring_home(&mut self, world: &mut GameWorld, now: u64, id: ObjectId, chart: &Chart) {
        let Some(home) = self.players.get(&id).map(|player| player.home) else { return };
        let lasting = self.shared.islands.lasting();
        let other = lasting.get((id.0 % lasting.len().max(1) as u64) as usize).map(|it| it.id());
        let Some(island) = Some(home).filter(|home| chart.takes_arrivals(*home)).or(other) else { return };
        let Some(place) = self.shared.arrival(island, self.shared.random()) else { return };
        self.travel(world, now, id, island, place);
        if self.players.get(&id).is_some_and(|player| player.island == island) {
            self.tell(id, "brought_home", "the island has sunk: this is home".to_owned(), u64::from(island.0));
        }
    }

    fn tell(&mut self, id: ObjectId, code: &str, text: String, number: u64) {
        if let Some(client) = self.players.get(&id).and_then(|player| player.client) {
            self.say(client, &ServerMessage::Note { code: code.to_owned(), text, number });
        }
    }

    /// A player leaves for a frontend of another district: saved and released, and then the redirect is the client's last
    /// message, so that nobody follows it while the player is still held here.
    ///
    /// Who got into a battle or was defeated while the passage was written stays, and the passage expires unused.
    pub(super) fn depart(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        id: ObjectId,
        (url, token): (String, String),
        done: oneshot::Sender<()>,
    ) {
        if self.fighting.contains_key(&id) || self.health_of(world, id) == 0 {
            return;
        }
        let Some(inputs) = self.inputs.upgrade() else { return };
        let client = self.players.get_mut(&id).and_then(|player| player.client.take());
        if let Some(client) = client {
            // What it says from here on is nobody's.
            self.clients.remove(&client);
        }
        let (release, released) = oneshot::channel();
        self.part(world, now, id, None, Some(release));
        self.shared.tasks.spawn(async move {
            let last = match released.await {
                Ok(()) => Wire::new(ServerMessage::Redirect { url, token }.encode()),
                // Whoever has taken the player over keeps it.
                Err(_) => farewell(codes::FENCED, "another node owns this player now"),
            };
            if let Some(client) = client {
                // An error means that the world has ended.
                let _ = inputs.send(Input::Role(FrontInput::Parted(client, last))).await;
            }
            // An error means that nobody waits any more.
            let _ = done.send(());
        });
    }
}
