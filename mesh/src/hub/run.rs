//! The hub's loop: takes what happens, steps the machines, carries out their effects.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::{error, warn};

use super::handle::{Order, Orders, Shared};
use super::outlet::Outlet;
use crate::calls::client::{self, Client, NewCall};
use crate::calls::server::{Arrived, SERVING, Server, Verdict, Waiter, overloaded};
use crate::calls::{CallError, CallRefusal, Method};
use crate::events::{Answer, Event, IncomingCall, Responder};
use crate::membership::{self, Asked, Membership, Now, TICK_MS};
use crate::peers::MeshView;
use crate::record::NodeId;
use crate::registry::{Registry, RegistryEvent};
use crate::tasks::Tasks;
use crate::transport::{self, Command, Transport};
use crate::wire::{self, BODY_BYTES, Reply, Request};

/// What is taken from one queue in one go, at most, so that no queue starves another.
const BATCH: usize = 256;

/// Commands that must reach the transport and wait for room there, at most.
const OUTBOX: usize = 16_384;

/// How often the table and the view are made anew if nothing but numbers changed, in milliseconds.
const SNAPSHOT_MS: u64 = 500;

/// How long leaving may take, in milliseconds.
const LEAVE_MS: u64 = 5_000;

/// What a hub is made of.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: Orders,
    pub(super) transport: Transport,
    pub(super) registry: Registry,
    pub(super) registry_events: mpsc::Receiver<RegistryEvent>,
    pub(super) refresh: Arc<Notify>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) calls: mpsc::Sender<IncomingCall>,
    pub(super) setup: membership::Setup,
    pub(super) tasks: Tasks,
}

/// The hub.
pub(super) struct Hub {
    shared: Arc<Shared>,
    orders: Orders,
    transport: Transport,
    registry: Registry,
    registry_events: mpsc::Receiver<RegistryEvent>,
    refresh: Arc<Notify>,
    tasks: Tasks,
    membership: Membership,
    client: Client,
    server: Server,
    outlet: Outlet,
    calls: mpsc::Sender<IncomingCall>,
    answers_in: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
    /// Who waits for which call of ours.
    waiting: FxHashMap<u64, oneshot::Sender<Result<Bytes, CallError>>>,
    /// Commands that must not be lost, while the transport's queue is full.
    outbox: VecDeque<Command>,
    view: MeshView,
    next_tick_ms: u64,
    next_snapshot_ms: u64,
    hints_dropped: u64,
    left: Arc<Notify>,
    /// Who waits until this node has left.
    leavers: Vec<oneshot::Sender<()>>,
}

/// What woke the hub.
enum Woken {
    Transport(Option<transport::Event>),
    Registry(RegistryEvent),
    Answer(Answer),
    Order(Order),
    Left,
    Other,
}

impl Hub {
    pub(super) fn new(parts: Parts) -> Hub {
        let (answers_in, answers) = mpsc::channel(SERVING);
        let now = Now { us: parts.shared.now_us() };
        let view = parts.shared.view.borrow().as_ref().clone();
        Hub {
            shared: parts.shared,
            orders: parts.orders,
            transport: parts.transport,
            registry: parts.registry,
            registry_events: parts.registry_events,
            refresh: parts.refresh,
            tasks: parts.tasks,
            membership: Membership::new(parts.setup, now),
            client: Client::default(),
            server: Server::default(),
            outlet: Outlet::new(parts.events),
            calls: parts.calls,
            answers_in,
            answers,
            waiting: FxHashMap::default(),
            outbox: VecDeque::new(),
            view,
            next_tick_ms: now.ms(),
            next_snapshot_ms: now.ms(),
            hints_dropped: 0,
            left: Arc::new(Notify::new()),
            leavers: Vec::new(),
        }
    }

    /// Runs until the node has left or its transport is gone. Whoever waits for a call is then told so.
    pub(super) async fn run(mut self) {
        self.settle();
        loop {
            match self.woken().await {
                Woken::Transport(Some(event)) => self.happened(event),
                Woken::Transport(None) => {
                    error!("the transport is gone: this node is cut off, its hub stops");
                    break;
                }
                Woken::Registry(event) => self.registered(event),
                Woken::Answer(answer) => self.answered(answer),
                Woken::Order(order) => self.order(order),
                Woken::Left => break,
                Woken::Other => {}
            }
            self.drain();
            self.settle();
        }
        self.show(self.now());
    }

