//! Settlers against scripted answers: no socket, no server; what is seen is put together by hand.

use cartographer::world::Body as _;

use super::account::{Compared, Counts, Effect, Sources, counts};
use super::commons::Shown;
use super::*;
use crate::client::Sight;
use crate::client::rest::{Island, SpawnPoint};
use crate::game::Body;
use crate::game::battle::{Battle, Exchange};
use crate::game::thing::{Thing, state};
use crate::game::{kind, player::Player};
use crate::protocol::acts::ACTS;
use crate::protocol::{Content as Told, Frame, FrameHead, Motion, Shown as Object, Side, TradeState, View};

const ME: u64 = 42;
const FIRST: u64 = 5 << 20;

fn view(body: &Body) -> Arc<View> {
    let crate::game::View { kind, name, hue, pose, health, tie, detail } = body.view();
    Arc::new(View { kind, name, hue, pose, health, tie, detail })
}

/// A world of one settler: what it sees and what the frontend would do.
struct Scene {
    settler: Settler,
    commons: Arc<Commons>,
    sight: Sight,
    now: Instant,
    place: (i32, i32),
    seq: u32,
    frames: u64,
}

impl Scene {
    /// A settler at tile 24, 24 of island 1, where everything that matters grows.
    fn new() -> Scene {
        let harbours = vec![SpawnPoint { x: 30 * 256, y: 24 * 256 }];
        let island = |id| Island {
            id,
            name: String::new(),
            width_tiles: 64,
            height_tiles: 64,
            stability: "stable".to_owned(),
            spawn_points: Vec::new(),
            harbours: harbours.clone(),
        };
        let commons = Arc::new(Commons::new(vec![island(1), island(2)]));
        for (x, y) in (0..4).flat_map(|x| (0..4).map(move |y| (x, y))) {
            let names = ["pine", "stone", "berry_bush", "flint", "fern", "herb", "clay", "mushroom"];
            let grows = names.iter().zip(0..).map(|(name, at)| ((x * 16 + at, y * 16), (*name).to_owned()));
            commons.learn((1, x, y), grows.collect());
        }
        let mut sight = Sight::new();
        sight.set_vision(1, &[(0, 0), (1, 0), (0, 1), (1, 1)], &[]);
        let mut settler = Settler::new(commons.clone(), 7, ME);
        settler.welcomed(ME, 1, FIRST);
        let place = (24 * 256, 24 * 256);
        Scene { settler, commons, sight, now: Instant::now(), place, seq: 0, frames: 0 }
    }

    /// Shows these objects in the places of tiles; nothing else is in sight then.
    fn show(&mut self, bodies: &[(u64, (i32, i32), Body)]) {
        self.frames += 1;
        let frames = self.frames;
        let objects = bodies.iter().map(|(id, (x, y), body)| {
            let motion = Motion::still(x * 256 + 128, y * 256 + 128, 0);
            Object { id: *id, epoch: 1, version: frames, motion, view: view(body) }
        });
        let content = Told::Keyframe(objects.collect());
        let head = FrameHead { keyframe: true, publisher: 9, island: 1, cell: (0, 0), seq: frames, time_ms: 0 };
        self.sight.apply(&Arc::new(Frame { head, content }));
    }

