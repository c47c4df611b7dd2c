//! Which frontend a player goes to: the one that sees most of what the player will see, unless it is busier than that is
//! worth. A pure function of what the nodes last said; it NEVER asks anybody.
//!
//! Sharing vision saves the mesh a second copy of every frame, which pays where players are few and far between; it must
//! not pile a dense village onto one frontend. So the cost of a frontend is how full it is, plus how tired its ticks are,
//! plus a bounded charge for what it does not see yet; and one that has a crowd where the player arrives counts as sharing
//! nothing. A village thus goes to the least loaded frontends in turn, a crowd of [`CROWD`] at a time.

use cartographer::geometry::Cell;
use mesh::record::NodeId;

use crate::load::Load;

/// The charge for sharing nothing, in parts of a frontend's capacity.
const SHARING_WORTH: f64 = 0.1;

/// Players of one frontend in the block where another arrives that make a crowd: from here on sharing is no reason to
/// send more.
pub const CROWD: u32 = 32;

/// The tick time that costs as much as a full frontend, in microseconds: a tick has 50 ms.
const TIRED_TICK_US: f64 = 40_000.0;

/// The cost of a frontend whose load is not known: taken after those known to have room, before none at all.
const UNKNOWN_COST: f64 = 10.0;

/// A frontend that may be chosen.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name.
    pub node: NodeId,
    /// What it last said; `None` if nothing yet.
    pub load: Option<Load>,
    /// Players sent there by this node since then.
    pub sent: u32,
    /// Those of them who arrive in the same block as the player.
    pub sent_here: u32,
}

/// Where a player begins.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The cell it stands in, if that is known.
    pub cell: Option<Cell>,
    /// The cells that it will see.
    pub sees: Vec<Cell>,
}

/// The frontends to try, best first. `home` is the frontend that owns the player already, which comes first whatever its
/// load: going there moves nothing. Full and draining ones are left out.
pub fn rank(candidates: &[Candidate], arrival: &Arrival, home: Option<&NodeId>) -> Vec<NodeId> {
    let mut costs: Vec<(f64, &NodeId)> = candidates
        .iter()
        .filter_map(|candidate| {
            let at_home = home == Some(&candidate.node);
            if at_home { Some((-1.0, &candidate.node)) } else { cost(candidate, arrival).map(|c| (c, &candidate.node)) }
        })
        .collect();
    costs.sort_by(|(a, one), (b, two)| a.total_cmp(b).then_with(|| one.cmp(two)));
    costs.into_iter().map(|(_, node)| node.clone()).collect()
}

/// `None` if it takes nobody.
fn cost(candidate: &Candidate, arrival: &Arrival) -> Option<f64> {
    let Some(load) = &candidate.load else { return Some(UNKNOWN_COST + f64::from(candidate.sent)) };
    let players = load.players.saturating_add(load.expected).saturating_add(candidate.sent);
    if load.draining || players >= load.capacity {
        return None;
    }
    let full = f64::from(players) / f64::from(load.capacity);
    let tired = (f64::from(load.tick_p99_us) / TIRED_TICK_US).powi(2);
    let crowd = arrival.cell.map_or(0, |cell| load.crowds.around(cell.island.0, cell.x, cell.y)) + candidate.sent_here;
    let shared = if crowd < CROWD { shared(load, &arrival.sees) } else { 0.0 };
    Some(full + tired + SHARING_WORTH * (1.0 - shared))
}

