//! The machines of several nodes against each other, without hubs, transports or a runtime: every message can be dropped
//! by kind and direction, kept and sent again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand::{Rng, RngCore};

use super::inbound;
use super::*;
use crate::peers::MeshView;
use crate::record::{PROTOCOL_VERSION, Role};
use crate::wire::{self, Bytes32, Hello, Reply};

/// What is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Request,
    Answer,
    Publish,
}

use Kind::{Answer, Publish};

#[derive(Clone, Debug)]
enum Flight {
    Request { route: (usize, LinkId), to: usize, message: Bytes },
    Answer { to: usize, link: LinkId, message: Bytes },
    Publish { to: usize, link: LinkId, topic: Topic, parts: Vec<Bytes> },
}

struct Node {
    machine: Membership,
    record: NodeRecord,
    /// True while the directory shows it.
    registered: bool,
    links: BTreeMap<LinkId, usize>,
    told: Vec<String>,
    refreshes: usize,
}

struct Net {
    nodes: Vec<Node>,
    now: Now,
    cut: BTreeSet<(Kind, usize, usize)>,
    flights: VecDeque<Flight>,
    /// All requests that ever arrived, for those who listen in.
    taped: Vec<Bytes>,
}

fn node_record(index: usize, life: u64) -> NodeRecord {
    NodeRecord {
        node: NodeId::new(&format!("zoo-{index}")).unwrap(),
        role: Role::Zoo,
        incarnation: Incarnation(life),
        publish: index.to_string(),
        request: index.to_string(),
        public: None,
        version: "test".to_owned(),
        protocol: PROTOCOL_VERSION,
    }
}

fn setup(record: NodeRecord) -> Setup {
    Setup {
        cluster: "test".into(),
        district: "north".into(),
        key: b"secret".to_vec(),
        seed: record.incarnation.0,
        record,
    }
}

fn route(from: usize, link: LinkId) -> Route {
    let mut bytes = (from as u64).to_be_bytes().to_vec();
    bytes.extend(link.0.to_be_bytes());
    Route(bytes.into())
}

fn unroute(route: &Route) -> (usize, LinkId) {
    let number = |range: std::ops::Range<usize>| u64::from_be_bytes(route.0[range].try_into().unwrap());
    (number(0..8) as usize, LinkId(number(8..16)))
}

impl Net {
    /// Nodes that all know each other by the directory.
    fn new(count: usize) -> Net {
        let mut net = Net::strangers(count);
        for index in 0..count {
            net.register(index);
        }
        net
    }

    fn strangers(count: usize) -> Net {
        let now = Now { us: 1_000_000 };
        let make = |index: usize| {
            let record = node_record(index, 100 + index as u64);
            let machine = Membership::new(setup(record.clone()), now);
            Node { machine, record, registered: false, links: BTreeMap::new(), told: Vec::new(), refreshes: 0 }
        };
        let nodes = (0..count).map(make).collect();
        Net { nodes, now, cut: BTreeSet::new(), flights: VecDeque::new(), taped: Vec::new() }
    }

    /// The directory shows a node to all, and to it all that are there.
    fn register(&mut self, index: usize) {
        self.nodes[index].registered = true;
        for other in 0..self.nodes.len() {
            self.refresh(other);
        }
    }

    fn refresh(&mut self, index: usize) {
        let records: Vec<NodeRecord> =
            self.nodes.iter().filter(|node| node.registered).map(|node| node.record.clone()).collect();
        for record in records {
            self.nodes[index].machine.appeared(self.now, record);
        }
        self.run();
    }

    fn deregister(&mut self, index: usize) {
        self.nodes[index].registered = false;
        let record = self.nodes[index].record.clone();
        self.nodes.iter_mut().for_each(|node| node.machine.gone(&record));
        self.run();
    }

    fn cut_both(&mut self, kinds: &[Kind], one: usize, other: usize) {
        for kind in kinds {
            self.cut.extend([(*kind, one, other), (*kind, other, one)]);
        }
    }

