//! What a steward would do now: a pure function of what it sees, of what it remembers, and of the time.
//!
//! Supply follows need. Need is counted in players: those on unstable islands, or a share of all, whichever is more, and as
//! many more as the growth of the last minutes will bring within [`WorldRules::ahead`]. New islands are made at once when
//! they are needed; islands are given up early only when there have been clearly too many for a while (hysteresis), one at a
//! time. The animals of all open islands together are bounded by the number of players. It NEVER reads a clock, and the same
//! situations give the same actions.

use cartographer::geometry::IslandId;

use super::WorldRules;
use crate::islands::record::IslandState;

/// Islands made in one round, at most: the next round follows soon, and knows more.
const MAKES_PER_ROUND: usize = 8;

/// How long growth is remembered, in seconds: older news counts less and less.
const GROWTH_MEMORY_S: f64 = 60.0;

/// An unstable island of the district, as the steward sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub id: IslandId,
    /// What it is made from.
    pub template: String,
    /// How it stands with it.
    pub state: IslandState,
    /// When it sinks, in seconds since 1970.
    pub ends_s: u64,
    /// Players on it.
    pub players: u32,
    /// Animals in its habitats.
    pub animals: u32,
}

/// Something islands can be made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Animals in its habitats.
    pub animals: u32,
}

/// What a steward sees.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The time, in seconds since 1970.
    pub now_s: u64,
    /// Players of the whole district.
    pub players: u32,
    /// Whether everybody who may have players was asked and answered: only then 0 means nobody.
    pub complete: bool,
    /// The unstable islands, by rising number.
    pub islands: &'a [Seen],
    /// What islands can be made from just now.
    pub templates: &'a [Template],
}

/// What is to be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub what: What,
    /// Why, for people.
    pub why: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Make an island from this template.
    Make(String),
    /// Warn everybody that this island sinks at that time.
    Warn(IslandId, u64),
    /// Let it sink: nobody arrives any more, everybody is brought home.
    Sink(IslandId),
    /// Clear what is left of it, and forget it.
    Remove(IslandId),
}

/// A planner with what it remembers.
#[derive(Clone, Debug)]
pub struct Planner {
    rules: WorldRules,
    /// When it last looked, and the need it saw.
    last: Option<(u64, u32)>,
    /// Players more per second, smoothed.
    growth: f64,
    /// Since when there have been clearly too many islands.
    surplus_since: Option<u64>,
}

impl Planner {
    /// One that has seen nothing yet.
    pub fn new(rules: WorldRules) -> Planner {
        Planner { rules, last: None, growth: 0.0, surplus_since: None }
    }

    /// What is to be done now.
    pub fn plan(&mut self, seen: &Situation<'_>) -> Vec<Action> {
        let need = self.need_of(seen.players, seen.islands.iter().map(|island| island.players).sum());
        self.grow(seen.now_s, need);
        let mut actions = self.lives(seen);
        self.supply(seen, need, &mut actions);
        actions
    }

    /// How many unstable islands this many players need, with what growth will bring.
    pub fn wanted(&self, need: u32) -> u32 {
        let rules = &self.rules;
        let ahead = (self.growth.max(0.0) * rules.ahead.as_secs_f64()).round() as u32;
        let wanted = (need + ahead).div_ceil(rules.players_per_island.max(1));
        wanted.clamp(rules.islands_least, rules.islands_most.max(rules.islands_least))
    }

    /// Players more per minute, as smoothed.
    pub fn growth_per_minute(&self) -> f64 {
        self.growth * 60.0
    }

    /// Players that unstable islands are needed for, when so many are in the district and so many on such islands.
    pub fn need_of(&self, players: u32, there: u32) -> u32 {
        let share = u64::from(players) * u64::from(self.rules.share_percent) / 100;
        there.max(u32::try_from(share).unwrap_or(u32::MAX))
    }

    fn grow(&mut self, now_s: u64, need: u32) {
        match self.last {
            Some((then, before)) if now_s > then => {
                let passed = (now_s - then) as f64;
                let rate = (f64::from(need) - f64::from(before)) / passed;
                let weight = 1.0 - (-passed / GROWTH_MEMORY_S).exp();
                self.growth += (rate - self.growth) * weight;
                self.last = Some((now_s, need));
            }
            Some(_) => {}
            None => self.last = Some((now_s, need)),
        }
    }

    /// What the age of islands asks for.
    fn lives(&self, seen: &Situation<'_>) -> Vec<Action> {
        let (now, warning) = (seen.now_s, self.rules.warning.as_secs());
        let mut actions = Vec::new();
        for island in seen.islands {
            let act = match island.state {
                // Nobody drowns unwarned, even where nobody was steward for a while.
                IslandState::Open if now + warning >= island.ends_s => {
                    let ends_s = island.ends_s.max(now + warning);
                    Some((What::Warn(island.id, ends_s), format!("its life ends in {} s", ends_s - now)))
                }
                IslandState::Warned if now >= island.ends_s => {
                    Some((What::Sink(island.id), format!("its time has come, with {} players on it", island.players)))
                }
                IslandState::Sinking if seen.complete && island.players == 0 => {
                    Some((What::Remove(island.id), "nobody is left on it".to_owned()))
                }
                IslandState::Sinking if now >= island.ends_s + self.rules.patience.as_secs() => {
                    let why = format!("it has been sinking for {} s", now - island.ends_s);
                    Some((What::Remove(island.id), why))
                }
                _ => None,
            };
            actions.extend(act.map(|(what, why)| Action { what, why }));
        }
        actions
    }