    fn eyes(&self) -> Eyes<'_> {
        let Scene { sight, now, place, .. } = self;
        Eyes { now: *now, island: 1, place: *place, walking: false, server_ms: 1_000, sight }
    }

    /// One turn; walks are walked, and half a second passes.
    fn turn(&mut self) -> Wish {
        self.now += Duration::from_millis(600);
        let (sight, now, place) = (&self.sight, self.now, self.place);
        let eyes = Eyes { now, island: 1, place, walking: false, server_ms: 1_000, sight };
        let wish = self.settler.turn(&eyes);
        match &wish {
            Wish::Walk(to) => self.place = *to,
            Wish::Act(..) => {
                self.seq += 1;
                self.settler.sent(self.seq, self.now);
            }
            Wish::Rest => {}
        }
        wish
    }

    /// Turns until it acts.
    fn act(&mut self) -> (u64, Act) {
        for _ in 0..1_000 {
            if let Wish::Act(number, act) = self.turn() {
                return (number, act);
            }
        }
        panic!("it does nothing: {:?}", self.settler.goals);
    }

    fn answer(&mut self, outcome: &Outcome) {
        let (sight, now, place) = (&self.sight, self.now, self.place);
        let eyes = Eyes { now, island: 1, place, walking: false, server_ms: 1_000, sight };
        assert!(self.settler.answered(self.seq, outcome, &eyes));
    }

    fn done(&mut self) {
        self.answer(&Outcome::Ok { motion: None });
    }

    fn refuse(&mut self, code: &str) {
        self.answer(&Outcome::Refused { code: code.to_owned(), text: String::new(), motion: None });
    }

    fn bag(&mut self, stacks: &[(&str, u64)]) {
        let stacks = stacks.iter().map(|(item, count)| ((*item).to_owned(), *count)).collect();
        let wares = Wares { stacks, uniques: Vec::new() };
        self.settler.told(&ServerMessage::Bag { wares, experience: 0, health: 100 }, self.now);
    }

    /// Answers the question for the bag, and goes on.
    fn settle_in(&mut self, stacks: &[(&str, u64)]) {
        let (_, act) = self.act();
        assert_eq!(act, Act::Bag {}, "it asks first of all what it carries");
        self.done();
        self.bag(stacks);
        // Quiet: it believes the bag.
        self.now += Duration::from_secs(3);
        self.settler.goals.clear();
    }

    fn want(&mut self, what: What) {
        self.settler.goals.clear();
        let now = self.now;
        self.settler.push(what, now);
    }

    /// Settles up, while the frontend says that this is carried; nothing is built.
    fn settles_up(&mut self, stacks: &[(&str, u64)]) {
        self.settler.close(self.now);
        for _ in 0..60 {
            if let Wish::Act(_, act) = self.turn() {
                assert_eq!(act, Act::Bag {}, "nothing new is begun");
                self.done();
                self.bag(stacks);
            }
            if let Some(chunks) = self.settler.to_look_at() {
                assert!(chunks.is_empty());
                self.settler.looked_at(&[]);
            }
        }
        self.settler.ended();
    }

    fn found(&self, kind: &str) -> u64 {
        self.commons.snapshot().findings.get(kind).map_or(0, |found| found.count)
    }
}

fn battle_view(exchanges: &[(u64, u64)]) -> Battle {
    let exchange = |&(number, cause): &(u64, u64)| Exchange {
        number,
        actor: ME,
        blow: 0,
        target: 77,
        harm: 5,
        reaction: 0,
        back: 0,
        cause,
    };
    Battle { members: vec![(ME, 0, 90), (77, 1, 40)], exchanges: exchanges.iter().map(exchange).collect() }
}

#[test]
fn a_tool_is_made_by_gathering_what_it_takes_and_every_act_has_the_next_number() {
    let mut scene = Scene::new();
    scene.settle_in(&[]);
    scene.want(What::Craft { recipe: "axe".to_owned() });
    let mut expected = FIRST;
    let mut gathered: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..20 {
        let (number, act) = scene.act();
        assert!(number > expected, "numbers rise");
        expected = number;
        match act {
            Act::Gather { x, .. } => *gathered.entry(if x % 16 == 0 { "wood" } else { "stone" }).or_default() += 1,
            Act::Craft { recipe } => {
                assert_eq!(recipe, "axe");
                scene.done();
                // A pine gives two at each stroke, a stone one.
                assert_eq!(gathered, BTreeMap::from([("wood", 1), ("stone", 2)]));
                assert_eq!(scene.settler.account.has("axe"), 1);
                return;
            }
            other => panic!("{other:?}"),
        }
        scene.done();
    }
    panic!("no axe");
}

