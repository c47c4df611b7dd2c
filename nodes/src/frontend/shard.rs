//! Writes what clients see: a shard owns the sending side of some clients and gives each at most one write per tick.
//!
//! Once per tick the world hands every shard one [`Batch`]: the frames of all touched cells (shared bytes, each encoded
//! once by the cell's owner) and what concerns single clients. The shard knows which client watches which cell. A client
//! that does not keep up is left out until its socket takes bytes again, then gets keyframes of the cells it missed
//! instead of the frames, and is let go after [`Limits::patience_ticks`]. The shard NEVER waits for a socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cartographer::geometry::Cell;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc;

use super::wire::Wire;

/// Messages of one vectored write when few wait, the usual case: a small array costs little to make.
const FEW: usize = 32;

/// Messages of one vectored write, at most: two slices each, and IOV_MAX is 1024 on Linux.
const MANY: usize = 512;

/// Ticks after which keyframes that were asked for and have not come are asked for again.
const ASK_AGAIN_TICKS: u32 = 20;

/// Batches that wait for a shard, at most: one second's worth. Beyond it the world keeps the orders, leaves out the
/// frames, and names the cells in [`Batch::missed`].
pub const BATCHES: usize = 20;

/// The number of one client connection. NEVER used twice by one frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// Where a client's bytes go: a socket, or memory in tests and simulation.
pub trait Sink: Send + Sync + 'static {
    /// Takes as many bytes as it can without waiting; `WouldBlock` if none.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends the connection in both directions.
    fn close(&self);
}

/// What one tick brings.
#[derive(Debug, Default)]
pub struct Batch {
    /// The frames of the touched cells, in the order in which they were applied.
    pub frames: Arc<Vec<(Cell, Wire)>>,
    /// Cells whose frames were left out since the last batch: their watchers need keyframes.
    pub missed: Vec<Cell>,
    /// What concerns single clients of this shard, in order.
    pub orders: Vec<(ClientId, Order)>,
}

/// Something for one client.
pub enum Order {
    /// A new client; its sink takes nothing but what the shard writes from now on.
    Add(Arc<dyn Sink>),
    /// A message for it alone.
    Say(Wire),
    /// It begins to see a cell: these keyframes are its present state.
    Enter(Cell, Vec<Wire>),
    /// It no longer sees a cell.
    Leave(Cell),
    /// It is let go, after these last words.
    Close(Option<Wire>),
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Order::Add(_) => "Add",
            Order::Say(_) => "Say",
            Order::Enter(..) => "Enter",
            Order::Leave(_) => "Leave",
            Order::Close(_) => "Close",
        })
    }
}

/// What a shard tells the world.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// The client has caught up and needs keyframes of these cells.
    Refresh(ClientId, Vec<Cell>),
    /// The client is gone: its socket failed, or it was too slow for too long.
    Gone(ClientId, Gone),
}

/// Why a client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its socket failed or was closed.
    Closed,
    /// It took nothing for too long, or its own messages piled up.
    Slow,
}

/// Bounds for slow clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Ticks for which a client may take nothing before it is let go.
    pub patience_ticks: u32,
    /// Bytes that may wait for one client, at most.
    pub backlog_bytes: usize,
    /// Frames go to a client every so many ticks (1: 20 Hz, 2: 10 Hz).
    pub every_ticks: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { patience_ticks: 200, backlog_bytes: 4 * 1024 * 1024, every_ticks: 1 }
    }
}

/// Counts of what a shard did. All only ever rise.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Writes to sockets.
    pub writes: AtomicU64,
    /// Bytes written.
    pub bytes: AtomicU64,
    /// Messages written (frames, answers, …).
    pub messages: AtomicU64,
    /// Frames left out because a client was behind.
    pub skipped: AtomicU64,
    /// Clients let go because they did not keep up.
    pub slow: AtomicU64,
}

struct Client {
    id: ClientId,
    sink: Arc<dyn Sink>,
    cells: FxHashSet<Cell>,
    /// Not yet written, oldest first; the first `written` bytes of the front are.
    queue: VecDeque<Wire>,
    queued_bytes: usize,
    written: usize,
    /// Cells whose frames were left out since the client fell behind.
    stale: FxHashSet<Cell>,
    /// Its socket did not take all it was offered.
    behind: bool,
    asked_tick: Option<u32>,
    stuck_ticks: u32,
    closing: bool,
}