    /// What need asks for: more islands, or fewer.
    fn supply(&mut self, seen: &Situation<'_>, need: u32, actions: &mut Vec<Action>) {
        let warned = |id| actions.iter().any(|action| matches!(action.what, What::Warn(it, _) if it == id));
        let open: Vec<&Seen> =
            seen.islands.iter().filter(|it| it.state == IslandState::Open && !warned(it.id)).collect();
        let (wanted, there) = (self.wanted(need), open.len() as u32);
        if there < wanted {
            self.surplus_since = None;
            self.make(seen, &open, wanted, need, actions);
        } else if there > wanted + (wanted / 4).max(1) {
            self.give_up(seen, &open, wanted, need, actions);
        } else {
            self.surplus_since = None;
        }
    }

    fn make(&self, seen: &Situation<'_>, open: &[&Seen], wanted: u32, need: u32, actions: &mut Vec<Action>) {
        let rules = &self.rules;
        let mut animals: u64 = open.iter().map(|island| u64::from(island.animals)).sum();
        let most = u64::from(seen.players) * u64::from(rules.animals_per_player);
        let mut used: Vec<(usize, &Template)> = seen
            .templates
            .iter()
            .map(|template| (open.iter().filter(|it| it.template == template.name).count(), template))
            .collect();
        let room = (rules.islands_most as usize).saturating_sub(seen.islands.len());
        let missing = (wanted as usize - open.len()).min(room).min(MAKES_PER_ROUND);
        for made in 0..missing {
            let count = open.len() + made;
            let fits = |template: &Template| {
                count < rules.islands_least as usize || animals + u64::from(template.animals) <= most
            };
            let Some(next) = used.iter_mut().filter(|(_, it)| fits(it)).min_by_key(|(times, _)| *times) else { return };
            next.0 += 1;
            animals += u64::from(next.1.animals);
            let why = format!(
                "{need} players need islands, {:+.0} a minute: {wanted} are wanted and {count} open",
                self.growth_per_minute()
            );
            actions.push(Action { what: What::Make(next.1.name.clone()), why });
        }
    }

    /// Gives up the emptiest island when there have been clearly too many for a while, then waits again.
    fn give_up(&mut self, seen: &Situation<'_>, open: &[&Seen], wanted: u32, need: u32, actions: &mut Vec<Action>) {
        let since = *self.surplus_since.get_or_insert(seen.now_s);
        if seen.now_s < since + self.rules.lull.as_secs() {
            return;
        }
        let Some(emptiest) = open.iter().min_by_key(|it| (it.players, it.ends_s, it.id)) else { return };
        let ends_s = emptiest.ends_s.min(seen.now_s + self.rules.warning.as_secs());
        let why = format!(
            "{} islands are open and {wanted} wanted for {need} players, since {} s; {} players are on it",
            open.len(),
            seen.now_s - since,
            emptiest.players
        );
        actions.push(Action { what: What::Warn(emptiest.id, ends_s), why });
        // A tenth of the lull until the next one: too many go one by one, and need may come back meanwhile.
        self.surplus_since = Some(seen.now_s - self.rules.lull.as_secs() * 9 / 10);
    }
}

