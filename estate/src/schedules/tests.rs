//! The explorer finds planted faults, tells them so that they can be repeated, and finds nothing where nothing is.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::store::{Expiry, Outcome, StoreError, Version, WriteOptions};

type Told = Result<(), StoreError>;

async fn number(store: &dyn Store, key: &str) -> Result<(u8, Stored), StoreError> {
    let stored = store.get(key).await?.ok_or(StoreError::NotFound)?;
    Ok((stored.value[0], stored))
}

async fn swap(store: &dyn Store, key: &str, value: u8, stored: &Stored) -> Told {
    store.replace(key, Bytes::from(vec![value]), stored.version, WriteOptions::default()).await.map(|_| ())
}

async fn put(store: &dyn Store, key: &str, value: u8) {
    store.insert(key, Bytes::from(vec![value]), WriteOptions::default()).await.expect("insert");
}

fn value<T>(end: &End<T>, key: &str) -> u8 {
    end.documents[key].value[0]
}

/// Counts up; a conflict is read again, and doubt is told to the caller.
async fn count_up(store: Arc<dyn Store>, again: bool) -> Told {
    for _ in 0..16 {
        let (value, stored) = number(&*store, "counter").await?;
        match swap(&*store, "counter", value + 1, &stored).await {
            Err(StoreError::Conflict) if again => {}
            Err(StoreError::Conflict) => return Ok(()),
            result => return result,
        }
    }
    Err(StoreError::Conflict)
}

/// The counter lies between those who surely counted and those who may have.
fn counted(end: &End<Told>) -> Result<(), String> {
    let surely = end.told().filter(|told| told.is_ok()).count();
    let maybe = end.answers.iter().filter(|answer| {
        answer.as_ref().is_none_or(|told| told.as_ref().is_err_and(|error| error.outcome() == Outcome::Maybe))
    });
    let (found, most) = (usize::from(value(end, "counter")), surely + maybe.count());
    if (surely..=most).contains(&found) {
        Ok(())
    } else {
        Err(format!("{surely} to {most} counted, but it is {found}"))
    }
}

fn counting(again: bool, drivers: usize) -> Scenario<Told> {
    let scenario = Scenario::new("counting").setup(async |store| put(&*store, "counter", 0).await).check(counted);
    (0..drivers).fold(scenario, |scenario, _| scenario.driver(move |store| count_up(store, again)))
}

/// Moves one good with two writes that know nothing of each other.
async fn move_naively(store: Arc<dyn Store>) -> Told {
    for (key, sign) in [("from", -1_i8), ("to", 1)] {
        loop {
            let (value, stored) = number(&*store, key).await?;
            match swap(&*store, key, value.wrapping_add_signed(sign), &stored).await {
                Err(StoreError::Conflict) => {}
                result => {
                    result?;
                    break;
                }
            }
        }
    }
    Ok(())
}

fn moving_naively() -> Scenario<Told> {
    Scenario::new("a naive transfer")
        .setup(async |store| {
            put(&*store, "from", 5).await;
            put(&*store, "to", 0).await;
        })
        .driver(move_naively)
        .driver(move_naively)
        .check(|end: &End<Told>| {
            let (from, to) = (value(end, "from"), value(end, "to"));
            if from + to == 5 { Ok(()) } else { Err(format!("{from} and {to} are not 5")) }
        })
}

#[test]
fn careful_counters_survive_every_schedule() {
    for drivers in [1, 2, 3] {
        let report = explore(&counting(true, drivers), &Bounds::default());
        println!("{report}");
        assert!(report.stopped > 0 && report.lost > 0 && report.late > 0 && report.doubled > 0, "{report}");
        assert!(report.paused > 0 && report.refused > 0 && report.stormy > 0 && report.random == 1_000, "{report}");
        assert_eq!(report.interleaved > 100, drivers > 1, "{report}");
    }
}

#[test]
fn two_drivers_of_two_calls_have_six_interleavings_and_no_more() {
    let bounds = Bounds { faults: Vec::new(), random: 0, preemptions: 9, ..Bounds::default() };
    let scenario = Scenario::new("two calls each")
        .driver(async |store| drop((store.get("x").await, store.get("x").await)))
        .driver(async |store| drop((store.get("x").await, store.get("x").await)))
        .check(|_: &End<()>| Ok(()));
    let report = explore(&scenario, &bounds);
    assert!(report.every_interleaving, "{report}");
    // Each driver alone, and 4! / (2! 2!) together.
    assert_eq!((report.alone, report.schedules, report.cut.as_slice()), (2, 2 + 6, [].as_slice()), "{report}");
}

