//! What strangers, liars and broken clients can do to a frontend: nothing that anybody else notices.
//!
//! A whole mesh in this process with real sockets. Every bad thing is told in its farewell or refusal, where the other
//! side could understand one, is counted, and leaves two ordinary players undisturbed. An expired ticket is checked
//! beside the code (`frontend/tickets.rs`), since its 30 seconds have no knob.

// What a test makes itself may be unwrapped; clippy's exception for tests covers test functions only.
#![allow(clippy::unwrap_used)]

#[path = "bad_input/meadow.rs"]
mod meadow;

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cartographer::geometry::{ObjectId, Place};
use cartographer::ground::Ground;
use futures_util::{SinkExt, StreamExt};
use meadow::{Meadow, NODES, Raw, Talk, dial, frontend, hello, until};
use nodes::client::Gateway;
use nodes::frontend::Config;
use nodes::frontend::shard::{Limits, Sink};
use nodes::methods::OpenSession;
use nodes::protocol::{
    ClientMessage, Command, HelloKind, MAX_ASK_CELLS, MAX_CLIENT_MESSAGE_BYTES, Motion, Outcome, PROTOCOL,
    ServerMessage, UNITS_PER_TILE, codes,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

const HERE: &str = NODES[0];
const THERE: &str = NODES[1];

/// The farewell to this hello.
async fn turned_away(url: &str, token: &str, kind: HelloKind) -> String {
    let mut socket = dial(url).await;
    socket.say(&hello(token, kind)).await;
    socket.farewell().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_fresh_ticket_of_this_very_frontend_opens_it() {
    let meadow = Meadow::start().await;
    let (url, ticket) = meadow.ticket(HERE);
    let mut forged = ticket.clone().into_bytes();
    forged[40] = if forged[40] == b'0' { b'1' } else { b'0' };
    let forged = String::from_utf8(forged).unwrap();
    let (_, of_another) = meadow.ticket(THERE);
    for (what, token, kind) in [
        ("a forged ticket", forged.as_str(), HelloKind::Ticket),
        ("a ticket of another frontend", &of_another, HelloKind::Ticket),
        ("no ticket at all", "", HelloKind::Ticket),
        ("a ticket as a resume token", &ticket, HelloKind::Resume),
    ] {
        let bad = turned_away(&url, token, kind);
        let code = meadow.counted(HERE, codes::TICKET_FORGED, what, bad).await;
        assert_eq!(code, codes::TICKET_FORGED, "{what}");
    }
    let mut socket = dial(&url).await;
    socket.say(&hello(&ticket, HelloKind::Ticket)).await;
    let welcome = socket.welcome().await;
    let bad = turned_away(&url, &ticket, HelloKind::Ticket);
    let code = meadow.counted(HERE, codes::TICKET_USED, "a ticket used twice", bad).await;
    assert_eq!(code, codes::TICKET_USED);
    assert!(matches!(socket.ask(1, Command::Stop).await, Outcome::Ok { .. }), "whoever used it first stays");
    socket.send_bytes(b"\x93").await;
    assert_eq!(socket.farewell().await, codes::MALFORMED);
    let bad = turned_away(&url, &welcome.resume_token, HelloKind::Resume);
    let code = meadow.counted(HERE, codes::SESSION_ENDED, "a resume token of a session that is over", bad).await;
    assert_eq!(code, codes::SESSION_ENDED);
    let page = reqwest::get(format!("http://{}/metrics", meadow.mesh.http)).await.unwrap().text().await.unwrap();
    let line = format!(r#"wildmesh_refused_total{{node="{HERE}",reason="ticket_forged",role="frontend"}} 4"#);
    assert!(page.lines().any(|l| l == line), "no {line} in\n{page}");
    meadow.mesh.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_connection_resumes_as_the_same_player_in_the_same_place_by_each_token_once() {
    let meadow = Meadow::start().await;
    let (url, _) = meadow.ticket(HERE);
    let (mut socket, first) = meadow.enter(HERE).await;
    let Outcome::Ok { motion: Some(stood) } = socket.ask(1, Command::Stop).await else { panic!("could not stop") };
    drop(socket);
    meadow.alone(HERE).await;
    meadow.undisturbed("a dropped connection").await;

    let mut socket = dial(&url).await;
    socket.say(&hello(&first.resume_token, HelloKind::Resume)).await;
    let second = socket.welcome().await;
    assert_eq!((second.player, second.island), (first.player, first.island));
    assert_eq!(second.motion, stood, "it stands where it stood");
    assert_ne!(second.resume_token, first.resume_token);
    let sees_itself = |message| match message {
        ServerMessage::Frame(frame) => format!("{:?}", frame.content).contains(&first.player.to_string()).then_some(()),
        _ => None,
    };
    socket.hear(sees_itself).await;
    let bad = turned_away(&url, &first.resume_token, HelloKind::Resume);
    let code = meadow.counted(HERE, codes::TICKET_USED, "a resume token used twice", bad).await;
    assert_eq!(code, codes::TICKET_USED);
    assert!(matches!(socket.ask(2, Command::Stop).await, Outcome::Ok { .. }), "a stolen old token harms nobody");

    let replaced = meadow.farewells(HERE, codes::REPLACED);
    let mut newer = dial(&url).await;
    newer.say(&hello(&second.resume_token, HelloKind::Resume)).await;
    assert_eq!(newer.welcome().await.player, first.player);
    assert_eq!(socket.farewell().await, codes::REPLACED);
    assert_eq!(meadow.farewells(HERE, codes::REPLACED), replaced + 1);
    assert!(matches!(newer.ask(3, Command::Stop).await, Outcome::Ok { .. }));
    meadow.undisturbed("a resumption").await;
    meadow.mesh.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_welcome_that_nobody_reads_uses_up_no_token_and_one_that_was_read_does() {
    let meadow = Meadow::start().await;
    let (url, _) = meadow.ticket(HERE);
    let (mut socket, first) = meadow.enter(HERE).await;
    assert!(matches!(socket.ask(1, Command::Stop).await, Outcome::Ok { .. }));
    // A connection that is dead without anybody's knowing.
    let mut dead = dial(&url).await;
    dead.say(&hello(&first.resume_token, HelloKind::Resume)).await;
    assert_eq!(socket.farewell().await, codes::REPLACED, "the token was shown");

    let replaced = meadow.farewells(HERE, codes::REPLACED);
    let mut socket = dial(&url).await;
    socket.say(&hello(&first.resume_token, HelloKind::Resume)).await;
    assert_eq!(socket.welcome().await.player, first.player);
    assert_eq!(meadow.farewells(HERE, codes::REPLACED), replaced + 1, "the newest connection has the player alone");
    // Its library says that the welcome was read, as it reads on.
    let sees_itself = |message| match message {
        ServerMessage::Frame(frame) => format!("{:?}", frame.content).contains(&first.player.to_string()).then_some(()),
        _ => None,
    };
    socket.hear(sees_itself).await;
    let bad = turned_away(&url, &first.resume_token, HelloKind::Resume);
    let code = meadow.counted(HERE, codes::TICKET_USED, "a resume token whose successor was read", bad).await;
    assert_eq!(code, codes::TICKET_USED);
    assert!(matches!(socket.ask(2, Command::Stop).await, Outcome::Ok { .. }), "a stolen old token harms nobody");
    drop(dead);
    meadow.mesh.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_session_of_a_player_wins_wherever_it_is() {
    let meadow = Meadow::start().await;
    let (mut older, welcome) = meadow.enter(HERE).await;
    for (from, to) in [(HERE, THERE), (THERE, HERE), (HERE, HERE)] {
        let before = meadow.farewells(from, codes::REPLACED);
        let (mut newer, again) = meadow.enter(to).await;
        assert_eq!(again.player, welcome.player);
        assert_eq!(older.farewell().await, codes::REPLACED, "{from} to {to}");
        assert_eq!(meadow.farewells(from, codes::REPLACED), before + 1);
        assert!(matches!(newer.ask(1, Command::Stop).await, Outcome::Ok { .. }), "the newer session works");
        meadow.undisturbed("a second login").await;
        older = newer;
    }
    meadow.mesh.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_when_the_last_place_is_taken_is_told_so() {
    let mesh = meadow::mesh(1, Config { capacity: 1, ..Config::default() }).await;
    let gateway = Gateway::new(&format!("http://{}", mesh.http)).unwrap();
    let first = gateway.create_account("first", "correct horse").await.unwrap().player;
    let second = gateway.create_account("second", "correct horse").await.unwrap().player;
    let (url, ticket) = meadow::offer(&mesh, HERE, first, None);
    // The place is kept for whoever has a ticket, and is taken when they have come.
    assert_eq!(meadow::open(&mesh, HERE, second, None).unwrap_err().code, codes::FULL);
    let mut first = dial(&url).await;
    first.say(&hello(&ticket, HelloKind::Ticket)).await;
    first.welcome().await;
    assert_eq!(meadow::open(&mesh, HERE, second, None).unwrap_err().code, codes::FULL);
    assert!(matches!(first.ask(1, Command::Stop).await, Outcome::Ok { .. }));
    mesh.leave().await;
}

/// A connection that has shaken hands by itself and now writes what it likes.
async fn raw(url: &str) -> TcpStream {
    let host = url.trim_start_matches("ws://");
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// All that comes before the other side closes. A reset after the last byte is an end, too.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_speak_nonsense_are_told_so_and_cost_nobody_anything() {
    let meadow = Meadow::start().await;
    let (url, ticket) = meadow.ticket(HERE);
    let half_frame = [0x82, 0xfe, 0x10];

    let garbage = async {
        let mut stream = TcpStream::connect(url.trim_start_matches("ws://")).await.unwrap();
        stream.write_all(b"\x16\x03\x01 this is no handshake\r\n\r\n\0\xff").await.unwrap();
        rest(stream).await
    };
    meadow.counted(HERE, codes::MALFORMED, "garbage instead of a handshake", garbage).await;
    let closed = async {
        let mut stream = raw(&url).await;
        stream.write_all(&half_frame).await.unwrap();
    };
    meadow.counted(HERE, codes::MALFORMED, "half a WebSocket frame, then closed", closed).await;
    let silent = async {
        let mut stream = raw(&url).await;
        stream.write_all(&half_frame).await.unwrap();
        rest(stream).await
    };
    let words = meadow.counted(HERE, codes::HELLO_LATE, "half a WebSocket frame, then silence", silent).await;
    assert!(words.windows(10).any(|w| w == b"hello_late"), "told in a farewell: {words:?}");
    let mute = async { rest(TcpStream::connect(url.trim_start_matches("ws://")).await.unwrap()).await };
    meadow.counted(HERE, codes::HELLO_LATE, "nothing at all", mute).await;

    let good = hello(&ticket, HelloKind::Ticket).encode();
    let older =
        ClientMessage::Hello { protocol: PROTOCOL + 1, token: ticket.clone(), kind: HelloKind::Ticket }.encode();
    let stop = ClientMessage::Command { seq: 1, command: Command::Stop }.encode();
    let long = vec![0xc0; MAX_CLIENT_MESSAGE_BYTES + 1];
    let binary = |bytes: &[u8]| Message::Binary(bytes.to_vec().into());
    for (what, code, message) in [
        ("half of a hello", codes::MALFORMED, binary(&good[..good.len() / 2])),
        ("an empty message", codes::MALFORMED, binary(b"")),
        ("an oversized first message", codes::MALFORMED, binary(&long)),
        ("a text before hello", codes::MALFORMED, Message::Text("hello".into())),
        ("a command before hello", codes::MALFORMED, binary(&stop)),
        ("a wrong protocol version", codes::PROTOCOL, binary(&older)),
    ] {
        let bad = async {
            let mut socket = dial(&url).await;
            socket.send(message).await.unwrap();
            socket.farewell().await
        };
        assert_eq!(meadow.counted(HERE, code, what, bad).await, code, "{what}");
    }
    let mut socket = dial(&url).await;
    socket.send_bytes(&good).await;
    socket.welcome().await;
    meadow.mesh.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_speaks_nonsense_is_let_go_with_a_farewell() {
    let meadow = Meadow::start().await;
    let long = vec![0xc0; MAX_CLIENT_MESSAGE_BYTES + 1];
    let stop = ClientMessage::Command { seq: 1, command: Command::Stop }.encode();
    let again = hello("again", HelloKind::Ticket).encode();
    let binary = |bytes: &[u8]| Message::Binary(bytes.to_vec().into());
    for (what, message) in [
        ("half of a command", binary(&stop[..stop.len() - 1])),
        ("bytes behind a command", binary(&[&stop[..], b"\0"].concat())),
        ("an oversized message", binary(&long)),
        ("a text", Message::Text("stop".into())),
        ("a second hello", binary(&again)),
    ] {
        let farewells = meadow.farewells(HERE, codes::MALFORMED);
        let (mut socket, _) = meadow.enter(HERE).await;
        let bad = async {
            socket.send(message).await.unwrap();
            socket.farewell().await
        };
        assert_eq!(meadow.counted(HERE, codes::MALFORMED, what, bad).await, codes::MALFORMED, "{what}");
        assert_eq!(meadow.farewells(HERE, codes::MALFORMED), farewells + 1, "{what}");
        meadow.alone(HERE).await;
    }
    let (mut socket, welcome) = meadow.enter(HERE).await;
    let MaybeTlsStream::Plain(stream) = socket.get_mut() else { panic!("no TLS here") };
    stream.write_all(&[0x82, 0xfe, 0x10]).await.unwrap();
    drop(socket);
    meadow.alone(HERE).await;
    meadow.undisturbed("half a WebSocket frame of a client").await;
    let mut socket = dial(&meadow.ticket(HERE).0).await;
    socket.say(&hello(&welcome.resume_token, HelloKind::Resume)).await;
    socket.welcome().await;
    drop(socket);
    meadow.alone(HERE).await;

    let (mut socket, _) = meadow.enter(HERE).await;
    let unknown = b"\x93\x02\x07\xa3fly";
    socket.send_bytes(unknown).await;
    let code = socket.hear(|message| match message {
        ServerMessage::Answer { seq: 7, outcome: Outcome::Refused { code, .. } } => Some(code),
        _ => None,
    });
    assert_eq!(code.await, codes::UNKNOWN_OP);
    assert!(matches!(socket.ask(8, Command::Stop).await, Outcome::Ok { .. }), "an unknown command ends nothing");
    meadow.mesh.leave().await;
}

/// A walk that is refused: its code, and the true motion that comes with it.
async fn refused_walk(socket: &mut Raw, from: (i32, i32), to: (i32, i32), speed: i32) -> (String, Motion) {
    match socket.ask(99, Command::Walk { from, to, speed }).await {
        Outcome::Refused { code, motion, .. } => (code, motion.expect("the client is put back")),
        done => panic!("walked: {done:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn walks_against_the_rules_are_refused_and_move_nobody() {
    let meadow = Meadow::start().await;
    let (mut socket, _) = meadow.enter(HERE).await;
    let Outcome::Ok { motion: Some(stood) } = socket.ask(1, Command::Stop).await else { panic!("could not stop") };
    let here = (stood.x, stood.y);
    let far = (here.0 + 50 * UNITS_PER_TILE, here.1);
    let near = (here.0 + UNITS_PER_TILE, here.1);
    let extreme = (i32::MIN, i32::MAX);
    for (what, code, from, speed) in [
        ("a walk from far away", codes::OUT_OF_PLACE, far, 512),
        ("a walk from outside the world", codes::OUT_OF_PLACE, extreme, 512),
        ("a walk that is too fast", codes::TOO_FAST, here, 1025),
        ("a walk at the greatest speed there is", codes::TOO_FAST, here, i32::MAX),
        ("a walk without speed", codes::TOO_FAST, here, 0),
        ("a walk backwards", codes::TOO_FAST, here, i32::MIN),
    ] {
        let bad = refused_walk(&mut socket, from, near, speed);
        let (refused, truth) = meadow.counted(HERE, code, what, bad).await;
        assert_eq!((refused.as_str(), truth), (code, stood), "{what}");
    }

    let wet = |x: i32| !Place::new(x, here.1).tile().is_some_and(|tile| meadow.island.walkable(tile));
    let step = if (1..64).any(|d| wet(here.0 + d * UNITS_PER_TILE)) { 1 } else { -1 };
    let water = (1..).map(|d| here.0 + step * d * UNITS_PER_TILE).find(|x| wet(*x)).unwrap();
    let into = Command::Walk { from: here, to: (water + step * 8 * UNITS_PER_TILE, here.1), speed: 1024 };
    let last = match socket.ask(2, into).await {
        Outcome::Ok { motion } => motion.unwrap(),
        Outcome::Made { number } => panic!("{number}"),
        Outcome::Refused { code, motion, .. } => {
            assert_eq!(code, codes::BLOCKED);
            motion.unwrap()
        }
    };
    let end = Place::new(last.end().0, last.end().1);
    assert!(meadow.island.walkable(end.tile().unwrap()), "it ends on land: {last:?}");
    let mut seq = 100;
    let blocked = async {
        loop {
            seq += 1;
            let on = Command::Walk { from: last.end(), to: (water + step * 8 * UNITS_PER_TILE, here.1), speed: 1024 };
            match socket.ask(seq, on).await {
                Outcome::Refused { code, .. } if code == codes::BLOCKED => return,
                // Still under way, or a walk of the longest kind that goes on for a bit.
                Outcome::Refused { code, .. } => assert!(code == codes::OUT_OF_PLACE || code == codes::FLOOD, "{code}"),
                Outcome::Made { number } => panic!("{number}"),
                Outcome::Ok { motion } => assert!(meadow.island.walkable(tile_at_end(&motion.unwrap()))),
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    meadow.counted(HERE, codes::BLOCKED, "a walk into the water", blocked).await;
    meadow.mesh.leave().await;
}

fn tile_at_end(motion: &Motion) -> cartographer::geometry::Tile {
    Place::new(motion.end().0, motion.end().1).tile().expect("within the world")
}

/// Sends the same again and again until it is let go; how it was told.
async fn flood(socket: Raw, message: Message) -> String {
    let (mut out, mut back) = socket.split();
    let sender = tokio::spawn(async move { while out.send(message.clone()).await.is_ok() {} });
    loop {
        match back.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                if let ServerMessage::Farewell { code, .. } = ServerMessage::decode(&bytes).unwrap() {
                    sender.abort();
                    return code;
                }
            }
            Some(Ok(_)) => {}
            ended => panic!("let go without a word: {ended:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_floods_is_refused_and_then_let_go() {
    let meadow = Meadow::start().await;
    let stop = ClientMessage::Command { seq: 1, command: Command::Stop }.encode();
    let resync = |cells: Vec<(u16, u16)>| Message::Binary(ClientMessage::Ask { cells }.encode());
    let whole = (0..MAX_ASK_CELLS as u16).map(|i| (i % 16, i / 16)).collect();
    let (_, welcome) = meadow.enter(HERE).await;
    let own = (welcome.motion.x / (32 * UNITS_PER_TILE), welcome.motion.y / (32 * UNITS_PER_TILE));
    let same = vec![(own.0 as u16, own.1 as u16); MAX_ASK_CELLS];
    for (what, message) in [
        ("a flood of commands", Message::Binary(stop)),
        ("a flood of unknown commands", Message::Binary(b"\x93\x02\x07\xa3fly"[..].into())),
        ("a flood of resyncs", resync(whole)),
        ("a flood of resyncs of one cell", resync(same)),
        ("a flood of WebSocket pings", Message::Ping(vec![7; 125].into())),
    ] {
        let farewells = meadow.farewells(HERE, codes::FLOOD);
        let (socket, _) = meadow.enter(HERE).await;
        let code = meadow.counted(HERE, codes::FLOOD, what, flood(socket, message)).await;
        assert_eq!(code, codes::FLOOD, "{what}");
        assert_eq!(meadow.farewells(HERE, codes::FLOOD), farewells + 1, "{what}");
        meadow.alone(HERE).await;
    }
    meadow.mesh.leave().await;
}

/// A socket whose other side reads nothing: full after so many bytes.
struct Full {
    room: AtomicUsize,
    closed: AtomicBool,
}

impl Sink for Full {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = offered.min(self.room.load(Ordering::SeqCst));
        self.room.fetch_sub(taken, Ordering::SeqCst);
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_let_go_and_nobody_waits_for_it() {
    let limits = Limits { patience_ticks: 100, ..Limits::default() };
    let meadow = Meadow::with(Config { limits, ..Config::default() }).await;
    // Whose buffers have room for what little happens here is not even noticed.
    let (unread, _) = meadow.enter(THERE).await;
    meadow.undisturbed("a client that does not read").await;
    drop(unread);
    meadow.alone(THERE).await;

    let sink = Arc::new(Full { room: AtomicUsize::new(300), closed: AtomicBool::new(false) });
    let frontend = frontend(meadow.node(HERE));
    let open =
        OpenSession { session: Uuid::new_v4(), player: ObjectId(meadow.mallory), island: Some(meadow.island.id()) };
    let ticket = frontend.sessions.open(&open).unwrap().ticket;
    let given = sink.clone();
    let slow = meadow.farewells(HERE, codes::SLOW);
    frontend.sessions.hello(PROTOCOL, &ticket, HelloKind::Ticket, move || given).await.unwrap();
    assert!(until(|| sink.room.load(Ordering::SeqCst) == 0).await, "its buffers are full");
    let steps = meadow.steps();
    assert!(until(|| sink.closed.load(Ordering::SeqCst)).await, "it is let go");
    assert!(meadow.steps() > steps, "the others went on while it was stuck");
    assert!(until(|| meadow.farewells(HERE, codes::SLOW) == slow + 1).await);
    assert_eq!(frontend.counters.slow.load(Ordering::Relaxed), 1);
    meadow.undisturbed("a client that was let go").await;
    meadow.alone(HERE).await;
    meadow.mesh.leave().await;
}
