//! The rules of a colosseum's world: its battles, stepped by what happens and by the tick.
//!
//! Everything here is synchronous. What waits is handed to keepers and flows; a battle that another node has taken over is
//! dropped without a word. After a pause in which the lease may have been lost, however short it looks from here, every battle
//! stands still until its document is found unchanged, and nothing is published meanwhile.
//!
//! A colosseum that leaves shows what it has released until that is seen elsewhere, or for [`SHOWN_MS`] after it has learnt who
//! has it: battle by battle, and NEVER for as long as others are still to be handed over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cartographer::geometry::ObjectId;
use cartographer::world::{CellFrame, TickOutput};
use mesh::{CallRefusal, NodeId};
use tokio::sync::oneshot;

use super::coming::Coming;
use super::hosted::{Due, Hosted, Hosting};
use super::{ColosseumInput, Life, ROOMS, Released, Reply, Reserved, Shared, flows};
use crate::draining::Draining;
use crate::game::battle::Exchange;
use crate::game::combat::{Effect, Event};
use crate::game::{Body, GameWorld};
use crate::load::Load;
use crate::methods::living::{ELSEWHERE, FIGHTER_TOLD, FighterTold};
use crate::methods::pack;
use crate::protocol::codes;
use crate::world_loop::{Input, Rules, WorldHandle};

/// How the metrics name blows and reactions, in the order of their numbers.
pub(super) const BLOWS: [&str; 4] = ["blow", "guard", "heavy", "flight"];
pub(super) const REACTIONS: [&str; 7] = ["struck", "guards", "dodges", "strikes_back", "falls", "gets_away", "held"];

/// A world that was not asked for so long may have slept while its lease ran out, in milliseconds.
const SLEPT_MS: u64 = 1_000;

/// How long a battle that another colosseum has is still shown here, if that is not seen to show it, in milliseconds.
pub(super) const SHOWN_MS: u64 = 500;

/// Battles that went on elsewhere of which that is remembered, at most.
const MOVED: usize = 2 * ROOMS;

pub(super) struct ColosseumRules {
    shared: Arc<Shared>,
    draining: Draining,
    /// Weak, so that the world ends when everybody who feeds it has gone.
    inputs: tokio::sync::mpsc::WeakSender<Input<ColosseumInput>>,
    report: tokio::sync::watch::Receiver<Arc<crate::world_loop::WorldReport>>,
    rooms: BTreeMap<u64, Hosted>,
    /// Battles that a flow is bringing.
    coming: Coming,
    /// Who lives, as last told.
    lives: Vec<Life>,
    /// The lease, as last told.
    lease: bool,
    /// Battles may have been taken over since they were last found to be ours.
    unsure: bool,
    /// When the world last ran.
    woke_ms: u64,
    leaving: bool,
    /// Battles that were here and go on elsewhere, oldest first, and where that is if it is known.
    moved: VecDeque<(u64, Option<NodeId>)>,
    /// Battles that others are known to have, and until when they are still shown here.
    fading: BTreeMap<u64, u64>,
}

impl ColosseumRules {
    pub(super) fn new(shared: Arc<Shared>, world: &WorldHandle<ColosseumInput>, draining: Draining) -> ColosseumRules {
        ColosseumRules {
            shared,
            draining,
            inputs: world.inputs.downgrade(),
            report: world.report.clone(),
            rooms: BTreeMap::new(),
            coming: Coming::default(),
            lives: Vec::new(),
            lease: true,
            unsure: false,
            woke_ms: 0,
            leaving: false,
            moved: VecDeque::new(),
            fading: BTreeMap::new(),
        }
    }

    /// Comes before everything else: nothing happens in a battle that may be another's by now.
    fn wake(&mut self, now: u64) {
        let slept = now > self.woke_ms + SLEPT_MS;
        self.woke_ms = now;
        let holds = self.lease && self.shared.mesh.lease().holds();
        if slept || !holds {
            self.unsure = true;
            self.rooms.values_mut().for_each(Hosted::stand_still);
        }
        if holds && self.unsure {
            self.unsure = false;
            self.rooms.values_mut().for_each(|hosted| hosted.check(now));
        }
    }

    /// Where a battle is that was here, if it is elsewhere.
    fn elsewhere(&self, number: u64) -> Option<CallRefusal> {
        let (_, node) = self.moved.iter().rev().find(|(other, _)| *other == number)?;
        Some(match node {
            Some(node) => CallRefusal::new(ELSEWHERE, node.as_str()),
            None => CallRefusal::new(codes::BUSY, "the battle is about to go on elsewhere"),
        })
    }

