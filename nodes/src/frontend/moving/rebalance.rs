//! Rebalancing: a frontend that is far busier than another gives it some of its players, a few at a time.
//!
//! How busy a frontend is counts as when one is chosen: how full it is and how tired its ticks are. It begins when the
//! difference has been large for several looks in a row and ends when it is small, each time with a quarter of what would make
//! both alike; and who has just come stays. So players NEVER go to and fro. The plan is a pure value ([`Balance`]).

use std::time::Duration;

use mesh::{NodeId, Role};
use tokio::time::sleep;

use super::{Move, Sessions, Stays};
use crate::choose;
use crate::load::Load;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The difference at which it begins, in parts of a full frontend.
const BEGIN: f64 = 0.25;

/// The difference at which it ends.
const END: f64 = 0.10;

/// For how many looks in a row the difference must be large before it begins.
const LOOKS: u32 = 3;

/// Players that go between two looks, at most.
const MOST: u32 = 16;

/// Players that go between two looks to where there are not fewer, because ticks are slow here.
const TIRED_MOST: u32 = 4;

/// Which part of the difference goes between two looks: loads are a second or two old.
const PART: u32 = 4;

/// The tick time that counts as a full frontend, in microseconds: a tick has 50 ms.
const TIRED_TICK_US: f64 = 40_000.0;

/// How long a player stays at least before it is moved again for this, in milliseconds.
const REST_MS: u64 = 60_000;

/// How busy a frontend is, in parts of what it can do.
fn busy(load: &Load) -> f64 {
    let full = f64::from(load.players) / f64::from(load.capacity.max(1));
    full + (f64::from(load.tick_p99_us) / TIRED_TICK_US).powi(2)
}

/// What is known of how it stands between this frontend and the others.
#[derive(Debug, Default)]
pub struct Balance {
    /// For how many looks in a row the difference was large.
    large: u32,
}

impl Balance {
    /// To whom how many players go now, if any do.
    pub fn plan<'a>(&mut self, own: &Load, others: &'a [(NodeId, Load)]) -> Option<(&'a (NodeId, Load), u32)> {
        let takes = |load: &Load| !load.draining && load.players < load.capacity;
        let candidates = others.iter().filter(|(_, load)| takes(load));
        let least = candidates.min_by(|(a, one), (b, two)| busy(one).total_cmp(&busy(two)).then_with(|| a.cmp(b)));
        let Some(least) = least else {
            self.large = 0;
            return None;
        };
        let difference = busy(own) - busy(&least.1);
        let goes_on = self.large >= LOOKS && difference > END;
        if !goes_on {
            self.large = if difference > BEGIN { self.large + 1 } else { 0 };
            if self.large < LOOKS {
                return None;
            }
        }
        // As many as would make both alike by their numbers, in parts.
        let fewer = own.players.saturating_sub(least.1.players) / 2 / PART;
        let room = least.1.capacity - least.1.players;
        let most = if fewer == 0 { (own.players / PART).min(TIRED_MOST) } else { fewer.min(MOST) };
        let count = most.min(room);
        (count > 0).then_some((least, count))
    }
}

/// Looks now and then, until the node is emptied or ends.
pub async fn run(sessions: Sessions) {
    let mut balance = Balance::default();
    loop {
        tokio::select! {
            biased;
            () = sessions.shared.draining.begun() => return,
            () = sleep(LOOK_EVERY) => {}
        }
        let shared = &sessions.shared;
        let peers = shared.mesh.peers();
        let load = |peer: &mesh::PeerInfo| Some((peer.record.node.clone(), Load::decode(&peer.load)?));
        let others: Vec<(NodeId, Load)> = peers.up(Role::Frontend).filter_map(load).collect();
        let own = sessions.world.report.borrow().load.clone();
        if let Some(((node, load), count)) = balance.plan(&own, &others) {
            tracing::info!(to = %node, count, "this frontend is far busier: some players go");
            sessions.relieve(node, load, count as usize).await;
        }
    }
}

impl Sessions {
    /// Gives some players to a frontend: first those who see what is seen there.
    async fn relieve(&self, node: &NodeId, load: &Load, count: usize) {
        let Some(roll) = self.roll().await else { return };
        let now = self.shared.mesh.now_ms();
        for stays in those_who_go(roll, load, now, count) {
            if self.send_away(stays, Some(node)).await == Move::Stayed {
                return;
            }
        }
    }
}

