//! The test vectors of the protocol, `clients/vectors.json`: the bytes of every message, places of motions, and feeds
//! played step by step, so that clients in other languages check themselves against the same.
//!
//! The table here is typed and the file is made of it (`WILDMESH_WRITE_VECTORS=1 cargo test -p wildmesh-nodes vectors`);
//! the tests fail when the two differ. A change of the file is a change of the protocol.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::client::Sight;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/vectors.json");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// One of each act, by its name.
fn act_messages() -> impl Iterator<Item = (&'static str, ClientMessage)> {
    let numbered = acts::samples().into_iter().zip(3 << 20..);
    numbered
        .zip(100..)
        .map(|((act, number), seq)| (act.op(), ClientMessage::Command { seq, command: Command::Act { number, act } }))
}

fn client_messages() -> Vec<(&'static str, ClientMessage)> {
    let hello = |token: &str, kind| ClientMessage::Hello { protocol: PROTOCOL, token: token.to_owned(), kind };
    let walk = |from, to, speed| Command::Walk { from, to, speed };
    vec![
        ("hello with a ticket", hello("t0.c2Vzc2lvbg.bWFj", HelloKind::Ticket)),
        ("hello with a resume token", hello("r1.c2Vzc2lvbg.bWFj", HelloKind::Resume)),
        ("walk", ClientMessage::Command { seq: 1, command: walk((25_600, 12_800), (26_624, 12_032), 1024) }),
        ("walk off the map", ClientMessage::Command { seq: 70_000, command: walk((0, 0), (-1, -40_000), 512) }),
        ("stop", ClientMessage::Command { seq: 2, command: Command::Stop }),
        ("ask", ClientMessage::Ask { cells: vec![(3, 1), (127, 0)] }),
        ("ping", ClientMessage::Ping { t: 1_234_567_890_123 }),
        ("ping with a negative number", ClientMessage::Ping { t: -2 }),
    ]
    .into_iter()
    .chain(act_messages())
    .collect()
}

fn walking() -> Motion {
    Motion { x: 25_600, y: 12_800, vx: 819, vy: -614, since_ms: 61_250, duration_ms: 1251 }
}

fn shown(id: u64, epoch: u64, version: u64, motion: Motion) -> Shown {
    let view = Arc::new(View { name: format!("Ayu{id}"), hue: 210, ..View::default() });
    Shown { id, epoch, version, motion, view }
}

/// A view as the game makes it.
fn seen(body: &crate::game::Body) -> Arc<View> {
    let crate::game::View { kind, name, hue, pose, health, tie, detail } = cartographer::world::Body::view(body);
    Arc::new(View { kind, name, hue, pose, health, tie, detail })
}

/// One object of each kind.
fn kinds() -> Vec<Shown> {
    use crate::game::battle::{Battle, Exchange};
    use crate::game::thing::{Thing, state};
    use crate::game::{Body, animal::Animal, player::Player, pose};
    let player = Player { name: "Ayu".to_owned(), hue: 210, health: 80, party: 77, battle: 0 };
    let fights = Player { battle: 901, ..player.clone() };
    let species = "wild_boar".to_owned();
    let animal = Animal { species, hue: 30, pose: pose::HUNTS, health: 100, herd: 4, battle: 0 };
    let (facility, builder) = ("hearth".to_owned(), 42);
    let hearth = Thing::Facility { facility, state: state::LIT, builder, extent: (2, 2, 1) };
    let stump = Thing::Nature { natural: "pine".to_owned(), state: state::USED_UP, left: 0 };
    let blow =
        Exchange { number: 6, actor: 42, blow: 2, target: 5_000, harm: 24, reaction: 3, back: 9, cause: 3 << 20 };
    let flight = Exchange { number: 7, actor: 5_000, blow: 3, target: 5_000, harm: 0, reaction: 6, back: 0, cause: 0 };
    let battle = Battle { members: vec![(42, 0, 71), (5_000, 1, 40)], exchanges: vec![blow, flight] };
    let bodies = [
        Body::Player(player),
        Body::Player(fights),
        Body::Animal(animal),
        Body::Thing(hearth),
        Body::Thing(stump),
        Body::Thing(Thing::Land { holding: 42 }),
        Body::Battle(battle),
        Body::Battle(Battle::default()),
    ];
    let still = |at: i32| Motion::still(25_600 + 256 * at, 12_800, 61_000);
    bodies
        .iter()
        .zip(0..)
        .map(|(body, at)| Shown { view: seen(body), ..shown(50 + at as u64, 1, 1, still(at)) })
        .collect()
}