    fn moves(&mut self, number: u64, node: Option<NodeId>) {
        self.moved.retain(|(other, _)| *other != number);
        if self.moved.len() >= MOVED {
            self.moved.pop_front();
        }
        self.moved.push_back((number, node));
    }

    fn reserve(&mut self, now: u64, number: u64, until_ms: u64, reply: Reply<Reserved>) {
        match self.reserved(number) {
            Ok(None) => self.coming.wait(number, now, until_ms, reply),
            Ok(Some(reserved)) => drop(reply.send(Ok(reserved))),
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    /// What becomes of a battle that is asked for; `None` if it is being brought here.
    fn reserved(&mut self, number: u64) -> Result<Option<Reserved>, CallRefusal> {
        if number == 0 || ObjectId(number) > ObjectId::MAX {
            return Err(CallRefusal::malformed(format!("{number} is no battle's number")));
        }
        if self.leaving {
            return Err(self.elsewhere(number).unwrap_or_else(leaving));
        }
        self.may_act()?;
        if self.rooms.contains_key(&number) {
            return Ok(Some(Reserved::Here));
        }
        if self.draining.has_begun() {
            return Err(leaving());
        }
        if self.coming.contains(number) {
            return Ok(None);
        }
        if self.rooms.len() + self.coming.len() >= ROOMS {
            return Err(CallRefusal::new(codes::FULL, format!("{ROOMS} battles go on here already")));
        }
        self.coming.begin(number);
        Ok(Some(Reserved::Yours))
    }

    fn may_act(&self) -> Result<(), CallRefusal> {
        if self.leaving {
            return Err(leaving());
        }
        if !self.lease || !self.shared.mesh.lease().holds() {
            return Err(CallRefusal::new(codes::UNAVAILABLE, "this colosseum has lost its lease for the moment"));
        }
        Ok(())
    }

    /// A battle is here from now on: it is shown, and saved for the first time.
    fn host(&mut self, world: &mut GameWorld, now: u64, hosting: Hosting) -> Result<(), CallRefusal> {
        let number = hosting.room.number;
        self.may_act()?;
        // What was claimed before the lease was lost may be another's by now.
        if hosting.term.is_none() || hosting.term != self.shared.mesh.lease().term() {
            return Err(CallRefusal::new(codes::UNAVAILABLE, "this colosseum has lost its lease meanwhile"));
        }
        for member in hosting.room.members().iter().filter(|member| member.stands()) {
            self.fights_elsewhere(number, member.id())?;
        }
        let (island, place, epoch) = (hosting.room.island, hosting.room.place, hosting.epoch);
        let mut hosted = Hosted::new(hosting);
        let body = Body::Battle(hosted.shown.clone());
        let spawned = world.spawn(now, ObjectId(number), epoch, island, place, body, false);
        spawned.map_err(|error| CallRefusal::new(codes::MISSING, error.to_string()))?;
        hosted.take_stock(now);
        hosted.save(now);
        // Owners learn who leads the battle now; one that is not in it any more says so.
        for member in hosted.room.members().iter().filter(|member| member.stands()) {
            self.shared.tell(number, &member.fighter.node, member.id(), member.fighter.health);
        }
        self.coming.came(number);
        self.moved.retain(|(other, _)| *other != number);
        self.rooms.insert(number, hosted);
        // Owners may have gone while the battle was on its way.
        let lives = Event::Living(self.lives.clone());
        self.step(world, now, number, lives)
    }

    /// Refuses somebody who fights in another battle here.
    fn fights_elsewhere(&self, number: u64, object: ObjectId) -> Result<(), CallRefusal> {
        let fights = |hosted: &Hosted| hosted.room.member(object).is_some_and(|member| member.stands());
        match self.rooms.iter().find(|(other, hosted)| **other != number && fights(hosted)) {
            Some((other, _)) => Err(CallRefusal::new(codes::IN_BATTLE, other.to_string())),
            None => Ok(()),
        }
    }

    /// Something happens by the word of a node, which speaks for its own fighters only.
    fn happens(
        &mut self,
        world: &mut GameWorld,
        now: u64,
        number: u64,
        from: &Life,
        event: Event,
    ) -> Result<(), CallRefusal> {
        if let Some(refusal) = self.elsewhere(number) {
            return Err(refusal);
        }
        self.may_act()?;
        let Some(hosted) = self.rooms.get(&number) else {
            let (code, why) = match self.coming.contains(number) {
                true => (codes::BUSY, "the battle is just beginning"),
                false => (codes::MISSING, "there is no such battle here"),
            };
            return Err(CallRefusal::new(code, why));
        };
        if hosted.still() {
            return Err(CallRefusal::new(codes::UNAVAILABLE, "the battle stands still for the moment"));
        }
        match &event {
            Event::Join(fighter, _) => self.fights_elsewhere(number, fighter.object)?,
            Event::Act { actor: object, .. } | Event::Leave(object) => {
                let member = hosted.room.member(*object);
                if member.is_some_and(|m| (&m.fighter.node, m.life) != (&from.0, from.1)) {
                    return Err(CallRefusal::new(codes::FORBIDDEN, "another node speaks for this fighter"));
                }
            }
            _ => {}
        }
        let joins = if let Event::Join(fighter, _) = &event { Some(fighter.object) } else { None };
        self.step(world, now, number, event)?;
        if let Some((object, hosted)) = joins.zip(self.rooms.get_mut(&number)) {
            hosted.hurry(object, now);
        }
        Ok(())
    }

    /// Steps a battle and carries out what comes of it.
    fn step(&mut self, world: &mut GameWorld, now: u64, number: u64, event: Event) -> Result<(), CallRefusal> {
        let Some(hosted) = self.rooms.get_mut(&number).filter(|hosted| !hosted.still()) else { return Ok(()) };
        // What was accepted is to be known wherever the battle goes on.
        let says = matches!(event, Event::Act { .. } | Event::Join(..));
        let effects = hosted.room.step(&self.shared.content, now, event);
        let effects = effects.map_err(|refused| CallRefusal::new(refused.code(), refused.to_string()))?;
        for effect in &effects {
            self.shared.carry_out(number, effect);
        }
        let view = hosted.room.view();
        let (seen, owes) = (view != hosted.shown, hosted.take_stock(now));
        if seen {
            hosted.shown.clone_from(&view);
            world.change(now, ObjectId(number), |body| *body = Body::Battle(view));
        }
        if seen || owes || says || !effects.is_empty() {
            hosted.save(now);
        }
        self.settle(world, now, number);
        Ok(())
    }

    /// Has settled what may be settled, and ends a battle for which nothing is left to do.
    fn settle(&mut self, world: &mut GameWorld, now: u64, number: u64) {
        let Some(hosted) = self.rooms.get_mut(&number) else { return };
        if hosted.still() {
            return;
        }
        for due in hosted.due(now) {
            let Some(inputs) = self.inputs.upgrade() else { return };
            match due {
                Due::Settle(debt) => {
                    let world = WorldHandle { inputs, report: self.report.clone() };
                    flows::settle(&self.shared, world, &hosted.room, debt);
                }
                Due::Void(debt) => {
                    tracing::warn!(battle = number, ?debt, "nobody takes a fighter back");
                    // Never refused.
                    let _ = hosted.room.step(&self.shared.content, now, Event::Settled(debt));
                    hosted.take_stock(now);
                    hosted.save(now);
                }
            }
        }
        if hosted.room.done(now) {
            hosted.release(now);
            self.drop_room(world, now, number);
        }
    }

    fn drop_room(&mut self, world: &mut GameWorld, now: u64, number: u64) {
        self.rooms.remove(&number);
        world.remove(now, ObjectId(number));
    }

    fn leave(&mut self, world: &mut GameWorld, now: u64, reply: oneshot::Sender<Vec<Released>>) {
        self.leaving = true;
        let rooms = std::mem::take(&mut self.rooms).into_iter();
        // What may be another's already is not saved, nor given to a third; nor is it shown until that is known.
        let (still, sure): (BTreeMap<_, _>, BTreeMap<_, _>) = rooms.partition(|(_, hosted)| hosted.still());
        self.rooms = still;
        self.numbers().into_iter().for_each(|number| self.moves(number, None));
        // The others stay to be seen until they are seen elsewhere, and are nobody's here.
        let released = sure.into_iter().filter_map(|(number, mut hosted)| {
            self.moves(number, None);
            let cell = world.get(ObjectId(number)).map(|real| real.cell());
            // For as long as this node lives.
            world.watch_cells(cell);
            Some((number, hosted.release(now)?))
        });
        let released = released.collect();
        // An error means that nobody waits.
        let _ = reply.send(released);
    }

    /// A battle that was released here goes on at another node, or is over.
    fn moved(&mut self, world: &mut GameWorld, now: u64, number: u64, node: Option<NodeId>) {
        if node.is_some() {
            self.moves(number, node);
            self.fading.insert(number, now + SHOWN_MS);
        } else {
            self.moved.retain(|(other, _)| *other != number);
            world.remove(now, ObjectId(number));
        }
    }

    /// Once a tick: what is to be seen elsewhere by now is not shown here any more.
    fn fade(&mut self, world: &mut GameWorld, now: u64) {
        self.fading.retain(|number, until_ms| {
            let is_over = now >= *until_ms;
            if is_over {
                world.remove(now, ObjectId(*number));
            }
            !is_over
        });
    }

    fn numbers(&self) -> Vec<u64> {
        self.rooms.keys().copied().collect()
    }
}

fn leaving() -> CallRefusal {
    CallRefusal::new(codes::DRAINING, "this colosseum is leaving")
}

impl Shared {
    fn carry_out(&self, number: u64, effect: &Effect) {
        match effect {
            Effect::Exchange(Exchange { blow, reaction, .. }) => {
                let name = |names: &[&'static str], index: u8| names.get(usize::from(index)).copied().unwrap_or("?");
                self.exchanges.with_label_values(&[name(&BLOWS, *blow), name(&REACTIONS, *reaction)]).inc();
            }
            Effect::Told { node, object, health } => self.tell(number, node, *object, *health),
        }
    }

    fn tell(&self, battle: u64, node: &NodeId, object: ObjectId, health: u8) {
        self.mesh.send(node, &FIGHTER_TOLD, pack(&FighterTold { battle, object, health }));
    }
}

impl Rules for ColosseumRules {
    type Input = ColosseumInput;

    fn input(&mut self, world: &mut GameWorld, now: u64, input: ColosseumInput) {
        self.wake(now);
        // An answer that nobody waits for any more is lost, and the asker asks again.
        match input {
            ColosseumInput::Reserve { number, until_ms, reply } => self.reserve(now, number, until_ms, reply),
            ColosseumInput::Forget(number, why) => self.coming.nothing(number, why.as_ref()),
            ColosseumInput::Host(hosting, reply) => drop(reply.send(self.host(world, now, *hosting))),
            ColosseumInput::Happens { number, from, event, reply } => {
                drop(reply.send(self.happens(world, now, number, &from, event)));
            }
            ColosseumInput::Saved(number, revision) => {
                if self.rooms.get_mut(&number).is_some_and(|hosted| hosted.saved(revision)) {
                    // It goes on: owners may have gone meanwhile.
                    let _ = self.step(world, now, number, Event::Living(self.lives.clone()));
                }
                self.settle(world, now, number);
            }
            ColosseumInput::Fenced(number) => {
                self.drop_room(world, now, number);
                self.moves(number, None);
            }
            ColosseumInput::Moved(number, node) => self.moved(world, now, number, node),
            ColosseumInput::Unsettled(number, debt) => {
                if let Some(hosted) = self.rooms.get_mut(&number) {
                    hosted.put_off(debt, now);
                }
            }
            ColosseumInput::Settled(number, debt) => {
                // Never refused; a battle that is here no longer is another's to settle.
                let _ = self.step(world, now, number, Event::Settled(debt));
            }
            ColosseumInput::Living(lives) => {
                self.lives = lives;
                for number in self.numbers() {
                    let _ = self.step(world, now, number, Event::Living(self.lives.clone()));
                }
            }
            ColosseumInput::Leave(reply) => self.leave(world, now, reply),
        }
    }

    fn ticked(&mut self, world: &mut GameWorld, now: u64, out: &TickOutput, _: Vec<CellFrame>) {
        self.wake(now);
        for &ObjectId(number) in &out.fenced {
            match self.rooms.get_mut(&number) {
                Some(hosted) => hosted.check(now),
                // It is seen where it goes on.
                None => drop(world.remove(now, ObjectId(number))),
            }
        }
        self.fade(world, now);
        self.coming.ticked(now);
        let mut fighters = 0;
        for number in self.numbers() {
            // A tick is never refused.
            let _ = self.step(world, now, number, Event::Tick);
            fighters += self.rooms.get(&number).map_or(0, |hosted| hosted.room.members().len());
        }
        self.shared.battles.set(self.rooms.len() as i64);
        self.shared.fighters.set(fighters as i64);
    }

    fn lease(&mut self, _: &mut GameWorld, now: u64, held: bool) {
        self.lease = held;
        // Lost and back again, it may have been another's in between.
        self.unsure = true;
        self.wake(now);
    }

    fn is_silent(&self) -> bool {
        // Asked before the tick's rules: after a freeze only the lease itself knows.
        self.unsure || !self.shared.mesh.lease().holds() || self.rooms.values().any(Hosted::still)
    }

    fn load(&self, load: &mut Load) {
        // A colosseum's load is counted in battles: by that openers choose.
        (load.players, load.capacity, load.draining) = (self.rooms.len() as u32, ROOMS as u32, self.leaving);
    }
}
