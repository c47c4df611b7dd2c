//! Doubles of the nodes that own fighters: what a frontend or zoo does for one that fights, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cartographer::geometry::{IslandId, ObjectId, Place};
use mesh::tasks::Tasks;
use mesh::{CallError, CallRefusal, Inbox, IncomingCall, Mesh, NodeId};
use tokio::time::{Instant, sleep};

use super::{Shared, lock};
use crate::game::combat::blow;
use crate::methods::living::{
    BATTLE_ACT, BATTLE_JOIN, BATTLE_LEAVE, BATTLE_OPEN, BattleAct, BattleJoin, BattleLeave, BattleOpen, FIGHTER_FREED,
    FIGHTER_TAKE, FIGHTER_TOLD, Fighter, FighterFreed, FighterTake,
};
use crate::methods::{pack, unpack};
use crate::protocol::codes;

/// Between two commands of one fighter: a little more than the rules ask for, as a player's hand would have it.
const PAUSE: Duration = Duration::from_millis(830);

/// How long a fighter may take to be given back.
const FREED: Duration = Duration::from_secs(20);

/// A double of a node that owns fighters.
pub(super) struct Owner {
    pub(super) mesh: Mesh,
    pub(super) tasks: Tasks,
    fighters: Fighters,
}

type Fighters = Arc<Mutex<BTreeMap<ObjectId, (Fighter, u64)>>>;

fn held(fighters: &Fighters) -> MutexGuard<'_, BTreeMap<ObjectId, (Fighter, u64)>> {
    fighters.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owner {
    pub(super) fn start(mesh: Mesh, inbox: Inbox, tasks: Tasks) -> Owner {
        let fighters = Fighters::default();
        let (kept, Inbox { mut events, mut calls }) = (fighters.clone(), inbox);
        // It has no world: what happens in the mesh is taken and forgotten.
        tasks.spawn(async move { while events.recv().await.is_some() {} });
        tasks.spawn(async move {
            while let Some(call) = calls.recv().await {
                answer(&kept, call);
            }
        });
        Owner { mesh, tasks, fighters }
    }

    /// Has a fresh fighter of this number. Nobody is strong: battles are to last.
    pub(super) fn has(&self, object: ObjectId, side: u8) {
        let (node, name) = (self.mesh.me().node.clone(), if side == 0 { "player" } else { "wild_boar" }.to_owned());
        let fighter = Fighter { object, node, side, name, health: 100, harm: 6, toughness: 400, fear: 0 };
        held(&self.fighters).insert(object, (fighter, 0));
    }

    fn fighter(&self, object: ObjectId) -> Result<Fighter> {
        held(&self.fighters).get(&object).map(|(fighter, _)| fighter.clone()).context("no such fighter")
    }

    fn is_out(&self, object: ObjectId) -> bool {
        held(&self.fighters).get(&object).is_none_or(|(_, battle)| *battle == 0)
    }

    fn enters(&self, object: ObjectId, battle: u64) {
        if let Some(kept) = held(&self.fighters).get_mut(&object) {
            kept.1 = battle;
        }
    }

    /// Commands a fighter for as long as it fights, until the end.
    #[expect(clippy::too_many_arguments, reason = "who, whom, where, and what is measured")]
    pub(super) async fn fight(
        &self,
        colosseum: &NodeId,
        battle: u64,
        actor: ObjectId,
        target: ObjectId,
        tally: &Shared,
        watchers: usize,
        end: Instant,
    ) {
        // Fighters do not begin in the same moment.
        sleep(PAUSE * ((actor.0 % 7) as u32) / 7).await;
        let mut turn = 0;
        while !self.is_out(actor) && Instant::now() < end {
            turn += 1;
            let blow = if turn % 5 == 0 { blow::GUARD } else { blow::STRIKE };
            let cause = lock(tally).sends(watchers);
            let act = BattleAct { battle, actor, blow, target, cause };
            match self.mesh.call(colosseum, &BATTLE_ACT, pack(&act)).await {
                Ok(_) => {}
                Err(CallError::Refused { refusal, .. }) => {
                    lock(tally).refused(cause, &refusal.code);
                    // Its own target has fallen: the battle goes on without it.
                    if refusal.code == codes::MISSING {
                        return;
                    }
                }
                Err(_) => lock(tally).refused(cause, "unanswered"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Takes a fighter out, and waits until it is given back.
    pub(super) async fn gets_out(&self, colosseum: &NodeId, battle: u64, object: ObjectId) -> Result<()> {
        let end = Instant::now() + FREED;
        while !self.is_out(object) {
            if Instant::now() > end {
                bail!("fighter {} is not given back", object.0);
            }
            // Refused if the battle is over: it is given back then.
            let _ = self.mesh.call(colosseum, &BATTLE_LEAVE, pack(&BattleLeave { battle, object })).await;
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// Begins a battle with these members.
pub(super) async fn begin(
    colosseum: &NodeId,
    battle: u64,
    (island, place): (IslandId, Place),
    players: &[(&Owner, ObjectId)],
    beasts: &[(&Owner, ObjectId)],
) -> Result<()> {
    let ((owner, opener), (zoo, target)) = (players[0], beasts[0]);
    let target_node = zoo.mesh.me().node.clone();
    let ask = BattleOpen { battle, island, place, opener: owner.fighter(opener)?, target, target_node };
    owner.enters(opener, battle);
    let answer = owner.mesh.call(colosseum, &BATTLE_OPEN, pack(&ask)).await?;
    let number: u64 = unpack(&answer).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    if number != battle {
        bail!("the beast is in battle {number}");
    }
    for (owner, object) in players[1..].iter().chain(&beasts[1..]) {
        let join = BattleJoin { battle, fighter: owner.fighter(*object)? };
        owner.enters(*object, battle);
        owner.mesh.call(colosseum, &BATTLE_JOIN, pack(&join)).await?;
    }
    Ok(())
}

fn answer(fighters: &Fighters, call: IncomingCall) {
    let mut fighters = held(fighters);
    let answer = match call.method.as_str() {
        name if name == FIGHTER_TAKE.name => unpack::<FighterTake>(&call.body).and_then(|take| {
            let kept = fighters.get_mut(&take.object).ok_or_else(|| CallRefusal::new(codes::MISSING, ""))?;
            if ![0, take.battle].contains(&kept.1) {
                return Err(CallRefusal::new(codes::IN_BATTLE, kept.1.to_string()));
            }
            kept.1 = take.battle;
            Ok(pack(&kept.0))
        }),
        name if name == FIGHTER_FREED.name => unpack::<FighterFreed>(&call.body).map(|freed| {
            if let Some(kept) = fighters.get_mut(&freed.object).filter(|kept| kept.1 == freed.battle) {
                kept.1 = 0;
            }
            Bytes::new()
        }),
        name if name == FIGHTER_TOLD.name => Ok(Bytes::new()),
        other => Err(CallRefusal::unknown_method(other)),
    };
    call.answer(answer);
}
