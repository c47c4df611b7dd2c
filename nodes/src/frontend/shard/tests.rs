//! Shards with sinks in memory: one write per tick, shared bytes, slow clients.

use std::sync::Mutex;

use bytes::Bytes;
use cartographer::geometry::IslandId;

use super::*;

/// A socket in memory that takes `room` more bytes and remembers at which address each slice lay.
#[derive(Default)]
struct Memory(Mutex<State>);

#[derive(Default)]
struct State {
    room: usize,
    written: Vec<u8>,
    addresses: Vec<usize>,
    writes: usize,
    closed: bool,
}

impl Sink for Memory {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        state.writes += 1;
        let mut taken = 0;
        for slice in slices {
            let n = slice.len().min(state.room);
            state.addresses.push(slice.as_ptr() as usize);
            state.written.extend_from_slice(&slice[..n]);
            state.room -= n;
            taken += n;
        }
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn close(&self) {
        self.0.lock().unwrap().closed = true;
    }
}

fn cell(x: u16) -> Cell {
    Cell { island: IslandId(1), x, y: 0 }
}

fn frames(list: &[(u16, &Bytes)]) -> Arc<Vec<(Cell, Wire)>> {
    Arc::new(list.iter().map(|(x, body)| (cell(*x), Wire::new((*body).clone()))).collect())
}

fn shard_with_clients(count: u64, room: usize, limits: Limits) -> (Shard, Vec<Arc<Memory>>) {
    let mut shard = Shard::new(limits, Arc::default());
    let sinks: Vec<Arc<Memory>> =
        (0..count).map(|_| Arc::new(Memory(Mutex::new(State { room, ..State::default() })))).collect();
    let orders = sinks.iter().enumerate().flat_map(|(i, sink)| {
        let id = ClientId(i as u64);
        [(id, Order::Add(sink.clone())), (id, Order::Enter(cell(0), vec![])), (id, Order::Enter(cell(1), vec![]))]
    });
    shard.tick(Batch { orders: orders.collect(), ..Batch::default() });
    (shard, sinks)
}

#[test]
fn every_client_gets_the_same_bytes_in_one_write_per_tick() {
    let (mut shard, sinks) = shard_with_clients(3, usize::MAX / 2, Limits::default());
    let (a, b) = (Bytes::from(vec![1; 300]), Bytes::from(vec![2; 300]));
    shard.tick(Batch { frames: frames(&[(0, &a), (1, &b)]), ..Batch::default() });
    for sink in &sinks {
        let state = sink.0.lock().unwrap();
        assert_eq!(state.writes, 1);
        assert!(state.addresses.contains(&(a.as_ptr() as usize)), "the owner's bytes, not a copy");
        assert!(state.addresses.contains(&(b.as_ptr() as usize)));
        assert_eq!(state.written.len(), 2 * (4 + 300));
    }
}

#[test]
fn who_enters_a_cell_gets_its_keyframe_and_not_the_same_ticks_frame() {
    let (mut shard, sinks) = shard_with_clients(1, usize::MAX / 2, Limits::default());
    let (frame, keyframe) = (Bytes::from_static(b"frame"), Bytes::from_static(b"keyframe"));
    let orders = vec![(ClientId(0), Order::Enter(cell(9), vec![Wire::new(keyframe)]))];
    shard.tick(Batch { frames: frames(&[(9, &frame)]), orders, ..Batch::default() });
    assert_eq!(sinks[0].0.lock().unwrap().written, b"\x82\x08keyframe");
    shard.tick(Batch { frames: frames(&[(9, &frame)]), ..Batch::default() });
    assert!(sinks[0].0.lock().unwrap().written.ends_with(b"\x82\x05frame"));
}

#[test]
fn a_slow_client_misses_frames_then_gets_keyframes_and_never_half_a_message() {
    let (mut shard, sinks) = shard_with_clients(2, 10, Limits::default());
    sinks[1].0.lock().unwrap().room = usize::MAX / 2;
    let body = Bytes::from(vec![5; 20]);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend(shard.tick(Batch { frames: frames(&[(0, &body)]), ..Batch::default() }));
    }
    assert_eq!(told, [], "nothing to refresh while the socket is full");
    assert_eq!(sinks[1].0.lock().unwrap().written.len(), 3 * 22, "the other client is not disturbed");
    sinks[0].0.lock().unwrap().room = usize::MAX / 2;
    let told = shard.tick(Batch::default());
    assert_eq!(told, [Notice::Refresh(ClientId(0), vec![cell(0)])]);
    assert_eq!(sinks[0].0.lock().unwrap().written.len(), 22, "the first message whole, the others left out");
    shard.tick(Batch { frames: frames(&[(0, &body)]), ..Batch::default() });
    assert_eq!(sinks[0].0.lock().unwrap().written.len(), 22, "no frame before its keyframe");
    let keyframe = Bytes::from_static(b"key");
    let orders = vec![(ClientId(0), Order::Enter(cell(0), vec![Wire::new(keyframe)]))];
    shard.tick(Batch { orders, ..Batch::default() });
    shard.tick(Batch { frames: frames(&[(0, &body)]), ..Batch::default() });
    assert_eq!(sinks[0].0.lock().unwrap().written.len(), 22 + 5 + 22);
}

#[test]
fn a_client_that_takes_nothing_for_too_long_is_let_go() {
    let limits = Limits { patience_ticks: 5, ..Limits::default() };
    let (mut shard, sinks) = shard_with_clients(1, 0, limits);
    let body = Bytes::from(vec![5; 20]);
    let mut told = Vec::new();
    for _ in 0..7 {
        told.extend(shard.tick(Batch { frames: frames(&[(0, &body)]), ..Batch::default() }));
    }
    assert_eq!(told, [Notice::Gone(ClientId(0), Gone::Slow)]);
    assert!(sinks[0].0.lock().unwrap().closed);
    assert!(shard.is_empty() && shard.watchers.is_empty(), "nothing of it is left");
}

#[test]
fn missed_cells_become_keyframes() {
    let (mut shard, _sinks) = shard_with_clients(1, usize::MAX / 2, Limits::default());
    let told = shard.tick(Batch { missed: vec![cell(1)], ..Batch::default() });
    assert_eq!(told, [Notice::Refresh(ClientId(0), vec![cell(1)])]);
    assert_eq!(shard.tick(Batch::default()), [], "asked once, not every tick");
}

#[test]
fn last_words_are_written_before_the_socket_closes() {
    let (mut shard, sinks) = shard_with_clients(1, usize::MAX / 2, Limits::default());
    let orders = vec![(ClientId(0), Order::Close(Some(Wire::new(Bytes::from_static(b"bye")))))];
    assert_eq!(shard.tick(Batch { orders, ..Batch::default() }), []);
    let state = sinks[0].0.lock().unwrap();
    assert_eq!((state.written.as_slice(), state.closed), (b"\x82\x03bye".as_slice(), true));
}

#[test]
fn ten_hertz_means_every_second_tick_spread_over_the_clients() {
    let limits = Limits { every_ticks: 2, ..Limits::default() };
    let (mut shard, sinks) = shard_with_clients(2, usize::MAX / 2, limits);
    let body = Bytes::from_static(b"x");
    for _ in 0..10 {
        shard.tick(Batch { frames: frames(&[(0, &body)]), ..Batch::default() });
    }
    for sink in &sinks {
        assert_eq!(sink.0.lock().unwrap().writes, 5);
    }
}
