//! Facilities: built, taken down, used; and what lies in boxes.

use cartographer::geometry::{Chunk, ObjectId, Tile};
use estate::goods::container::{BoxDocument, BoxKind, box_key};
use estate::goods::transfer::{Leg, transfer};
use estate::goods::{BAG, Goods, GoodsEffect, Limits, Place};
use estate::land::object::{self, ObjectEffect};
use estate::land::works::{self, Building};
use estate::land::{By, Footprint, ObjectDocument, ObjectKind, Rotation, claims, codes as land_codes, nature};
use estate::transaction::{Part, Request};
use serde_json::{Map, Value};

use super::Shared;
use super::desk::{Done, Refused, bag, stacks};
use super::things::{self, field};
use crate::game::content::Facility;
use crate::game::made_by;
use crate::methods::living::GardenAsk;
use crate::protocol::codes;

/// How often a facility is read again because others used it at the same moment.
const USES: u32 = 16;

impl Shared {
    /// Builds a facility.
    pub(super) async fn build(&self, ask: &GardenAsk, name: &str, tile: Tile, turned: u8) -> Done {
        let Some(facility) = self.content.facilities.get(name) else {
            return Err(Refused::new(codes::UNKNOWN_NAME, "there is no such facility"));
        };
        let Some(rotation) = Rotation::ALL.get(usize::from(turned)).copied() else {
            return Err(Refused::new(codes::MALFORMED, format!("{turned} quarters; there are 0 to 3")));
        };
        let (width, height) = facility.size;
        let footprint = Footprint::new(tile, width, height, rotation)?;
        if facility.own_land {
            self.check_own_land(ask, &footprint).await?;
        }
        let id = made_by(ask.op);
        let mut costs = Vec::new();
        if !facility.takes.is_empty() {
            costs.push(bag(ask.op, ask.player, stacks(&facility.takes)?, Goods::default()));
        }
        if facility.slots > 0 {
            let limits = Limits { slots: facility.slots, per_stack: BAG.per_stack };
            costs.push(Place::Box(id.0).part(ask.op, &GoodsEffect::open(limits)));
        }
        let building = Building {
            id,
            kind: name.to_owned(),
            island: ask.island,
            footprint,
            made_s: self.calendar.now_s(),
            data: data_of(facility),
        };
        works::build(&self.estate, &*self.grounds, ask.op, By::Player(ask.player), &building, &costs).await?;
        Ok(Some(tile.chunk(ask.island)))
    }

    /// Takes a facility down. What it was made from is lost.
    pub(super) async fn demolish(&self, ask: &GardenAsk, id: ObjectId) -> Done {
        let found = self.facility(ask, id).await?;
        // Whether it is a box its documents tell: the content may have changed since it was built.
        let boxed = self.estate.read(&BoxKind, &box_key(id.0)).await?.is_some();
        let costs: Vec<Part> =
            boxed.then(|| Place::Box(id.0).part(ask.op, &GoodsEffect::close())).into_iter().collect();
        works::demolish(&self.estate, ask.op, By::Player(ask.player), id, &costs).await?;
        Ok(Some(origin_chunk(&found)))
    }

    /// Opens or shuts a door, lights a hearth.
    pub(super) async fn operate(&self, ask: &GardenAsk, id: ObjectId) -> Done {
        let mut left = USES;
        loop {
            let found = self.facility(ask, id).await?;
            let kind = self.kind_of(&found)?;
            let mut parts = Vec::new();
            let (name, before, after) = if kind.door {
                self.check_access(ask, &found).await?;
                (field::OPEN, found.data.get(field::OPEN), Value::Bool(!things::is_open(&found.data)))
            } else if let Some((fuel, seconds)) = &kind.burns {
                parts.push(bag(ask.op, ask.player, stacks([(fuel, &1)])?, Goods::default()));
                let until_s = things::lit_until_s(&found.data).max(self.calendar.now_s()).saturating_add(*seconds);
                (field::LIT_UNTIL_S, found.data.get(field::LIT_UNTIL_S), until_s.into())
            } else {
                return Err(Refused::new(codes::UNKNOWN_NAME, format!("a {} cannot be used", found.kind)));
            };
            let one = |value: Value| Map::from_iter([(name.to_owned(), value)]);
            let swap = ObjectEffect::Swap { expected: one(before.cloned().unwrap_or_default()), set: one(after) };
            parts.push(Part::new::<ObjectKind>(object::key(id), &swap));
            let request = Request::remembered(ask.op, parts).asked(&("use", id, ask.player));
            match self.estate.run(request).await.map_err(Refused::from) {
                Ok(()) => return Ok(Some(origin_chunk(&found))),
                Err(refused) if refused.is(land_codes::CHANGED) && left > 0 => left -= 1,
                Err(refused) => return Err(refused),
            }
        }
    }

