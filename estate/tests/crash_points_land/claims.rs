//! Claiming land, paying for it and giving it up, while others want it too.

use bytes::Bytes;
use cartographer::geometry::ObjectId;
use estate::land::GRACE_S;
use estate::schedules::Scenario;
use estate::store::WriteOptions;

use super::{
    ANN, Ask, BOB, COINS, DEED, FIRST, FORMER, NOW_S, OBJECT, SECOND, Told, check, check_sole, claim, ensure, holding,
    object, prove, rectangle, scenario,
};

#[test]
fn a_claim_asked_for_by_two_drivers_makes_one_holding() {
    let asks = [(1, claim(ANN, FIRST, NOW_S)), (1, claim(ANN, FIRST, NOW_S))];
    let scenario = scenario("one claim twice", &[], &asks).check(|end| {
        let held = holding(end, FIRST)?.is_some();
        let keys = if held { vec![DEED.to_owned(), format!("holding/{FIRST}")] } else { Vec::new() };
        check_sole(end, &keys, false, held)
    });
    prove(&scenario);
}

#[test]
fn of_two_claimants_of_free_land_at_most_one_wins() {
    let asks = [(1, claim(ANN, FIRST, NOW_S)), (2, claim(BOB, SECOND, NOW_S))];
    let scenario = scenario("two claimants", &[], &asks).check(|end| {
        let held = [holding(end, FIRST)?.is_some(), holding(end, SECOND)?.is_some()];
        let keys = match held {
            [true, false] => vec![DEED.to_owned(), format!("holding/{FIRST}")],
            [false, true] => vec![DEED.to_owned(), format!("holding/{SECOND}")],
            [false, false] => Vec::new(),
            [true, true] => return Err("both hold it".to_owned()),
        };
        ensure(end.faults > 0 || end.alone || held != [false, false], || "nobody holds it".to_owned())?;
        check(end, &keys, false, &[(1, held[0]), (2, held[1])])
    });
    prove(&scenario);
}

#[test]
fn of_two_claimants_of_expired_land_at_most_one_wins_and_the_former_owner_loses_it() {
    let later_s = NOW_S + 10 + GRACE_S + 1;
    let asks = [(1, claim(ANN, FIRST, later_s)), (2, claim(BOB, SECOND, later_s))];
    let before = [claim(ObjectId(9), FORMER, NOW_S)];
    let scenario = scenario("two claimants of expired land", &before, &asks).check(|end| {
        let held = [FIRST, SECOND, FORMER].map(|id| holding(end, id).map(|held| held.map(|held| held.id)));
        let held = held.into_iter().collect::<Result<Vec<_>, String>>()?;
        let holders: Vec<ObjectId> = held.iter().flatten().copied().collect();
        ensure(holders.len() == 1, || format!("it is held by {holders:?}"))?;
        ensure(end.faults > 0 || end.alone || holders != [FORMER], || "nobody won".to_owned())?;
        let keys = [DEED.to_owned(), format!("holding/{}", holders[0])];
        check(end, &keys, false, &[(1, holders[0] == FIRST), (2, holders[0] == SECOND)])
    });
    prove(&scenario);
}

#[test]
fn a_claim_of_expired_land_while_its_owner_pays_leaves_one_of_them_with_it() {
    let later_s = NOW_S + 10 + GRACE_S + 1;
    let asks = [(1, claim(ANN, FIRST, later_s)), (2, Ask::Pay { holding: FORMER, now_s: later_s })];
    let before = [claim(ObjectId(9), FORMER, NOW_S)];
    let scenario = scenario("claim of expired land and payment", &before, &asks).check(move |end| {
        let (first, former) = (holding(end, FIRST)?, holding(end, FORMER)?);
        let paid = former.as_ref().is_some_and(|former| former.paid_until_s == later_s + 10);
        let holder = match (&first, &former) {
            (Some(_), None) => FIRST,
            (None, Some(_)) => FORMER,
            _ => return Err(format!("{first:?} and {former:?}")),
        };
        ensure(end.faults > 0 || end.alone || paid || first.is_some(), || "neither happened".to_owned())?;
        check(end, &[DEED.to_owned(), format!("holding/{holder}")], false, &[(1, first.is_some()), (2, paid)])
    });
    prove(&scenario);
}

#[test]
fn a_build_that_clears_a_stale_pointer_while_the_holding_comes_back_loses_no_land() {
    // The holding has the chunk beside; the deed of the area points to it, though it does not list it.
    let stale = |scenario: Scenario<Told>| {
        scenario.setup(|store| async move {
            let beside = r#"{"v":1,"island":1,"x":4,"y":3,"stands":{},"holding":500}"#;
            let stale = r#"{"v":1,"island":1,"x":3,"y":3,"stands":{},"holding":500}"#;
            let holding =
                r#"{"v":1,"id":500,"island":1,"owner":1,"chunks":[[4,3]],"paid_until_s":9000000,"since_s":0}"#;
            let purse = format!(r#"{{"v":1,"coins":{COINS}}}"#);
            for (key, text) in
                [("deed/1/4/3", beside), (DEED, stale), ("holding/500", holding), ("purse/1", purse.as_str())]
            {
                let value = Bytes::copy_from_slice(text.as_bytes());
                store.insert(key, value, WriteOptions::default()).await.expect("insert");
            }
        })
    };
    let footprint = rectangle(50, 50, 1, 1);
    let asks = [
        (1, Ask::Build { by: BOB, id: OBJECT, footprint: footprint.clone() }),
        (2, Ask::Extend { by: ANN, holding: FIRST }),
    ];
    let scenario = stale(scenario("stale pointer", &[], &asks)).check(move |end| {
        let (built, extended) =
            (object(end, OBJECT)?.is_some(), holding(end, FIRST)?.is_some_and(|h| h.chunks.len() == 2));
        let keys = ["deed/1/4/3".to_owned(), format!("holding/{FIRST}")].into_iter();
        let area = (built || extended || end.documents.contains_key(DEED)).then_some(DEED.to_owned());
        let hut = built.then(|| format!("object/{OBJECT}"));
        let keys: Vec<String> = keys.chain(area).chain(hut).collect();
        let paid = [(1, built)];
        check(end, &keys, true, &paid)?;
        let told = end.told().any(|told| told.op == 2 && told.surely() == Some(true));
        ensure(!told || extended, || "an extension was told that did not happen".to_owned())
    });
    prove(&scenario);
}

#[test]
fn a_chunk_given_up_and_claimed_at_once_is_never_held_twice() {
    let asks = [(1, Ask::GiveUp { by: ObjectId(9), holding: FORMER }), (2, claim(ANN, FIRST, NOW_S))];
    let before = [claim(ObjectId(9), FORMER, NOW_S)];
    let scenario = scenario("give up and claim", &before, &asks).check(|end| {
        let (former, first) = (holding(end, FORMER)?.is_some(), holding(end, FIRST)?.is_some());
        let keys = match (former, first) {
            (true, false) => vec![DEED.to_owned(), format!("holding/{FORMER}")],
            (false, true) => vec![DEED.to_owned(), format!("holding/{FIRST}")],
            (false, false) => Vec::new(),
            (true, true) => return Err("it is held twice".to_owned()),
        };
        check(end, &keys, false, &[(1, !former), (2, first)])
    });
    prove(&scenario);
}