/// The sending side of some clients.
pub struct Shard {
    limits: Limits,
    clients: FxHashMap<ClientId, u32>,
    slots: Vec<Option<Client>>,
    free: Vec<u32>,
    watchers: FxHashMap<Cell, Vec<u32>>,
    ticks: u32,
    counters: Arc<ShardCounters>,
    notices: Vec<Notice>,
}

impl Shard {
    /// An empty shard.
    pub fn new(limits: Limits, counters: Arc<ShardCounters>) -> Shard {
        Shard {
            limits,
            clients: FxHashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            watchers: FxHashMap::default(),
            ticks: 0,
            counters,
            notices: Vec::new(),
        }
    }

    /// Takes one tick's batch, writes once to every client that has something, and tells what the world must know.
    pub fn tick(&mut self, batch: Batch) -> Vec<Notice> {
        self.ticks = self.ticks.wrapping_add(1);
        let mut entered = Vec::new();
        for (id, order) in batch.orders {
            self.order(id, order, &mut entered);
        }
        self.mark_missed(&batch.missed);
        self.fan_out(&batch.frames);
        for (slot, cell) in entered {
            self.watch(slot, cell);
        }
        for slot in 0..self.slots.len() as u32 {
            self.flush(slot);
        }
        std::mem::take(&mut self.notices)
    }

    /// Clients of this shard.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// True without clients.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    fn order(&mut self, id: ClientId, order: Order, entered: &mut Vec<(u32, Cell)>) {
        if let Order::Add(sink) = order {
            self.add(id, sink);
            return;
        }
        // A client that went while the order was under way needs nothing any more.
        let Some(&slot) = self.clients.get(&id) else { return };
        match order {
            Order::Add(_) => {}
            Order::Say(wire) => self.push(slot, wire),
            Order::Enter(cell, keyframes) => {
                if let Some(client) = self.slots[slot as usize].as_mut() {
                    client.stale.remove(&cell);
                    if client.stale.is_empty() {
                        client.asked_tick = None;
                    }
                }
                for wire in keyframes {
                    self.push(slot, wire);
                }
                entered.push((slot, cell));
            }
            Order::Leave(cell) => {
                self.unwatch(slot, cell);
                entered.retain(|(s, c)| (*s, *c) != (slot, cell));
            }
            Order::Close(last_words) => {
                if let Some(wire) = last_words {
                    self.push(slot, wire);
                }
                if let Some(client) = self.slots[slot as usize].as_mut() {
                    client.closing = true;
                }
            }
        }
    }

    fn add(&mut self, id: ClientId, sink: Arc<dyn Sink>) {
        let client = Client {
            id,
            sink,
            cells: FxHashSet::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            written: 0,
            stale: FxHashSet::default(),
            behind: false,
            asked_tick: None,
            stuck_ticks: 0,
            closing: false,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(client);
        self.clients.insert(id, slot);
    }

    fn push(&mut self, slot: u32, wire: Wire) {
        if let Some(client) = self.slots[slot as usize].as_mut() {
            client.queued_bytes += wire.len();
            client.queue.push_back(wire);
        }
    }

    fn fan_out(&mut self, frames: &[(Cell, Wire)]) {
        let mut skipped = 0;
        for (cell, wire) in frames {
            let Some(watchers) = self.watchers.get(cell) else { continue };
            for &slot in watchers {
                let Some(client) = self.slots[slot as usize].as_mut() else { continue };
                // A stale cell's frames wait for its keyframe: a gap shown to the client would only make it ask.
                if client.behind || client.stale.contains(cell) {
                    client.stale.insert(*cell);
                    skipped += 1;
                } else {
                    client.queued_bytes += wire.len();
                    client.queue.push_back(wire.clone());
                }
            }
        }
        self.counters.skipped.fetch_add(skipped, Ordering::Relaxed);
    }

    fn watch(&mut self, slot: u32, cell: Cell) {
        if let Some(client) = self.slots[slot as usize].as_mut()
            && client.cells.insert(cell)
        {
            self.watchers.entry(cell).or_default().push(slot);
        }
    }

    fn unwatch(&mut self, slot: u32, cell: Cell) {
        if let Some(client) = self.slots[slot as usize].as_mut() {
            client.cells.remove(&cell);
            client.stale.remove(&cell);
        }
        if let Some(watchers) = self.watchers.get_mut(&cell) {
            watchers.retain(|&s| s != slot);
            if watchers.is_empty() {
                self.watchers.remove(&cell);
            }
        }
    }

    fn mark_missed(&mut self, cells: &[Cell]) {
        for cell in cells {
            for &slot in self.watchers.get(cell).into_iter().flatten() {
                if let Some(client) = self.slots[slot as usize].as_mut() {
                    client.stale.insert(*cell);
                }
            }
        }
    }

    /// Writes once to one client, if it has something and its turn has come.
    fn flush(&mut self, slot: u32) {
        let Some(client) = self.slots[slot as usize].as_mut() else { return };
        let turn = self.ticks.wrapping_add(slot).is_multiple_of(self.limits.every_ticks);
        if !turn && !client.closing {
            return;
        }
        if !client.queue.is_empty() {
            match client.write(&self.counters) {
                Ok(progress) => {
                    client.stuck_ticks = if progress { 0 } else { client.stuck_ticks + self.limits.every_ticks };
                }
                Err(_) => return self.let_go(slot, Some(Gone::Closed)),
            }
        }
        if client.queue.is_empty() && client.closing {
            return self.let_go(slot, None);
        }
        let late = client.stuck_ticks > self.limits.patience_ticks || client.queued_bytes > self.limits.backlog_bytes;
        if late {
            self.counters.slow.fetch_add(1, Ordering::Relaxed);
            return self.let_go(slot, Some(Gone::Slow));
        }
        if !client.behind && !client.stale.is_empty() {
            self.ask_keyframes(slot);
        }
    }

    /// Asks the world for keyframes of a client's stale cells; each stays stale until `Enter` brings its keyframe.
    fn ask_keyframes(&mut self, slot: u32) {
        let Some(client) = self.slots[slot as usize].as_mut() else { return };
        if client.asked_tick.is_some_and(|asked| self.ticks.wrapping_sub(asked) < ASK_AGAIN_TICKS) {
            return;
        }
        client.asked_tick = Some(self.ticks);
        let mut cells: Vec<Cell> = client.stale.iter().copied().collect();
        cells.sort_unstable();
        self.notices.push(Notice::Refresh(client.id, cells));
    }

    fn let_go(&mut self, slot: u32, why: Option<Gone>) {
        if let Some(client) = self.slots[slot as usize].as_ref() {
            client.sink.close();
        }
        self.forget(slot, why);
    }

    fn forget(&mut self, slot: u32, why: Option<Gone>) {
        let Some(client) = self.slots[slot as usize].take() else { return };
        for cell in &client.cells {
            if let Some(watchers) = self.watchers.get_mut(cell) {
                watchers.retain(|&s| s != slot);
                if watchers.is_empty() {
                    self.watchers.remove(cell);
                }
            }
        }
        self.clients.remove(&client.id);
        self.free.push(slot);
        if let Some(why) = why {
            self.notices.push(Notice::Gone(client.id, why));
        }
    }
}