#[test]
fn a_counter_that_overlooks_conflicts_is_found_with_a_schedule_that_repeats_it() {
    let failure = find_fault(&counting(false, 2), &Bounds { faults: Vec::new(), ..Bounds::default() });
    let failure = failure.expect_err("a lost update");
    println!("{failure}");
    assert_eq!((failure.schedule.as_str(), failure.said.as_str()), ("a b", "2 to 2 counted, but it is 1"));
    let again = replay(&counting(false, 2), &Bounds::default(), &failure.schedule).expect_err("the same");
    assert_eq!((again.said, again.trace), (failure.said.clone(), failure.trace.clone()));
    assert!(replay(&counting(true, 2), &Bounds::default(), &failure.schedule).is_ok());
    let text = failure.to_string();
    assert!(text.starts_with("counting: 2 to 2 counted, but it is 1\n"), "{text}");
    assert!(text.contains(r#"replay(&scenario, "a b")"#), "{text}");
}

#[test]
fn a_transfer_without_intents_is_found_by_a_death_between_its_writes() {
    let failure = find_fault(&moving_naively(), &Bounds::default()).expect_err("goods lost");
    println!("{failure}");
    assert_eq!(failure.schedule, "alone a: a2 a!stop-before");
    assert_eq!(failure.said, "4 and 0 are not 5");
    replay(&moving_naively(), &Bounds::default(), &failure.schedule).expect_err("the same");
    // Without faults nothing is wrong with it.
    explore(&moving_naively(), &Bounds { faults: Vec::new(), ..Bounds::default() });
}

#[test]
fn every_kind_of_fault_finds_the_program_that_does_not_expect_it() {
    for fault in Fault::ALL {
        let bounds = Bounds { faults: vec![fault], random: 0, ..Bounds::default() };
        let scenario = trusting();
        explore(&scenario, &Bounds { faults: Vec::new(), ..bounds.clone() });
        let failure = find_fault(&scenario, &bounds).expect_err("a fault");
        let again = replay(&scenario, &bounds, &failure.schedule).expect_err("the same");
        assert_eq!(again.said, failure.said, "{fault:?}");
        println!("{fault:?}: {} by {}", failure.said, failure.schedule);
    }
}

/// Relies on everything: that it lives, is answered truly and in time, and that nobody else writes.
fn trusting() -> Scenario<Told> {
    let drive = async |store: Arc<dyn Store>| {
        let begun = Instant::now();
        let (value, stored) = number(&*store, "counter").await?;
        swap(&*store, "counter", value + 1, &stored).await?;
        store.touch("touched", Expiry::Keep).await?;
        if begun.elapsed() > Duration::from_secs(60) { Err(StoreError::Closed) } else { Ok(()) }
    };
    Scenario::new("trusting")
        .setup(async |store| {
            put(&*store, "counter", 0).await;
            put(&*store, "touched", 0).await;
        })
        .driver(drive)
        .check(|end: &End<Told>| match &end.answers[0] {
            Some(Ok(())) => match end.documents["touched"].version {
                // The second write of the setup, then the counter's, then its own.
                Version(4) => Ok(()),
                version => Err(format!("touched at {version}")),
            },
            other => Err(format!("{other:?}")),
        })
}

#[test]
fn a_frozen_driver_thaws_long_after_the_others_have_lost_patience() {
    let patient = async |store: Arc<dyn Store>| {
        store.insert("lock", Bytes::new(), WriteOptions::default()).await?;
        let begun = Instant::now();
        let stored = store.get("lock").await?.ok_or(StoreError::NotFound)?;
        let _ = store.remove("lock", stored.version, WriteOptions::default()).await;
        Ok(begun.elapsed().as_secs())
    };
    let waiting = async |store: Arc<dyn Store>| {
        let begun = Instant::now();
        while store.get("lock").await?.is_some() && begun.elapsed() < Duration::from_secs(5) {
            sleep(Duration::from_millis(100)).await;
        }
        Ok::<_, StoreError>(begun.elapsed().as_secs())
    };
    let scenario =
        Scenario::new("a lock").driver(patient).driver(waiting).check(|end: &End<Result<u64, StoreError>>| {
            match end.answers.as_slice() {
                [Some(Ok(120..)), Some(Ok(5..20))] => Err("lost patience while the other was frozen".to_owned()),
                _ => Ok(()),
            }
        });
    let failure = find_fault(&scenario, &Bounds::default()).expect_err("a schedule in which it happens");
    assert!(failure.schedule.contains("pause"), "{failure}");
}

#[test]
fn panics_and_drivers_that_never_end_are_failures_with_a_schedule() {
    let scenario = |what: &'static str| {
        let scenario = Scenario::new(what).setup(async |store| put(&*store, "x", 0).await);
        scenario
            .driver(move |store| async move {
                let refused = store.get("x").await.is_err();
                assert!(!(refused && what == "a panic"), "refused");
                if refused && what == "endless sleep" {
                    std::future::pending::<()>().await;
                }
                let pace = Duration::from_secs(1);
                match what {
                    "endless calls" if refused => loop {
                        let _ = store.get("x").await;
                    },
                    "endless naps" if refused => loop {
                        sleep(pace).await;
                    },
                    _ => {}
                }
            })
            .recover(move |store| async move {
                let value = store.get("x").await.map_err(|error| error.to_string())?;
                if value.is_some() { Ok(()) } else { Err("nothing there".to_owned()) }
            })
            .check(|_: &End<()>| Ok(()))
    };
    explore(&scenario("nothing"), &Bounds::default());
    for (what, said) in [
        ("a panic", "driver a panicked: refused"),
        ("endless calls", "no end after 2000 calls"),
        ("endless sleep", "nothing has happened for 3600s: a driver never ends"),
        ("endless naps", "nothing has been called for 3600s: a driver never ends"),
    ] {
        let failure = find_fault(&scenario(what), &Bounds::default()).expect_err(what);
        assert_eq!((failure.said.as_str(), failure.schedule.as_str()), (said, "alone a: a!refuse"), "{failure}");
    }
}

#[test]
fn a_scenario_that_is_not_repeatable_is_told_so() {
    let runs = Rc::new(Cell::new(0));
    let scenario = Scenario::new("moody").driver(move |store| {
        runs.set(runs.get() + 1);
        let calls = runs.get() % 3;
        async move {
            for _ in 0..calls {
                let _ = store.get("x").await;
            }
        }
    });
    let failure = find_fault(&scenario.check(|_: &End<()>| Ok(())), &Bounds::default()).expect_err("it is moody");
    assert!(failure.said.contains("not repeatable") || failure.said.contains("does not fit"), "{failure}");
}

#[test]
fn a_call_that_its_driver_gave_up_is_never_sent() {
    let scenario = Scenario::new("impatient")
        .driver(async |store: Arc<dyn Store>| {
            let options = WriteOptions::default();
            let wait = timeout(Duration::from_secs(1), store.insert("x", Bytes::new(), options)).await;
            wait.is_err()
        })
        .driver(async |_| {
            sleep(Duration::from_secs(2)).await;
            false
        })
        .check(|end: &End<bool>| {
            let gave_up = end.answers[0] == Some(true);
            if gave_up && end.documents.contains_key("x") { Err("sent".to_owned()) } else { Ok(()) }
        });
    explore(&scenario, &Bounds::default());
    let trace = replay(&scenario, &Bounds::default(), "b~").expect("nothing sent");
    assert!(trace.iter().all(|line| !line.contains("insert")), "{trace:?}");
}

#[test]
fn what_lies_deep_is_found_after_a_schedule_that_leads_there() {
    let bounds = |after: &str| Bounds {
        faults: vec![Fault::Refuse],
        random: 0,
        preemptions: 1,
        preemptions_with_fault: 0,
        after: after.to_owned(),
        ..Bounds::default()
    };
    let failure = find_fault(&counting(false, 3), &bounds("b c2")).expect_err("a lost update");
    assert_eq!(failure.schedule, "b c");
    let report = explore(&counting(true, 2), &bounds("a b"));
    assert_eq!((report.alone, report.interleaved), (0, report.schedules), "{report}");
    let failure = find_fault(&counting(true, 2), &bounds("a3")).expect_err("no third call");
    assert_eq!(failure.said, "the schedule does not fit: a is not possible, but b");
}

#[test]
#[should_panic(expected = "checks nothing")]
fn a_scenario_without_a_check_is_refused() {
    explore(&Scenario::new("idle").driver(async |_| ()), &Bounds::default());
}
