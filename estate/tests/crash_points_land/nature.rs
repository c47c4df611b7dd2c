//! Natural objects: first strokes, last strokes and growing again, all at once.

use cartographer::geometry::ObjectId;
use estate::land::nature::Nature;
use estate::land::{DeedDocument, ObjectDocument, Stand};
use estate::schedules::End;

use super::{
    ANN, Ask, BOB, COINS, NOW_S, OBJECT, PRICE, Plain, PurseDocument, REGROW_S, TREE_NUMBER, Told, check_sole,
    disagreements, ensure, left, object, prove, scenario,
};

const DEED: &str = "deed/1/6/6";
const OTHER: ObjectId = ObjectId(11);

fn gather(by: ObjectId, id: ObjectId, strokes: u32, now_s: u64) -> Ask {
    Ask::Gather { by, id, strokes, now_s }
}

/// The tree as its object says, and under which number; nothing if it is as by nature.
fn tree(end: &End<Told>) -> Result<Option<(ObjectId, Nature)>, String> {
    let found: Vec<ObjectDocument> = [OBJECT, OTHER]
        .into_iter()
        .map(|id| object(end, id))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect();
    ensure(found.len() <= 1, || format!("one tree is two objects: {found:?}"))?;
    let Some(found) = found.into_iter().next() else { return Ok(None) };
    let deed: DeedDocument = left(end, DEED)?.ok_or("a touched tree has a deed")?;
    ensure(deed.stands.values().eq([&Stand::Object(found.id)]), || format!("{:?}", deed.stands))?;
    let nature = Nature::of(&found).ok_or_else(|| format!("no natural object: {found:?}"))?;
    Ok(Some((found.id, nature)))
}

/// All agrees, so many strokes were paid for, and nobody was told anything else.
fn check(end: &End<Told>, strokes: i64, gathers: &[u128]) -> Result<(), String> {
    let wrong = disagreements(&end.documents, &Plain);
    ensure(wrong.is_empty(), || wrong.join("; "))?;
    let touched = tree(end)?;
    let mut keys = touched.iter().flat_map(|(id, _)| [DEED.to_owned(), format!("object/{id}")]).collect::<Vec<_>>();
    keys.push("purse/1".to_owned());
    ensure(end.documents.keys().eq(&keys), || format!("left are {:?}, not {keys:?}", end.documents.keys()))?;
    let purse: PurseDocument = left(end, "purse/1")?.ok_or("the purse is gone")?;
    ensure(purse.coins == COINS - PRICE * strokes, || format!("{} coins for {strokes} strokes", purse.coins))?;
    let of = |op: &u128| end.told().filter(|told| told.op == *op).filter_map(Told::surely).collect::<Vec<_>>();
    let told = gathers.iter().filter(|op| of(op).contains(&true)).count() as i64;
    ensure(told <= strokes, || format!("{told} strokes told, {strokes} happened: {:?}", end.answers))?;
    let refused = gathers.iter().filter(|op| !of(op).is_empty() && !of(op).contains(&true)).count() as i64;
    ensure(strokes <= gathers.len() as i64 - refused, || format!("{strokes} strokes: {:?}", end.answers))?;
    let clear = |told: &Told| !told.codes().contains(&"error") && !told.codes().contains(&"other");
    ensure(end.faults > 0 || end.told().all(clear), || format!("{:?}", end.answers))
}

#[test]
fn a_first_stroke_asked_for_by_two_drivers_happens_once() {
    let first = gather(ANN, OBJECT, 2, NOW_S);
    let scenario = scenario("one first stroke twice", &[], &[(1, first.clone()), (1, first)]).check(|end| {
        let touched = tree(end)?;
        ensure(touched.as_ref().is_none_or(|(_, nature)| nature.left == 1), || format!("{touched:?}"))?;
        let keys = touched.iter().flat_map(|(id, _)| [DEED.to_owned(), format!("object/{id}")]).collect::<Vec<_>>();
        check_sole(end, &keys, true, touched.is_some())
    });
    prove(&scenario);
}

#[test]
fn two_first_strokes_at_once_are_two_strokes_at_one_object() {
    let asks = [(1, gather(ANN, OBJECT, 2, NOW_S)), (2, gather(BOB, OTHER, 2, NOW_S))];
    let scenario = scenario("touch and touch", &[], &asks).check(|end| {
        let strokes = tree(end)?.map_or(0, |(_, nature)| 2 - i64::from(nature.left));
        ensure(end.faults > 0 || end.alone || strokes == 2, || format!("{strokes} strokes"))?;
        check(end, strokes, &[1, 2])
    });
    prove(&scenario);
}

#[test]
fn of_two_who_take_the_last_stroke_exactly_one_has_it() {
    let before = [gather(ANN, OBJECT, 2, NOW_S)];
    let asks = [(1, gather(ANN, ObjectId(12), 2, NOW_S)), (2, gather(BOB, ObjectId(13), 2, NOW_S))];
    let scenario = scenario("last stroke", &before, &asks).check(|end| {
        let (_, nature) = tree(end)?.ok_or("the tree is gone")?;
        let strokes = 1 - i64::from(nature.left);
        ensure(end.faults > 0 || end.alone || strokes == 1, || format!("{strokes} strokes"))?;
        let codes: Vec<[&str; 2]> = end.told().map(Told::codes).collect();
        let fits = codes.iter().all(|both| *both == ["", ""] || *both == ["missing", "missing"]);
        ensure(end.faults > 0 || fits, || format!("{codes:?}"))?;
        check(end, strokes, &[1, 2])
    });
    prove(&scenario);
}

#[test]
fn a_tree_that_has_grown_again_is_struck_or_put_back_and_never_both() {
    let before = [gather(ANN, OBJECT, 2, NOW_S)];
    let (later, seen) =
        (NOW_S + REGROW_S, Nature { natural: TREE_NUMBER, name: "pine".to_owned(), left: 1, since_s: NOW_S });
    let asks = [(1, Ask::Restore { seen: seen.clone() }), (2, gather(BOB, OTHER, 2, later))];
    let scenario = scenario("restore and stroke", &before, &asks).check(move |end| {
        // The stroke was at the old object, or at what had been put back; or it was put back and nobody was at it.
        let (restored, strokes) = match tree(end)? {
            Some((OBJECT, nature)) => (false, i64::from(nature != seen)),
            Some((_, nature)) => {
                ensure(nature.left == 1 && nature.since_s == later, || format!("{nature:?}"))?;
                (true, 1)
            }
            None => (true, 0),
        };
        ensure(end.faults > 0 || end.alone || strokes == 1, || "nobody had the stroke".to_owned())?;
        let told = |code: &str| end.told().any(|told| told.op == 1 && told.codes().contains(&code));
        ensure(!told("") || restored, || format!("told, and not put back: {:?}", end.answers))?;
        ensure(end.faults > 0 || !told("changed") || !restored, || {
            format!("put back, and not told: {:?}", end.answers)
        })?;
        check(end, strokes, &[2])
    });
    prove(&scenario);
}
