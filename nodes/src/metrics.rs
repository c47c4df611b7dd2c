//! What a node counts: typed counters under one registry, told as Prometheus text.
//!
//! Every metric carries the labels `node` and `role`, so that the nodes of one process (`wildmesh up`) stay apart in one
//! page. Label values come from closed sets in the code, NEVER from what a client sent: the number of series is bounded.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// The content type of [`Exposition::text`].
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets of tick times, in seconds. A tick has 50 ms.
const TICK_BUCKETS: [f64; 12] = [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 5e-1];

/// Upper bounds of the buckets of request times, in seconds.
const REQUEST_BUCKETS: [f64; 10] = [1e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 2.5e-1, 1.0, 2.5, 10.0];

/// Upper bounds of the buckets of the gaps of players that move, in seconds. A good one is below a quarter.
const GAPS: [f64; 10] = [2.5e-2, 5e-2, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The counters of one node. Roles that have nothing to count in a field leave it at zero.
pub struct Metrics {
    make: Maker,
    hooks: Mutex<Vec<Hook>>,

    /// What was refused, by role and reason: `refused_total{reason}`. Count through [`Metrics::refused`].
    pub refusals: IntCounterVec,

    /// Time of one tick of the world loop, in seconds.
    pub tick_seconds: Histogram,
    /// Objects whose real is here.
    pub reals: IntGauge,
    /// Objects of other nodes, of which a ghost is here.
    pub ghosts: IntGauge,
    /// Cells that this node sees.
    pub vision_cells: IntGauge,
    /// Frames published.
    pub frames_published: IntCounter,
    /// Bytes of frames published, before any is copied to a subscriber.
    pub frame_bytes_published: IntCounter,
    /// Frames of other nodes that were applied.
    pub frames_applied: IntCounter,
    /// Keyframes asked for because frames were missing.
    pub keyframes_asked: IntCounter,
    /// Inputs that the world loop dropped because its queue was full.
    pub inputs_dropped: IntCounter,

    /// Players owned here.
    pub players: IntGauge,
    /// Client connections open here.
    pub clients: IntGauge,
    /// Players who fight.
    pub players_in_battle: IntGauge,
    /// Commands of clients, by operation.
    pub commands: IntCounterVec,
    /// Acts of players, by operation and outcome: `done`, `refused`, `unknown`.
    pub acts: IntCounterVec,
    /// Ends of client connections, by farewell code.
    pub farewells: IntCounterVec,
    /// Bytes written to clients.
    pub client_bytes: IntCounter,
    /// Frames not sent to clients that could not keep up.
    pub client_frames_dropped: IntCounter,
    /// Player documents saved, by outcome.
    pub saves: IntCounterVec,

    /// Players that were to go to another frontend, by what came of it.
    pub moved: IntCounterVec,
    /// For how long players that came from another frontend were nobody's: from when they were let go until their client was
    /// here, in seconds.
    pub move_gap: Histogram,

    /// HTTP requests, by method, route and status.
    pub http_requests: IntCounterVec,
    /// Time of HTTP requests, by route, in seconds.
    pub http_seconds: HistogramVec,
    /// HTTP connections open.
    pub http_connections: IntGauge,
    /// Logins that gave a session, and calls that asked a frontend for one, by outcome.
    pub sessions: IntCounterVec,
    /// Accounts made.
    pub accounts: IntCounter,
    /// Password hashes being computed or waiting for it.
    pub hashes: IntGauge,
    /// Viewers of the live map.
    pub map_viewers: IntGauge,
    /// Frames sent to viewers of the live map.
    pub map_frames: IntCounter,
    /// Frames not sent to viewers that could not keep up.
    pub map_frames_dropped: IntCounter,
}

type Hook = Box<dyn Fn(&Metrics) + Send + Sync>;

impl Metrics {
    /// The counters of a node, all at zero.
    pub fn new(node: &str, role: &str) -> Arc<Metrics> {
        let make = Maker { registry: Registry::new(), node: node.to_owned(), role: role.to_owned() };
        Arc::new(Metrics {
            refusals: make.counters("refused_total", "What was refused, by reason.", &["reason"]),

            tick_seconds: make.histogram("tick_seconds", "Time of one tick of the world loop.", &TICK_BUCKETS),
            reals: make.gauge("reals", "Objects whose real is here."),
            ghosts: make.gauge("ghosts", "Ghosts of other nodes' objects."),
            vision_cells: make.gauge("vision_cells", "Cells that this node sees."),
            frames_published: make.counter("frames_published_total", "Frames published."),
            frame_bytes_published: make.counter("frame_bytes_published_total", "Bytes of frames published."),
            frames_applied: make.counter("frames_applied_total", "Frames of other nodes that were applied."),
            keyframes_asked: make.counter("keyframes_asked_total", "Keyframes asked for after a gap."),
            inputs_dropped: make.counter("inputs_dropped_total", "Inputs dropped before a full world loop."),

            players: make.gauge("players", "Players owned here."),
            clients: make.gauge("clients", "Client connections open."),
            players_in_battle: make.gauge("players_in_battle", "Players of this frontend who fight."),
            acts: make.counters("acts_total", "Acts of players, by operation and outcome.", &["op", "outcome"]),
            commands: make.counters("commands_total", "Commands of clients, by operation.", &["op"]),
            farewells: make.counters("farewells_total", "Ends of client connections, by code.", &["code"]),
            client_bytes: make.counter("client_bytes_total", "Bytes written to clients."),
            client_frames_dropped: make.counter("client_frames_dropped_total", "Frames kept from slow clients."),
            saves: make.counters("saves_total", "Player documents saved, by outcome.", &["outcome"]),

            moved: make.counters(
                "moved_total",
                "Players that were to go to another frontend, by outcome.",
                &["outcome"],
            ),
            move_gap: make.histogram(
                "move_gap_seconds",
                "From a player's release elsewhere to its client here.",
                &GAPS,
            ),

            http_requests: make.counters("http_requests_total", "HTTP requests.", &["method", "route", "status"]),
            http_seconds: make.histograms("http_seconds", "Time of HTTP requests.", &REQUEST_BUCKETS, &["route"]),
            http_connections: make.gauge("http_connections", "HTTP connections open."),
            sessions: make.counters("sessions_total", "Sessions asked of frontends, by outcome.", &["outcome"]),
            accounts: make.counter("accounts_created_total", "Accounts made."),
            hashes: make.gauge("password_hashes", "Password hashes computed or waiting."),
            map_viewers: make.gauge("map_viewers", "Viewers of the live map."),
            map_frames: make.counter("map_frames_total", "Frames sent to viewers of the live map."),
            map_frames_dropped: make.counter("map_frames_dropped_total", "Frames kept from slow viewers."),

            make,
            hooks: Mutex::new(Vec::new()),
        })
    }

    /// Counts a refusal. Reasons are constants of the code: the same codes that clients are told.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Has `hook` run before every reading, to set gauges from counts that are kept elsewhere. It must not block.
    pub fn before_reading(&self, hook: impl Fn(&Metrics) + Send + Sync + 'static) {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// Adds a gauge that other code keeps, for counts that only one role has.
    ///
    /// # Panics
    /// If `name` stands already or breaks Prometheus' rules: names are made by programs.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.make.gauge(name, help)
    }

    /// Adds counters that other code keeps, as [`Metrics::gauge`] does. Labels MUST have few values, all known to the program.
    ///
    /// # Panics
    /// As [`Metrics::gauge`].
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.make.counters(name, help, labels)
    }

    /// Adds a counter that other code keeps, as [`Metrics::gauge`] does.
    ///
    /// # Panics
    /// As [`Metrics::gauge`].
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.make.counter(name, help)
    }

    /// Adds a histogram with these upper bounds that other code keeps, as [`Metrics::gauge`] does.
    ///
    /// # Panics
    /// As [`Metrics::gauge`].
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.make.histogram(name, help, buckets)
    }

    fn families(&self) -> Vec<MetricFamily> {
        for hook in self.hooks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            hook(self);
        }
        self.make.registry.gather()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// All nodes of one process, told as one page.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    nodes: Arc<Mutex<Vec<Arc<Metrics>>>>,
}

