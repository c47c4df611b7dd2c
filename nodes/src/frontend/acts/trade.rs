//! Trades: two players who stand beside each other offer goods, and all changes hands at once when both consent.
//!
//! The trade is a document of the estate; its rounds are the document's revisions. A trade's number on the wire gives its id.
//! After every change both sides look at it anew. Nearness is asked of the world when it is opened and when consent is given.
//! What is offered stays in its bag until it changes hands: it NEVER leaves one player without reaching the other.

use std::sync::Arc;

use cartographer::geometry::ObjectId;
use estate::goods::trade::{self, Side, TradeDocument, TradeState};
use estate::player;
use estate::transaction::OperationId;
use mesh::CallRefusal;
use tokio::sync::{mpsc, oneshot};

use super::wares::{goods_of, held, wares_of};
use super::{Actor, Begun, Came, Done, Shared, later, note, refusal, refused};
use crate::frontend::operations::named;
use crate::frontend::people;
use crate::frontend::players::FrontInput;
use crate::game::made_by;
use crate::methods::living::{Changed, ChangedWhat};
use crate::protocol::{self, Wares, codes};
use crate::world_loop::Input;

/// Trades of one player that may be open, at most.
const OPEN_MOST: usize = 8;

/// The id of a trade, by its number on the wire.
pub fn trade_id(number: u64) -> OperationId {
    named(b"wildmesh trade", &[number])
}

/// Proposes a trade to a player in reach.
pub(super) fn open(actor: &Actor<'_>, other: u64) -> Begun {
    actor.ready()?;
    let other = actor.person(other)?;
    if actor.trades >= OPEN_MOST && !actor.again {
        return refused(codes::BUSY, format!("{OPEN_MOST} trades are open already"));
    }
    let number = made_by(actor.op).0;
    let (flow, name) = (Flow::of(actor), actor.body.name.clone());
    later(async move {
        let players = [flow.player.0, other.0];
        if let Err(error) = trade::open(&flow.shared.estate, trade_id(number), players).await {
            return Err(refusal(&error)).into();
        }
        flow.changed(number, players).await;
        let invites = note(other, "trade", format!("{name} wants to trade"), number);
        people::tell_note(&flow.shared, &flow.inputs, invites).await;
        Ok(Done::Made(number)).into()
    })
}

/// Says what one gives.
pub(super) fn offer(actor: &Actor<'_>, number: u64, wares: &Wares) -> Begun {
    let goods = if wares.stacks.is_empty() && wares.uniques.is_empty() {
        // Taking back all that was offered.
        estate::goods::Goods::default()
    } else {
        let goods = goods_of(actor.content(), wares, &actor.carried.bag)?;
        held(&goods, &actor.carried.bag)?;
        goods
    };
    let flow = Flow::of(actor);
    later(async move {
        let (id, me) = (trade_id(number), flow.player.0);
        let offered = trade::offer(&flow.shared.estate, flow.op, id, me, goods).await;
        flow.end(number, offered.map_err(|error| refusal(&error))).await
    })
}

/// Agrees to a round.
pub(super) fn consent(actor: &Actor<'_>, number: u64, round: u64) -> Begun {
    actor.ready()?;
    let (flow, again) = (Flow::of(actor), actor.again);
    later(async move {
        let consented = flow.consent(number, round, again).await;
        flow.end(number, consented).await
    })
}

/// Gives up a trade.
pub(super) fn withdraw(actor: &Actor<'_>, number: u64) -> Begun {
    let flow = Flow::of(actor);
    later(async move {
        let withdrawn = trade::withdraw(&flow.shared.estate, flow.op, trade_id(number), flow.player.0).await;
        flow.end(number, withdrawn.map_err(|error| refusal(&error))).await
    })
}

/// Withdraws a player who goes from all its trades. What cannot be withdrawn expires, and nobody consents from afar.
pub async fn withdraw_all(
    shared: Arc<Shared>,
    inputs: mpsc::Sender<Input<FrontInput>>,
    player: ObjectId,
    numbers: Vec<u64>,
) {
    for number in numbers {
        let flow = Flow {
            shared: shared.clone(),
            inputs: inputs.clone(),
            player,
            op: named(b"wildmesh withdraw", &[player.0, number]),
        };
        let withdrawn = trade::withdraw(&shared.estate, flow.op, trade_id(number), player.0).await;
        flow.end(number, withdrawn.map_err(|error| refusal(&error))).await;
    }
}

