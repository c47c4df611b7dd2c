//! Watchers: real clients of real frontends, who look at every packet about a battle.
//!
//! In each packet they want every exchange whole, numbered without a gap after the last one, up to the number that the view
//! names; and who falls in it without health. A packet that is not so is *apart*: a blow came without its reaction.

use std::sync::Arc;

use anyhow::{Context, Result};
use mesh::tasks::Tasks;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::{READY, Shared, lock};
use crate::client::{Connection, Incoming, Sight};
use crate::game::battle::Battle;
use crate::game::combat::reaction;
use crate::game::kind;
use crate::protocol::{Content, Entry, HelloKind, ServerMessage, View};

/// Comes in and watches until the bench ends. Returns when it sees something.
pub(super) async fn start(url: &str, ticket: &str, tally: Shared, tasks: &Tasks) -> Result<()> {
    let (connection, _) = Connection::open(url, ticket, HelloKind::Ticket).await?;
    let (ready, is_ready) = oneshot::channel();
    let mut watcher = Watcher { tally, sight: Sight::new(), last: FxHashMap::default(), ready: Some(ready) };
    tasks.spawn(async move {
        if let Err(error) = watcher.watch(connection).await
            && !lock(&watcher.tally).over
        {
            eprintln!("a watcher has stopped: {error:#}");
        }
    });
    timeout(READY, is_ready).await.context("a watcher sees nothing")?.context("a watcher has stopped")
}

struct Watcher {
    tally: Shared,
    sight: Sight,
    /// The last exchange seen of each battle.
    last: FxHashMap<u64, u64>,
    ready: Option<oneshot::Sender<()>>,
}

impl Watcher {
    async fn watch(&mut self, mut connection: Connection) -> Result<()> {
        loop {
            let message = match connection.next().await? {
                Incoming::Frame(bytes) => ServerMessage::decode(&bytes)?,
                Incoming::Message(message) => message,
            };
            let at = Instant::now();
            match message {
                ServerMessage::Frame(frame) => {
                    let frame = Arc::new(frame);
                    let effect = self.sight.apply(&frame);
                    lock(&self.tally).gaps += u64::from(effect.gap);
                    match &frame.content {
                        Content::Keyframe(objects) => objects.iter().for_each(|o| self.packet(o.id, &o.view, at)),
                        Content::Delta(entries) => entries.iter().for_each(|entry| match entry {
                            Entry::Enter { object, .. } => self.packet(object.id, &object.view, at),
                            Entry::Change { id, view, .. } => self.packet(*id, view, at),
                            Entry::Move { .. } | Entry::Leave { .. } => {}
                        }),
                    }
                    if let Some(ready) = self.ready.take() {
                        // An error means that nobody waits.
                        let _ = ready.send(());
                    }
                }
                ServerMessage::Vision { island, entered, left } => self.sight.set_vision(island, &entered, &left),
                _ => {}
            }
        }
    }

    /// Looks at what one packet says of one battle.
    fn packet(&mut self, battle: u64, view: &View, at: Instant) {
        if view.kind != kind::BATTLE {
            return;
        }
        let mut tally = lock(&self.tally);
        let Some(shown) = Battle::of(&view.detail) else {
            tally.apart += 1;
            return;
        };
        let before = self.last.get(&battle).copied().unwrap_or(0);
        let mut last = before;
        let mut whole = shown.exchanges.last().is_none_or(|exchange| exchange.number == view.tie);
        for exchange in shown.exchanges.iter().filter(|exchange| exchange.number > before) {
            whole &= exchange.number == last + 1 && exchange.reaction <= reaction::HELD;
            last = exchange.number;
            let fell = exchange.reaction == reaction::FALLS;
            whole &= !fell || shown.members.iter().any(|(id, _, health)| *id == exchange.target && *health == 0);
            tally.exchanges += 1;
            tally.sees(exchange.cause, at);
        }
        tally.apart += u64::from(!whole);
        self.last.insert(battle, last);
    }
}