fn wares() -> Wares {
    Wares {
        stacks: vec![("stone".to_owned(), 2), ("wood".to_owned(), 1_000)],
        uniques: vec![("0123456789abcdef0123456789abcdef-0".to_owned(), "axe".to_owned())],
    }
}

/// What is told of bags, boxes, people and trades.
fn living_messages() -> Vec<(&'static str, ServerMessage)> {
    let (name, text) = ("Ayu".to_owned(), "Żółw!".to_owned());
    let mine = Side { wares: wares(), consents: true };
    let trade =
        TradeState { trade: 88, other: 43, name: name.clone(), round: 3, mine, theirs: Side::default(), state: 0 };
    let members = vec![(42, name.clone()), (43, "Mina".to_owned())];
    vec![
        ("keyframe with an object of each kind", ServerMessage::Frame(frame(true, 61_005, Content::Keyframe(kinds())))),
        ("answer: done, and made", ServerMessage::Answer { seq: 10, outcome: Outcome::Made { number: MADE } }),
        ("bag", ServerMessage::Bag { wares: wares(), experience: 1_250, health: 88 }),
        ("an empty bag", ServerMessage::Bag { wares: Wares::default(), experience: 0, health: 0 }),
        ("store", ServerMessage::Store { object: MADE, wares: wares() }),
        ("chat", ServerMessage::Chat { channel: 2, player: 43, name, text }),
        ("party", ServerMessage::Party { party: 77, leader: 42, members }),
        ("no party", ServerMessage::Party { party: 0, leader: 0, members: vec![] }),
        ("trade", ServerMessage::Trade(trade)),
        ("note", ServerMessage::Note { code: "island_sinks".to_owned(), text: "sail away".to_owned(), number: 120 }),
    ]
}

const MADE: u64 = (1 << 51) - 1;

const PUBLISHER: u64 = 197_568_495_619;

fn frame(keyframe: bool, seq: u64, content: Content) -> Frame {
    Frame { head: FrameHead { keyframe, publisher: PUBLISHER, island: 1, cell: (3, 1), seq, time_ms: 61_300 }, content }
}

fn server_messages() -> Vec<(&'static str, ServerMessage)> {
    let entries = vec![
        Entry::Enter { object: shown(42, 3, 7, walking()), from: Some((2, 1)) },
        Entry::Enter { object: shown(43, 1, 0, Motion::still(25_000, 9_000, 61_300)), from: None },
        Entry::Change {
            id: 44,
            version: 300,
            view: Arc::new(View { name: "Żółw".to_owned(), hue: 359, ..View::default() }),
        },
        Entry::Move { id: 45, version: 70_000, motion: Motion { x: -1, vx: -1024, ..walking() } },
        Entry::Leave { id: 46, epoch: 2, version: 9, to: Some((4, 1)) },
        Entry::Leave { id: 9_007_199_254_740_991, epoch: 1, version: 5, to: None },
    ];
    let refused = |code: &str, text: &str, motion| Outcome::Refused { code: code.into(), text: text.into(), motion };
    vec![
        ("delta", ServerMessage::Frame(frame(false, 61_003, Content::Delta(entries)))),
        ("keyframe", ServerMessage::Frame(frame(true, 61_004, Content::Keyframe(vec![shown(42, 3, 7, walking())])))),
        ("keyframe of an empty cell", ServerMessage::Frame(frame(true, 0, Content::Keyframe(vec![])))),
        ("welcome", ServerMessage::Welcome(welcome())),
        ("answer: done", ServerMessage::Answer { seq: 1, outcome: Outcome::Ok { motion: Some(walking()) } }),
        ("answer: done, nothing to say", ServerMessage::Answer { seq: 9, outcome: Outcome::Ok { motion: None } }),
        (
            "answer: refused and put back",
            ServerMessage::Answer {
                seq: 2,
                outcome: refused(codes::OUT_OF_PLACE, "you are elsewhere", Some(Motion::still(25_600, 12_800, 60_000))),
            },
        ),
        (
            "answer: refused",
            ServerMessage::Answer { seq: 3, outcome: refused(codes::UNKNOWN_OP, "no such command", None) },
        ),
        (
            "redirect",
            ServerMessage::Redirect { url: "ws://127.0.0.1:7102/".to_owned(), token: "r1.bmV4dA.bWFj".to_owned() },
        ),
        ("pong", ServerMessage::Pong { t: 1_234_567_890_123, now_ms: 61_377 }),
        (
            "clocks",
            ServerMessage::Clocks(vec![
                Clock { publisher: PUBLISHER, offset_ms: 0, node: "frontend-1".to_owned() },
                Clock { publisher: 281_474_976_710_655, offset_ms: -15_250, node: "frontend-2".to_owned() },
            ]),
        ),
        (
            "vision",
            ServerMessage::Vision { island: 1, entered: vec![(4, 0), (4, 1), (4, 2)], left: vec![(1, 0), (1, 1)] },
        ),
        (
            "farewell",
            ServerMessage::Farewell { code: codes::DRAINING.to_owned(), text: "this frontend goes down".to_owned() },
        ),
    ]
    .into_iter()
    .chain(living_messages())
    .collect()
}