    async fn woken(&mut self) -> Woken {
        let due_ms = self.client.due_ms().map_or(self.next_tick_ms, |due_ms| due_ms.min(self.next_tick_ms));
        let due = self.shared.at_ms(due_ms);
        let (crowded, behind) = (!self.outbox.is_empty(), !self.outlet.is_clear());
        tokio::select! {
            biased;
            () = self.left.notified() => Woken::Left,
            event = self.transport.events.recv() => Woken::Transport(event),
            Some(event) = self.registry_events.recv() => Woken::Registry(event),
            () = self.shared.resubscribe.notified() => Woken::Other,
            Some(answer) = self.answers.recv() => Woken::Answer(answer),
            Some(order) = self.orders.recv() => Woken::Order(order),
            permit = self.transport.commands.reserve(), if crowded => {
                if let (Ok(permit), Some(command)) = (permit, self.outbox.pop_front()) {
                    permit.send(command);
                }
                Woken::Other
            }
            () = self.outlet.room(), if behind => Woken::Other,
            () = sleep_until(due) => Woken::Other,
        }
    }

    /// Takes more of what is there, a bounded number of each.
    fn drain(&mut self) {
        for _ in 0..BATCH {
            let Ok(event) = self.transport.events.try_recv() else { break };
            self.happened(event);
        }
        for _ in 0..BATCH {
            let Ok(event) = self.registry_events.try_recv() else { break };
            self.registered(event);
        }
        for _ in 0..BATCH {
            let Ok(answer) = self.answers.try_recv() else { break };
            self.answered(answer);
        }
        for _ in 0..BATCH {
            let Ok(order) = self.orders.try_recv() else { break };
            self.order(order);
        }
    }

    /// Lets time pass and carries out what is to be done.
    fn settle(&mut self) {
        let now = self.now();
        if now.ms() >= self.next_tick_ms {
            self.next_tick_ms = now.ms() + TICK_MS;
            let load = self.shared.load();
            self.membership.tick(now, &load);
        }
        self.client.tick(now.ms());
        self.resubscribe();
        self.carry_out(now);
        self.empty_outbox();
        self.outlet.flush();
    }

    fn now(&self) -> Now {
        Now { us: self.shared.now_us() }
    }

    fn happened(&mut self, event: transport::Event) {
        let now = self.now();
        match event {
            transport::Event::Published { link, topic, parts } => {
                if let Some(from) = self.membership.published(now, link, &topic, &parts) {
                    self.outlet.frames(from, topic, parts);
                }
            }
            transport::Event::Requested { route, message } => {
                if let Some(asked) = self.membership.requested(now, route, &message) {
                    self.asked(asked);
                }
            }
            transport::Event::Answered { link, message } => {
                if let Some(answered) = self.membership.answered(now, link, &message) {
                    self.client.answered(now.ms(), &answered.from, answered.id, answered.result);
                }
            }
            transport::Event::Broken { link } => self.membership.broken(now, link),
            transport::Event::Lost { link } => self.membership.lost(link),
        }
        // Comings and goings are told before the frames that follow them.
        self.carry_out(now);
    }

    fn registered(&mut self, event: RegistryEvent) {
        let now = self.now();
        match event {
            RegistryEvent::NodeAppeared(record) | RegistryEvent::NodeChanged(record) => {
                self.membership.appeared(now, record);
            }
            RegistryEvent::NodeGone(record) => self.membership.gone(&record),
            RegistryEvent::Listed => {}
            RegistryEvent::OwnLeaseBack { .. } => {
                self.view.registered = true;
                self.outlet.tell(Event::OwnLeaseBack);
            }
            RegistryEvent::OwnLeaseLost => {
                self.view.registered = false;
                self.outlet.tell(Event::OwnLeaseLost);
            }
            RegistryEvent::NameTaken { by } => {
                error!(by = %by.request, incarnation = by.incarnation.0, "another living node has this node's name");
                self.view.registered = false;
                self.outlet.tell(Event::NameTaken { by });
            }
            RegistryEvent::DirectoryDown { reason } => self.view.directory_down = Some(reason),
            RegistryEvent::DirectoryBack => self.view.directory_down = None,
        }
        self.next_snapshot_ms = now.ms();
        self.carry_out(now);
    }

