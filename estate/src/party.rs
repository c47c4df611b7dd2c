//! Parties: who goes together with whom, who leads, and who is invited.
//!
//! Two kinds of documents that always agree, because they change in one transaction: `party/ID` lists its members in the
//! order in which they came, `member/PLAYER` names the party in which a player is. It promises: a player is in one party
//! at most, a party with members has one of them for its leader, and every operation here may be asked for again under its
//! id and happens once. What is not possible is refused by a code of [`codes`], and nothing was changed. It NEVER knows
//! who is online: a party outlives its members' sessions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::{Document, Kept, Migration};
use crate::player;
use crate::transaction::{Kinds, Marks, OperationId, PARTS, Part, Refusal, Request, TransactionError, Transactions};

mod rules;

pub use rules::{MemberEffect, MemberKind, PartyEffect, PartyKind};

/// The most members of a party, whatever bound callers give.
pub const PARTY_MOST: usize = 16;

/// The most players who are invited at the same time; one more makes the oldest invitation void.
pub const INVITED_MOST: usize = 16;

/// How often an operation reads again because the party has changed between its reading and its marking.
const READINGS: u32 = 16;

// A party is dissolved with all its members at once.
const _: () = assert!(PARTY_MOST < PARTS);

/// The words by which programs tell refusals apart.
pub mod codes {
    /// The player is in a party already, or in none, or the party is full.
    pub const PARTY: &str = "party";
    /// The player does not lead the party, or is not invited.
    pub const FORBIDDEN: &str = "forbidden";
    /// There is no such party or player (any more).
    pub const MISSING: &str = "missing";
    /// The id is or was another party's.
    pub const TAKEN: &str = "taken";
    /// The party is another than was read. Operations read again by themselves before they answer this.
    pub const CHANGED: &str = "changed";
    /// The question itself makes no sense.
    pub const MALFORMED: &str = "malformed";
}

/// One party, under `party/ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartyDocument {
    /// The version of the document's form.
    pub v: u32,
    /// Its number.
    pub id: u64,
    /// Who leads it; 0 before it is founded. Once it has ended, who led it last.
    pub leader: u64,
    /// Who is in it, in the order in which they came, at most [`PARTY_MOST`]; nobody once it has ended.
    pub members: Vec<u64>,
    /// Who may come in, the oldest invitation first, at most [`INVITED_MOST`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invited: Vec<u64>,
    /// What transactions leave.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// In which party a player is, under `member/PLAYER`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberDocument {
    /// The version of the document's form.
    pub v: u32,
    /// The player.
    pub player: u64,
    /// The party; none once it was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<u64>,
    /// What transactions leave.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for PartyDocument {
    const KIND: &'static str = "party";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