    /// Lets time pass.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.now.us += TICK_MS * 1000;
            for index in 0..self.nodes.len() {
                self.nodes[index].machine.tick(self.now, b"");
            }
            self.run();
        }
    }

    /// Carries out all effects until nothing happens any more.
    fn run(&mut self) {
        loop {
            for index in 0..self.nodes.len() {
                for effect in self.nodes[index].machine.take_effects() {
                    self.carry_out(index, effect);
                }
            }
            let Some(flight) = self.flights.pop_front() else { break };
            self.arrive(flight);
        }
    }

    fn carry_out(&mut self, from: usize, effect: Effect) {
        match effect {
            Effect::Tell(event) => self.nodes[from].told.push(match event {
                Event::PeerUp(peer) => format!("up {}", peer.record.incarnation.0),
                Event::PeerDown { incarnation, .. } => format!("down {}", incarnation.0),
                Event::PeerGone { incarnation, .. } => format!("gone {}", incarnation.0),
                other => format!("{other:?}"),
            }),
            Effect::Refresh => {
                self.nodes[from].refreshes += 1;
                self.refresh(from);
            }
            Effect::Transport(command) => match command {
                Command::Connect { link, to } => {
                    self.nodes[from].links.insert(link, to.request.parse().unwrap());
                }
                Command::Disconnect { link } => {
                    self.nodes[from].links.remove(&link);
                }
                Command::Send { link, message } => {
                    let to = self.nodes[from].links[&link];
                    if !self.cut.contains(&(Kind::Request, from, to)) {
                        self.flights.push_back(Flight::Request { route: (from, link), to, message });
                    }
                }
                Command::Answer { route, message } => {
                    let (to, link) = unroute(&route);
                    if !self.cut.contains(&(Answer, from, to)) {
                        self.flights.push_back(Flight::Answer { to, link, message });
                    }
                }
                Command::Publish { topic, parts } => {
                    for (to, node) in self.nodes.iter().enumerate() {
                        let links = node.links.iter().filter(|(_, target)| **target == from);
                        for (link, _) in links.filter(|_| !self.cut.contains(&(Publish, from, to))) {
                            let (topic, parts) = (topic.clone(), parts.clone());
                            self.flights.push_back(Flight::Publish { to, link: *link, topic, parts });
                        }
                    }
                }
                Command::Subscribe(_) | Command::Unsubscribe(_) => {}
            },
        }
    }

    fn arrive(&mut self, flight: Flight) {
        match flight {
            Flight::Request { route: (from, link), to, message } => {
                self.taped.push(message.clone());
                self.nodes[to].machine.requested(self.now, route(from, link), &message);
            }
            Flight::Answer { to, link, message } => {
                if self.nodes.get(to).is_some_and(|node| node.links.contains_key(&link)) {
                    self.nodes[to].machine.answered(self.now, link, &message);
                }
            }
            Flight::Publish { to, link, topic, parts } => {
                self.nodes[to].machine.published(self.now, link, &topic, &parts);
            }
        }
    }

    fn id(&self, index: usize) -> NodeId {
        self.nodes[index].record.node.clone()
    }

    fn state(&self, at: usize, of: usize) -> Option<PeerState> {
        self.nodes[at].machine.state(&self.id(of))
    }

    fn reason(&self, at: usize, of: usize) -> Option<Reason> {
        self.nodes[at].machine.peers.get(&self.id(of)).and_then(|peer| peer.reason.clone())
    }

    fn all_up(&self) -> bool {
        let count = self.nodes.len();
        let pairs = (0..count).flat_map(|at| (0..count).map(move |of| (at, of))).filter(|(at, of)| at != of);
        pairs.into_iter().all(|(at, of)| self.state(at, of) == Some(PeerState::Up))
    }

    fn agree(&self) -> bool {
        let digests: BTreeSet<u64> = self.nodes.iter().map(|node| node.machine.hears).collect();
        digests.len() == 1
    }

    fn ups(&self, at: usize) -> usize {
        self.nodes[at].told.iter().filter(|told| told.starts_with("up")).count()
    }
}

/// A cut of two nodes: suspect with these reasons at the first and the second, without flapping, and healed afterwards.
fn check_cut(kinds: &[(Kind, usize, usize)], first: Reason, second: Reason) {
    let mut net = Net::new(3);
    net.pass(1_000);
    assert!(net.all_up() && net.agree());
    net.cut.extend(kinds);
    net.pass(MUTE_MS + HEARTBEAT_MS + UNLISTED_MS + 1_000);
    for (at, of) in [(0, 1), (1, 0)] {
        assert_eq!(net.state(at, of), Some(PeerState::Suspect), "{kinds:?}: {of} at {at}");
    }
    let before = [net.ups(0), net.ups(1)];
    net.pass(60_000);
    assert_eq!([net.ups(0), net.ups(1)], before, "{kinds:?}: flaps: {:?} {:?}", net.nodes[0].told, net.nodes[1].told);
    assert_eq!((net.reason(0, 1), net.reason(1, 0)), (Some(first), Some(second)), "{kinds:?}");
    for (at, of) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
        assert_eq!(net.state(at, of), Some(PeerState::Up), "{kinds:?}: the third is not concerned");
    }
    assert!(net.nodes.iter().all(|node| !node.told.iter().any(|told| told.starts_with("gone"))), "{kinds:?}");
    net.cut.clear();
    net.pass(RELINK_MS.1 + 4_000);
    assert!(net.all_up() && net.agree(), "{kinds:?}: {:?} {:?}", net.reason(0, 1), net.reason(1, 0));
}