/// Who goes there.
fn those_who_go(roll: Vec<Stays>, load: &Load, now_ms: u64, count: usize) -> Vec<Stays> {
    let mut roll: Vec<Stays> = roll.into_iter().filter(|it| now_ms.saturating_sub(it.since_ms) >= REST_MS).collect();
    roll.sort_by(|a, b| {
        let shared = |stays: &Stays| choose::shared(load, &stays.sees);
        shared(b).total_cmp(&shared(a)).then_with(|| a.player.cmp(&b.player))
    });
    roll.truncate(count);
    roll
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cartographer::geometry::{Cell, IslandId, ObjectId, Place};

    use super::*;

    fn node(number: usize) -> NodeId {
        NodeId::new(&format!("frontend-{number}")).expect("a name")
    }

    fn load(players: u32, tick_p99_us: u32) -> Load {
        Load { players, capacity: 1_000, tick_p99_us, ..Load::default() }
    }

    /// Frontends that look at one another's loads of two looks ago, and what each player went through.
    struct Stage {
        balances: Vec<Balance>,
        players: Vec<u32>,
        /// From whom to whom, how many.
        went: BTreeMap<(usize, usize), u32>,
        told: Vec<Vec<u32>>,
    }

    impl Stage {
        fn new(players: &[u32]) -> Stage {
            let balances = players.iter().map(|_| Balance::default()).collect();
            Stage { balances, players: players.to_vec(), went: BTreeMap::new(), told: vec![players.to_vec(); 2] }
        }

        fn look(&mut self) -> u32 {
            let told = self.told.remove(0);
            let mut moved = 0;
            for index in 0..self.players.len() {
                let others: Vec<(NodeId, Load)> = (0..told.len())
                    .filter(|other| *other != index)
                    .map(|other| (node(other), load(told[other], 1_000)))
                    .collect();
                let own = load(self.players[index], 1_000);
                let Some(((to, _), count)) = self.balances[index].plan(&own, &others) else { continue };
                let to = (0..told.len()).find(|other| node(*other) == *to).expect("one of them");
                let count = count.min(self.players[index]);
                self.players[index] -= count;
                self.players[to] += count;
                *self.went.entry((index, to)).or_default() += count;
                moved += count;
            }
            self.told.push(self.players.clone());
            moved
        }
    }

    #[test]
    fn a_crowded_frontend_is_relieved_until_it_is_no_fuller_than_others_and_nobody_ever_goes_back() {
        for begin in [&[900, 0, 0][..], &[900, 100], &[1_000, 700, 100, 650], &[300, 900, 20]] {
            let mut stage = Stage::new(begin);
            let mut quiet = 0;
            for _ in 0..2_000 {
                quiet = if stage.look() == 0 { quiet + 1 } else { 0 };
            }
            assert!(quiet > 1_000, "it never ends: {:?}", stage.players);
            assert_eq!(stage.players.iter().sum::<u32>(), begin.iter().sum::<u32>());
            let (most, least) = (stage.players.iter().max().unwrap(), stage.players.iter().min().unwrap());
            assert!(most - least <= 250, "{:?}", stage.players);
            for (from, to) in stage.went.keys() {
                assert!(!stage.went.contains_key(&(*to, *from)), "to and fro: {:?}", stage.went);
            }
        }
    }

    #[test]
    fn a_difference_that_is_small_or_short_moves_nobody() {
        let mut balance = Balance::default();
        let others = |players| [(node(1), load(players, 1_000))];
        for _ in 0..100 {
            assert!(balance.plan(&load(300, 1_000), &others(100)).is_none(), "a fifth");
        }
        for _ in 0..100 {
            assert!(balance.plan(&load(900, 1_000), &others(100)).is_none(), "once");
            assert!(balance.plan(&load(900, 1_000), &others(100)).is_none(), "twice");
            assert!(balance.plan(&load(300, 1_000), &others(100)).is_none(), "and no longer");
        }
        let mut full = Balance::default();
        let draining = [(node(1), Load { draining: true, ..load(0, 0) }), (node(2), load(1_000, 0))];
        assert!((0..10).all(|_| full.plan(&load(990, 30_000), &draining).is_none()), "nobody takes anybody");
    }

    #[test]
    fn a_tired_frontend_gives_a_few_even_to_one_with_as_many() {
        let mut balance = Balance::default();
        let others = [(node(1), load(40, 1_000))];
        let planned: Vec<Option<u32>> =
            (0..4).map(|_| balance.plan(&load(40, 35_000), &others).map(|(_, count)| count)).collect();
        assert_eq!(planned, [None, None, Some(TIRED_MOST), Some(TIRED_MOST)]);
    }

    #[test]
    fn those_go_first_who_see_what_is_seen_there_and_nobody_who_has_just_come() {
        let cell = |x| Cell::new(IslandId(1), x, 0);
        let stays = |player, x, since_ms| Stays {
            player: ObjectId(player),
            island: IslandId(1),
            place: Place::new(0, 0),
            sees: vec![cell(x), cell(x + 4)],
            since_ms,
        };
        let there = Load { sees: [(1, 40, 0), (1, 44, 0)].into_iter().collect(), ..load(0, 0) };
        let roll = vec![stays(1, 0, 0), stays(2, 40, 0), stays(3, 40, 50_000), stays(4, 44, 0)];
        let gone: Vec<u64> = those_who_go(roll, &there, 100_000, 2).iter().map(|it| it.player.0).collect();
        assert_eq!(gone, [2, 4]);
    }
}