#[test]
fn what_was_not_answered_before_a_loss_is_asked_again_under_its_number() {
    let mut scene = Scene::new();
    scene.settle_in(&[]);
    let (number, act) = scene.act();
    scene.settler.welcomed(ME, 1, 6 << 20);
    assert_eq!(scene.turn(), Wish::Act(number, act));
    scene.done();
    assert!(scene.act().0 >= 6 << 20, "what is new has a number of the new life");
    assert_eq!(scene.commons.snapshot().asked_again, 1);
    // An answer that nobody knows whether it happened: the same.
    let mut scene = Scene::new();
    scene.settle_in(&[]);
    let asked = scene.act();
    scene.refuse(codes::UNKNOWN);
    assert_eq!(scene.act(), asked);
    assert_eq!(scene.commons.snapshot().found(), 0);
}

#[test]
fn silence_is_a_finding_and_is_not_waited_for_for_ever() {
    let mut scene = Scene::new();
    scene.settle_in(&[]);
    let asked = scene.act();
    let begun = scene.now;
    while scene.now + 2 * ANSWER_DEADLINE < begun + ASKED_FOR {
        scene.now += ANSWER_DEADLINE;
        assert_eq!(scene.act(), asked);
    }
    scene.now += 3 * ANSWER_DEADLINE;
    assert_eq!(scene.turn(), Wish::Rest);
    assert_ne!(scene.act().0, asked.0);
    assert!(scene.found("unanswered") > 0 && scene.found("never_answered") == 1);
}

#[test]
fn an_act_of_an_earlier_life_is_asked_for_until_it_is_answered_or_too_old_and_then_the_bag_tells() {
    // What it gathered before the loss; whether the stroke happened nobody says.
    for (told, findings) in [(0, (0, 0)), (2, (0, 0)), (4, (0, 1))] {
        let mut scene = Scene::new();
        scene.settle_in(&[]);
        scene.turn();
        scene.settler.asked = None;
        scene.want(What::Gather { item: "wood".to_owned(), left: 9 });
        let asked = scene.act();
        assert!(matches!(asked.1, Act::Gather { .. }));
        scene.settler.welcomed(ME, 1, 6 << 20);
        for code in [codes::UNAVAILABLE, codes::BUSY, codes::UNKNOWN] {
            assert_eq!(scene.act(), asked);
            scene.refuse(code);
        }
        assert_eq!(scene.act(), asked);
        scene.refuse(codes::STALE);
        assert_eq!(scene.commons.snapshot().unresolved[codes::STALE], 1);
        let carried = [("wood", told)];
        scene.settles_up(if told == 0 { &[] } else { &carried });
        let report = scene.commons.snapshot();
        assert_eq!((report.lost, report.doubled), findings, "{:?}", report.findings);
        assert_eq!(scene.found("not_settled_up"), 0);
    }
}

#[test]
fn what_is_acknowledged_and_missing_after_a_loss_is_lost() {
    let mut scene = Scene::new();
    scene.settle_in(&[("wood", 6)]);
    scene.turn();
    scene.settler.asked = None;
    scene.want(What::Gather { item: "wood".to_owned(), left: 9 });
    let (_, act) = scene.act();
    assert!(matches!(act, Act::Gather { .. }));
    scene.done();
    scene.settler.welcomed(ME, 1, 6 << 20);
    scene.settles_up(&[("wood", 6)]);
    let report = scene.commons.snapshot();
    assert_eq!((report.lost, report.doubled, report.acknowledged > 0), (1, 0, true), "{:?}", report.findings);
}

#[test]
fn a_gift_that_was_acknowledged_must_come_once() {
    for (told, findings) in [(6, (1, 0)), (7, (0, 0)), (8, (0, 1))] {
        let mut scene = Scene::new();
        scene.settle_in(&[("wood", 6)]);
        // It believes its bag before anything is left for it.
        scene.turn();
        scene.settler.asked = None;
        let wood = Counts::from([("wood".to_owned(), 1)]);
        scene.commons.gives(ME, &wood);
        scene.commons.gave(ME, &wood);
        scene.settles_up(&[("wood", told)]);
        let report = scene.commons.snapshot();
        assert_eq!((report.lost, report.doubled), findings, "{told}: {:?}", report.findings);
    }
}