#[test]
fn every_cut_makes_both_ends_suspect_and_heals() {
    use Reason::{NoAnswer, Silent, Unlisted};
    // What the second publishes does not reach the first.
    check_cut(&[(Publish, 1, 0)], Silent, Unlisted);
    check_cut(&[(Publish, 0, 1)], Unlisted, Silent);
    check_cut(&[(Publish, 0, 1), (Publish, 1, 0)], Silent, Silent);
    // The first cannot ask the second; it could still be asked.
    check_cut(&[(Kind::Request, 0, 1)], NoAnswer, Unlisted);
    check_cut(&[(Answer, 1, 0)], NoAnswer, Unlisted);
    check_cut(&[(Answer, 0, 1), (Publish, 0, 1), (Kind::Request, 0, 1)], NoAnswer, NoAnswer);
    let all = [Kind::Request, Answer, Publish];
    let both: Vec<_> = all.iter().flat_map(|kind| [(*kind, 0, 1), (*kind, 1, 0)]).collect();
    check_cut(&both, NoAnswer, NoAnswer);
}

#[test]
fn a_link_that_never_worked_is_suspect_without_having_been_up() {
    let mut net = Net::strangers(2);
    net.cut_both(&[Kind::Request], 0, 1);
    net.register(0);
    net.register(1);
    assert_eq!(net.state(0, 1), Some(PeerState::Connecting));
    net.pass(CONNECTING_MS + 200);
    assert_eq!(net.state(0, 1), Some(PeerState::Suspect));
    assert!(net.nodes[0].told.is_empty(), "nobody is told of what never was");
    net.cut.clear();
    net.pass(12_000);
    assert!(net.all_up());
    net.deregister(1);
    assert_eq!(net.nodes[0].told, ["up 101", "down 101", "gone 101"]);
    assert_eq!(net.state(0, 1), None);
}

#[test]
fn a_greeter_that_the_directory_shows_late_is_let_in_when_it_does() {
    let mut net = Net::strangers(2);
    net.nodes[1].registered = true;
    // Zero sees one; one reads the directory when it is greeted, and then finds zero in it.
    net.nodes[0].machine.appeared(net.now, node_record(1, 101));
    net.run();
    assert_eq!((net.nodes[1].refreshes, net.state(1, 0)), (1, None));
    net.pass(inbound::UNREGISTERED_MS + 100);
    assert_eq!(net.reason(0, 1), Some(Reason::Refused(greeting::Refusal::Unregistered)));
    net.nodes[0].registered = true;
    net.pass(2_000);
    assert!(net.all_up());
}

#[test]
fn a_node_that_the_directory_dropped_is_kept_out_until_it_is_back() {
    let mut net = Net::new(2);
    net.pass(500);
    assert!(net.all_up());
    net.deregister(1);
    assert_eq!(net.nodes[0].told, ["up 101", "down 101", "gone 101"]);
    net.pass(20_000);
    assert_eq!(net.reason(1, 0), Some(Reason::Refused(greeting::Refusal::Unregistered)));
    assert_eq!(net.nodes[0].told.len(), 3);
    net.register(1);
    net.pass(10_000);
    assert!(net.all_up());
}

#[test]
fn greetings_that_were_listened_to_open_no_door() {
    let mut net = Net::new(2);
    net.pass(2_000);
    assert!(net.all_up());
    let tape = net.taped.clone();
    assert!(tape.len() > 4);
    // Somebody plays everything that zero and one ever asked, from a connection of its own.
    for message in tape {
        for to in [0, 1] {
            let asked = net.nodes[to].machine.requested(net.now, Route(Bytes::from_static(b"thief")), &message);
            assert_eq!(asked, None);
            assert!(!net.nodes[to].machine.routes.contains_key(&Route(Bytes::from_static(b"thief"))));
        }
    }
}

