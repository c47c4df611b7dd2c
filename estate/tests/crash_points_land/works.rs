//! Building, demolishing, moving: across four chunks, with a cost, each asked for by two drivers.

use cartographer::geometry::{ObjectId, Tile};
use estate::land::{Footprint, Rotation};

use super::{
    ANN, Ask, BOB, COINS, DEED, FIRST, NOW_S, OBJECT, PRICE, PurseDocument, Told, check, check_sole, claim, ensure,
    holding, keys_of, left, object, prove, rectangle, scenario,
};

#[test]
fn a_build_across_four_chunks_asked_for_by_two_drivers_happens_once() {
    let footprint = rectangle(15, 15, 2, 2);
    let build = Ask::Build { by: ANN, id: OBJECT, footprint: footprint.clone() };
    let scenario = scenario("one build twice", &[], &[(1, build.clone()), (1, build)]).check(move |end| {
        let built = object(end, OBJECT)?.is_some();
        let keys = if built { keys_of(&footprint, OBJECT) } else { Vec::new() };
        check_sole(end, &keys, true, built)
    });
    prove(&scenario);
}

#[test]
fn of_two_builds_that_overlap_across_four_chunks_at_most_one_stands() {
    let (left, right) = (rectangle(15, 15, 2, 2), rectangle(16, 14, 2, 3));
    let asks = [
        (1, Ask::Build { by: ANN, id: OBJECT, footprint: left.clone() }),
        (2, Ask::Build { by: BOB, id: ObjectId(11), footprint: right.clone() }),
    ];
    let scenario = scenario("two builds", &[], &asks).check(move |end| {
        let built = [object(end, OBJECT)?.is_some(), object(end, ObjectId(11))?.is_some()];
        let keys = match built {
            [true, false] => keys_of(&left, OBJECT),
            [false, true] => keys_of(&right, ObjectId(11)),
            [false, false] => Vec::new(),
            [true, true] => return Err("both stand".to_owned()),
        };
        ensure(end.faults > 0 || end.alone || built != [false, false], || "none stands".to_owned())?;
        let codes: Vec<[&str; 2]> = end.told().map(Told::codes).collect();
        let fits = codes.iter().flatten().all(|code| ["", "occupied"].contains(code));
        ensure(end.faults > 0 || fits, || format!("{codes:?}"))?;
        check(end, &keys, true, &[(1, built[0]), (2, built[1])])
    });
    prove(&scenario);
}

fn hut(footprint: &Footprint) -> Vec<Ask> {
    vec![Ask::Build { by: ANN, id: OBJECT, footprint: footprint.clone() }]
}

#[test]
fn a_demolition_asked_for_by_two_drivers_leaves_nothing() {
    let footprint = rectangle(15, 15, 2, 2);
    let demolish = Ask::Demolish { by: ANN };
    let asks = [(1, demolish.clone()), (1, demolish)];
    let scenario = scenario("one demolition twice", &hut(&footprint), &asks).check(move |end| {
        let gone = object(end, OBJECT)?.is_none();
        let keys = if gone { Vec::new() } else { keys_of(&footprint, OBJECT) };
        check_sole(end, &keys, true, gone)
    });
    prove(&scenario);
}

#[test]
fn a_move_onto_its_own_tiles_asked_for_by_two_drivers_happens_once() {
    let (from, to) = (rectangle(15, 15, 3, 2), rectangle(16, 16, 3, 2));
    let to = to.at(Tile::new(16, 16), Rotation::R90).expect("turned");
    let asks = [(1, Ask::Move { x: 16, y: 16 }), (1, Ask::Move { x: 16, y: 16 })];
    let scenario = scenario("one move twice", &hut(&from), &asks).check(move |end| {
        let object = object(end, OBJECT)?.ok_or("it is gone")?;
        let moved = object.footprint == to;
        ensure(moved || object.footprint == from, || format!("it stands at {:?}", object.footprint))?;
        check_sole(end, &keys_of(&object.footprint, OBJECT), true, moved)
    });
    prove(&scenario);
}

#[test]
fn of_a_move_and_a_demolition_at_once_each_told_is_true() {
    let from = rectangle(15, 15, 2, 2);
    // Another ledger than the old place's.
    let asks = [(1, Ask::Move { x: 47, y: 15 }), (2, Ask::Demolish { by: ANN })];
    let scenario = scenario("move and demolition", &hut(&from), &asks).check(move |end| {
        let object = object(end, OBJECT)?;
        let purse: PurseDocument = left(end, "purse/1")?.ok_or("the purse is gone")?;
        let gone = object.is_none();
        // Whether it was moved before it went, only what was paid tells.
        let moved = object.as_ref().map_or(purse.coins == COINS - 2 * PRICE, |object| object.footprint != from);
        let keys = object.map_or(Vec::new(), |object| keys_of(&object.footprint, OBJECT));
        check(end, &keys, true, &[(1, moved), (2, gone)])
    });
    prove(&scenario);
}

#[test]
fn a_build_on_ones_own_land_while_it_is_given_away_is_paid_for_exactly_if_it_stands() {
    let footprint = rectangle(47, 50, 2, 1);
    let asks = [
        (1, Ask::Build { by: ANN, id: OBJECT, footprint: footprint.clone() }),
        (2, Ask::GiveAway { by: ANN, holding: FIRST, to: BOB }),
    ];
    let before = [claim(ANN, FIRST, NOW_S)];
    let scenario = scenario("build and give away", &before, &asks).check(move |end| {
        let built = object(end, OBJECT)?.is_some();
        let given = holding(end, FIRST)?.ok_or("the holding is gone")?.owner == BOB;
        let mut keys = vec![DEED.to_owned(), format!("holding/{FIRST}")];
        if built {
            keys.extend(["deed/1/2/3".to_owned(), format!("object/{OBJECT}")]);
        }
        ensure(end.faults > 0 || end.alone || given, || "it was not given away".to_owned())?;
        check(end, &keys, true, &[(1, built)])?;
        let told = end.told().any(|told| told.op == 2 && told.surely() == Some(true));
        ensure(!told || given, || "a gift was told that did not happen".to_owned())
    });
    prove(&scenario);
}
