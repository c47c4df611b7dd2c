//! Tests of the judgements, by fabricated faults: each must be found, and nothing else.

use std::sync::Arc;

use super::super::report::BotsReport;
use super::*;
use crate::protocol::{Clock, Content, Frame, Motion, Shown, View};

const ME: u64 = 1;
const OTHER: u64 = 2;
const PUBLISHER: u64 = 70;
const ELSEWHERE: u64 = 71;
const RADIUS: u16 = 40;
const WATCHER: Watcher = Watcher { id: ME, radius_tiles: RADIUS };

/// Two bots that have stood settled, 10 tiles apart, for ten seconds; the clock of both publishers shows 10,000 more.
struct Scene {
    registry: Registry,
    sight: Sight,
    now: Instant,
}

fn motion(tile: i32) -> Motion {
    Motion { x: tile * 256, y: 2560, vx: 256, vy: 0, since_ms: 10_000, duration_ms: 2000 }
}

fn scene() -> Scene {
    let start = Instant::now();
    let mut registry = Registry::default();
    registry.welcomed(ME, 1, PUBLISHER, motion(10), start);
    registry.welcomed(OTHER, 1, PUBLISHER, motion(20), start);
    registry.observe_clock(PUBLISHER, start, 10_000);
    registry.observe_clock(ELSEWHERE, start, 99_000);
    let mut sight = Sight::new();
    sight.set_vision(1, &[(0, 0)], &[]);
    let mut scene = Scene { registry, sight, now: start + Duration::from_secs(10) };
    show(&mut scene, PUBLISHER, motion(20));
    scene
}

fn show(scene: &mut Scene, publisher: u64, motion: Motion) {
    let view = Arc::new(View { name: String::new(), hue: 0, ..View::default() });
    let epoch = scene.sight.ghost(OTHER).map_or(1, |ghost| ghost.epoch + 1);
    let head = FrameHead { keyframe: true, publisher, island: 1, cell: (0, 0), seq: epoch, time_ms: 0 };
    let shown = Shown { id: OTHER, epoch, version: 1, motion, view };
    scene.sight.apply(&Arc::new(Frame { head, content: Content::Keyframe(vec![shown]) }));
}

fn presence(scene: &Scene) -> Verdict {
    judge_presence(&scene.registry, WATCHER, &scene.sight, OTHER, scene.now)
}

fn place_of_other(scene: &Scene) -> Verdict {
    judge_place(&scene.registry, WATCHER, &scene.sight, OTHER, scene.now)
}

#[test]
fn a_calm_scene_is_fine() {
    let scene = scene();
    assert_eq!(presence(&scene), Verdict::Fine);
    assert_eq!(place_of_other(&scene), Verdict::Fine);
}

#[test]
fn a_neighbour_that_is_not_shown_is_missing() {
    let mut scene = scene();
    scene.sight = Sight::new();
    assert_eq!(presence(&scene), Verdict::Missing);
}

#[test]
fn nobody_is_missed_who_is_far_away_or_elsewhere_or_oneself() {
    let mut scene = scene();
    scene.sight = Sight::new();
    assert_eq!(judge_presence(&scene.registry, WATCHER, &scene.sight, ME, scene.now), Verdict::None);
    let start = scene.now - Duration::from_secs(10);
    scene.registry.welcomed(OTHER, 1, PUBLISHER, motion(10 + i32::from(RADIUS)), start);
    assert_eq!(presence(&scene), Verdict::None);
    scene.registry.welcomed(OTHER, 2, PUBLISHER, motion(20), start);
    assert_eq!(presence(&scene), Verdict::None);
    assert_eq!(judge_presence(&scene.registry, WATCHER, &scene.sight, 99, scene.now), Verdict::None);
}

#[test]
fn nobody_is_missed_who_has_just_come_or_gone_or_waits_for_an_answer() {
    for upset in [
        (|scene: &mut Scene| scene.registry.welcomed(OTHER, 1, PUBLISHER, motion(20), scene.now)) as fn(&mut Scene),
        |scene| scene.registry.lost(OTHER),
        |scene| scene.registry.sent(OTHER, scene.now),
        |scene| scene.registry.lost(ME),
        |scene| scene.registry.sent(ME, scene.now),
    ] {
        let mut scene = scene();
        scene.sight = Sight::new();
        upset(&mut scene);
        assert_eq!(presence(&scene), Verdict::Unsettled);
    }
}

#[test]
fn a_neighbour_shown_in_a_wrong_place_is_found() {
    let mut scene = scene();
    show(&mut scene, PUBLISHER, Motion { x: 21 * 256, ..motion(20) });
    assert!(matches!(place_of_other(&scene), Verdict::WrongPlace { .. }));
    // A motion that was never updated: it still walks where the truth has stopped.
    show(&mut scene, PUBLISHER, Motion { duration_ms: 60_000, ..motion(20) });
    assert!(matches!(place_of_other(&scene), Verdict::WrongPlace { .. }));
    show(&mut scene, PUBLISHER, motion(20));
    assert_eq!(place_of_other(&scene), Verdict::Fine);
}

