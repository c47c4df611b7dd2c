//! Battles of made-up fighters: what is refused, what comes of blows, who gets what, and what never happens.

use mesh::NodeId;

use super::*;
use crate::protocol::codes;

const BATTLE: u64 = 77;
const HERO: ObjectId = ObjectId(1);
const BOAR: ObjectId = ObjectId(1 << 52 | 5);

fn player(id: u64) -> Fighter {
    let (name, node) = (format!("player {id}"), NodeId::new("frontend-1").expect("a name"));
    Fighter { object: ObjectId(id), node, side: 0, name, health: 100, harm: 12, toughness: 100, fear: 0 }
}

fn boar() -> Fighter {
    let (name, node) = ("wild_boar".to_owned(), NodeId::new("zoo-1").expect("a name"));
    Fighter { object: BOAR, node, side: 1, name, health: 100, harm: 9, toughness: 150, fear: 20 }
}

/// A beast that never flees, never does harm and takes long to fall.
fn rock() -> Fighter {
    Fighter { harm: 0, toughness: 10_000, fear: 0, ..boar() }
}

fn room_of(number: u64, hero: Fighter, beast: Fighter) -> Room {
    Room::open(number, (IslandId(1), Place::new(9, 9)), (hero, 1), (beast, 2), 1_000).expect("a battle")
}

fn act(actor: u64, blow: u8, target: ObjectId) -> Event {
    act_as(0, actor, blow, target)
}

fn act_as(cause: u64, actor: u64, blow: u8, target: ObjectId) -> Event {
    Event::Act { actor: ObjectId(actor), blow, target, cause }
}

fn exchanges(effects: &[Effect]) -> Vec<Exchange> {
    let of = |effect: &Effect| if let Effect::Exchange(exchange) = effect { Some(*exchange) } else { None };
    effects.iter().filter_map(of).collect()
}

struct Play {
    room: Room,
    content: std::sync::Arc<Content>,
    now: u64,
}

impl Play {
    fn new(room: Room) -> Play {
        Play { room, content: Content::bundled(), now: 1_000 }
    }

    fn step(&mut self, event: Event) -> Result<Vec<Effect>, Refused> {
        self.room.step(&self.content, self.now, event)
    }

    fn tick(&mut self) -> Vec<Exchange> {
        self.now += 50;
        exchanges(&self.step(Event::Tick).expect("a tick is never refused"))
    }

    fn health(&self, id: ObjectId) -> u8 {
        self.room.member(id).expect("a member").fighter.health
    }

    /// Strikes as soon as it may until the room is over.
    fn strike_on(&mut self, actor: u64, target: ObjectId) {
        for _ in 0..100_000 {
            if self.room.over() {
                return;
            }
            match self.step(act(actor, blow::STRIKE, target)) {
                Ok(_) | Err(Refused::TooSoon | Refused::Missing) => {}
                Err(other) => panic!("{other}"),
            }
            self.tick();
        }
        panic!("the battle does not end");
    }
}

#[test]
fn commands_are_refused_for_what_is_wrong_with_them() {
    let check = |prepare: &[Event], event: Event, expected: Result<(), &str>| {
        let mut play = Play::new(room_of(BATTLE, player(1), rock()));
        for before in prepare {
            play.step(before.clone()).expect("the preparation");
        }
        let before = play.room.clone();
        let answer = play.step(event.clone()).map(drop).map_err(Refused::code);
        assert_eq!(answer, expected, "{event:?}");
        assert!(answer.is_ok() || play.room == before, "a refusal changes nothing");
    };
    let strike = |actor| act(actor, blow::STRIKE, BOAR);
    check(&[], strike(1), Ok(()));
    check(&[strike(1)], strike(1), Err(codes::TOO_SOON));
    check(&[strike(1)], act(1, blow::FLEE, HERO), Err(codes::TOO_SOON));
    check(&[], strike(2), Err(codes::MISSING));
    check(&[], act(1, blow::HEAVY, ObjectId(3)), Err(codes::MISSING));
    check(&[], act(1, blow::STRIKE, HERO), Err(codes::FORBIDDEN));
    check(&[Event::Join(player(2), 1)], act(1, blow::STRIKE, ObjectId(2)), Err(codes::FORBIDDEN));
    check(&[], act(1, 9, BOAR), Err(codes::FORBIDDEN));
    check(&[], act(1, blow::GUARD, ObjectId(3)), Ok(()));
    check(&[Event::Leave(BOAR)], strike(1), Err(codes::MISSING));
    check(&[Event::Leave(BOAR)], Event::Join(player(2), 1), Err(codes::MISSING));
    check(&[], Event::Join(Fighter { health: 0, ..player(2) }, 1), Err(codes::DEFEATED));
    check(&[Event::Join(player(2), 1), Event::Leave(ObjectId(2))], Event::Join(player(2), 1), Err(codes::BUSY));
    let crowd: Vec<Event> = (2..=MEMBERS as u64 - 1).map(|id| Event::Join(player(id), 1)).collect();
    check(&crowd, Event::Join(player(99), 1), Err(codes::FULL));
    check(&crowd, Event::Join(player(9), 1), Ok(()));
}

