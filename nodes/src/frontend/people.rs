//! Between people: what frontends tell one another about players, and how colosseums reach the fighters of this one.
//!
//! Words, notes and news of parties and trades are hints on the async lane: whoever has one of the players tells them or looks
//! again. What matters is in documents, so that a lost hint costs a moment and nothing else. The async side is here, what comes
//! of it in the world is in [`super::players`]. It NEVER decides anything.

use bytes::Bytes;
use mesh::{CallRefusal, Incarnation, IncomingCall, Method, NodeId, Role};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::players::FrontInput;
use super::sessions::Sessions;
use crate::methods::living::{
    Changed, FIGHTER_FREED, FIGHTER_TAKE, FIGHTER_TOLD, Fighter, FighterFreed, FighterTake, FighterTold, Note,
    PEOPLE_CHANGED, PEOPLE_CHAT, PEOPLE_NOTE, Saying,
};
use crate::methods::{pack, unpack};
use crate::protocol::codes;
use crate::world_loop::Input;

/// The families of calls that are answered here.
pub const FAMILIES: [&str; 2] = ["fighter", "people"];

/// What a colosseum says of one of our fighters, and which life of which node it is.
pub struct FighterCall {
    /// Who says it.
    pub from: NodeId,
    /// Which life of it.
    pub life: Incarnation,
    /// What it says.
    pub what: FighterWhat,
}

/// What a colosseum says of a fighter.
pub enum FighterWhat {
    /// It takes it over.
    Take(FighterTake, oneshot::Sender<Result<Fighter, CallRefusal>>),
    /// Its health.
    Told(FighterTold),
    /// It is free; told when the world knows.
    Freed(FighterFreed, oneshot::Sender<()>),
}

/// Answers a call of one of [`FAMILIES`].
pub async fn answer(sessions: &Sessions, call: IncomingCall) {
    let answer = match call.method.as_str() {
        name if name == PEOPLE_CHAT.name => hand(sessions, &call, |saying: Saying| FrontInput::Heard(saying)).await,
        name if name == PEOPLE_CHANGED.name => {
            hand(sessions, &call, |changed: Changed| FrontInput::Changed(changed)).await
        }
        name if name == PEOPLE_NOTE.name => hand(sessions, &call, |note: Note| FrontInput::Noted(note)).await,
        name if name == FIGHTER_TOLD.name => {
            let (from, life) = (call.from.clone(), call.incarnation);
            let told = |told| FrontInput::Fighter(FighterCall { from, life, what: FighterWhat::Told(told) });
            hand(sessions, &call, told).await
        }
        name if name == FIGHTER_TAKE.name => {
            let (reply, taken) = oneshot::channel();
            let (from, life) = (call.from.clone(), call.incarnation);
            let take = |take| FrontInput::Fighter(FighterCall { from, life, what: FighterWhat::Take(take, reply) });
            match hand(sessions, &call, take).await {
                Ok(_) => taken.await.unwrap_or_else(|_| Err(stopping())).map(|fighter| pack(&fighter)),
                Err(refusal) => Err(refusal),
            }
        }
        name if name == FIGHTER_FREED.name => {
            let (reply, freed) = oneshot::channel();
            let (from, life) = (call.from.clone(), call.incarnation);
            let free = |free| FrontInput::Fighter(FighterCall { from, life, what: FighterWhat::Freed(free, reply) });
            match hand(sessions, &call, free).await {
                Ok(nothing) => freed.await.map(|()| nothing).map_err(|_| stopping()),
                Err(refusal) => Err(refusal),
            }
        }
        other => Err(CallRefusal::unknown_method(other)),
    };
    call.answer(answer);
}

fn stopping() -> CallRefusal {
    CallRefusal::new(codes::UNAVAILABLE, "this frontend is stopping")
}

/// Reads a call's body and hands the world what becomes of it.
async fn hand<T: DeserializeOwned>(
    sessions: &Sessions,
    call: &IncomingCall,
    input: impl FnOnce(T) -> FrontInput,
) -> Result<Bytes, CallRefusal> {
    let body = unpack::<T>(&call.body)?;
    if sessions.world.role(input(body)).await { Ok(Bytes::new()) } else { Err(stopping()) }
}

/// Tells every frontend, this one included, that something has changed.
pub async fn tell_changed(shared: &Shared, inputs: &mpsc::Sender<Input<FrontInput>>, changed: Changed) {
    spread(shared, &PEOPLE_CHANGED, &pack(&changed));
    // An error means that the world has ended.
    let _ = inputs.send(Input::Role(FrontInput::Changed(changed))).await;
}

/// Tells players something, wherever they are.
pub async fn tell_note(shared: &Shared, inputs: &mpsc::Sender<Input<FrontInput>>, note: Note) {
    spread(shared, &PEOPLE_NOTE, &pack(&note));
    // An error means that the world has ended.
    let _ = inputs.send(Input::Role(FrontInput::Noted(note))).await;
}

/// Sends a word to every other frontend of the district.
pub fn spread(shared: &Shared, method: &'static Method, body: &Bytes) {
    for frontend in shared.mesh.peers().up(Role::Frontend) {
        shared.mesh.send(&frontend.record.node, method, body.clone());
    }
}
