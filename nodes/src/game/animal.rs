//! What an animal is, and how its number tells where it lives.

use cartographer::geometry::{IslandId, ObjectId};

use super::{View, kind};

/// An animal, as others see it. What it thinks stays in the zoo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Animal {
    /// Its species, a name of the content.
    pub species: String,
    /// A shade of its fur, in degrees.
    pub hue: u16,
    /// One of [`super::pose`].
    pub pose: u8,
    /// Its health in percent, 0 to 100.
    pub health: u8,
    /// Its herd's number, for the eye; its habitat's number within the island plus 1.
    pub herd: u64,
    /// The battle that has control of it; 0 if it is in none.
    pub battle: u64,
}

impl Animal {
    /// What others see.
    pub fn view(&self) -> View {
        let (pose, tie) = if self.battle != 0 { (super::pose::FIGHTS, self.battle) } else { (self.pose, self.herd) };
        let (kind, detail) = (kind::ANIMAL, Vec::new());
        View { kind, name: self.species.clone(), hue: self.hue, pose, health: self.health, tie, detail }
    }
}

/// Where an animal lives: the habitat's index in the island's terrain, and the animal's place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnimalId {
    /// The island, below 2^26.
    pub island: IslandId,
    /// The habitat's index, below 2^14.
    pub habitat: u16,
    /// The animal's index in the habitat, below 2^10.
    pub index: u16,
}

/// Set in the number of every animal. Numbers drawn at random may have it too: that a clash hurts nobody, `zoo` sees to.
const MARK: u64 = 1 << 52;

impl AnimalId {
    /// The object's number.
    pub fn object(self) -> ObjectId {
        let island = u64::from(self.island.0) & ((1 << 26) - 1);
        ObjectId(MARK | island << 24 | (u64::from(self.habitat) & 0x3fff) << 10 | (u64::from(self.index) & 0x3ff))
    }

    /// Which animal a number is, if it is one's.
    pub fn of(object: ObjectId) -> Option<AnimalId> {
        let rest = object.0.checked_sub(MARK).filter(|rest| rest >> 50 == 0)?;
        let island = IslandId((rest >> 24) as u32);
        Some(AnimalId { island, habitat: (rest >> 10 & 0x3fff) as u16, index: (rest & 0x3ff) as u16 })
    }
}