#[test]
fn a_battle_is_between_two_sides_that_can_fight() {
    let open = |hero: Fighter, beast: Fighter| {
        Room::open(BATTLE, (IslandId(1), Place::new(9, 9)), (hero, 1), (beast, 2), 0).map(drop)
    };
    assert_eq!(open(player(1), boar()), Ok(()));
    assert_eq!(open(boar(), player(1)), Ok(()));
    assert_eq!(open(player(1), player(2)), Err(Refused::Forbidden));
    assert_eq!(open(player(1), Fighter { health: 0, ..boar() }), Err(Refused::Defeated));
    assert_eq!(open(Fighter { health: 0, ..player(1) }, boar()), Err(Refused::Defeated));
}

#[test]
fn the_next_blow_comes_after_the_pause_and_a_heavy_one_keeps_twice_as_long() {
    for (blow, pauses) in [(blow::STRIKE, 1), (blow::GUARD, 1), (blow::HEAVY, 2)] {
        let mut play = Play::new(room_of(BATTLE, player(1), rock()));
        let pause = play.content.tuning.blow_ms * pauses;
        play.step(act(1, blow, BOAR)).expect("the first");
        play.now += pause - 1;
        assert_eq!(play.step(act(1, blow::STRIKE, BOAR)), Err(Refused::TooSoon), "{blow}");
        play.now += 1;
        assert!(play.step(act(1, blow::STRIKE, BOAR)).is_ok(), "{blow}");
    }
}

#[test]
fn what_a_blow_takes_follows_harm_toughness_guard_and_weight() {
    // Harm, toughness, blow, guarded; the least and the most that is taken by somebody with all its stamina.
    let check = |harm: u8, toughness: u16, blow: u8, guarded: bool, (least, most): (u8, u8)| {
        let mut seen = (u8::MAX, 0);
        for number in 0..2_000 {
            let room = room_of(number, Fighter { harm, ..player(1) }, Fighter { toughness, ..boar() });
            let (mut actor, mut target) = (room.members[0].clone(), room.members[1].clone());
            actor.rested_ms = 0;
            target.guard_ms = if guarded { 2_000 } else { 0 };
            let planned = plan::plan(Chance::of(number, 1), blow, &actor, &target, 1_000);
            let expected: &[u8] = match (guarded, planned.harm) {
                (_, 100) => &[reaction::FALLS],
                (true, _) => &[reaction::GUARDS],
                (false, 0) => &[reaction::DODGES],
                (false, _) => &[reaction::STRUCK, reaction::STRIKES_BACK],
            };
            assert!(expected.contains(&planned.reaction), "{planned:?}");
            if planned.reaction != reaction::DODGES {
                seen = (seen.0.min(planned.harm), seen.1.max(planned.harm));
            }
        }
        assert_eq!(seen, (least, most), "harm {harm}, toughness {toughness}, blow {blow}, guarded {guarded}");
    };
    check(10, 100, blow::STRIKE, false, (8, 12));
    check(10, 200, blow::STRIKE, false, (4, 6));
    check(10, 100, blow::HEAVY, false, (16, 24));
    check(20, 100, blow::STRIKE, true, (4, 6));
    check(20, 100, blow::HEAVY, true, (16, 24));
    check(1, 10_000, blow::STRIKE, false, (1, 1));
    check(200, 50, blow::HEAVY, false, (100, 100));
}