#[test]
fn works_and_land_that_are_not_there_are_lost() {
    let mut works = Works::default();
    works.done(&Act::Build { facility: "box".to_owned(), x: 20, y: 3, turned: 0 }, (1, 0, 0), Some(900));
    works.done(&Act::Claim {}, (1, 5, 5), Some(ME));
    works.done(&Act::Claim {}, (1, 6, 5), Some(ME));
    works.done(&Act::GiveUp {}, (1, 6, 5), None);
    assert_eq!(works.chunks(), [(1, 1, 0), (1, 5, 5), (1, 6, 5)]);
    let found = |objects: &[u64], owner: Option<u64>| works::Found { objects: objects.to_vec(), owner };
    let compare = |chunk, found| {
        let (compared, missing, more) = works.compare(chunk, &found, ME);
        (compared, missing.len(), more.len())
    };
    assert_eq!(compare((1, 1, 0), found(&[900], None)), (1, 0, 0));
    assert_eq!(compare((1, 1, 0), found(&[901], None)), (1, 1, 0));
    assert_eq!(compare((1, 5, 5), found(&[], Some(ME))), (1, 0, 0));
    assert_eq!(compare((1, 5, 5), found(&[], Some(43))), (1, 1, 0));
    assert_eq!(compare((1, 6, 5), found(&[], Some(ME))), (1, 0, 1));
    works.unsure(&Act::GiveUp {}, (1, 5, 5));
    assert!(!works.chunks().contains(&(1, 5, 5)));
}

#[test]
fn refusals_that_may_happen_are_counted_and_others_are_findings() {
    let mut scene = Scene::new();
    scene.settle_in(&[("wood", 9)]);
    for (code, finding) in [
        (codes::MISSING, false),
        ("occupied", false),
        (codes::TOO_FAR, false),
        (codes::MALFORMED, true),
        (codes::UNKNOWN_NAME, true),
        (codes::STALE, true),
        (codes::UNKNOWN_OP, true),
    ] {
        let (_, act) = scene.act();
        scene.refuse(code);
        assert_eq!(scene.commons.snapshot().acts[act.op()].refused[code], 1, "{code}");
        assert_eq!(scene.found(&format!("refused_{code}")), u64::from(finding), "{code}");
    }
}

#[test]
fn a_natural_object_that_is_used_up_is_left_for_another() {
    let mut scene = Scene::new();
    scene.settle_in(&[]);
    scene.want(What::Gather { item: "wood".to_owned(), left: 2 });
    let (_, first) = scene.act();
    scene.refuse(codes::MISSING);
    let (_, second) = scene.act();
    assert!(matches!((&first, &second), (Act::Gather { .. }, Act::Gather { .. })) && first != second);
    scene.done();
    // One that is shown as used up is not even tried.
    let Act::Gather { x, y } = second else { unreachable!() };
    let stump = Thing::Nature { natural: "pine".to_owned(), state: state::USED_UP, left: 0 };
    scene.show(&[(5, (i32::from(x), i32::from(y)), Body::Thing(stump))]);
    scene.want(What::Gather { item: "wood".to_owned(), left: 2 });
    assert!(![first, second].contains(&scene.act().1));
}

#[test]
fn meat_is_roasted_at_a_hearth_that_is_lit_first() {
    let mut scene = Scene::new();
    let hearth =
        |state| Body::Thing(Thing::Facility { facility: "hearth".to_owned(), state, builder: ME, extent: (2, 2, 0) });
    scene.settle_in(&[("meat", 1), ("wood", 3)]);
    scene.show(&[(8, (27, 24), hearth(0))]);
    scene.want(What::Craft { recipe: "roast".to_owned() });
    assert_eq!(scene.act().1, Act::Use { object: 8 });
    scene.done();
    scene.show(&[(8, (27, 24), hearth(state::LIT))]);
    assert_eq!(scene.act().1, Act::Craft { recipe: "roast".to_owned() });
}