/// The part of `sees` that the frontend sees already, 0 to 1.
pub fn shared(load: &Load, sees: &[Cell]) -> f64 {
    if sees.is_empty() {
        return 0.0;
    }
    let seen = sees.iter().filter(|cell| load.sees.contains(cell.island.0, cell.x, cell.y)).count();
    seen as f64 / sees.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use cartographer::geometry::IslandId;

    fn cell(x: u16, y: u16) -> Cell {
        Cell { island: IslandId(1), x, y }
    }

    fn arrival() -> Arrival {
        Arrival { cell: Some(cell(1, 1)), sees: vec![cell(0, 0), cell(1, 1)] }
    }

    /// A frontend that holds `players` of 1000 and sees the block of cell (`x`, 0).
    fn frontend(name: &str, players: u32, x: u16) -> Candidate {
        let sees = [(1, x, 0)].into_iter().collect();
        let load = Load { players, capacity: 1000, tick_p99_us: 2000, sees, ..Load::default() };
        Candidate { node: NodeId::new(name).unwrap(), load: Some(load), sent: 0, sent_here: 0 }
    }

    fn change(mut candidate: Candidate, change: impl FnOnce(&mut Load)) -> Candidate {
        change(candidate.load.as_mut().unwrap());
        candidate
    }

    fn check(candidates: &[Candidate], home: Option<&str>, expected: &[&str]) {
        let home = home.map(|name| NodeId::new(name).unwrap());
        let ranked = rank(candidates, &arrival(), home.as_ref());
        let names: Vec<&str> = ranked.iter().map(NodeId::as_str).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn shared_vision_wins_among_equals() {
        check(&[frontend("a", 100, 40), frontend("b", 100, 0)], None, &["b", "a"]);
    }

    #[test]
    fn shared_vision_is_worth_a_bounded_difference_of_load() {
        check(&[frontend("far", 100, 40), frontend("near", 190, 0)], None, &["near", "far"]);
        check(&[frontend("far", 100, 40), frontend("near", 210, 0)], None, &["far", "near"]);
    }

    #[test]
    fn a_village_spreads_once_its_frontend_has_a_crowd_there() {
        let village = |players: usize| {
            let crowd = std::iter::repeat_n((1, 2, 3), players).collect();
            change(frontend("village", 100, 0), |load| load.crowds = crowd)
        };
        check(&[frontend("far", 90, 40), village(31)], None, &["village", "far"]);
        check(&[frontend("far", 90, 40), village(32)], None, &["far", "village"]);
        let sent = Candidate { sent: 20, sent_here: 20, ..village(12) };
        check(&[frontend("far", 90, 40), sent], None, &["far", "village"]);
    }

    #[test]
    fn a_tired_frontend_is_avoided() {
        let tired = change(frontend("near", 100, 0), |load| load.tick_p99_us = 30_000);
        check(&[frontend("far", 100, 40), tired], None, &["far", "near"]);
    }

    #[test]
    fn full_and_draining_ones_are_left_out() {
        let draining = change(frontend("draining", 0, 0), |load| load.draining = true);
        let filling = Candidate { sent: 10, ..frontend("filling", 990, 0) };
        check(&[draining, filling, frontend("full", 1000, 0), frontend("open", 999, 40)], None, &["open"]);
        check(&[frontend("full", 1000, 0)], None, &[]);
    }

    #[test]
    fn players_sent_lately_count_before_the_frontend_says_so() {
        let burst = Candidate { sent: 250, ..frontend("a", 100, 0) };
        check(&[burst, frontend("b", 100, 40)], None, &["b", "a"]);
    }

    #[test]
    fn the_owner_of_the_player_comes_first_even_when_full() {
        check(&[frontend("a", 0, 0), frontend("home", 1000, 40)], Some("home"), &["home", "a"]);
        check(&[frontend("a", 0, 0)], Some("gone"), &["a"]);
    }

    #[test]
    fn a_frontend_that_said_nothing_yet_comes_after_those_with_room() {
        let silent = Candidate { load: None, ..frontend("silent", 0, 0) };
        check(&[silent.clone(), frontend("busy", 950, 40)], None, &["busy", "silent"]);
        check(&[silent, frontend("full", 1000, 0)], None, &["silent"]);
    }

    #[test]
    fn a_crowd_that_arrives_at_once_spreads_over_frontends_that_see_the_place_and_those_that_do_not() {
        let mut frontends = [frontend("a", 0, 0), frontend("b", 0, 40), frontend("c", 0, 80)];
        for _ in 0..900 {
            let best = rank(&frontends, &arrival(), None).remove(0);
            let chosen = frontends.iter_mut().find(|f| f.node == best).unwrap();
            chosen.sent += 1;
            chosen.sent_here += 1;
        }
        assert!(frontends.iter().all(|f| (290..=310).contains(&f.sent)), "{frontends:?}");
    }
}
