//! Many nodes under all faults at once, from a seed: nobody may act whom others may take for dead; and when the faults
//! stop, everybody agrees again.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::directory::memory::Cut;

const NODES: usize = 6;

/// How long the storm lasts, and how long is given to calm down.
const STORM: Duration = Duration::from_secs(240);
const CALM: Duration = Duration::from_secs(60);

/// How often the invariants are looked at.
const LOOK: Duration = Duration::from_millis(20);

struct Actor {
    node: Node,
    client: MemoryClient,
    there: Nodes,
}

struct Storm {
    world: World,
    chance: StdRng,
    actors: Vec<Actor>,
    lives: u64,
}

impl Storm {
    fn new(seed: u64) -> Storm {
        let directory = MemoryDirectory::start(&Tasks::simulated(), seed);
        let mut storm =
            Storm { world: World { directory }, chance: StdRng::seed_from_u64(seed), actors: Vec::new(), lives: 0 };
        for number in 0..NODES {
            let actor = storm.born(number);
            storm.actors.push(actor);
        }
        storm
    }

    /// A new life of a node, on its former endpoints or on new ones.
    fn born(&mut self, number: usize) -> Actor {
        self.lives += 1;
        let mut record = record(&format!("n{number}"), self.lives);
        if let Some(former) = self.actors.get(number).filter(|_| self.chance.random_bool(0.5)) {
            record.publish = former.node.record.publish.clone();
            record.request = former.node.record.request.clone();
        }
        let client = self.world.directory.client();
        Actor { node: Node::start(Arc::new(client.clone()), record), client, there: Nodes::new() }
    }

    fn fault(&mut self) {
        let number = self.chance.random_range(0..NODES);
        let actor = &mut self.actors[number];
        match self.chance.random_range(0..10) {
            0 => actor.client.cut(Cut::Silent),
            1 => actor.client.cut(Cut::Refused),
            2 | 3 => actor.client.heal(),
            4 => actor.node.tasks.freeze(true),
            5 | 6 => actor.node.tasks.freeze(false),
            7 => {
                actor.node.tasks.stop();
                self.actors[number] = self.born(number);
            }
            8 => self.world.directory.compact(),
            _ => {
                let most = self.chance.random_range(0..400);
                actor.client.delay(0, most);
                actor.client.lose_by_chance(most as u16 / 4, most as u16 / 4);
                actor.client.end_watches("stormy");
            }
        }
    }

    /// Whoever may act stands in the directory, with this very life.
    fn check(&self, seed: u64) {
        let entries = self.world.directory.peek("/wildmesh/test/north/nodes/");
        let stands: Vec<NodeRecord> =
            entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect();
        for actor in &self.actors {
            let node = &actor.node;
            assert!(
                !node.registry.lease().holds() || stands.contains(&node.record),
                "seed {seed}: {:?} acts and does not stand",
                node.record
            );
        }
    }

    /// Events tell a consistent story: who appears was not there, who goes was, with that life.
    fn hear(&mut self, seed: u64) {
        for actor in &mut self.actors {
            for event in actor.node.told() {
                match event {
                    RegistryEvent::NodeAppeared(record) => {
                        let before = actor.there.insert(record.node.clone(), record);
                        assert_eq!(before, None, "seed {seed}");
                    }
                    RegistryEvent::NodeGone(record) => {
                        assert_eq!(actor.there.remove(&record.node), Some(record), "seed {seed}");
                    }
                    RegistryEvent::NameTaken { by } => panic!("seed {seed}: taken by {by:?}"),
                    _ => {}
                }
            }
        }
    }
}

async fn weather(seed: u64) {
    let mut storm = Storm::new(seed);
    let end = Instant::now() + STORM;
    let mut next_fault = Instant::now();
    while Instant::now() < end {
        if Instant::now() >= next_fault {
            storm.fault();
            next_fault += Duration::from_millis(storm.chance.random_range(50..3000));
        }
        sleep(LOOK).await;
        storm.check(seed);
        storm.hear(seed);
    }
    for actor in &storm.actors {
        actor.node.tasks.freeze(false);
        actor.client.heal();
        actor.client.delay(0, 0);
        actor.client.lose_by_chance(0, 0);
    }
    let calm = Instant::now() + CALM;
    while Instant::now() < calm {
        sleep(LOOK).await;
        storm.check(seed);
        storm.hear(seed);
    }
    for actor in &storm.actors {
        assert!(actor.node.registry.lease().holds(), "seed {seed}: {}", actor.node.record.node);
        let mut others = Nodes::new();
        for other in storm.actors.iter().filter(|other| other.node.record.node != actor.node.record.node) {
            others.insert(other.node.record.node.clone(), other.node.record.clone());
        }
        assert_eq!(actor.there, others, "seed {seed}: {}", actor.node.record.node);
        assert_eq!(*actor.node.registry.known(), others, "seed {seed}: {}", actor.node.record.node);
    }
}

#[tokio::test(start_paused = true)]
async fn in_any_storm_nobody_acts_who_may_be_taken_for_dead() {
    for seed in 1..=12 {
        weather(seed).await;
    }
}