#[test]
fn an_account_that_differs_after_quiet_is_asked_about_and_then_found() {
    let mut scene = Scene::new();
    scene.settle_in(&[("berry", 3)]);
    scene.turn();
    scene.settler.asked = None;
    scene.want(What::Eat);
    scene.now += Duration::from_secs(3);
    assert!(matches!(scene.act().1, Act::Eat { .. }));
    scene.done();
    // The frontend says that nothing was eaten.
    scene.bag(&[("berry", 3)]);
    let mut asked = 0;
    for _ in 0..40 {
        if let Wish::Act(_, act) = scene.turn() {
            if act == (Act::Bag {}) {
                asked += 1;
                scene.done();
                scene.bag(&[("berry", 3)]);
            } else {
                // Others would change the account: nothing comes of them here.
                scene.settler.asked = None;
            }
        }
    }
    assert!(asked >= 1 && scene.found("doubled") == 1, "{:?}", scene.commons.snapshot().findings);
}

#[test]
fn an_account_that_agrees_is_counted_and_a_gift_makes_it_doubt() {
    let mut account = Account::default();
    let now = Instant::now();
    let wares = |count| Wares { stacks: vec![("wood".to_owned(), count)], uniques: Vec::new() };
    let later = |seconds| now + Duration::from_secs(seconds);
    let nobody = Counts::new();
    let none = Sources { gifts: &nobody, loot: &|_| false };
    account.told(&wares(4), now);
    assert_eq!(account.compare(&none, later(3)), Compared::Not, "the first bag is believed");
    account.change(&Effect { more: counts(&wares(2)), ..Effect::default() }, later(4));
    account.told(&wares(6), later(4));
    assert_eq!(account.compare(&none, later(5)), Compared::Not, "it is not quiet");
    assert_eq!(account.compare(&none, later(7)), Compared::Same);
    account.doubt();
    account.told(&wares(9), later(8));
    assert_eq!(account.compare(&none, later(11)), Compared::Not);
    assert_eq!((account.has("wood"), account.doubts()), (9, 1));
    // What happened as a whole or not at all is found out by what is told, once.
    account.maybe(Effect { more: counts(&wares(5)), less: Counts::new() }, later(12));
    account.told(&wares(14), later(12));
    assert_eq!(account.compare(&none, later(15)), Compared::Same);
    account.told(&wares(19), later(16));
    assert_eq!(account.compare(&none, later(19)), Compared::Not);
    assert_eq!(account.question(), Some(Act::Bag {}));
    account.answered(later(19));
    account.told(&wares(19), later(20));
    let different = account.compare(&none, later(23));
    assert_eq!(different, Compared::Different(Counts::new(), counts(&wares(5))));
    // Loot comes for a while after a battle, and is the only thing that may.
    account.fights(later(24));
    let loot = Sources { loot: &|item| item == "wood", ..none };
    account.told(&wares(20), later(24));
    assert_eq!(account.compare(&loot, later(27)), Compared::Same);
}

#[test]
fn a_fighter_strikes_until_it_is_weak_and_then_flees() {
    let mut scene = Scene::new();
    scene.settle_in(&[]);
    let me = Player { name: "me".to_owned(), hue: 0, health: 90, party: 0, battle: 900 };
    let mut battle = battle_view(&[]);
    scene.show(&[(ME, (24, 24), Body::Player(me.clone())), (900, (25, 24), Body::Battle(battle.clone()))]);
    let mut blows = 0;
    for _ in 0..12 {
        let (_, act) = scene.act();
        assert!(matches!(act, Act::Blow { .. } | Act::Flee {}), "{act:?}");
        blows += u64::from(matches!(act, Act::Blow { target: 77, .. }));
        scene.done();
    }
    assert!(blows >= 6, "{blows}");
    battle.members[0].2 = 20;
    scene.show(&[(ME, (24, 24), Body::Player(me)), (900, (25, 24), Body::Battle(battle))]);
    assert_eq!(scene.act().1, Act::Flee {});
    assert_eq!(scene.commons.snapshot().battles, 1);
}