/// Looks at a trade for one of its sides; `None` if it is no trade of theirs, or cannot be read now.
pub async fn look(shared: &Shared, number: u64, player: ObjectId) -> Option<protocol::TradeState> {
    let document = trade::find(&shared.estate, trade_id(number)).await.ok()??.document;
    let index = document.sides.iter().position(|side| side.player == player.0)?;
    let (mine, theirs) = (&document.sides[index], &document.sides[1 - index]);
    let name = match player::find(shared.store(), theirs.player).await {
        Ok(Some(kept)) => kept.document.name,
        _ => String::new(),
    };
    let side = |side: &Side| protocol::Side {
        wares: wares_of(&side.offer),
        consents: side.consent == Some(document.revision) || document.state == TradeState::Done,
    };
    let state = match document.state {
        TradeState::Unopened | TradeState::Open => 0,
        TradeState::Done => 1,
        TradeState::Withdrawn => 2,
    };
    Some(protocol::TradeState {
        trade: number,
        other: theirs.player,
        name,
        round: document.revision,
        mine: side(mine),
        theirs: side(theirs),
        state,
    })
}

/// What a flow about a trade needs.
struct Flow {
    shared: Arc<Shared>,
    inputs: mpsc::Sender<Input<FrontInput>>,
    player: ObjectId,
    op: OperationId,
}

impl Flow {
    fn of(actor: &Actor<'_>) -> Flow {
        Flow { shared: actor.shared.clone(), inputs: actor.inputs.clone(), player: actor.id, op: actor.op }
    }

    /// Has both sides look at the trade.
    async fn changed(&self, number: u64, players: [u64; 2]) {
        let changed = Changed { players: players.map(ObjectId).to_vec(), what: ChangedWhat::Trade(number) };
        people::tell_changed(&self.shared, &self.inputs, changed).await;
    }

    /// Whatever became of it, both sides look at the trade: a refused consent may have taken back the other's.
    async fn end(&self, number: u64, result: Result<(), CallRefusal>) -> Came {
        if let Ok(document) = self.find(number).await
            && document.sides.iter().any(|side| side.player == self.player.0)
        {
            self.changed(number, [document.sides[0].player, document.sides[1].player]).await;
        }
        result.map(|()| Done::Done).into()
    }

    async fn find(&self, number: u64) -> Result<TradeDocument, CallRefusal> {
        match trade::find(&self.shared.estate, trade_id(number)).await {
            Ok(Some(kept)) => Ok(kept.document),
            Ok(None) => refused(codes::MISSING, "there is no such trade"),
            Err(error) => Err(refusal(&error)),
        }
    }

    async fn consent(&self, number: u64, round: u64, again: bool) -> Result<(), CallRefusal> {
        let document = self.find(number).await?;
        let me = self.player.0;
        let Some(other) = document.sides.iter().find(|side| side.player != me).map(|side| ObjectId(side.player)) else {
            return refused(codes::FORBIDDEN, "one has no part in the trade");
        };
        if !document.sides.iter().any(|side| side.player == me) {
            return refused(codes::FORBIDDEN, "one has no part in the trade");
        }
        if !again && document.state == TradeState::Open {
            self.are_near(other).await?;
        }
        let consented = trade::consent(&self.shared.estate, self.op, trade_id(number), me, round).await;
        consented.map(drop).map_err(|error| refusal(&error))
    }

    /// Asks the world whether the other is in reach.
    async fn are_near(&self, other: ObjectId) -> Result<(), CallRefusal> {
        let stopping = || CallRefusal::new(codes::UNAVAILABLE, "this frontend is stopping");
        let (reply, near) = oneshot::channel();
        let ask = FrontInput::AreNear { player: self.player, other, reply };
        self.inputs.send(Input::Role(ask)).await.map_err(|_| stopping())?;
        near.await.map_err(|_| stopping())?
    }
}
