//! Reals: the one authoritative copy of what this node owns, and the calls that change it.
//!
//! Every call marks what it changed and leaves the telling to the next tick. None of them NEVER encodes a frame.

use super::cells::Removed;
use super::{Body, SpawnRefusal, WalkRefusal, World};
use crate::frame::{NUMBER_LIMIT, Whole, encode_view};
use crate::geometry::{Cell, Epoch, IslandId, ObjectId, Place};
use crate::ground::{Blocked, Overlay};
use crate::motion::{MAX_SPEED, Motion, walk};
use crate::vision::Sight;

/// The authoritative copy of an object.
#[derive(Debug)]
pub struct Real<B: Body> {
    pub(super) id: ObjectId,
    pub(super) epoch: Epoch,
    /// Of the last thing that happened to it.
    pub(super) version: u64,
    pub(super) motion: Motion,
    pub(super) body: B,
    pub(super) view: B::View,
    /// The view, encoded.
    pub(super) raw: Box<[u8]>,
    pub(super) cell: Cell,
    /// Where it stands in its cell's list.
    pub(super) slot: u32,

    /// The cell that others were told it is in.
    pub(super) said: Option<Cell>,
    /// The version of a change of view, or of motion, that others were not told of.
    pub(super) new_view: Option<u64>,
    pub(super) new_motion: Option<u64>,
    /// Whether it is on the world's list for the next tick.
    pub(super) is_dirty: bool,

    /// What it sees, if it sees.
    pub(super) sight: Option<Sight>,
    /// What its seer was told that it sees.
    pub(super) sight_said: Option<Sight>,
    /// The stamp of its next crossing.
    pub(super) crossing: Option<u64>,
}

impl<B: Body> Real<B> {
    /// Its number.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// How often its ownership changed hands.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Rises by one with everything that happens to it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its island.
    pub fn island(&self) -> IslandId {
        self.cell.island
    }

    /// The cell it was in at the last tick, or since it was put elsewhere.
    pub fn cell(&self) -> Cell {
        self.cell
    }

    /// How it moves.
    pub fn motion(&self) -> Motion {
        self.motion
    }

    /// Where it is.
    pub fn place(&self, now: u64) -> Place {
        self.motion.at(now)
    }

    /// The game's state of it.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// What others see of it.
    pub fn view(&self) -> &B::View {
        &self.view
    }

    /// What it sees; `None` if it does not see.
    pub fn sight(&self) -> Option<Sight> {
        self.sight
    }

    pub(super) fn whole(&self) -> Whole<'_> {
        Whole { id: self.id, epoch: self.epoch, version: self.version, motion: &self.motion, raw: &self.raw }
    }
}

impl<B: Body> World<B> {
    /// Makes this node the holder of an object that stands at `place`. A ghost of an older epoch gives way. The epoch MUST
    /// be higher than any under which the object was in any world before.
    #[expect(clippy::too_many_arguments, reason = "an object is made of this much")]
    pub fn spawn(
        &mut self,
        now: u64,
        id: ObjectId,
        epoch: Epoch,
        island: IslandId,
        place: Place,
        body: B,
        sees: bool,
    ) -> Result<(), SpawnRefusal> {
        let now = self.advance(now);
        let cell = self.locate(island, place)?;
        if id > ObjectId::MAX || epoch.0 >= NUMBER_LIMIT {
            return Err(SpawnRefusal::Range);
        }
        if self.reals.contains_key(&id) {
            return Err(SpawnRefusal::AlreadyReal);
        }
        match self.ghosts.get(&id).map(|ghost| ghost.epoch > epoch) {
            Some(true) => self.fenced.push(id),
            Some(false) => self.drop_ghost(id),
            None => {}
        }
        let view = body.view();
        let raw = encode_view(&view);
        let slot = self.join_cell(now, cell, id);
        let sight = sees.then(|| self.look(cell.island, place, None));
        let motion = Motion::standing(place, now);
        self.dirty.push(id);
        self.reals.insert(
            id,
            Real {
                id,
                epoch,
                version: 1,
                motion,
                body,
                view,
                raw,
                cell,
                slot,
                said: None,
                new_view: None,
                new_motion: None,
                is_dirty: true,
                sight,
                sight_said: None,
                crossing: None,
            },
        );
        Ok(())
    }