#[test]
fn exchanges_are_counted_once_and_gaps_and_halves_are_found() {
    let mut scene = Scene::new();
    let show = |scene: &mut Scene, numbers: &[(u64, u64)]| {
        let view = view(&Body::Battle(battle_view(numbers)));
        scene.settler.saw_battle(900, &view);
    };
    show(&mut scene, &[(3, 0), (4, 0)]);
    show(&mut scene, &[(4, 0), (5, 0)]);
    assert_eq!((scene.commons.snapshot().exchanges_seen, scene.commons.snapshot().found()), (3, 0));
    show(&mut scene, &[(7, 0)]);
    assert_eq!(scene.found("exchange_gap"), 1);
    show(&mut scene, &[(8, 0), (10, 0)]);
    assert_eq!(scene.found("exchange_numbers"), 1);
    let mut half = (*view(&Body::Battle(battle_view(&[(11, 0)])))).clone();
    half.detail[1][5] = 9;
    scene.settler.saw_battle(900, &half);
    assert_eq!(scene.found("exchange_half"), 1);
    half.detail[1].pop();
    scene.settler.saw_battle(900, &half);
    assert_eq!(scene.found("battle_view"), 1);
}

#[test]
fn a_command_of_a_battle_without_its_exchange_is_found() {
    let mut scene = Scene::new();
    scene.settle_in(&[]);
    let me = Player { name: "me".to_owned(), hue: 0, health: 90, party: 0, battle: 900 };
    let seen = |exchanges: &[(u64, u64)]| {
        [(ME, (24, 24), Body::Player(me.clone())), (900, (25, 24), Body::Battle(battle_view(exchanges)))]
    };
    scene.show(&seen(&[]));
    let (number, _) = scene.act();
    scene.done();
    let shown = view(&Body::Battle(battle_view(&[(1, number)])));
    scene.settler.saw_battle(900, &shown);
    assert_eq!(scene.commons.snapshot().own_exchanges, 1);
    let _ = scene.act();
    scene.done();
    scene.now += Duration::from_secs(11);
    scene.turn();
    assert_eq!(scene.found("exchange_missing"), 1);
}

#[test]
fn a_trade_is_offered_agreed_to_at_its_round_and_booked_once() {
    let mut scene = Scene::new();
    scene.settle_in(&[("wood", 9)]);
    let theirs = Side { wares: Wares { stacks: vec![("stone".to_owned(), 2)], uniques: Vec::new() }, consents: false };
    let mut trade =
        TradeState { trade: 5, other: 43, name: "Mina".to_owned(), round: 1, mine: Side::default(), theirs, state: 0 };
    scene.turn();
    scene.settler.asked = None;
    scene.settler.told(&ServerMessage::Trade(trade.clone()), scene.now);
    let (_, Act::Offer { trade: 5, wares }) = scene.act() else { panic!("it offers first") };
    assert_eq!(wares.stacks, [("wood".to_owned(), 3)]);
    scene.done();
    (trade.round, trade.mine.wares) = (2, wares);
    scene.settler.told(&ServerMessage::Trade(trade.clone()), scene.now);
    let (_, act) = scene.act();
    assert_eq!(act, Act::Consent { trade: 5, round: 2 });
    scene.done();
    trade.state = 1;
    for _ in 0..2 {
        scene.settler.told(&ServerMessage::Trade(trade.clone()), scene.now);
    }
    assert_eq!(scene.commons.snapshot().trades_done, 1);
    assert_eq!((scene.settler.account.has("wood"), scene.settler.account.has("stone")), (6, 2));
}

