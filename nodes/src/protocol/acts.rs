//! What a player does beyond walking: every act, its name and arguments on the wire, in one table.
//!
//! An act goes as `[2, seq, op, number, …arguments]`. `number` is the act's operation number: chosen by the client, rising,
//! beginning with the `first_operation` of the welcome. An act that is asked for again under the same number happens once.
//! Decoding is strict, bounded and NEVER panics.

use super::wire::{self, Malformed, Reader};

/// The longest name of an item, a recipe, a facility, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The longest thing that one can say, in bytes.
pub const MAX_CHAT_BYTES: usize = 512;
/// The most stacks or uniques named in one message of a client.
pub const MAX_WARES: usize = 64;
/// Numbers of objects, parties, trades and operations are below this.
pub const MAX_NUMBER: u64 = 1 << 53;

/// Goods as clients see them: `[[[item, count]…], [[serial, item]…]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wares {
    /// What is counted.
    pub stacks: Vec<(String, u64)>,
    /// What is one of its kind: serial and item. In what a client sends the item is ignored.
    pub uniques: Vec<(String, String)>,
}

/// One argument of an act.
pub(super) trait Field: Sized {
    fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, Malformed>;
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! int_fields {
    ($($int:ty),*) => {$(
        impl Field for $int {
            fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, Malformed> {
                reader.int(what)
            }

            fn put(&self, out: &mut Vec<u8>) {
                wire::put_uint(out, *self);
            }
        }
    )*};
}

int_fields!(u8, u16, u32);

impl Field for u64 {
    fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, Malformed> {
        reader.below(MAX_NUMBER, what)
    }

    fn put(&self, out: &mut Vec<u8>) {
        wire::put_uint(out, *self);
    }
}

impl Field for String {
    fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, Malformed> {
        Ok(reader.text(MAX_CHAT_BYTES, what)?.to_owned())
    }

    fn put(&self, out: &mut Vec<u8>) {
        wire::put_text(out, self);
    }
}

impl Field for Wares {
    fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, Malformed> {
        reader.fields(2, what)?;
        let stacks = list(reader, what, |reader| {
            reader.fields(2, what)?;
            Ok((reader.text(MAX_NAME_BYTES, what)?.to_owned(), reader.below(MAX_NUMBER, what)?))
        })?;
        let uniques = list(reader, what, |reader| {
            reader.fields(2, what)?;
            let serial = reader.text(MAX_NAME_BYTES, what)?.to_owned();
            Ok((serial, reader.text(MAX_NAME_BYTES, what)?.to_owned()))
        })?;
        Ok(Wares { stacks, uniques })
    }

    fn put(&self, out: &mut Vec<u8>) {
        wire::put_array(out, 2);
        wire::put_array(out, self.stacks.len());
        for (item, count) in &self.stacks {
            wire::put_array(out, 2);
            wire::put_text(out, item);
            wire::put_uint(out, *count);
        }
        wire::put_array(out, self.uniques.len());
        for (serial, item) in &self.uniques {
            wire::put_array(out, 2);
            wire::put_text(out, serial);
            wire::put_text(out, item);
        }
    }
}

/// Reads a list of at most [`MAX_WARES`] × 8 elements: what a server sends may hold a whole box.
fn list<T>(
    reader: &mut Reader<'_>,
    what: &'static str,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let length = reader.array(what)?;
    if length > MAX_WARES * 8 {
        return Err(Malformed::TooLong(what));
    }
    (0..length).map(|_| read(reader)).collect()
}

macro_rules! acts {
    ($($(#[$doc:meta])* $op:literal => $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }),* $(,)?) => {
        /// What a player does beyond walking. Tiles are `x, y` from the island's upper left corner.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "what an argument is, its act's words say")]
        pub enum Act {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type),* }),*
        }

        /// The names of all acts, as the wire has them.
        pub const ACTS: &[&str] = &[$($op),*];

        impl Act {
            /// The name on the wire.
            pub fn op(&self) -> &'static str {
                match self {
                    $(Act::$name { .. } => $op),*
                }
            }

            /// How many arguments stand behind the number.
            fn arity(&self) -> usize {
                match self {
                    $(Act::$name { .. } => <[&str]>::len(&[$(stringify!($field)),*])),*
                }
            }

            #[allow(clippy::redundant_closure_call, reason = "so that `?` ends the reading of one act's arguments")]
            /// Reads the arguments of the act called `op`, `count` of them; `None` if no act is called so.
            pub(super) fn read(
                reader: &mut Reader<'_>,
                op: &str,
                count: usize,
            ) -> Option<(&'static str, Result<Act, Malformed>)> {
                match op {
                    $($op => {
                        let arity = <[&str]>::len(&[$(stringify!($field)),*]);
                        if count != arity {
                            return Some(($op, Err(Malformed::Fields($op))));
                        }
                        let read = (|| Ok(Act::$name { $($field: Field::read(reader, stringify!($field))?),* }))();
                        Some(($op, read))
                    })*
                    _ => None,
                }
            }

            /// Appends `[…, op, number, …arguments]` behind the head and `seq` that [`Act::head`] sized.
            pub(super) fn put(&self, out: &mut Vec<u8>, number: u64) {
                wire::put_text(out, self.op());
                wire::put_uint(out, number);
                match self {
                    $(Act::$name { $($field),* } => { $(Field::put($field, out);)* })*
                }
            }

            /// How many elements the whole command has.
            pub(super) fn elements(&self) -> usize {
                4 + self.arity()
            }
        }
    };
}