    /// A peer wants something of the program.
    fn asked(&mut self, asked: Asked) {
        match asked {
            Asked::Cast { from, incarnation, method, body } => {
                let call = IncomingCall::new(from, incarnation, method, body, None);
                if self.calls.try_send(call).is_err() {
                    self.hints_dropped += 1;
                }
            }
            Asked::Call { from, incarnation, id, method, lane, operation, body } => {
                let arrived = Arrived { from: &from, incarnation, id, method: &method, lane, operation };
                match self.server.arrived(&arrived) {
                    Verdict::Joined => {}
                    Verdict::Answer(result) => self.reply(&Waiter { from, incarnation, id }, &result),
                    Verdict::Serve(serving) => {
                        let call = IncomingCall::new(from, incarnation, method, body, operation);
                        self.serve(serving, call);
                    }
                }
            }
        }
    }

    fn serve(&mut self, serving: u64, call: IncomingCall) {
        let Ok(permit) = self.answers_in.clone().try_reserve_owned() else {
            return self.answered(Answer { serving, result: Err(overloaded()) });
        };
        let call = call.answered_by(Responder { serving, permit: Some(permit) });
        if let Err(mpsc::error::TrySendError::Full(call)) = self.calls.try_send(call) {
            self.server.counts.overloaded += 1;
            call.answer(Err(overloaded()));
        }
    }

    /// The program answered a call.
    fn answered(&mut self, answer: Answer) {
        let Answer { serving, mut result } = answer;
        if let Some(bytes) = result.as_ref().ok().map(Bytes::len).filter(|bytes| *bytes > BODY_BYTES) {
            result = Err(CallRefusal::new("too_large", format!("an answer of {bytes} bytes is too large")));
        }
        for waiter in self.server.finished(serving, &result) {
            self.reply(&waiter, &result);
        }
    }

    fn reply(&mut self, to: &Waiter, result: &Result<Bytes, CallRefusal>) {
        // Whoever lost its connection meanwhile has greeted anew, or asks again when it has.
        let Some(route) = self.membership.route(&to.from, to.incarnation) else { return };
        let message = match result {
            Ok(body) => wire::encode(&Reply::Answer { id: to.id }, body),
            Err(refusal) => wire::encode(&Reply::No { id: to.id, refusal: refusal.clone() }, b""),
        };
        self.transport.command(Command::Answer { route, message });
    }

    fn order(&mut self, order: Order) {
        // What was subscribed before this was ordered goes first.
        self.resubscribe();
        match order {
            Order::Call { to, method, body, operation, reply } => {
                let now_ms = self.now().ms();
                let state = self.membership.state(&to);
                match self.client.call(now_ms, NewCall { to, state, method, operation, body }) {
                    Ok(id) => {
                        self.waiting.insert(id, reply);
                    }
                    // An error means that the caller has gone; nobody is left to tell.
                    Err(error) => drop(reply.send(Err(error))),
                }
                self.carry_out_calls();
            }
            Order::Send { to, method, body } => self.cast(&to, method, &body),
            Order::Leave { done } => self.leave(done),
        }
    }

    fn cast(&mut self, to: &NodeId, method: &'static Method, body: &Bytes) {
        let link = self.membership.link(to).filter(|_| body.len() <= BODY_BYTES);
        let Some(link) = link else {
            self.hints_dropped += 1;
            return;
        };
        let message = wire::encode(&Request::Cast { method: method.name.to_owned() }, body);
        self.transport.command(Command::Send { link, message });
    }

    fn leave(&mut self, done: oneshot::Sender<()>) {
        self.leavers.push(done);
        if self.leavers.len() > 1 {
            return;
        }
        self.membership.leave();
        let (registry, left) = (self.registry.clone(), self.left.clone());
        self.tasks.spawn(async move {
            if tokio::time::timeout(Duration::from_millis(LEAVE_MS), registry.leave()).await.is_err() {
                warn!("the directory did not take this node's record out in time; its lease will run out");
            }
            left.notify_one();
        });
    }

    fn resubscribe(&mut self) {
        if !self.outbox.is_empty() {
            return;
        }
        for (topic, wanted) in self.shared.take_subscriptions() {
            self.must(if wanted { Command::Subscribe(topic) } else { Command::Unsubscribe(topic) });
        }
    }