#[test]
fn flight_succeeds_more_often_with_every_try() {
    let mut shares = Vec::new();
    for tries in 0..5 {
        let away = (0..1_000).filter(|number| {
            let mut room = room_of(*number, player(1), boar());
            room.members[0].tries = tries;
            let me = &room.members[0];
            plan::plan(Chance::of(*number, 1), blow::FLEE, me, me, 0).reaction == reaction::GETS_AWAY
        });
        shares.push(away.count() / 10);
    }
    assert!(shares.is_sorted() && shares[0] > 20 && shares[0] < 40 && shares[4] == 100, "{shares:?}");
}

#[test]
fn who_gets_away_leaves_the_other_as_the_winner_and_nobody_is_locked_in() {
    let mut play = Play::new(room_of(BATTLE, player(1), rock()));
    while !play.room.over() {
        // Held until it gets away.
        let _ = play.step(act(1, blow::FLEE, HERO));
        play.tick();
    }
    let ends: Vec<_> = play.room.members().iter().map(|m| (m.id(), m.end())).collect();
    assert_eq!(ends, [(HERO, Some(Freed::Left)), (BOAR, Some(Freed::Won))]);
    assert_eq!(play.room.debts(), [Debt::Member(HERO), Debt::Member(BOAR)]);
    assert!(!play.room.done(play.now + LINGER_MS), "somebody is still to be given back");
    for debt in play.room.debts() {
        play.step(Event::Settled(debt)).expect("settled");
    }
    assert!(!play.room.done(play.room.stirred_ms + LINGER_MS - 1), "the last exchange is still to be seen");
    assert!(play.room.done(play.room.stirred_ms + LINGER_MS));
}

#[test]
fn a_fallen_beast_is_shared_by_those_who_struck_it_and_stand() {
    let mut play = Play::new(room_of(BATTLE, player(1), Fighter { harm: 0, toughness: 40, fear: 0, ..boar() }));
    for id in 2..=4 {
        play.step(Event::Join(player(id), 1)).expect("joined");
    }
    // One and two strike, three strikes and leaves, four only looks on.
    let mut struck = [false; 3];
    while struck != [true; 3] {
        for (index, id) in (1..=3).enumerate() {
            let answer = play.step(act(id, blow::STRIKE, BOAR));
            struck[index] |= answer.is_ok_and(|e| exchanges(&e).iter().any(|e| e.actor == id && e.harm > 0));
        }
        play.now += 1_000;
        play.tick();
        assert!(!play.room.over(), "it fell before all had struck it: choose other numbers");
    }
    play.step(Event::Leave(ObjectId(3))).expect("left");
    play.strike_on(2, BOAR);
    assert_eq!(play.health(BOAR), 0);
    let spoil = |id: u64| play.room.spoil(BOAR, ObjectId(id)).map(|s| (s.goods["meat"], s.goods["hide"], s.experience));
    assert_eq!([1, 2, 3, 4].map(spoil), [Some((2, 1, 30)), Some((2, 1, 30)), None, None]);
    let debts = play.room.debts();
    assert!(!debts.contains(&Debt::Member(BOAR)), "it is given back when all is paid: {debts:?}");
    for debt in debts {
        play.step(Event::Settled(debt)).expect("settled");
    }
    assert_eq!(play.room.debts(), [Debt::Member(BOAR)]);
}

#[test]
fn the_odd_item_goes_to_who_struck_last() {
    let mut play = Play::new(room_of(BATTLE, player(1), Fighter { name: "goat".to_owned(), ..rock() }));
    play.step(Event::Join(player(2), 1)).expect("joined");
    let (striker, last) = (HERO, ObjectId(2));
    let beast = play.room.standing(BOAR).expect("a beast");
    (beast.strikers, beast.struck_by, beast.fighter.health) = (vec![striker, last], Some(last), 0);
    let content = play.content.clone();
    play.room.share(&content, BOAR);
    let hides = |id| play.room.spoil(BOAR, id).expect("a share").goods.get("hide").copied();
    assert_eq!((hides(last), hides(striker)), (Some(1), None), "a goat has one hide");
}

