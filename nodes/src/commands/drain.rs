//! `wildmesh drain NODE`: has a node empty itself and leave, shows how far it is, and returns when it is gone.
//!
//! The order is a key in the directory that the node watches; this program only writes it and looks on, so that ending it
//! stops nothing. It NEVER takes a node for gone whose record it could not read.
//!
//! Exit codes: 0 when the node is gone, 1 when the directory does not answer, 2 when there is no such node, 3 when the node is
//! still there at the end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh::directory::Directory;
use mesh::registry::{self, District};
use mesh::tasks::Tasks;
use mesh::{NodeId, NodeRecord};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cli;
use crate::draining::order::{self, DrainOrder, Progress};
use crate::wiring::drivers;

/// Between two looks at how far the node is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long the directory may be away while the node empties itself before the command gives up looking on.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(15);

/// No node of that name.
const UNKNOWN: u8 = 2;

/// It is still there.
const LATE: u8 = 3;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Drained {
    node: String,
    /// Whether it is gone.
    gone: bool,
    seconds: f64,
    /// How far it was at the last look.
    left: Progress,
}

/// What the order came to.
#[derive(Clone, Debug, PartialEq)]
enum End {
    Done(Drained),
    /// There is none of that name, but there are these.
    Unknown(Vec<String>),
}

/// Runs the command.
pub async fn run(args: cli::Drain) -> Result<ExitCode> {
    let node = NodeId::new(&args.node).with_context(|| format!("{:?} is no node's name", args.node))?;
    let tasks = Tasks::real();
    let directory = drivers::etcd(&args.etcd, &tasks)
        .await
        .with_context(|| format!("nothing was asked of {node}: the directory at {} cannot be reached", args.etcd))?;
    let district = District::new(&args.cluster, &args.district);
    let patience = Duration::from_secs(args.timeout);
    let end = drain(directory, &district, &node, &args.reason, patience, |line| eprintln!("{line}")).await;
    tasks.stop();
    match end? {
        End::Unknown(others) => {
            let others = if others.is_empty() { "there is none".to_owned() } else { others.join(", ") };
            eprintln!(
                "error: cluster {}, district {} has no node {node}; its nodes: {others}",
                args.cluster, args.district
            );
            Ok(ExitCode::from(UNKNOWN))
        }
        End::Done(done) => {
            let Drained { gone, seconds, left, .. } = &done;
            if *gone {
                eprintln!("{node} is gone after {seconds:.1} s.");
            } else {
                eprintln!(
                    "error: {node} is still there after {seconds:.0} s, with {} players and {} bodies; it goes on emptying \
                     itself, and its log says what holds it up",
                    left.players, left.bodies
                );
            }
            if args.json {
                println!("{}", serde_json::to_string(&done)?);
            }
            Ok(if *gone { ExitCode::SUCCESS } else { ExitCode::from(LATE) })
        }
    }
}