    fn carry_out(&mut self, now: Now) {
        for effect in self.membership.take_effects() {
            match effect {
                membership::Effect::Transport(command) => match command {
                    // Greetings and pings are said again when they get lost.
                    Command::Send { .. } | Command::Answer { .. } => {
                        self.transport.command(command);
                    }
                    // Connections, subscriptions, and heartbeats: a busy world does not make this node look dead.
                    _ => self.must(command),
                },
                membership::Effect::Refresh => self.refresh.notify_one(),
                membership::Effect::Tell(event) => {
                    match &event {
                        Event::PeerUp(peer) => self.client.up(now.ms(), &peer.record.node),
                        Event::PeerDown { peer, .. } => self.client.down(peer),
                        Event::PeerGone { peer, .. } => self.client.gone(now.ms(), peer),
                        _ => {}
                    }
                    // Who acts upon the event shall find the table as the event says.
                    self.show_if_changed(now);
                    self.outlet.tell(event);
                }
            }
        }
        self.carry_out_calls();
        self.show_if_changed(now);
    }

    fn carry_out_calls(&mut self) {
        for effect in self.client.take_effects() {
            match effect {
                client::Effect::Send { id, .. } if self.waiting.get(&id).is_some_and(oneshot::Sender::is_closed) => {
                    self.waiting.remove(&id);
                    self.client.forget(id);
                }
                client::Effect::Send { to, message, .. } => {
                    if let Some(link) = self.membership.link(&to) {
                        self.transport.command(Command::Send { link, message });
                    }
                }
                client::Effect::End { id, result } => {
                    if let Some(reply) = self.waiting.remove(&id) {
                        // An error means that the caller has gone; nobody is left to tell.
                        drop(reply.send(result));
                    }
                }
            }
        }
    }

    /// Hands the transport a command that must not be lost, now or as soon as there is room.
    fn must(&mut self, command: Command) {
        if self.outbox.len() >= OUTBOX {
            // A driver so stuck loses its links; those that are suspect are opened anew when it works again.
            self.transport.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.outbox.push_back(command);
        self.empty_outbox();
    }

    fn empty_outbox(&mut self) {
        while !self.outbox.is_empty() {
            let Ok(permit) = self.transport.commands.try_reserve() else { return };
            if let Some(command) = self.outbox.pop_front() {
                permit.send(command);
            }
        }
    }

    fn show_if_changed(&mut self, now: Now) {
        let changed = self.membership.take_changed();
        if changed || now.ms() >= self.next_snapshot_ms {
            self.next_snapshot_ms = now.ms() + SNAPSHOT_MS;
            self.shared.peers.send_replace(Arc::new(self.membership.table()));
            self.show(now);
        }
    }

    /// Makes the view for people anew.
    fn show(&mut self, now: Now) {
        let view = &mut self.view;
        self.membership.show(now, view);
        let counters = &mut view.counters;
        counters.frames = self.outlet.frames;
        counters.frames_dropped = self.outlet.dropped;
        counters.calls = self.client.counts.calls;
        counters.calls_failed = self.client.counts.failed;
        counters.retries = self.client.counts.retries;
        counters.breaker_open = self.client.counts.breaker_open;
        counters.late_answers = self.client.counts.late_answers;
        counters.served = self.server.counts.served;
        counters.repeats = self.server.counts.repeats;
        counters.overloaded = self.server.counts.overloaded;
        counters.hints_dropped = self.hints_dropped + self.shared.sends_dropped.load(Ordering::Relaxed);
        let transport = &self.transport.counters;
        counters.published = transport.published.load(Ordering::Relaxed);
        counters.published_bytes = transport.published_bytes.load(Ordering::Relaxed);
        counters.received = transport.received.load(Ordering::Relaxed);
        counters.received_bytes = transport.received_bytes.load(Ordering::Relaxed);
        counters.transport_dropped = transport.dropped.load(Ordering::Relaxed);
        counters.evicted = transport.evicted.load(Ordering::Relaxed);
        counters.transport_refused = transport.refused.load(Ordering::Relaxed);
        self.shared.view.send_replace(Arc::new(view.clone()));
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for done in self.leavers.drain(..) {
            // An error means that nobody waits any more.
            let _ = done.send(());
        }
    }
}

/// Reads the directory anew whenever it is asked to; requests that come meanwhile share the next reading.
pub(super) async fn refresher(registry: Registry, refresh: Arc<Notify>) {
    loop {
        refresh.notified().await;
        if let Err(error) = registry.read_now().await {
            warn!("cannot read the directory anew: {error}");
        }
    }
}