    /// Takes an object out of the world; `None` if this node does not hold it.
    pub fn remove(&mut self, now: u64, id: ObjectId) -> Option<B> {
        let now = self.advance(now);
        let real = self.reals.remove(&id)?;
        self.quit_cell(now, real.cell, real.slot);
        // A late frame of an earlier owner must not pass for news of a later one.
        self.departed.note(now, id, (real.epoch, real.version + 1));
        if let Some(cell) = real.said {
            self.removed.push(Removed { cell, id, epoch: real.epoch, version: real.version + 1 });
        }
        if let Some(sight) = real.sight_said {
            sight.cells().for_each(|cell| self.vision.unsee(cell));
        }
        Some(real.body)
    }

    /// The object, if this node holds it.
    pub fn get(&self, id: ObjectId) -> Option<&Real<B>> {
        self.reals.get(&id)
    }

    /// All that this node holds, in no order that means anything (but the same in every run).
    pub fn reals(&self) -> impl Iterator<Item = &Real<B>> {
        self.reals.values()
    }

    /// Those that this node holds in a cell.
    pub fn reals_in(&self, cell: Cell) -> impl Iterator<Item = &Real<B>> {
        let members = self.cells.get(&cell).map_or(&[][..], |own| &own.members);
        members.iter().filter_map(|id| self.reals.get(id))
    }

    /// Lets an object walk from where it truly is toward `to` with `speed` units per second. `from_claimed` is where the one
    /// who steers it believes it is.
    ///
    /// The motion that is returned is the real one: clipped before the first tile that cannot be entered, before the
    /// island's edge, and after [`crate::motion::MAX_WALK_TILES`].
    pub fn walk(
        &mut self,
        now: u64,
        id: ObjectId,
        from_claimed: Place,
        to: Place,
        speed: i32,
    ) -> Result<Motion, WalkRefusal> {
        let now = self.advance(now);
        let real = self.reals.get(&id).ok_or(WalkRefusal::Unknown)?;
        let (place, motion) = (real.motion.at(now), real.motion);
        if place.distance_squared(from_claimed) > u64::from(self.config.tolerance_units).pow(2) {
            return Err(WalkRefusal::OutOfPlace { motion });
        }
        if !(1..=MAX_SPEED).contains(&speed) {
            return Err(WalkRefusal::BadSpeed);
        }
        let island = self.islands.get(&real.cell.island).ok_or(WalkRefusal::Unknown)?;
        let planned = walk(&*island.ground, place, to, speed, now).ok_or(WalkRefusal::Blocked { motion })?;
        self.set_motion(now, id, planned);
        Ok(planned)
    }

    /// Lets an object walk from where it is, with more in the way than the land itself: before the first of these tiles it
    /// stops as before a rock. What comes into the way later does not stop it: a walk is planned once.
    pub fn walk_around(
        &mut self,
        now: u64,
        id: ObjectId,
        blocked: &Blocked,
        to: Place,
        speed: i32,
    ) -> Result<Motion, WalkRefusal> {
        let now = self.advance(now);
        let real = self.reals.get(&id).ok_or(WalkRefusal::Unknown)?;
        let motion = real.motion;
        if !(1..=MAX_SPEED).contains(&speed) {
            return Err(WalkRefusal::BadSpeed);
        }
        let island = self.islands.get(&real.cell.island).ok_or(WalkRefusal::Unknown)?;
        let overlay = Overlay { ground: &*island.ground, blocked };
        let planned = walk(&overlay, motion.at(now), to, speed, now).ok_or(WalkRefusal::Blocked { motion })?;
        self.set_motion(now, id, planned);
        Ok(planned)
    }