fn welcome() -> Welcome {
    Welcome {
        player: 42,
        resume_token: "r1.c2Vzc2lvbg.bWFj".to_owned(),
        publisher: PUBLISHER,
        now_ms: 61_240,
        island: 1,
        motion: Motion::still(25_600, 12_800, 61_240),
        max_speed: 1024,
        vision_radius_tiles: 40,
        linger_tiles: 16,
        fallbacks: vec!["ws://127.0.0.1:7102/".to_owned(), "ws://127.0.0.1:7103/".to_owned()],
        first_operation: 3 << 20,
    }
}

/// Bytes that decode although no encoder of ours makes them: other forms of integers, and fields of the future.
fn lenient() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("ping in 64-bit form", "client", "9204d30000000000000007"),
        ("stop with a 32-bit number", "client", "dd0000000302ce00000002a473746f70"),
        ("pong with a field of the future", "server", "95680705c08101c3"),
        ("a note with a field of the future", "server", "9571a46c6f6f74a007c0"),
        ("claim with a 64-bit number", "client", "940201a5636c61696dcf0000000000300000"),
    ]
}

/// Bytes that are no message.
fn malformed() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("nothing", "client", ""),
        ("not an array", "client", "a568656c6c6f"),
        ("an unknown message", "client", "9263c0"),
        ("a ping cut short", "client", "9204"),
        ("a ping with something behind it", "client", "92040700"),
        ("a ping with a field too many", "client", "93040700"),
        ("a hello with a number for a token", "client", "94010107c2"),
        ("an array that claims four billion elements", "client", "dd00000000ffffffff"),
        ("a walk with a fraction", "client", "980201a477616c6bcb3ff800000000000000000000"),
        ("a pong without its time", "server", "926807"),
        ("a claim without its number", "client", "930201a5636c61696d"),
        ("a claim with a number of 2^53", "client", "940201a5636c61696dcf0020000000000000"),
        ("a chat that says a number", "client", "960201a463686174010005"),
        ("a bag of one list", "server", "946c91900064"),
        ("a trade without its state", "server", "977058022ba0019290909200"),
        ("a frame of a publisher beyond 2^48", "server", "980acf0001000000000000010301000090"),
    ]
}

fn motions() -> Vec<(Motion, i64)> {
    let motion = walking();
    let backwards = Motion { x: 100, y: 100, vx: 3, vy: -3, since_ms: 1000, duration_ms: 2000 };
    let far =
        Motion { x: 1_048_575, y: 0, vx: -1024, vy: 1024, since_ms: 9_007_199_254_000_000, duration_ms: 4_000_000 };
    vec![
        (motion, 0),
        (motion, 61_250),
        (motion, 61_251),
        (motion, 61_777),
        (motion, 62_501),
        (motion, 9_000_000),
        (backwards, 1001),
        (backwards, 1333),
        (backwards, 1334),
        (backwards, -5),
        (far, 9_007_199_254_740_991),
        (Motion::still(-7, 12, 500), 10_000),
    ]
}

fn in_cell(publisher: u64, cell: CellXy, seq: u64, content: Content) -> Vec<u8> {
    let keyframe = matches!(content, Content::Keyframe(_));
    let head = FrameHead { keyframe, publisher, island: 1, cell, seq, time_ms: 0 };
    let mut out = Vec::new();
    Frame { head, content }.put(&mut out);
    out
}