impl Document for MemberDocument {
    const KIND: &'static str = "member";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// The key of a party's document.
pub fn key(id: u64) -> String {
    format!("party/{id}")
}

/// The key of the document that says in which party a player is.
pub fn member_key(player: u64) -> String {
    format!("member/{player}")
}

/// `kinds` with parties and members.
#[must_use]
pub fn kinds(kinds: Kinds) -> Kinds {
    kinds.with(PartyKind).with(MemberKind)
}

/// Founds a party, with its leader as the only member. `id` is drawn at random, and the same when it is asked for again.
///
/// Refused: [`codes::PARTY`] (in one already), [`codes::TAKEN`] id, [`codes::MALFORMED`] ids.
pub async fn found(transactions: &Transactions, op: OperationId, id: u64, leader: u64) -> Result<(), TransactionError> {
    check_ids(&[id, leader])?;
    let parts = vec![
        Part::new::<PartyKind>(key(id), &PartyEffect::Found { leader }),
        Part::new::<MemberKind>(member_key(leader), &MemberEffect::Join { party: id }),
    ];
    transactions.run(Request::transfer(op, parts).asked(&("found party", id, leader))).await
}

/// Invites a player to the party that `by` leads. Who is in another party may be invited, and leaves that one first.
///
/// Refused: [`codes::PARTY`] (`by` is in none, or the guest in this one), [`codes::FORBIDDEN`] (`by` does not lead it),
/// [`codes::MISSING`] (no such guest).
pub async fn invite(transactions: &Transactions, op: OperationId, by: u64, guest: u64) -> Result<(), TransactionError> {
    check_ids(&[by, guest])?;
    if player::find(&**transactions.store(), guest).await?.is_none() {
        return Err(Refusal::new(codes::MISSING, format!("there is no player {guest}")).into());
    }
    on_party_of(transactions, op, by, &("invite", by, guest), |party| {
        vec![Part::new::<PartyKind>(key(party.id), &PartyEffect::Invite { by, guest })]
    })
    .await
}

/// Lets a player who is invited into a party of at most `most` members ([`PARTY_MOST`] if that is more).
///
/// Refused: [`codes::PARTY`] (in one already, or it is full), [`codes::FORBIDDEN`] (not invited), [`codes::MISSING`].
pub async fn enter(
    transactions: &Transactions,
    op: OperationId,
    party: u64,
    player: u64,
    most: usize,
) -> Result<(), TransactionError> {
    check_ids(&[party, player])?;
    let parts = vec![
        Part::new::<PartyKind>(key(party), &PartyEffect::Enter { player, most }),
        Part::new::<MemberKind>(member_key(player), &MemberEffect::Join { party }),
    ];
    transactions.run(Request::transfer(op, parts).asked(&("enter party", party, player))).await
}

/// Lets a player out of the party in which it is. A leader hands on to whoever has been in it for longest; with its last
/// member the party ends.
///
/// Refused: [`codes::PARTY`] (in none).
pub async fn leave(transactions: &Transactions, op: OperationId, player: u64) -> Result<(), TransactionError> {
    check_ids(&[player])?;
    on_party_of(transactions, op, player, &("leave party", player), |party| {
        vec![
            Part::new::<PartyKind>(key(party.id), &PartyEffect::Leave { player }),
            Part::new::<MemberKind>(member_key(player), &MemberEffect::Part { party: party.id }),
        ]
    })
    .await
}

/// Hands the lead from `by` to another member.
///
/// Refused: [`codes::PARTY`] (`by` is in none), [`codes::FORBIDDEN`] (`by` does not lead it), [`codes::MISSING`] (`to` is not
/// in it).
pub async fn lead(transactions: &Transactions, op: OperationId, by: u64, to: u64) -> Result<(), TransactionError> {
    check_ids(&[by, to])?;
    on_party_of(transactions, op, by, &("lead party", by, to), |party| {
        vec![Part::new::<PartyKind>(key(party.id), &PartyEffect::Lead { by, to })]
    })
    .await
}

/// Ends the party that `by` leads, for all members at once.
///
/// Refused: [`codes::PARTY`] (`by` is in none), [`codes::FORBIDDEN`] (`by` does not lead it).
pub async fn dissolve(transactions: &Transactions, op: OperationId, by: u64) -> Result<(), TransactionError> {
    check_ids(&[by])?;
    on_party_of(transactions, op, by, &("dissolve party", by), |party| {
        let effect = PartyEffect::Dissolve { by, members: party.members.clone() };
        let part = |player: &u64| Part::new::<MemberKind>(member_key(*player), &MemberEffect::Part { party: party.id });
        let mut parts: Vec<Part> = party.members.iter().map(part).collect();
        parts.push(Part::new::<PartyKind>(key(party.id), &effect));
        parts
    })
    .await
}

/// A party, with nothing undecided about it; nothing if it was never founded or has ended.
pub async fn find(transactions: &Transactions, id: u64) -> Result<Option<PartyDocument>, TransactionError> {
    check_ids(&[id])?;
    Ok(transactions.read(&PartyKind, &key(id)).await?.map(|kept| kept.document))
}

/// The party in which a player is, with nothing undecided about it; nothing if in none.
pub async fn of(transactions: &Transactions, player: u64) -> Result<Option<PartyDocument>, TransactionError> {
    check_ids(&[player])?;
    for _ in 0..READINGS {
        let Some(Kept { document, .. }) = transactions.read(&MemberKind, &member_key(player)).await? else {
            return Ok(None);
        };
        let Some(id) = document.party else { return Ok(None) };
        // A party that does not list the player was left between the two readings.
        if let Some(party) = find(transactions, id).await?.filter(|party| party.has(player)) {
            return Ok(Some(party));
        }
    }
    let why = format!("{} names a party that does not list the player", member_key(player));
    Err(Refusal::new(codes::CHANGED, why).into())
}

/// Does what `parts` makes of the party in which `player` is, read anew as long as it has changed since.
async fn on_party_of(
    transactions: &Transactions,
    op: OperationId,
    player: u64,
    asked: &(impl Serialize + Sync),
    parts: impl Fn(&PartyDocument) -> Vec<Part> + Send + Sync,
) -> Result<(), TransactionError> {
    let mut left = READINGS;
    loop {
        let Some(party) = of(transactions, player).await? else {
            // It may have happened long ago: whoever asks again is told so.
            let happened = transactions.happened(op, None).await?;
            let refusal = || Refusal::new(codes::PARTY, format!("player {player} is in no party"));
            return if happened { Ok(()) } else { Err(refusal().into()) };
        };
        // With an arbiter of its own, however few documents it changes: many change a party.
        let request = Request::remembered(op, parts(&party)).asked(asked);
        match transactions.run(request).await {
            Err(TransactionError::Refused(refusal)) if refusal.code == codes::CHANGED && left > 0 => left -= 1,
            result => return result,
        }
    }
}

/// Checks numbers of players and parties, which come from outside.
fn check_ids(ids: &[u64]) -> Result<(), Refusal> {
    match ids.iter().find(|id| !(1..1 << 53).contains(*id)) {
        Some(id) => Err(Refusal::new(codes::MALFORMED, format!("{id} is no number of a party or a player"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