#[test]
fn one_is_not_in_two_places() {
    let scene = Scene::new();
    let shown = |version, x| Shown { epoch: 1, version, publisher: 9, motion: Motion::still(x, 0, 0) };
    scene.commons.shown(1, 5, shown(3, 100));
    scene.commons.shown(2, 5, shown(3, 100));
    scene.commons.shown(2, 5, shown(4, 200));
    scene.commons.shown(1, 5, shown(3, 999));
    assert_eq!(scene.found("two_places"), 0, "what is older is not compared");
    scene.commons.shown(1, 5, shown(4, 999));
    assert_eq!((scene.found("two_places"), scene.commons.snapshot().objects_compared), (1, 2));
}

#[test]
fn a_bag_that_was_asked_for_and_does_not_come_is_found_and_asked_for_again() {
    let (begun, content) = (Instant::now(), Counts::new());
    let later = |s| begun + Duration::from_secs(s);
    let bag = |wood| Wares { stacks: vec![("wood".to_owned(), wood)], uniques: Vec::new() };
    let none = Sources { gifts: &content, loot: &|_| false };
    let mut account = Account::default();
    assert_eq!(account.question(), Some(Act::Bag {}));
    account.answered(later(0));
    account.told(&bag(9), later(0));
    assert_eq!(account.compare(&none, later(3)), Compared::Not, "the first is believed");
    account.told(&bag(10), later(4));
    assert_eq!(account.compare(&none, later(7)), Compared::Not, "that an earlier question was answered does not count");
    assert_eq!(account.question(), Some(Act::Bag {}));
    account.answered(later(8));
    assert_eq!(account.compare(&none, later(23)), Compared::Not);
    assert_eq!(account.compare(&none, later(24)), Compared::Untold);
    assert_eq!((account.question(), account.doubts()), (Some(Act::Bag {}), 1));
    account.answered(later(24));
    account.told(&bag(10), later(24));
    assert_eq!(account.compare(&none, later(27)), Compared::Not, "it is believed");
    account.told(&bag(10), later(28));
    assert_eq!(account.compare(&none, later(31)), Compared::Same);
}

#[test]
fn a_settler_left_to_itself_tries_most_of_what_there_is() {
    let mut scene = Scene::new();
    let player = |name: &str| Body::Player(Player { name: name.to_owned(), hue: 0, health: 100, party: 0, battle: 0 });
    let goat =
        crate::game::animal::Animal { species: "goat".to_owned(), hue: 0, pose: 0, health: 100, herd: 1, battle: 0 };
    let seen = [(ME, (24, 24), player("me")), (43, (26, 24), player("Mina")), (77, (25, 27), Body::Animal(goat))];
    scene.show(&seen);
    scene.settle_in(&[("wood", 40), ("stone", 20), ("berry", 9), ("meat", 3)]);
    let mut made = 1_000;
    let mut walks = 0;
    for _ in 0..3_000 {
        match scene.turn() {
            Wish::Act(_, act) => {
                let makes = matches!(act, Act::Build { .. } | Act::Claim {} | Act::Trade { .. } | Act::Invite { .. });
                made += 1;
                // Battles and islands that are not there: refused, as honest servers do.
                match act {
                    Act::Attack { .. } | Act::Sail { .. } => scene.refuse(codes::TOO_FAR),
                    _ if makes => scene.answer(&Outcome::Made { number: made }),
                    _ => scene.done(),
                }
                scene.place = (24 * 256, 24 * 256);
            }
            Wish::Walk(_) => walks += 1,
            Wish::Rest => {}
        }
    }
    let report = scene.commons.snapshot();
    let tried: Vec<&str> = report.acts.keys().map(String::as_str).collect();
    for op in ["gather", "craft", "build", "claim", "attack", "trade", "gift", "invite", "chat", "sail", "put", "look"]
    {
        assert!(tried.contains(&op), "{op} is never tried: {tried:?}");
    }
    assert!(tried.iter().all(|op| ACTS.contains(op)) && walks > 0);
    assert!(report.goals.values().any(|goal| goal.done > 10));
    assert!(scene.eyes().all(kind::PLAYER).count() == 2);
}