#[test]
fn who_answers_a_greeting_without_the_key_is_no_peer() {
    let mut net = Net::strangers(1);
    let machine = &mut net.nodes[0].machine;
    machine.appeared(net.now, node_record(1, 101));
    let mut refused = 0;
    for _ in 0..600 {
        net.now.us += TICK_MS * 1000;
        machine.tick(net.now, b"");
        for effect in machine.take_effects() {
            assert!(!matches!(effect, Effect::Tell(_)), "{effect:?}");
            let Effect::Transport(Command::Send { link, message }) = effect else { continue };
            match wire::decode::<Request>(&message).unwrap().0 {
                Request::Hello(Hello { number, .. }) => {
                    let challenge = Reply::Challenge { number, nonce: [1; 32], proof: [2; 32] };
                    machine.answered(net.now, link, &wire::encode(&challenge, b""));
                    machine.answered(net.now, link, &wire::encode(&Reply::Welcome { number }, b""));
                    assert_eq!(machine.published(net.now, link, &Topic::new("a1"), &[]), None);
                }
                Request::Reject { refusal, .. } => refused += usize::from(refusal == greeting::Refusal::WrongKey),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!((3..10).contains(&refused), "{refused} in a minute");
    let peer = machine.peers.values().next().unwrap();
    assert_eq!(peer.reason, Some(Reason::Refused(greeting::Refusal::WrongKey)));
}

#[test]
fn a_peer_that_hears_more_than_the_directory_told_us_makes_us_read_it_anew() {
    let mut net = Net::new(3);
    net.pass(1_000);
    assert!(net.all_up());
    // The first loses sight of the third, by a fault of its watch; the third does not notice.
    let lost = net.nodes[2].record.clone();
    net.cut_both(&[Kind::Request, Answer, Publish], 0, 2);
    net.nodes[0].machine.gone(&lost);
    net.run();
    net.cut_both(&[Kind::Request, Answer, Publish], 2, 0);
    let before = net.nodes[0].refreshes;
    net.pass(2_500);
    assert!(net.nodes[0].refreshes > before, "the second hears it");
    net.cut.clear();
    net.pass(15_000);
    assert!(net.all_up() && net.agree());
    assert!(net.nodes[0].refreshes < before + 8, "but not for every heartbeat");
}

#[test]
fn a_new_life_takes_the_place_of_the_old_one_even_if_nobody_said_that_that_is_gone() {
    let mut net = Net::new(2);
    net.pass(500);
    net.nodes[1].record = node_record(1, 201);
    net.refresh(0);
    assert_eq!(net.nodes[0].told, ["up 101", "down 101", "gone 101"]);
    assert_eq!(net.state(0, 1), Some(PeerState::Connecting));
    net.pass(1_000);
    let other = greeting::Refusal::NotMe { node: net.id(1), incarnation: Incarnation(101) };
    assert_eq!(net.reason(0, 1), Some(Reason::Refused(other)), "the new life is not there yet");
}

#[test]
fn a_former_life_that_still_greets_has_no_part_in_the_link_of_the_present_one() {
    let mut net = Net::strangers(2);
    // The directory shows the second one's present life, which is not there yet; its former one does not know that it is over.
    net.nodes[1].record = node_record(1, 201);
    net.nodes.iter_mut().for_each(|node| node.registered = true);
    net.refresh(0);
    net.nodes[1].machine.appeared(net.now, node_record(0, 100));
    net.run();
    net.pass(inbound::UNREGISTERED_MS + 100);
    let (first, former) = (&net.nodes[0].machine, &net.nodes[1].machine);
    assert!(first.peers[&net.id(1)].route.is_none() && first.routes.is_empty(), "it was let in: {:?}", first.routes);
    let reason = former.peers[&net.id(0)].reason.clone();
    assert_eq!(reason, Some(Reason::Refused(greeting::Refusal::Unregistered)));
}

#[test]
fn floods_of_greetings_take_bounded_room_and_leave_peers_alone() {
    let mut net = Net::new(2);
    net.pass(500);
    let mut rng = StdRng::seed_from_u64(3);
    let record = node_record(7, 7);
    let bytes = rmp_serde::to_vec_named(&record).unwrap();
    for number in 0..5_000u64 {
        let mut nonce = Bytes32::default();
        rng.fill_bytes(&mut nonce);
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            cluster: if number % 2 == 0 { "test".into() } else { format!("cluster-{number}") },
            district: "north".into(),
            node: "zoo-7".into(),
            incarnation: Incarnation(7),
            to: "zoo-0".into(),
            to_incarnation: Incarnation(100),
            number,
            nonce,
        };
        let route = Route(number.to_be_bytes().to_vec().into());
        let machine = &mut net.nodes[0].machine;
        machine.requested(net.now, route.clone(), &wire::encode(&Request::Hello(hello), &bytes));
        machine.requested(net.now, route, &wire::encode(&Request::Proof { number, proof: nonce }, b""));
        machine.take_effects();
    }
    let machine = &net.nodes[0].machine;
    assert!(machine.greeters.len() <= inbound::GREETERS && machine.strangers.len() <= inbound::STRANGERS);
    assert_eq!(machine.counts.refused, 5_000);
    net.pass(20_000);
    assert!(net.all_up());
    assert!(net.nodes[0].machine.greeters.is_empty());
}

#[test]
fn damaged_messages_of_a_greeted_peer_are_counted_and_hurt_nobody() {
    let mut net = Net::new(2);
    net.pass(3_000);
    let mut rng = StdRng::seed_from_u64(9);
    let tape = net.taped.clone();
    let link = net.nodes[0].machine.link(&net.id(1)).unwrap();
    let back = route(1, net.nodes[1].machine.link(&net.id(0)).unwrap());
    for round in 0..20_000 {
        let mut bytes = tape[rng.random_range(0..tape.len())].to_vec();
        for _ in 0..rng.random_range(1..5) {
            let place = rng.random_range(0..bytes.len());
            bytes[place] = rng.random();
        }
        bytes.truncate(rng.random_range(0..=bytes.len()));
        let (bytes, machine) = (Bytes::from(bytes), &mut net.nodes[0].machine);
        match round % 3 {
            0 => drop(machine.requested(net.now, back.clone(), &bytes)),
            1 => drop(machine.answered(net.now, link, &bytes)),
            _ => drop(machine.published(net.now, link, &Topic::new(HEARTBEAT_TOPIC), &[bytes])),
        }
        net.run();
    }
    assert!(net.nodes[0].machine.counts.malformed > 5_000);
    net.pass(20_000);
    assert!(net.all_up() && net.agree(), "{:?} {:?}", net.nodes[0].machine.peers, net.nodes[1].machine.peers);
}

#[test]
fn when_all_links_are_suspect_at_once_new_ones_are_opened_a_few_at_a_time() {
    let mut net = Net::new(12);
    net.pass(1_000);
    net.cut.extend((1..12).map(|from| (Publish, from, 0)));
    let opened = |net: &Net| net.nodes[0].machine.peers.values().map(|peer| peer.reconnects).sum::<u64>();
    net.pass(SILENT_MS + PATIENCE_MS);
    let before = opened(&net);
    for passed_ms in (TICK_MS..5_000).step_by(TICK_MS as usize) {
        net.pass(TICK_MS);
        assert!(opened(&net) - before <= RELINKS.0 + passed_ms / RELINKS.1 + 1, "after {passed_ms} ms");
    }
    assert!(opened(&net) - before >= 8, "but all have their turn");
}

#[test]
fn a_peer_that_forgot_us_is_greeted_anew() {
    let mut net = Net::new(2);
    net.pass(500);
    let record = net.nodes[0].record.clone();
    net.nodes[1].machine.gone(&record);
    net.nodes[1].machine.appeared(net.now, record);
    net.run();
    net.pass(5_000);
    assert!(net.all_up());
}

#[test]
fn a_node_that_slept_judges_nobody_by_that_time() {
    let mut net = Net::new(2);
    net.pass(2_000);
    let before = net.nodes[0].told.len();
    net.now.us += 30_000_000;
    // The first thing that it sees is a late heartbeat; the answers to its pings are just as old.
    net.nodes[1].machine.tick(net.now, b"");
    net.run();
    net.pass(10_000);
    assert_eq!(net.nodes[0].told.len(), before, "{:?}", net.nodes[0].told);
}

#[test]
fn random_cuts_of_every_kind_end_in_agreement() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(2..8);
        let mut net = Net::strangers(count);
        for _ in 0..rng.random_range(5..25) {
            let (one, other) = (rng.random_range(0..count), rng.random_range(0..count));
            match rng.random_range(0..6) {
                0 => net.register(one),
                1 => net.deregister(one),
                2 => net.cut.clear(),
                _ => {
                    let kind = [Kind::Request, Answer, Publish][rng.random_range(0..3)];
                    net.cut.insert((kind, one, other));
                }
            }
            net.pass(rng.random_range(1..100) * 100);
        }
        net.cut.clear();
        for index in 0..count {
            net.register(index);
        }
        net.pass(20_000);
        assert!(net.all_up() && net.agree(), "seed {seed}");
        for node in &net.nodes {
            let kept = (node.links.len(), node.machine.links.len(), node.machine.routes.len());
            assert_eq!(kept, (count - 1, count - 1, count - 1), "nothing is left behind: seed {seed}");
        }
        let mut view = MeshView::new("test", "north", &net.nodes[0].record);
        net.nodes[0].machine.show(net.now, &mut view);
        assert!(view.peers.iter().all(|peer| peer.agrees && peer.misses.is_empty()), "seed {seed}: {view:?}");
    }
}