    /// Lets an object stand where it is; `None` if this node does not hold it.
    pub fn stop(&mut self, now: u64, id: ObjectId) -> Option<Motion> {
        let now = self.advance(now);
        let motion = self.reals.get(&id)?.motion;
        if !motion.is_moving(now) {
            return Some(motion);
        }
        let standing = Motion::standing(motion.at(now), now);
        self.set_motion(now, id, standing);
        Some(standing)
    }

    /// Lets the game change a body, and tells others if that changed its view; `None` if this node does not hold it.
    pub fn change<R>(&mut self, now: u64, id: ObjectId, change: impl FnOnce(&mut B) -> R) -> Option<R> {
        let now = self.advance(now);
        let real = self.reals.get_mut(&id)?;
        let result = change(&mut real.body);
        let view = real.body.view();
        if view != real.view {
            real.raw = encode_view(&view);
            real.view = view;
            real.version += 1;
            real.new_view = Some(real.version);
            self.touch(now, id);
        }
        Some(result)
    }

    /// Puts an object elsewhere, standing, on this island or another.
    pub fn teleport(&mut self, now: u64, id: ObjectId, island: IslandId, place: Place) -> Result<Motion, SpawnRefusal> {
        let now = self.advance(now);
        let cell = self.locate(island, place)?;
        if !self.reals.contains_key(&id) {
            return Err(SpawnRefusal::Unknown);
        }
        let standing = Motion::standing(place, now);
        self.move_cell(now, id, cell);
        self.set_motion(now, id, standing);
        Ok(standing)
    }

    fn set_motion(&mut self, now: u64, id: ObjectId, motion: Motion) {
        let Some(real) = self.reals.get_mut(&id) else { return };
        real.motion = motion;
        real.version += 1;
        real.new_motion = Some(real.version);
        self.touch(now, id);
        // A crossing that was due since the last tick is forgotten with the old motion, so it happens here.
        self.cross(now, id);
    }

    /// Moves an object from its cell's list to another's.
    pub(super) fn move_cell(&mut self, now: u64, id: ObjectId, cell: Cell) {
        let Some(real) = self.reals.get(&id) else { return };
        let (old, slot) = (real.cell, real.slot);
        if old == cell {
            return;
        }
        self.quit_cell(now, old, slot);
        let slot = self.join_cell(now, cell, id);
        if let Some(real) = self.reals.get_mut(&id) {
            real.cell = cell;
            real.slot = slot;
            real.version += 1;
            // Told as an entry into the cell; or, if it is back by the end of the tick, as a motion of this version.
            real.new_motion = Some(real.version);
        }
        self.touch(now, id);
    }

    /// Computes what an object sees from `place`, if it sees.
    pub(super) fn look_again(&mut self, id: ObjectId, place: Place) {
        let Some(real) = self.reals.get(&id) else { return };
        let (island, Some(before)) = (real.cell.island, real.sight) else { return };
        let sight = self.look(island, place, Some(&before));
        if sight != before
            && let Some(real) = self.reals.get_mut(&id)
        {
            real.sight = Some(sight);
            self.mark(id);
        }
    }

    fn look(&self, island: IslandId, place: Place, before: Option<&Sight>) -> Sight {
        let size = self.islands.get(&island).map_or((0, 0), |island| island.ground.size());
        self.sight.look(island, size, place, before)
    }

    /// Notes that what others see of an object changed.
    fn touch(&mut self, now: u64, id: ObjectId) {
        if let Some(real) = self.reals.get(&id)
            && let Some(own) = self.cells.get_mut(&real.cell)
        {
            own.touch(now);
        }
        self.mark(id);
    }

    /// Puts an object on the list for the next tick.
    fn mark(&mut self, id: ObjectId) {
        if let Some(real) = self.reals.get_mut(&id)
            && !real.is_dirty
        {
            real.is_dirty = true;
            self.dirty.push(id);
        }
    }
}