    /// From the bag into a box.
    pub(super) async fn put(&self, ask: &GardenAsk, id: ObjectId, goods: &Goods) -> Done {
        self.open_box(ask, id).await?;
        let (from, to) = (Place::Player(ask.player.0), Place::Box(id.0));
        transfer(&self.estate, ask.op, &[Leg { from, to, goods: goods.clone() }]).await?;
        Ok(None)
    }

    /// Out of a box into the bag. Uniques are known by their serials; the rest of them is as it lies in the box.
    pub(super) async fn take(&self, ask: &GardenAsk, id: ObjectId, goods: &Goods) -> Done {
        let held = self.open_box(ask, id).await?.0.goods;
        let mut goods = goods.clone();
        for (serial, unique) in &mut goods.uniques {
            if let Some(there) = held.uniques.get(serial) {
                unique.clone_from(there);
            }
        }
        let (from, to) = (Place::Box(id.0), Place::Player(ask.player.0));
        transfer(&self.estate, ask.op, &[Leg { from, to, goods }]).await?;
        Ok(None)
    }

    /// What a box holds.
    pub(super) async fn look(&self, ask: &GardenAsk, id: ObjectId) -> Result<Goods, Refused> {
        Ok(self.open_box(ask, id).await?.0.goods)
    }

    /// A box that the player may open.
    async fn open_box(&self, ask: &GardenAsk, id: ObjectId) -> Result<BoxDocument, Refused> {
        let found = self.facility(ask, id).await?;
        let kept = self.estate.read(&BoxKind, &box_key(id.0)).await?;
        let Some(kept) = kept.filter(|kept| kept.document.0.limits.is_some()) else {
            return Err(Refused::new(codes::UNKNOWN_NAME, format!("a {} holds nothing", found.kind)));
        };
        self.check_builder(ask, &found).await?;
        Ok(kept.document)
    }

    /// A facility of the island that is asked about.
    async fn facility(&self, ask: &GardenAsk, id: ObjectId) -> Result<ObjectDocument, Refused> {
        let found = works::object(&self.estate, id).await?;
        let here = |it: &ObjectDocument| it.island == ask.island && it.kind != nature::SORT;
        found.filter(here).ok_or_else(|| Refused::new(codes::MISSING, format!("there is no facility {id}")))
    }

    fn kind_of(&self, found: &ObjectDocument) -> Result<&Facility, Refused> {
        let kind = self.content.facilities.get(&found.kind);
        kind.ok_or_else(|| Refused::new(codes::UNKNOWN_NAME, format!("nobody knows any more what a {} is", found.kind)))
    }

    /// Refuses unless the player has built it. What is in a box is its builder's, whoever claims the land later: else
    /// a claim were theft. What the game built is the landowner's.
    async fn check_builder(&self, ask: &GardenAsk, found: &ObjectDocument) -> Result<(), Refused> {
        match found.builder {
            builder if builder == ask.player => Ok(()),
            ObjectId(0) => self.check_access(ask, found).await,
            builder => Err(Refused::new(codes::FORBIDDEN, format!("this {} is player {builder}'s", found.kind))),
        }
    }

    /// Refuses unless the player has built it or owns the land on which it stands.
    async fn check_access(&self, ask: &GardenAsk, found: &ObjectDocument) -> Result<(), Refused> {
        if found.builder == ask.player {
            return Ok(());
        }
        let whose = claims::whose(&self.estate, origin_chunk(found)).await?;
        let may = whose.map_or(found.builder, |holding| holding.owner);
        if may == ask.player {
            return Ok(());
        }
        Err(Refused::new(codes::FORBIDDEN, format!("this {} is player {may}'s", found.kind)))
    }

    async fn check_own_land(&self, ask: &GardenAsk, footprint: &Footprint) -> Result<(), Refused> {
        for chunk in footprint.by_chunk(ask.island).into_keys() {
            // What lies outside the island is refused as that, by the estate.
            if chunk
                .first_tile()
                .is_none_or(|tile| self.grounds.size(ask.island).is_none_or(|size| !tile.is_within(size)))
            {
                continue;
            }
            let whose = claims::whose(&self.estate, chunk).await?.map(|holding| holding.owner);
            if whose != Some(ask.player) {
                return Err(Refused::new(codes::FORBIDDEN, "it is built on one's own land only"));
            }
        }
        Ok(())
    }
}

/// What a new facility's document keeps.
fn data_of(facility: &Facility) -> Map<String, Value> {
    let open = facility.door.then(|| (field::OPEN.to_owned(), Value::Bool(false)));
    let lit = facility.burns.is_some().then(|| (field::LIT_UNTIL_S.to_owned(), Value::from(0)));
    open.into_iter().chain(lit).collect()
}

fn origin_chunk(found: &ObjectDocument) -> Chunk {
    found.footprint.origin().chunk(found.island)
}