enum Step {
    Vision(Vec<CellXy>, Vec<CellXy>),
    Frame(Vec<u8>),
}

fn still(id: u64, epoch: u64, version: u64, x: i32) -> Shown {
    shown(id, epoch, version, Motion::still(x, 0, 0))
}

fn moved(id: u64, version: u64, x: i32) -> Content {
    Content::Delta(vec![Entry::Move { id, version, motion: Motion::still(x, 0, 0) }])
}

fn feeds() -> Vec<(&'static str, Vec<Step>)> {
    const A: CellXy = (0, 0);
    const B: CellXy = (1, 0);
    let sees = || Step::Vision(vec![A, B], vec![]);
    let frame = |publisher, cell, seq, content| Step::Frame(in_cell(publisher, cell, seq, content));
    let keyframe = |publisher, cell, seq, objects| frame(publisher, cell, seq, Content::Keyframe(objects));
    let enter = |object, from| Content::Delta(vec![Entry::Enter { object, from }]);
    let leave = |id, version, to| Content::Delta(vec![Entry::Leave { id, epoch: 1, version, to }]);
    vec![
        (
            "deltas in order apply, repeated ones do not",
            vec![
                sees(),
                keyframe(7, A, 5, vec![still(1, 1, 1, 10)]),
                frame(7, A, 6, moved(1, 2, 20)),
                frame(7, A, 6, moved(1, 3, 30)),
            ],
        ),
        (
            "a gap waits for the keyframe and then catches up",
            vec![
                sees(),
                keyframe(7, A, 5, vec![still(1, 1, 1, 10), still(2, 1, 1, 10)]),
                frame(7, A, 7, moved(1, 3, 30)),
                frame(7, A, 8, moved(1, 4, 40)),
                keyframe(7, A, 7, vec![still(1, 1, 3, 30)]),
            ],
        ),
        (
            "a feed begins with a delta where its cell was empty",
            vec![sees(), frame(7, A, 70, enter(still(1, 1, 1, 10), None)), frame(7, A, 71, moved(1, 2, 20))],
        ),
        (
            "an object crosses a border, its new cell is told first",
            vec![
                sees(),
                keyframe(7, A, 1, vec![still(1, 1, 1, 10)]),
                keyframe(7, B, 1, vec![]),
                frame(7, B, 2, enter(still(1, 1, 2, 8192), Some(A))),
                frame(7, A, 2, leave(1, 1, Some(B))),
            ],
        ),
        (
            "an object crosses a border, its old cell is told last and with the same version",
            vec![
                sees(),
                keyframe(7, A, 1, vec![still(1, 1, 1, 10)]),
                keyframe(7, B, 1, vec![still(1, 1, 2, 8192)]),
                frame(7, A, 2, leave(1, 2, Some(B))),
            ],
        ),
        (
            "a move that the keyframe had already told is not taken again",
            vec![sees(), keyframe(7, A, 5, vec![still(1, 1, 4, 40)]), frame(7, A, 6, moved(1, 4, 99))],
        ),
        (
            "an object goes out of sight with its cell",
            vec![
                sees(),
                keyframe(7, A, 1, vec![still(1, 1, 1, 10)]),
                keyframe(7, B, 1, vec![still(2, 1, 1, 8192)]),
                Step::Vision(vec![], vec![A]),
                frame(7, A, 2, moved(1, 2, 20)),
            ],
        ),
        (
            "a new owner is believed, the old one no longer",
            vec![
                sees(),
                keyframe(7, A, 1, vec![still(1, 1, 9, 10)]),
                keyframe(8, A, 1, vec![still(1, 2, 0, 20)]),
                frame(7, A, 2, moved(1, 10, 99)),
                frame(8, A, 2, moved(1, 1, 30)),
                keyframe(7, A, 3, vec![]),
            ],
        ),
    ]
}