acts! {
    /// Takes one stroke at the natural object on a tile in reach: fells, picks, digs. What it yields goes into the bag.
    "gather" => Gather { x: u16, y: u16 },
    /// Makes something by a recipe out of what is in the bag, beside the facility that the recipe asks for, if it does.
    "craft" => Craft { recipe: String },
    /// Eats one of an item.
    "eat" => Eat { item: String },
    /// Builds a facility: its upper left tile, and how it is turned (0 to 3 quarters clockwise).
    "build" => Build { facility: String, x: u16, y: u16, turned: u8 },
    /// Takes down a facility, which must be empty.
    "demolish" => Demolish { object: u64 },
    /// Uses a facility: opens or shuts a door, lights a hearth.
    "use" => Use { object: u64 },
    /// Puts goods from the bag into a box.
    "put" => Put { object: u64, wares: Wares },
    /// Takes goods out of a box into the bag.
    "take" => Take { object: u64, wares: Wares },
    /// Looks into a box; a `store` message follows.
    "look" => Look { object: u64 },
    /// Claims the chunk on which the player stands; answers the holding's number. If the player has a holding that the chunk
    /// touches, that one grows.
    "claim" => Claim {},
    /// Gives up the chunk on which the player stands.
    "give_up" => GiveUp {},
    /// Attacks an animal in reach: begins a battle, or joins the one in which it is. Answers the battle's number.
    "attack" => Attack { target: u64 },
    /// Joins a battle in reach on the side of the players.
    "join" => Join { battle: u64 },
    /// Does something in the battle: 0 strikes the target, 1 guards, 2 aims a heavy blow at the target.
    "blow" => Blow { blow: u8, target: u64 },
    /// Tries to get away from the battle.
    "flee" => Flee {},
    /// Proposes a trade to a player in reach; answers the trade's number.
    "trade" => Trade { player: u64 },
    /// Says what one gives in a trade, in place of what was said before.
    "offer" => Offer { trade: u64, wares: Wares },
    /// Agrees to a trade as it stands at this round.
    "consent" => Consent { trade: u64, round: u64 },
    /// Gives up a trade.
    "withdraw" => Withdraw { trade: u64 },
    /// Leaves goods for a player wherever they are.
    "gift" => Gift { player: u64, wares: Wares },
    /// Asks a player into one's party; without one, one is made. Answers the party's number.
    "invite" => Invite { player: u64 },
    /// Joins a party into which one was asked.
    "enter" => Enter { party: u64 },
    /// Leaves one's party.
    "leave" => Leave {},
    /// Hands the lead of one's party to another member.
    "lead" => Lead { player: u64 },
    /// Dissolves the party that one leads.
    "dissolve" => Dissolve {},
    /// Says something: 0 to those near, 1 to the party, 2 to the island.
    "chat" => Chat { channel: u8, text: String },
    /// Sails to another island from a harbour in reach.
    "sail" => Sail { island: u32 },
    /// Asks for the bag; a `bag` message follows.
    "bag" => Bag {},
}

impl Act {
    /// The goods that it names.
    fn wares(&self) -> Option<&Wares> {
        match self {
            Act::Put { wares, .. } | Act::Take { wares, .. } | Act::Offer { wares, .. } | Act::Gift { wares, .. } => {
                Some(wares)
            }
            _ => None,
        }
    }

    /// A client names at most [`MAX_WARES`] stacks and as many uniques; what a server tells may be longer.
    pub(super) fn bounded(self) -> Result<Act, Malformed> {
        match self.wares() {
            Some(wares) if wares.stacks.len().max(wares.uniques.len()) > MAX_WARES => Err(Malformed::TooLong("wares")),
            _ => Ok(self),
        }
    }
}

/// One of each act, with arguments of every length; for tests and vectors.
#[cfg(test)]
pub(super) fn samples() -> Vec<Act> {
    let wares = Wares {
        stacks: vec![("wood".to_owned(), 12), ("stone".to_owned(), 300)],
        uniques: vec![("0123456789abcdef0123456789abcdef-0".to_owned(), "axe".to_owned())],
    };
    let (object, player, party, trade) = (1_125_899_906_842_624, 9_000_000, 3, MAX_NUMBER - 1);
    vec![
        Act::Gather { x: 100, y: 4_095 },
        Act::Craft { recipe: "axe".to_owned() },
        Act::Eat { item: "berry".to_owned() },
        Act::Build { facility: "box".to_owned(), x: 101, y: 50, turned: 3 },
        Act::Demolish { object },
        Act::Use { object },
        Act::Put { object, wares: wares.clone() },
        Act::Take { object, wares: wares.clone() },
        Act::Look { object },
        Act::Claim {},
        Act::GiveUp {},
        Act::Attack { target: object },
        Act::Join { battle: 77 },
        Act::Blow { blow: 2, target: object },
        Act::Flee {},
        Act::Trade { player },
        Act::Offer { trade, wares: wares.clone() },
        Act::Consent { trade, round: 4 },
        Act::Withdraw { trade },
        Act::Gift { player, wares },
        Act::Invite { player },
        Act::Enter { party },
        Act::Leave {},
        Act::Lead { player },
        Act::Dissolve {},
        Act::Chat { channel: 1, text: "Żółw, hello".to_owned() },
        Act::Sail { island: 4 },
        Act::Bag {},
    ]
}