#[test]
fn a_neighbour_of_another_island_is_in_a_wrong_place() {
    let mut scene = scene();
    scene.registry.welcomed(OTHER, 2, PUBLISHER, motion(20), scene.now - Duration::from_secs(10));
    assert!(matches!(place_of_other(&scene), Verdict::WrongPlace { .. }));
}

#[test]
fn a_place_is_not_judged_while_news_of_it_is_under_way() {
    let mut scene = scene();
    show(&mut scene, PUBLISHER, Motion { x: 21 * 256, ..motion(20) });
    scene.registry.sent(OTHER, scene.now);
    assert_eq!(place_of_other(&scene), Verdict::Unsettled);
    scene.registry.answered(OTHER, Some(motion(22)), scene.now);
    assert_eq!(place_of_other(&scene), Verdict::Unsettled);
    scene.now += SETTLED_MOTION * 2;
    assert!(matches!(place_of_other(&scene), Verdict::WrongPlace { .. }));
}

#[test]
fn another_publisher_is_judged_through_the_clocks() {
    let mut scene = scene();
    let since_ms = 99_000;
    show(&mut scene, ELSEWHERE, Motion { since_ms, ..motion(20) });
    assert_eq!(place_of_other(&scene), Verdict::Unsettled, "no offset known");
    let clock = |offset_ms| [Clock { publisher: ELSEWHERE, offset_ms, node: String::new() }];
    scene.sight.set_clocks(&clock(-89_000));
    assert_eq!(place_of_other(&scene), Verdict::Fine);
    show(&mut scene, ELSEWHERE, Motion { since_ms, ..motion(25) });
    assert!(matches!(place_of_other(&scene), Verdict::WrongPlace { .. }));
}

#[test]
fn a_wrong_clock_offset_is_measured() {
    let mut scene = scene();
    let error = |scene: &Scene, offset| clock_error_us(&scene.registry, WATCHER, ELSEWHERE, offset, scene.now);
    assert_eq!(error(&scene, -89_000), None, "too few samples");
    for _ in 0..CLOCK_SAMPLES {
        scene.registry.observe_clock(PUBLISHER, scene.now, 20_000);
        scene.registry.observe_clock(ELSEWHERE, scene.now, 109_000);
    }
    assert_eq!(error(&scene, -89_000), Some(0));
    assert_eq!(error(&scene, -88_000), Some(1_000_000));
}

/// The report after some rounds of checks in this scene; both bots look.
fn report(scene: &Scene) -> BotsReport {
    let mut tally = Tally::new(2);
    tally.report.joined = 2;
    for turn in 0..3 {
        round(&scene.registry, &mut tally, WATCHER, &scene.sight, turn, scene.now);
    }
    tally.snapshot(1.0)
}

#[test]
fn a_calm_round_reports_no_fault_and_that_it_looked() {
    let report = report(&scene());
    assert_eq!(report.faults(), 0, "{report:?}");
    assert!(report.checks.neighbours > 0 && report.checks.positions > 0);
}

#[test]
fn every_kind_of_fabricated_fault_shows_in_the_report() {
    let fault = |spoil: fn(&mut Scene), of: fn(&BotsReport) -> u64| {
        let mut scene = scene();
        spoil(&mut scene);
        let report = report(&scene);
        assert!(of(&report) > 0 && report.faults() >= of(&report), "{report:?}");
        assert!(!report.first_findings.is_empty());
    };
    fault(|scene| scene.sight = Sight::new(), |report| report.missing_neighbours);
    fault(|scene| show(scene, PUBLISHER, motion(23)), |report| report.wrong_positions);
    let wrong_clock = |scene: &mut Scene| {
        for _ in 0..CLOCK_SAMPLES {
            scene.registry.observe_clock(PUBLISHER, scene.now, 20_000);
            scene.registry.observe_clock(ELSEWHERE, scene.now, 109_000);
        }
        scene.sight.set_clocks(&[Clock { publisher: ELSEWHERE, offset_ms: -80_000, node: String::new() }]);
    };
    fault(wrong_clock, |report| report.wrong_clocks);
}

#[test]
fn a_gap_and_an_error_show_in_the_report() {
    let mut tally = Tally::new(0);
    let head = FrameHead { keyframe: false, publisher: PUBLISHER, island: 1, cell: (0, 0), seq: 9, time_ms: 0 };
    count(&mut tally, ME, &head, 10, &Effect { gap: true, ..Effect::default() });
    assert_eq!((tally.report.gaps, tally.report.faults()), (1, 1));
    tally.error("unanswered", "no answer".to_owned());
    assert_eq!((tally.report.errors, tally.report.faults()), (1, 2));
}