/// Plays a scenario through our own client and writes down what happened.
fn play(name: &str, steps: &[Step]) -> Value {
    let mut sight = Sight::new();
    let mut told = Vec::new();
    for step in steps {
        match step {
            Step::Vision(entered, left) => {
                sight.set_vision(1, entered, left);
                told.push(json!({ "vision": { "island": 1, "entered": entered, "left": left } }));
            }
            Step::Frame(bytes) => {
                let effect = sight.apply(&Arc::new(Frame::decode(bytes).unwrap()));
                let word = match () {
                    () if effect.stray => "stray",
                    () if effect.old => "old",
                    () if effect.gap => "gap",
                    () if effect.waits => "waits",
                    () => "applied",
                };
                told.push(json!({ "frame": hex(bytes), "effect": word }));
            }
        }
    }
    let mut ghosts: Vec<_> = sight.ghosts().collect();
    ghosts.sort_by_key(|(id, _)| *id);
    let ghosts = ghosts.into_iter().map(|(id, ghost)| {
        json!({ "id": id, "publisher": ghost.publisher, "epoch": ghost.epoch, "version": ghost.version,
                "cell": ghost.cell, "motion": motion_json(&ghost.motion) })
    });
    json!({ "name": name, "steps": told, "ghosts": ghosts.collect::<Vec<_>>() })
}

fn motion_json(motion: &Motion) -> Value {
    json!([motion.x, motion.y, motion.vx, motion.vy, motion.since_ms, motion.duration_ms])
}

/// The bytes as plain JSON, by a decoder that is not ours.
fn plain(bytes: &[u8]) -> Value {
    rmp_serde::from_slice(bytes).unwrap()
}

fn vectors() -> Value {
    let message = |name: &str, bytes: &[u8]| json!({ "name": name, "hex": hex(bytes), "value": plain(bytes) });
    let raw = |list: Vec<(&str, &str, &str)>| -> Vec<Value> {
        list.into_iter().map(|(name, from, hex)| json!({ "name": name, "from": from, "hex": hex })).collect()
    };
    json!({
        "protocol": PROTOCOL,
        "client": client_messages().iter().map(|(name, it)| message(name, &it.encode())).collect::<Vec<_>>(),
        "server": server_messages().iter().map(|(name, it)| message(name, &it.encode())).collect::<Vec<_>>(),
        "lenient": raw(lenient()),
        "malformed": raw(malformed()),
        "motion": motions().iter().map(|(motion, now_ms)| {
            let place = motion.at(*now_ms);
            json!({ "motion": motion_json(motion), "now_ms": now_ms, "place": [place.0, place.1] })
        }).collect::<Vec<_>>(),
        "feeds": feeds().iter().map(|(name, steps)| play(name, steps)).collect::<Vec<_>>(),
    })
}

#[test]
fn the_file_of_vectors_says_what_the_code_does() {
    let made = vectors();
    if std::env::var_os("WILDMESH_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, format!("{}\n", serde_json::to_string_pretty(&made).unwrap())).unwrap();
    }
    let written: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    for part in ["protocol", "client", "server", "lenient", "malformed", "motion", "feeds"] {
        assert_eq!(written[part], made[part], "{part}: see this module's comment on how to write the file anew");
    }
}

#[test]
fn the_file_s_bytes_decode_to_the_table_s_values() {
    let written: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let bytes = |part: &str, at: usize| unhex(written[part][at]["hex"].as_str().unwrap());
    for (at, (name, message)) in client_messages().into_iter().enumerate() {
        assert_eq!(ClientMessage::decode(&bytes("client", at)), Ok(message), "{name}");
    }
    for (at, (name, message)) in server_messages().into_iter().enumerate() {
        assert_eq!(ServerMessage::decode(&bytes("server", at)), Ok(message), "{name}");
    }
}

#[test]
fn lenient_vectors_decode_and_malformed_ones_do_not() {
    let decodes = |from: &str, bytes: &[u8]| match from {
        "client" => ClientMessage::decode(bytes).is_ok(),
        _ => ServerMessage::decode(bytes).is_ok(),
    };
    for (name, from, hex) in lenient() {
        assert!(decodes(from, &unhex(hex)), "{name}");
    }
    for (name, from, hex) in malformed() {
        assert!(!decodes(from, &unhex(hex)), "{name}");
    }
}

#[test]
fn no_bytes_from_a_server_make_the_decoder_panic() {
    let mut state = 7_u64;
    for (_, message) in server_messages() {
        let whole = message.encode();
        for end in 0..whole.len() {
            assert!(ServerMessage::decode(&whole[..end]).is_err());
        }
        for _ in 0..5_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            if let Ok(message) = ServerMessage::decode(&bytes) {
                // Whatever passes is a message that survives its own encoding.
                assert_eq!(ServerMessage::decode(&message.encode()), Ok(message));
            }
        }
    }
}