#[test]
fn more_blows_than_a_tick_shows_wait_for_the_next_in_their_order() {
    let mut play = Play::new(room_of(BATTLE, player(1), rock()));
    for id in 2..=6 {
        play.step(Event::Join(player(id), 1)).expect("joined");
    }
    let mut seen = Vec::new();
    for id in 1..=6 {
        seen.extend(exchanges(&play.step(act(id, blow::GUARD, BOAR)).expect("accepted")));
    }
    assert_eq!(seen.len(), EXCHANGES_A_TICK);
    seen.extend(play.tick());
    let players: Vec<u64> = seen.iter().map(|e| e.actor).filter(|id| *id < 10).collect();
    assert_eq!(players, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_command_whose_target_fell_while_it_waited_comes_to_nothing_and_costs_no_time() {
    let mut play = Play::new(room_of(BATTLE, player(1), rock()));
    play.step(Event::Join(Fighter { object: ObjectId(BOAR.0 + 1), ..rock() }, 2)).expect("another beast");
    play.room.this_tick = EXCHANGES_A_TICK;
    play.step(act(1, blow::STRIKE, BOAR)).expect("accepted");
    play.step(Event::Leave(BOAR)).expect("gone");
    assert!(play.tick().iter().all(|e| e.actor != HERO.0));
    assert!(play.step(act(1, blow::STRIKE, ObjectId(BOAR.0 + 1))).is_ok());
}

#[test]
fn who_comes_back_from_another_node_takes_its_place_with_the_wounds_it_had() {
    let mut play = Play::new(room_of(BATTLE, player(1), rock()));
    play.room.standing(HERO).expect("it stands").fighter.health = 31;
    play.step(Event::Living(vec![(boar().node, 2)])).expect("told");
    play.now += GRACE_MS - 100;
    play.tick();
    let node = NodeId::new("frontend-2").expect("a name");
    let back = Fighter { node: node.clone(), ..player(1) };
    let effects = play.step(Event::Join(back, 8)).expect("it is back");
    assert_eq!(effects, [Effect::Told { node: node.clone(), object: HERO, health: 31 }]);
    play.step(Event::Living(vec![(boar().node, 2), (node, 8)])).expect("told");
    play.now += GRACE_MS;
    play.tick();
    assert!(!play.room.over(), "its owner is there");
    play.step(Event::Living(vec![(boar().node, 2)])).expect("told");
    play.now += GRACE_MS;
    play.tick();
    assert!(play.room.over(), "nobody stays whose owner stays away");
}

#[test]
fn a_battle_in_which_nothing_happens_ends() {
    let mut play = Play::new(room_of(BATTLE, player(1), rock()));
    play.room.standing(BOAR).expect("it stands").ready_ms = u64::MAX;
    play.now += IDLE_MS - 51;
    play.tick();
    assert!(!play.room.over());
    play.now += 1;
    play.tick();
    assert!(play.room.members().iter().all(|m| m.end() == Some(Freed::Left)));
}

#[test]
fn animals_flee_when_they_have_lost_their_courage_and_strike_back_at_who_struck_them() {
    let mut room = room_of(BATTLE, player(1), Fighter { fear: 60, ..boar() });
    room.step(&Content::bundled(), 1_000, Event::Join(Fighter { health: 10, ..player(2) }, 1)).expect("joined");
    let choices = |room: &Room| {
        let chosen =
            |n| mind::choose(Chance::of(n, 1), &room.members[1], &room.members, 1_000).expect("foes are there");
        (0..1_000).map(chosen).collect::<Vec<_>>()
    };
    assert!(choices(&room).iter().all(|(blow, whom)| *blow != blow::FLEE && *whom == ObjectId(2)), "the weakest");
    room.members[1].struck_by = Some(HERO);
    assert!(choices(&room).iter().all(|(_, whom)| *whom == HERO), "who struck it");
    room.members[1].fighter.health = 59;
    let flights = choices(&room).iter().filter(|(blow, _)| *blow == blow::FLEE).count();
    assert!((500..700).contains(&flights), "{flights} of 1,000");
    room.members[1].rested_ms = u64::MAX;
    room.members[1].fighter.fear = 0;
    assert!(choices(&room).iter().any(|(blow, _)| *blow == blow::GUARD), "it takes breath");
}

#[test]
fn the_same_battle_goes_on_the_same_on_another_node_with_another_clock() {
    let both = |moves: bool| {
        let mut play = Play::new(room_of(BATTLE, player(1), boar()));
        play.step(Event::Join(player(2), 1)).expect("joined");
        let mut seen = Vec::new();
        for round in 0..400 {
            for (id, blow) in [(1, blow::STRIKE), (2, blow::HEAVY)] {
                seen.extend(exchanges(&play.step(act(id, blow, BOAR)).unwrap_or_default()));
            }
            seen.extend(play.tick());
            if moves && round == 60 {
                let saved = serde_json::to_value(play.room.at_rest(play.now)).expect("it can be written");
                play.now += 1_000_000;
                play.room = serde_json::from_value::<Room>(saved).expect("and read").awake(play.now);
            }
        }
        (seen, play.room.members.iter().map(|m| (m.id(), m.fighter.health, m.end)).collect::<Vec<_>>())
    };
    let (stays, moves) = (both(false), both(true));
    assert!(stays.0.len() > 10);
    assert_eq!(stays, moves);
}

#[test]
fn health_stays_within_bounds_numbers_have_no_gaps_and_the_fallen_never_act() {
    let mut falls = 0;
    for seed in 0..300 {
        let mut chance = Chance::of(seed, 0);
        let beast = Fighter { harm: chance.below(256) as u8, fear: chance.below(101) as u8, ..boar() };
        let mut play = Play::new(room_of(seed, player(1), beast));
        let (mut last, mut out) = (0, std::collections::BTreeSet::new());
        for _ in 0..300 {
            let some = |chance: &mut Chance| if chance.percent(40) { BOAR } else { ObjectId(1 + chance.below(8)) };
            let event = match chance.below(10) {
                0 => Event::Join(Fighter { harm: chance.below(256) as u8, ..player(1 + chance.below(8)) }, 1),
                1 if chance.percent(10) => Event::Leave(some(&mut chance)),
                2 => play.room.debts().first().map_or(Event::Tick, |debt| Event::Settled(*debt)),
                3 => {
                    Event::Living(if chance.percent(90) { vec![(player(1).node, 1), (boar().node, 2)] } else { vec![] })
                }
                4 | 5 => Event::Tick,
                _ => Event::Act {
                    actor: some(&mut chance),
                    blow: chance.below(5) as u8,
                    target: some(&mut chance),
                    cause: 0,
                },
            };
            play.now += chance.below(600);
            if let Event::Join(fighter, _) = &event
                && play.room.member(fighter.object).is_none()
            {
                out.remove(&fighter.object.0);
            }
            let effects = play.step(event).unwrap_or_default();
            for exchange in exchanges(&effects) {
                last += 1;
                assert_eq!(exchange.number, last, "seed {seed}");
                assert!(!out.contains(&exchange.actor), "seed {seed}: {exchange:?} of one who is out");
                assert!(!out.contains(&exchange.target), "seed {seed}: {exchange:?} at one who is out");
                if exchange.reaction == reaction::FALLS {
                    falls += 1;
                    out.insert(exchange.target);
                }
                if exchange.reaction == reaction::GETS_AWAY {
                    out.insert(exchange.actor);
                }
            }
            let view = play.room.view();
            assert!(view.members.iter().all(|(_, _, health)| *health <= 100), "seed {seed}: {view:?}");
            assert!(play.room.members.len() <= MEMBERS && view.exchanges.len() <= SHOWN);
            assert!(view.exchanges.last().is_none_or(|e| e.number == last));
            assert_eq!(Battle::of(&view.view().detail), Some(view));
            let sides = |side| play.room.members.iter().any(|m| m.stands() && m.fighter.side == side);
            assert_eq!(play.room.over(), !(sides(0) && sides(1)), "seed {seed}: nobody is locked in");
        }
    }
    assert!(falls > 100, "{falls}");
}

#[test]
fn who_is_absent_neither_acts_nor_is_struck_and_the_others_fight_on() {
    let mut play = Play::new(room_of(BATTLE, player(1), Fighter { fear: 0, ..rock() }));
    let other = ObjectId(BOAR.0 + 1);
    let zoo = NodeId::new("zoo-2").expect("a name");
    play.step(Event::Join(Fighter { object: other, node: zoo.clone(), harm: 1, fear: 0, ..boar() }, 3))
        .expect("joined");
    play.step(Event::Join(player(2), 1)).expect("joined");
    let second = NodeId::new("frontend-2").expect("a name");
    play.step(Event::Join(Fighter { node: second, ..player(3) }, 4)).expect("joined");
    // The owners of the first beast and of the third player are gone.
    let there = vec![(player(1).node, 1), (zoo, 3)];
    play.step(Event::Living(there.clone())).expect("told");
    let gone = [BOAR, ObjectId(3)];
    let mut struck = 0;
    while play.now < 1_000 + GRACE_MS - 100 {
        assert_eq!(play.step(act(1, blow::STRIKE, BOAR)).map(drop), Err(Refused::Away));
        assert_eq!(play.step(act(3, blow::GUARD, ObjectId(3))).map(drop), Err(Refused::Away));
        let mut seen = exchanges(&play.step(act(2, blow::STRIKE, other)).unwrap_or_default());
        seen.extend(play.tick());
        struck += seen.len();
        assert!(seen.iter().all(|it| gone.iter().all(|id| ![it.actor, it.target].contains(&id.0))), "{seen:?}");
        play.room.standing(other).expect("it stands").fighter.health = 100;
        for id in [1, 2] {
            play.room.standing(ObjectId(id)).expect("it stands").fighter.health = 100;
        }
    }
    assert!(struck > 20, "the others fight: {struck}");
    assert!(gone.iter().all(|id| play.room.member(*id).expect("a member").stands()), "they have their time");
    play.now += 100;
    play.tick();
    assert!(gone.iter().all(|id| play.room.member(*id).expect("a member").end() == Some(Freed::Left)));
    assert!(!play.room.over(), "the others fight on");
}

#[test]
fn who_fell_while_its_owner_was_gone_is_given_to_its_new_owner() {
    let mut play = Play::new(room_of(BATTLE, player(1), Fighter { toughness: 20, ..rock() }));
    play.strike_on(1, BOAR);
    play.step(Event::Living(vec![(player(1).node, 1)])).expect("told");
    assert_eq!(play.step(Event::Join(boar(), 2)).map(drop), Err(Refused::Missing), "nothing new: the battle is over");
    let zoo = NodeId::new("zoo-2").expect("a name");
    let effects = play.step(Event::Join(Fighter { node: zoo.clone(), ..boar() }, 9)).expect("it is that one's now");
    assert_eq!(effects, [Effect::Told { node: zoo.clone(), object: BOAR, health: 0 }]);
    let member = play.room.member(BOAR).expect("a member");
    assert_eq!((&member.fighter.node, member.life, member.away_ms()), (&zoo, 9, None));
    assert_eq!(member.end(), Some(Freed::Defeated), "and fallen it stays");
}

#[test]
fn a_command_that_is_asked_again_happens_once_wherever_the_battle_goes_on() {
    let mut play = Play::new(room_of(BATTLE, player(1), rock()));
    let first = exchanges(&play.step(act_as(7, 1, blow::STRIKE, BOAR)).expect("accepted"));
    assert_eq!(first.iter().map(|it| it.cause).collect::<Vec<_>>(), [7]);
    play.now += 10_000;
    assert_eq!(play.step(act_as(7, 1, blow::STRIKE, BOAR)), Ok(vec![]), "it was its answer that was lost");
    // One that waited for its turn goes with the room.
    play.room.this_tick = EXCHANGES_A_TICK;
    assert_eq!(play.step(act_as(8, 1, blow::HEAVY, BOAR)), Ok(vec![]));
    let saved = serde_json::to_value(play.room.at_rest(play.now)).expect("it can be written");
    play.now += 1_000_000;
    play.room = serde_json::from_value::<Room>(saved).expect("and read").awake(play.now);
    assert_eq!(play.step(act_as(8, 1, blow::HEAVY, BOAR)).map(|it| exchanges(&it).len()), Ok(1), "carried out, once");
    play.now += 10_000;
    assert_eq!(play.step(act_as(8, 1, blow::HEAVY, BOAR)), Ok(vec![]));
    assert_eq!(exchanges(&play.step(act_as(9, 1, blow::STRIKE, BOAR)).expect("another")).len(), 1);
}

/// What is to be the same in a room that has caught up.
type State = (Battle, Vec<(ObjectId, u8, Option<Freed>, Vec<ObjectId>, u64)>, Vec<Spoil>);

fn state(room: &Room) -> State {
    let member = |m: &Member| (m.id(), m.fighter.health, m.end, m.strikers.clone(), m.cause);
    (room.view(), room.members.iter().map(member).collect(), room.spoils.clone())
}

#[test]
fn a_room_catches_up_with_what_was_shown_after_it_was_saved() {
    let (mut caught, mut fell) = (0, 0);
    for seed in 0..200 {
        let beast = Fighter { toughness: 60, harm: 30, fear: 30, ..boar() };
        let mut play = Play::new(room_of(seed, player(1), beast));
        play.step(Event::Join(player(2), 1)).expect("joined");
        let mut cause = 0;
        let mut round = |play: &mut Play| {
            for (id, blow) in [(1, blow::STRIKE), (2, blow::HEAVY)] {
                cause += 1;
                let _ = play.step(act_as(cause, id, blow, BOAR));
            }
            play.tick();
        };
        for _ in 0..seed % 40 {
            round(&mut play);
        }
        let saved = serde_json::to_value(play.room.at_rest(play.now)).expect("it can be written");
        let before = play.room.exchanges();
        while play.room.exchanges() < before + seed % (SHOWN as u64) && !play.room.over() {
            round(&mut play);
        }
        let fresh = play.room.exchanges() - before;
        if fresh > SHOWN as u64 {
            continue;
        }
        let mut room = serde_json::from_value::<Room>(saved).expect("and read").awake(play.now);
        assert_eq!(room.catch_up(&play.content, &play.room.view(), play.now), fresh, "seed {seed}");
        assert_eq!(state(&room), state(&play.room), "seed {seed}");
        assert_eq!(room.over(), play.room.over(), "seed {seed}");
        let same = room.clone();
        assert_eq!(room.catch_up(&play.content, &play.room.view(), play.now), 0, "what is known changes nothing");
        assert_eq!(room, same);
        caught += u64::from(fresh > 0);
        fell += u64::from(fresh > 0 && !room.spoils.is_empty());
    }
    assert!(caught > 100 && fell > 5, "{caught} caught up, {fell} with a beast that fell");
}

#[test]
fn of_what_is_shown_no_longer_the_wounds_count() {
    let mut play = Play::new(room_of(BATTLE, player(1), Fighter { toughness: 3_000, ..rock() }));
    let saved = play.room.at_rest(play.now);
    while play.health(BOAR) > 40 {
        let _ = play.step(act(1, blow::HEAVY, BOAR));
        play.tick();
    }
    assert!(play.room.exchanges() > 3 * SHOWN as u64, "more than a view shows");
    let mut room = saved.clone().awake(play.now);
    room.catch_up(&play.content, &play.room.view(), play.now);
    assert_eq!(room.view(), play.room.view());
    // A view in which it has fallen by a blow that is not shown.
    let mut shown = play.room.view();
    shown.members.iter_mut().filter(|member| member.0 == BOAR.0).for_each(|member| member.2 = 0);
    let mut room = saved.awake(play.now);
    room.catch_up(&play.content, &shown, play.now);
    assert!(room.over() && room.spoil(BOAR, HERO).is_some(), "it fell, and was fought for");
}
