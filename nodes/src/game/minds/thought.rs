//! One thought: from an animal's state, the picture and the ground to a decision.
//!
//! A pure function, so that thoughts run on any number of threads and give the same decisions. Its whims come from a seed of
//! the world's seed, the animal's number and the count of its decisions. It NEVER changes anything.

use cartographer::geometry::{ObjectId, Place, UNITS_PER_TILE};
use cartographer::ground::Overlay;
use cartographer::motion::{Motion, walk};

use super::drives::{self, Drives, Goal, Sights};
use super::lore::{Kind, Lore, What};
use super::picture::{Picture, Seen};
use super::{Herd, Mind, paths};
use crate::game::pose;

/// How near prey must be to be struck, in units.
pub const STRIKE_REACH: u64 = 3 * UNITS_PER_TILE as u64 / 2;

/// A thought when all is calm comes this much later than what caused it, at most, in milliseconds.
const CALM_MS: u64 = 6_000;
/// Between two thoughts of somebody who runs, in milliseconds.
const ALARMED_MS: u64 = 350;
/// Between two blows at prey, in milliseconds.
const BLOW_MS: u64 = 1_000;
/// How far one runs before looking again, in tiles.
const RUN_TILES: f32 = 10.0;

/// What an animal is going to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The mind's slot.
    pub slot: u32,
    /// What drives it now.
    pub drives: Drives,
    /// What it is about.
    pub goal: Goal,
    /// How it looks: one of [`pose`].
    pub pose: u8,
    /// How it moves.
    pub step: Step,
    /// The legs after this one, last leg first.
    pub legs: Vec<Place>,
    /// Whether it sees itself what it fears; else its mates' fright is all it knows.
    pub first_hand: bool,
    /// Whom it strikes.
    pub strikes: Option<ObjectId>,
    /// When it wants to think again, in milliseconds from now. A walk's end comes first if it is earlier.
    pub next_ms: u64,
    /// Whether it thinks again when the walk ends.
    pub on_arrival: bool,
}

/// How an animal moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// As it does already.
    Keep,
    /// Not at all.
    Stand,
    /// Toward a place, with so many units per second.
    Walk(Place, i32),
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The whims of one decision.
struct Whims(u64);

impl Whims {
    fn bits(&mut self) -> u64 {
        self.0 = mix(self.0);
        self.0
    }

    /// From 0 to 1.
    fn share(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound.max(1)
    }

    /// From `-reach` to `reach`.
    fn offset(&mut self, reach: i32) -> i32 {
        self.below(2 * reach.max(0) as u64 + 1) as i32 - reach.max(0)
    }
}

/// What an animal needs for a thought.
pub struct Scene<'a> {
    /// The species.
    pub lore: &'a Lore,
    /// What there is to see.
    pub picture: &'a Picture,
    /// Where it can walk.
    pub ground: Overlay<'a>,
    /// Its herd.
    pub herd: &'a Herd,
    /// Milliseconds of the node's clock.
    pub now: u64,
    /// The world's seed.
    pub seed: u64,
}

/// What there is in sight.
#[derive(Default)]
struct View {
    sights: Sights,
    first_hand: bool,
    /// The sum of the ways away from all threats, the nearest weighing most.
    away: (f32, f32),
    prey: Option<(u64, Seen)>,
    novelty: Option<(u64, Seen)>,
    neighbour: Option<(u64, ObjectId, Place)>,
}

/// The distance of which this is the square, in units.
fn root(squared: u64) -> f32 {
    squared.isqrt() as f32
}

