//! What owners of fighters and colosseums do alike about battles: choosing where one begins, finding where one goes on, and
//! joining it again after either has changed hands.
//!
//! Colosseums that are being emptied are given nothing new. Whoever asks the same colosseums in the same order finds the same
//! one: rendezvous by the battle's number. All waits are bounded. Nothing here decides whether a battle goes on: its document
//! does.

use std::time::Duration;

use mesh::peers::PeerTable;
use mesh::{CallError, Incarnation, Mesh, NodeId, Role};
use tokio::time::sleep;

use crate::draining::takes_work;
use crate::load::Load;
use crate::methods::living::{BATTLE_JOIN, BATTLE_RESUME, BattleJoin, ELSEWHERE, Fighter};
use crate::methods::pack;
use crate::protocol::codes;
use crate::rendezvous;

/// Rounds in which the colosseums are asked for a battle, and the pause in between: together longer than a member whose owner
/// is gone may be absent, so that whoever takes it over late is told that it is free.
const ROUNDS: u32 = 44;
const PAUSE: Duration = Duration::from_millis(500);

/// Colosseums that are asked in each round, at most.
const ASKED: usize = 4;

const _: () =
    assert!(ROUNDS as u128 * PAUSE.as_millis() > crate::game::combat::GRACE_MS as u128, "nobody waits in vain");

/// Which life of which colosseum leads a battle.
pub type Arena = (NodeId, Incarnation);

/// What became of looking for a battle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is led there.
    At(Arena),
    /// It is over, or the fighter is not to be in it.
    Over,
    /// Nobody could say: no colosseum has answered in all the time.
    Lost,
}

/// The colosseum where a battle is to begin: the least loaded of those that take work.
pub fn choose(peers: &PeerTable) -> Option<Arena> {
    let load = |node: &NodeId| {
        let load = peers.get(node).and_then(|peer| Load::decode(&peer.load)).unwrap_or_default();
        (load.players, load.tick_p99_us / 1_000)
    };
    let node = takes_work(peers, Role::Colosseum).into_iter().min_by_key(|node| (load(node), node.clone()))?;
    let life = peers.get(&node)?.record.incarnation;
    Some((node, life))
}

/// The colosseums that may go on with a battle, whoever is to be asked first before the others.
pub fn ranked(peers: &PeerTable, battle: u64) -> Vec<NodeId> {
    let ready = takes_work(peers, Role::Colosseum);
    rendezvous::ranked(&battle.to_be_bytes(), &ready).into_iter().cloned().collect()
}

/// Finds where a battle goes on, and has it go on somewhere if it does not; `at` is where it was seen last.
pub async fn find(mesh: &Mesh, battle: u64, at: Option<NodeId>) -> Found {
    search(mesh, battle, at, None).await
}

/// Finds a battle, and has this node speak for a fighter in it from then on; `at` is where it was seen last.
///
/// [`Found::Over`] also if the battle does not take the fighter: it is free then.
pub async fn rejoin(mesh: &Mesh, battle: u64, at: Option<NodeId>, fighter: Fighter) -> Found {
    search(mesh, battle, at, Some(fighter)).await
}

async fn search(mesh: &Mesh, battle: u64, at: Option<NodeId>, fighter: Option<Fighter>) -> Found {
    let mut hint = at;
    for round in 0..ROUNDS {
        if round > 0 {
            sleep(PAUSE).await;
        }
        let peers = mesh.peers();
        let first = hint.take().filter(|node| peers.get(node).is_some());
        let others = ranked(&peers, battle).into_iter().filter(|node| Some(node) != first.as_ref());
        let mut asked: Vec<NodeId> = first.iter().cloned().chain(others).take(ASKED).collect();
        asked.reverse();
        let mut tries = ASKED + 1;
        while let Some(node) = asked.pop().filter(|_| tries > 0) {
            tries -= 1;
            match ask(mesh, battle, &node, fighter.as_ref()).await {
                Asked::Found(found) => return found,
                Asked::Elsewhere(other) if other != node => asked.push(other),
                Asked::Elsewhere(_) | Asked::NotNow => {}
            }
        }
    }
    tracing::warn!(battle, "no colosseum goes on with a battle");
    Found::Lost
}

enum Asked {
    Found(Found),
    Elsewhere(NodeId),
    NotNow,
}

/// Asks one colosseum to go on with a battle, and to take the fighter in.
async fn ask(mesh: &Mesh, battle: u64, node: &NodeId, fighter: Option<&Fighter>) -> Asked {
    let refused = |error: CallError| {
        tracing::debug!(battle, %node, %error, "a colosseum does not go on with a battle");
        let CallError::Refused { refusal, .. } = error else { return Asked::NotNow };
        match refusal.code.as_str() {
            codes::MISSING => Asked::Found(Found::Over),
            ELSEWHERE => NodeId::new(&refusal.text).map_or(Asked::NotNow, Asked::Elsewhere),
            _ => Asked::NotNow,
        }
    };
    if let Err(error) = mesh.call(node, &BATTLE_RESUME, pack(&battle)).await {
        return refused(error);
    }
    let Some(life) = mesh.peers().get(node).map(|peer| peer.record.incarnation) else { return Asked::NotNow };
    let Some(fighter) = fighter else { return Asked::Found(Found::At((node.clone(), life))) };
    let join = BattleJoin { battle, fighter: fighter.clone() };
    match mesh.call(node, &BATTLE_JOIN, pack(&join)).await {
        Ok(_) => Asked::Found(Found::At((node.clone(), life))),
        Err(CallError::Refused { refusal, .. })
            if [codes::DEFEATED, codes::FULL, codes::IN_BATTLE, codes::FORBIDDEN].contains(&refusal.code.as_str()) =>
        {
            tracing::debug!(battle, %refusal, "a battle does not take a fighter again");
            Asked::Found(Found::Over)
        }
        Err(error) => refused(error),
    }
}