impl Exposition {
    /// An empty page.
    pub fn new() -> Exposition {
        Exposition::default()
    }

    /// Adds a node to the page.
    pub fn add(&self, metrics: Arc<Metrics>) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(metrics);
    }

    /// The page, in Prometheus' text format: [`TEXT_TYPE`].
    pub fn text(&self) -> String {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut families: Vec<MetricFamily> = Vec::new();
        for family in nodes.iter().flat_map(|node| node.families()) {
            match families.iter_mut().find(|known| known.name() == family.name()) {
                Some(known) => known.mut_metric().extend(family.get_metric().iter().cloned()),
                None => families.push(family),
            }
        }
        // Encoding fails only on families without metrics, which a registry never gathers.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

/// Makes and registers metrics.
///
/// Names are constants of this file; one that breaks Prometheus' rules or stands twice is a programmer's error.
struct Maker {
    registry: Registry,
    node: String,
    role: String,
}

impl Maker {
    fn opts(&self, name: &str, help: &str) -> Opts {
        let opts = Opts::new(format!("wildmesh_{name}"), help);
        opts.const_label("node", self.node.as_str()).const_label("role", self.role.as_str())
    }

    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("metric names and labels are constants");
        self.registry.register(Box::new(metric.clone())).expect("no metric stands twice");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(self.opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(self.opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(self.opts(name, help)))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.register(Histogram::with_opts(self.buckets(name, help, buckets)))
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        self.register(HistogramVec::new(self.buckets(name, help, buckets), labels))
    }

    fn buckets(&self, name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
        HistogramOpts { common_opts: self.opts(name, help), buckets: buckets.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_of_a_process_stand_apart_in_one_page() {
        let page = Exposition::new();
        let (one, two) = (Metrics::new("frontend-1", "frontend"), Metrics::new("gateway-1", "gateway"));
        page.add(one.clone());
        page.add(two.clone());
        one.players.set(3);
        two.refused("name_taken");
        two.refused("name_taken");
        let text = page.text();
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        has(r#"wildmesh_players{node="frontend-1",role="frontend"} 3"#);
        has(r#"wildmesh_players{node="gateway-1",role="gateway"} 0"#);
        has(r#"wildmesh_refused_total{node="gateway-1",reason="name_taken",role="gateway"} 2"#);
        assert_eq!(text.matches("# TYPE wildmesh_players gauge").count(), 1, "one head for both nodes");
    }

    #[test]
    fn hooks_run_before_every_reading() {
        let page = Exposition::new();
        let node = Metrics::new("zoo-1", "zoo");
        node.before_reading(|metrics| metrics.ghosts.inc());
        page.add(node);
        page.text();
        assert!(page.text().contains(r#"wildmesh_ghosts{node="zoo-1",role="zoo"} 2"#));
    }
}