impl Client {
    /// One vectored write of what waits; true if any byte was taken.
    fn write(&mut self, counters: &ShardCounters) -> io::Result<bool> {
        if self.queue.len() <= FEW {
            self.write_up_to::<{ FEW * 2 }>(counters)
        } else {
            self.write_up_to::<{ MANY * 2 }>(counters)
        }
    }

    fn write_up_to<const SLICES: usize>(&mut self, counters: &ShardCounters) -> io::Result<bool> {
        let mut slices: [IoSlice<'_>; SLICES] = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        let mut offered = 0;
        let mut skip = self.written;
        for wire in self.queue.iter().take(SLICES / 2) {
            let (head, body) = wire.rest(std::mem::take(&mut skip));
            for part in [head, body] {
                if !part.is_empty() {
                    slices[used] = IoSlice::new(part);
                    used += 1;
                    offered += part.len();
                }
            }
        }
        counters.writes.fetch_add(1, Ordering::Relaxed);
        let taken = match self.sink.try_write(&slices[..used]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => taken,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.behind = true;
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        self.behind = taken < offered;
        counters.bytes.fetch_add(taken as u64, Ordering::Relaxed);
        self.queued_bytes -= taken;
        self.written += taken;
        let mut done = 0;
        while let Some(front) = self.queue.front()
            && self.written >= front.len()
        {
            self.written -= front.len();
            self.queue.pop_front();
            done += 1;
        }
        counters.messages.fetch_add(done, Ordering::Relaxed);
        Ok(true)
    }
}

/// Runs a shard until its world is gone. `notices` leads back to the world.
pub async fn run(mut shard: Shard, mut batches: mpsc::Receiver<Batch>, notices: mpsc::Sender<Vec<Notice>>) {
    while let Some(batch) = batches.recv().await {
        let told = shard.tick(batch);
        if !told.is_empty() && notices.send(told).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