fn look(mind: &Mind, kind: &Kind, scene: &Scene, place: Place) -> View {
    let mut view = View::default();
    let asleep = mind.goal == Goal::Sleep;
    let sight = if asleep { kind.sight / 2 } else { kind.sight };
    let reach = sight.max(1) as f32;
    scene.picture.around(scene.herd.island, place, sight, |seen, squared| {
        if seen.id == mind.id {
            return;
        }
        let near = 1.0 - root(squared) / reach;
        let mut feared = scene.lore.fears(kind, mind.kind, seen.what);
        let is_mate = seen.what == mind.kind;
        if feared > 0.0 || (is_mate && seen.flees) {
            // The fright of mates is half as bad as its cause.
            feared = if is_mate { kind.fear * 0.5 } else { feared };
            view.sights.threat = view.sights.threat.max(drives::fear(feared, near));
            // A fright goes from those who see its cause to their mates and no farther: else it would go round for ever.
            if !is_mate {
                view.first_hand = true;
                let weight = feared / (root(squared) + UNITS_PER_TILE as f32);
                view.away.0 += (place.x - seen.place.x) as f32 * weight;
                view.away.1 += (place.y - seen.place.y) as f32 * weight;
            }
        }
        // What is as near is told apart by its number, lest the order of things decide.
        let nearer = |known: &Option<(u64, Seen)>| known.is_none_or(|(far, it)| (squared, seen.id) < (far, it.id));
        if kind.hunts(seen.what) && nearer(&view.prey) {
            view.prey = Some((squared, *seen));
        }
        if !is_mate && feared <= 0.3 && !kind.hunts(seen.what) && nearer(&view.novelty) {
            view.novelty = Some((squared, *seen));
        }
        if is_mate && view.neighbour.is_none_or(|(far, id, _)| (squared, seen.id) < (far, id)) {
            view.neighbour = Some((squared, seen.id, seen.place));
        }
    });
    view.sights.prey = view.prey.map(|(squared, _)| 1.0 - root(squared) / reach);
    view.sights.provoked = view.prey.is_some_and(|(_, prey)| prey.what == What::PLAYER);
    view.sights.novelty = view.novelty.is_some();
    view.sights.herd_far =
        scene.herd.centre.map_or(0.0, |centre| root(centre.distance_squared(place)) / kind.sight.max(1) as f32);
    view.sights.astray = !scene.herd.habitat.contains(place);
    view
}

/// Thinks.
pub fn think(slot: u32, mind: &Mind, scene: &Scene) -> Decision {
    let mut whims = Whims(scene.seed ^ mix(mind.id.0 ^ mix(mind.count)));
    let heal = scene.lore.tuning.heal_per_minute;
    let mut drives = mind.drives.after(scene.now.saturating_sub(mind.thought_at), mind.goal, heal);
    let mut decision = Decision {
        slot,
        drives,
        goal: mind.goal,
        pose: pose::IDLE,
        step: Step::Keep,
        legs: Vec::new(),
        first_hand: false,
        strikes: None,
        next_ms: CALM_MS,
        on_arrival: false,
    };
    let Some(kind) = scene.lore.kind(mind.kind) else { return decision };
    let place = mind.motion.at(scene.now);
    let view = look(mind, kind, scene, place);
    drives.dread = drives.dread.max(view.sights.threat);
    decision.goal = drives::choose(mind.goal, kind, &drives, &view.sights, || whims.share());
    (decision.drives, decision.first_hand) = (drives, view.first_hand);
    let act = Act { mind, kind, scene, place, view: &view };
    match decision.goal {
        Goal::Flee => act.flee(&mut decision, &mut whims),
        Goal::Hunt => act.hunt(&mut decision, &mut whims),
        Goal::Sleep => {
            (decision.step, decision.pose) = (Step::Stand, pose::SLEEPS);
            decision.next_ms = CALM_MS + whims.below(CALM_MS);
        }
        Goal::Graze => act.graze(&mut decision, &mut whims),
        Goal::Follow => act.follow(&mut decision, &mut whims),
        Goal::Investigate => act.investigate(&mut decision, &mut whims),
        Goal::Wander => act.wander(&mut decision, &mut whims),
    }
    decision
}

struct Act<'a> {
    mind: &'a Mind,
    kind: &'a Kind,
    scene: &'a Scene<'a>,
    place: Place,
    view: &'a View,
}