/// When an island made now sinks: lives differ by up to a fifth either way, so that islands made together do not all
/// sink together.
pub fn end_of_life(rules: &WorldRules, id: IslandId, now_s: u64) -> u64 {
    let life = rules.life.as_secs();
    // Consecutive numbers go round the circle by the golden ratio, which spreads them evenly (Knuth).
    let turn = u64::from(id.0.wrapping_mul(0x9e37_79b9) >> 16);
    now_s + life * 4 / 5 + life * 2 / 5 * turn / 0x1_0000
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use IslandState::{Open, Sinking, Warned};

    fn rules() -> WorldRules {
        WorldRules {
            life: Duration::from_secs(1_000),
            warning: Duration::from_secs(100),
            patience: Duration::from_secs(50),
            ahead: Duration::from_secs(60),
            lull: Duration::from_secs(300),
            players_per_island: 10,
            share_percent: 30,
            animals_per_player: 4,
            islands_least: 1,
            islands_most: 20,
            ..WorldRules::default()
        }
    }

    fn island(id: u32, state: IslandState, ends_s: u64, players: u32) -> Seen {
        Seen { id: IslandId(id), template: "a".to_owned(), state, ends_s, players, animals: 20 }
    }

    fn templates() -> Vec<Template> {
        ["a", "b"].map(|name| Template { name: name.to_owned(), animals: 20 }).to_vec()
    }

    /// What is done at 10,000 s by a planner that has seen nothing before.
    fn check(players: u32, complete: bool, islands: &[Seen], expected: &[What]) {
        let templates = templates();
        let seen = Situation { now_s: 10_000, players, complete, islands, templates: &templates };
        let actions: Vec<What> = Planner::new(rules()).plan(&seen).into_iter().map(|action| action.what).collect();
        assert_eq!(actions, expected, "{players} players, {islands:?}");
    }

    fn make(names: &[&str]) -> Vec<What> {
        names.iter().map(|name| What::Make((*name).to_owned())).collect()
    }

    #[test]
    fn islands_are_made_for_those_who_need_them_and_templates_take_turns() {
        check(0, true, &[], &make(&["a"]));
        check(30, true, &[], &make(&["a"]));
        check(100, true, &[], &make(&["a", "b", "a"]));
        check(40, true, &[island(1, Open, 20_000, 12)], &make(&["b"]));
        check(10, true, &[island(1, Open, 20_000, 10)], &[]);
    }

    #[test]
    fn there_are_never_more_animals_than_players_can_meet() {
        // 40 players may have 160 animals in eight islands; they crowd on one and would fill fourteen.
        let crowd = [island(1, Open, 20_000, 140)];
        check(40, true, &crowd, &make(&["b", "a", "b", "a", "b", "a", "b"]));
        // With 12 players two islands are the most; the least is made for nobody, too.
        check(12, true, &[island(1, Open, 20_000, 12)], &make(&["b"]));
        check(9, true, &[island(1, Open, 20_000, 90)], &[]);
    }

    #[test]
    fn an_island_is_warned_then_sinks_and_goes_when_it_is_empty() {
        let near = |state, ends_s, players| [island(1, state, ends_s, players), island(2, Open, 20_000, 0)];
        check(0, true, &near(Open, 10_101, 0), &[]);
        check(0, true, &near(Open, 10_100, 0), &[What::Warn(IslandId(1), 10_100)]);
        check(0, true, &near(Warned, 10_001, 0), &[]);
        check(0, true, &near(Warned, 10_000, 5), &[What::Sink(IslandId(1))]);
        check(0, true, &near(Sinking, 10_000, 5), &[]);
        check(0, false, &near(Sinking, 10_000, 0), &[]);
        check(0, true, &near(Sinking, 10_000, 0), &[What::Remove(IslandId(1))]);
        check(0, false, &near(Sinking, 9_950, 5), &[What::Remove(IslandId(1))]);
    }

    #[test]
    fn nobody_drowns_unwarned_though_nobody_was_steward_for_long() {
        check(0, true, &[island(1, Open, 5_000, 3), island(2, Open, 20_000, 0)], &[What::Warn(IslandId(1), 10_100)]);
    }

    #[test]
    fn an_island_that_is_about_to_sink_is_replaced_before_it_does() {
        let full = [island(1, Open, 10_050, 10)];
        let mut expected = vec![What::Warn(IslandId(1), 10_100)];
        expected.extend(make(&["a"]));
        check(20, true, &full, &expected);
    }

    #[test]
    fn growth_makes_islands_before_they_are_needed() {
        let templates = templates();
        let mut planner = Planner::new(rules());
        let mut made = 0;
        for step in 0..12_u32 {
            let islands: Vec<Seen> = (0..1 + made).map(|id| island(id, Open, 99_999, 0)).collect();
            // One more player on the islands each second: 60 within a minute.
            let seen = Situation {
                now_s: 10_000 + u64::from(step) * 5,
                players: 1_000,
                complete: true,
                islands: &islands,
                templates: &templates,
            };
            let rules = WorldRules { share_percent: step, ..rules() };
            planner.rules = rules;
            made += planner.plan(&seen).len() as u32;
        }
        // 110 players are there at the end, who fill eleven; growth asks for more.
        assert!(made + 1 > 11, "{made} made");
    }

    #[test]
    fn too_many_islands_go_one_by_one_after_a_while_and_the_emptiest_first() {
        let templates = templates();
        let mut planner = Planner::new(rules());
        let islands: Vec<Seen> = (1..=5).map(|id| island(id, Open, 99_000, 6 - id)).collect();
        let mut warned = Vec::new();
        for now_s in (10_000..10_400).step_by(5) {
            let seen = Situation { now_s, players: 20, complete: true, islands: &islands, templates: &templates };
            warned.extend(planner.plan(&seen).into_iter().map(|action| (now_s, action.what)));
        }
        let first = What::Warn(IslandId(5), 10_400);
        assert_eq!(warned.first(), Some(&(10_300, first)), "not before the lull is over");
        assert!(warned.len() <= 4, "one by one: {warned:?}");
    }

    #[test]
    fn lives_of_islands_made_together_end_apart() {
        let rules = rules();
        let mut ends: Vec<u64> = (1_000..1_010).map(|id| end_of_life(&rules, IslandId(id), 0)).collect();
        assert!(ends.iter().all(|end| (800..=1_200).contains(end)));
        ends.sort_unstable();
        ends.dedup();
        assert!(ends.len() == 10 && ends[9] - ends[0] > 200, "{ends:?}");
    }
}