/// Writes the order and looks on until the node is gone, at most for `patience`.
async fn drain(
    directory: Arc<dyn Directory>,
    district: &District,
    node: &NodeId,
    reason: &str,
    patience: Duration,
    mut say: impl FnMut(&str),
) -> Result<End> {
    let records = registry::read(&*directory, district).await.context("the nodes could not be read")?;
    let Some(meant) = records.iter().find(|record| record.node == *node).cloned() else {
        return Ok(End::Unknown(records.iter().map(|record| record.node.to_string()).collect()));
    };
    let key = order::key(district, node);
    let order = DrainOrder { reason: reason.to_owned(), life: Some(meant.incarnation.0), progress: None };
    directory.put(&key, &order.to_bytes(), None).await.context("the order could not be written")?;
    say(&format!("{node} ({}) is told to empty itself.", meant.role));
    let began = Instant::now();
    let (mut left, mut heard) = (Progress::default(), Instant::now());
    let mut told = None;
    loop {
        match look(&*directory, district, &key, &meant).await {
            Ok((false, _)) => return Ok(End::Done(done(node, true, began, Progress::default()))),
            Ok((true, progress)) => {
                heard = Instant::now();
                left = progress.unwrap_or(left);
                if told != progress
                    && let Some(Progress { players, bodies }) = progress
                {
                    say(&format!("{:5.1} s  {players} players left, {bodies} bodies", began.elapsed().as_secs_f64()));
                    told = progress;
                }
            }
            Err(error) if heard.elapsed() >= DIRECTORY_PATIENCE => {
                return Err(error)
                    .context("the order stands, but the directory does not tell any more how far the node is");
            }
            Err(_) => {}
        }
        if began.elapsed() >= patience {
            return Ok(End::Done(done(node, false, began, left)));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn done(node: &NodeId, gone: bool, began: Instant, left: Progress) -> Drained {
    Drained { node: node.to_string(), gone, seconds: began.elapsed().as_secs_f64(), left }
}

/// Whether that life of the node is still there, and how far it says it is.
async fn look(
    directory: &dyn Directory,
    district: &District,
    key: &str,
    meant: &NodeRecord,
) -> mesh::directory::Result<(bool, Option<Progress>)> {
    let records = registry::read(directory, district).await?;
    let lives = records.iter().any(|it| it.node == meant.node && it.incarnation == meant.incarnation);
    let progress = directory.get(key).await?.and_then(|entry| DrainOrder::read(&entry.value).progress);
    Ok((lives, progress))
}

#[cfg(test)]
mod tests {
    use mesh::directory::memory::{Cut, MemoryDirectory};
    use mesh::record::PROTOCOL_VERSION;
    use mesh::{Incarnation, Role};

    use super::*;

    struct Stage {
        tasks: Tasks,
        server: MemoryDirectory,
        district: District,
        record: NodeRecord,
    }

    impl Stage {
        async fn new() -> Stage {
            let tasks = Tasks::simulated();
            let server = MemoryDirectory::start(&tasks, 1);
            let record = NodeRecord {
                node: NodeId::new("zoo-1").expect("a name"),
                role: Role::Zoo,
                incarnation: Incarnation(7),
                publish: "p".to_owned(),
                request: "r".to_owned(),
                public: None,
                version: "test".to_owned(),
                protocol: PROTOCOL_VERSION,
            };
            let stage = Stage { tasks, server, district: District::new("c", "main"), record };
            stage.lives(true).await;
            stage
        }

        async fn lives(&self, lives: bool) {
            let (client, key) = (self.server.client(), self.district.key(&self.record));
            if lives {
                let record = serde_json::to_vec(&self.record).expect("JSON");
                client.put(&key, &record, None).await.expect("written");
            } else {
                client.delete(&key, None).await.expect("removed");
            }
        }

        async fn drain(&self, name: &str, client: Arc<dyn Directory>) -> (Result<End>, Vec<String>) {
            let mut said = Vec::new();
            let node = NodeId::new(name).expect("a name");
            let patience = Duration::from_secs(60);
            let end = drain(client, &self.district, &node, "a test", patience, |line| said.push(line.to_owned())).await;
            (end, said)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_command_tells_how_far_the_node_is_and_ends_when_it_is_gone() {
        let stage = Stage::new().await;
        let client = Arc::new(stage.server.client());
        let node = async {
            let (key, own) = (order::key(&stage.district, &stage.record.node), stage.server.client());
            let (told, mut ordered) = tokio::sync::watch::channel(None);
            order::follow(Arc::new(own.clone()), key.clone(), stage.record.incarnation, told).await;
            let reason = ordered.borrow_and_update().clone().expect("an order").reason;
            for bodies in [9, 4] {
                order::tell(&own, &key, Progress { players: 2, bodies }).await.expect("told");
                sleep(Duration::from_secs(1)).await;
            }
            own.delete(&key, None).await.expect("removed");
            stage.lives(false).await;
            reason
        };
        let ((end, said), reason) = tokio::join!(stage.drain("zoo-1", client), node);
        assert_eq!(reason, "a test");
        let End::Done(done) = end.expect("no error") else { panic!("{said:?}") };
        assert!(done.gone && done.seconds < 5.0, "{done:?}");
        let has = |words: &str| assert!(said.iter().any(|line| line.contains(words)), "{words} in {said:?}");
        has("told to empty itself");
        has("2 players left, 9 bodies");
        has("2 players left, 4 bodies");
        stage.tasks.stop();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_there_who_does_not_go_and_a_directory_that_is_away_are_told_apart() {
        let stage = Stage::new().await;
        let client = stage.server.client();
        let (end, _) = stage.drain("zoo-9", Arc::new(client.clone())).await;
        assert_eq!(end.expect("no error"), End::Unknown(vec!["zoo-1".to_owned()]));
        let none = NodeId::new("zoo-9").expect("a name");
        assert_eq!(
            client.get(&order::key(&stage.district, &none)).await.expect("read"),
            None,
            "and nothing is written"
        );

        let (end, _) = stage.drain("zoo-1", Arc::new(client.clone())).await;
        let End::Done(done) = end.expect("no error") else { panic!("it is known") };
        assert!(!done.gone, "it does not hear");
        // Another life of that name is another node: the one that was meant is gone.
        let changed = async {
            sleep(Duration::from_secs(3)).await;
            let next = NodeRecord { incarnation: Incarnation(8), ..stage.record.clone() };
            let record = serde_json::to_vec(&next).expect("JSON");
            stage.server.client().put(&stage.district.key(&next), &record, None).await.expect("written");
        };
        let ((end, _), ()) = tokio::join!(stage.drain("zoo-1", Arc::new(client.clone())), changed);
        let End::Done(done) = end.expect("no error") else { panic!("it is known") };
        assert!(done.gone && (3.0..5.0).contains(&done.seconds), "{done:?}");

        client.cut(Cut::Silent);
        let (end, _) = stage.drain("zoo-1", Arc::new(client)).await;
        assert!(end.is_err(), "{end:?}");
        stage.tasks.stop();
    }
}