impl Act<'_> {
    fn is_moving(&self) -> bool {
        self.mind.motion.is_moving(self.scene.now)
    }

    /// Whether it is already under way for the same goal, so that it can go on.
    fn goes_on(&self, goal: Goal) -> bool {
        self.mind.goal == goal && self.is_moving()
    }

    fn trial(&self, to: Place, speed: i32) -> Option<Motion> {
        walk(&self.scene.ground, self.place, to, speed, 0)
    }

    fn flee(&self, decision: &mut Decision, whims: &mut Whims) {
        decision.pose = pose::FLEES;
        decision.next_ms = ALARMED_MS + whims.below(ALARMED_MS / 2);
        let (mut x, mut y) = self.view.away;
        let length = (x * x + y * y).sqrt();
        if length > 0.01 {
            (x, y) = (x / length, y / length);
        } else if let Motion { velocity: (vx, vy), .. } = self.mind.motion
            && self.goes_on(Goal::Flee)
        {
            // What it ran from is out of sight: straight on.
            let speed = ((vx as f32) * (vx as f32) + (vy as f32) * (vy as f32)).sqrt().max(1.0);
            (x, y) = (vx as f32 / speed, vy as f32 / speed);
        } else {
            (x, y) = (whims.share() - 0.5, whims.share() - 0.5);
        }
        // Together, if the herd is not where the threat is.
        if let Some(centre) = self.scene.herd.centre {
            let to = ((centre.x - self.place.x) as f32, (centre.y - self.place.y) as f32);
            let far = (to.0 * to.0 + to.1 * to.1).sqrt();
            if far > 2.0 * UNITS_PER_TILE as f32 && (to.0 * x + to.1 * y) / far > -0.3 {
                (x, y) = (x + to.0 / far * self.kind.herd * 0.5, y + to.1 / far * self.kind.herd * 0.5);
            }
        }
        if let Some(to) = self.escape(x, y) {
            decision.step = Step::Walk(to, self.kind.species.run_speed);
        }
    }

    /// Where it can run farthest, most nearly in this direction.
    fn escape(&self, x: f32, y: f32) -> Option<Place> {
        let reach = RUN_TILES * UNITS_PER_TILE as f32 / (x * x + y * y).sqrt().max(0.001);
        // Turned by nothing, 45°, 90° and 135° both ways: cosine, sine, and how much the turn is worth.
        const HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
        const TURNS: [(f32, f32, f32); 7] = [
            (1.0, 0.0, 1.0),
            (HALF, HALF, 0.8),
            (HALF, -HALF, 0.8),
            (0.0, 1.0, 0.4),
            (0.0, -1.0, 0.4),
            (-HALF, HALF, 0.1),
            (-HALF, -HALF, 0.1),
        ];
        let mut best = None;
        for (cos, sin, worth) in TURNS {
            let (dx, dy) = ((x * cos - y * sin) * reach, (x * sin + y * cos) * reach);
            let to = self.place.offset(dx as i32, dy as i32);
            let Some(motion) = self.trial(to, self.kind.species.run_speed) else { continue };
            let length = root(motion.end().distance_squared(self.place)) * worth;
            if best.is_none_or(|(most, _)| length > most) {
                best = Some((length, to));
            }
            if worth == 1.0 && length > 0.9 * RUN_TILES * UNITS_PER_TILE as f32 {
                break;
            }
        }
        best.filter(|(length, _)| *length > 1.0).map(|(_, to)| to)
    }

    fn hunt(&self, decision: &mut Decision, whims: &mut Whims) {
        let Some((squared, prey)) = self.view.prey else { return };
        decision.pose = pose::HUNTS;
        if squared <= STRIKE_REACH * STRIKE_REACH {
            (decision.step, decision.strikes, decision.next_ms) = (Step::Stand, Some(prey.id), BLOW_MS);
            return;
        }
        decision.next_ms = ALARMED_MS + whims.below(ALARMED_MS / 2);
        if self.mind.goal == Goal::Hunt && !self.mind.legs.is_empty() && self.is_moving() {
            // On a way around something.
            decision.legs.clone_from(&self.mind.legs);
            decision.on_arrival = true;
            return;
        }
        self.go(decision, prey.place, self.kind.species.run_speed, true);
    }

    fn graze(&self, decision: &mut Decision, whims: &mut Whims) {
        decision.pose = pose::BUSY;
        decision.next_ms = 2_000 + whims.below(3_000);
        if self.goes_on(Goal::Graze) {
            decision.on_arrival = true;
            return;
        }
        // Most of the time it eats where it stands, then a few steps on.
        if whims.share() < 0.6 && !self.view.sights.astray {
            decision.step = Step::Stand;
            return;
        }
        let to = self.somewhere(whims, 3);
        self.go(decision, to, self.kind.species.walk_speed, false);
        decision.on_arrival = true;
    }

    fn follow(&self, decision: &mut Decision, whims: &mut Whims) {
        decision.next_ms = 1_500 + whims.below(1_500);
        decision.on_arrival = true;
        if self.continues(decision) {
            return;
        }
        let centre = self.scene.herd.centre.unwrap_or(self.place);
        let reach = 2 * UNITS_PER_TILE;
        let to = centre.offset(whims.offset(reach), whims.offset(reach));
        let hurry = self.view.sights.herd_far > 2.5;
        let speed = if hurry { self.kind.species.run_speed } else { self.kind.species.walk_speed };
        self.go(decision, to, speed, true);
    }

    fn investigate(&self, decision: &mut Decision, whims: &mut Whims) {
        let Some((squared, seen)) = self.view.novelty else { return };
        decision.next_ms = 1_000 + whims.below(1_000);
        let near = 2 * UNITS_PER_TILE as u64;
        if squared <= near * near * 2 {
            // It has seen enough of it.
            (decision.step, decision.drives.boredom) = (Step::Stand, 0.0);
            decision.next_ms = 2_000 + whims.below(2_000);
            return;
        }
        let (dx, dy) = (self.place.x - seen.place.x, self.place.y - seen.place.y);
        let part = near as f32 / root(squared).max(1.0);
        let to = seen.place.offset((dx as f32 * part) as i32, (dy as f32 * part) as i32);
        self.go(decision, to, self.kind.species.walk_speed, false);
        if decision.step == Step::Stand {
            decision.drives.boredom = 0.0;
        }
    }

    fn wander(&self, decision: &mut Decision, whims: &mut Whims) {
        decision.next_ms = 2_000 + whims.below(4_000);
        decision.on_arrival = true;
        if self.continues(decision) {
            return;
        }
        if self.view.sights.astray {
            let to = self.scene.herd.somewhere(whims.bits());
            self.go(decision, to, self.kind.species.walk_speed, true);
            return;
        }
        if whims.share() < 0.4 {
            (decision.step, decision.on_arrival) = (Step::Stand, false);
            return;
        }
        let to = self.somewhere(whims, 8);
        self.go(decision, to, self.kind.species.walk_speed, false);
    }

    /// Goes on with what was begun for the same goal: the leg under way, else the next one.
    fn continues(&self, decision: &mut Decision) -> bool {
        if self.mind.goal != decision.goal {
            return false;
        }
        decision.legs.clone_from(&self.mind.legs);
        if self.is_moving() {
            return true;
        }
        let speed = self.kind.species.walk_speed;
        let next = decision.legs.pop();
        decision.step = next.map_or(Step::Keep, |leg| Step::Walk(leg, speed));
        next.is_some()
    }

    /// A place some tiles away, nearer to the herd and not on top of a neighbour, within the habitat if that is easy.
    fn somewhere(&self, whims: &mut Whims, tiles: i32) -> Place {
        let reach = tiles * UNITS_PER_TILE;
        let mut to = self.place;
        for _ in 0..3 {
            to = self.place.offset(whims.offset(reach), whims.offset(reach));
            // Cohesion and separation (Reynolds, *Flocks, Herds and Schools*, 1987).
            if let Some(centre) = self.scene.herd.centre {
                let pull = self.kind.herd * 0.4;
                to = to.offset(((centre.x - to.x) as f32 * pull) as i32, ((centre.y - to.y) as f32 * pull) as i32);
            }
            if let Some((squared, _, neighbour)) = self.view.neighbour
                && squared < (UNITS_PER_TILE as u64).pow(2)
            {
                to = to.offset(self.place.x - neighbour.x, self.place.y - neighbour.y);
            }
            if self.scene.herd.habitat.contains(to) {
                break;
            }
        }
        to
    }

    /// Walks straight where that is possible, else around if `is_sought`, else as far as it goes.
    fn go(&self, decision: &mut Decision, to: Place, speed: i32, is_sought: bool) {
        let straight = self.trial(to, speed);
        let reached = straight.is_some_and(|motion| motion.end().reach(to) <= UNITS_PER_TILE as u32);
        if !reached && is_sought {
            let mut legs = paths::find(&self.scene.ground, self.place, to);
            legs.reverse();
            if let Some(first) = legs.pop() {
                (decision.step, decision.legs, decision.on_arrival) = (Step::Walk(first, speed), legs, true);
                return;
            }
        }
        decision.step = match straight {
            Some(motion) if motion.end() != self.place => Step::Walk(to, speed),
            _ => Step::Stand,
        };
    }
}

/// Whether a threat of this kind at this distance wakes a mind that is calm: the cheap test of an alarm.
pub fn alarms(lore: &Lore, mind: &Mind, kind: &Kind, threat: What, squared: u64) -> bool {
    let sight = if mind.goal == Goal::Sleep { kind.sight / 2 } else { kind.sight };
    squared <= (sight as u64).pow(2) && lore.fears(kind, mind.kind, threat) > 0.0
}
