//! What may be done to a party and to what says in which party a player is: the effects and their refusals.
//!
//! Pure functions of one document each. They NEVER look at another one: that a party and its members agree follows from
//! their changing together.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::{INVITED_MOST, MemberDocument, PARTY_MOST, PartyDocument, check_ids, codes};
use crate::document::Document;
use crate::transaction::{Kind, Marks, Refusal};

/// What is done to a party.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PartyEffect {
    /// It comes into being with its leader. Refused as [`codes::TAKEN`].
    Found {
        /// Who leads it.
        leader: u64,
    },
    /// Somebody may come in. Refused as [`codes::FORBIDDEN`], or [`codes::PARTY`] if the guest is in it already.
    Invite {
        /// Who must lead it.
        by: u64,
        /// Who may come in.
        guest: u64,
    },
    /// Somebody who was invited comes in. Refused as [`codes::MISSING`], [`codes::FORBIDDEN`] or, if it is full,
    /// [`codes::PARTY`].
    Enter {
        /// Who.
        player: u64,
        /// How many it may have then.
        most: usize,
    },
    /// Somebody leaves. A leader hands on to whoever has been in it for longest; with its last member it ends.
    Leave {
        /// Who.
        player: u64,
    },
    /// Another member leads it. Refused as [`codes::FORBIDDEN`], or [`codes::MISSING`] if `to` is not in it.
    Lead {
        /// Who must lead it.
        by: u64,
        /// Who leads it then.
        to: u64,
    },
    /// It ends. Refused as [`codes::FORBIDDEN`], or [`codes::CHANGED`] if it has other members than were read.
    Dissolve {
        /// Who must lead it.
        by: u64,
        /// Who must be in it.
        members: Vec<u64>,
    },
}

/// What is done to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MemberEffect {
    /// The player comes into a party. Refused as [`codes::PARTY`] if in one already.
    Join {
        /// The party.
        party: u64,
    },
    /// The player leaves it. Refused as [`codes::CHANGED`] if in another or none.
    Part {
        /// The party.
        party: u64,
    },
}

/// Parties in transactions.
#[derive(Clone, Copy, Debug)]
pub struct PartyKind;

impl Kind for PartyKind {
    type Document = PartyDocument;
    type Effect = PartyEffect;

    fn born(&self, key: &str) -> Result<PartyDocument, Refusal> {
        let id = number_in(key, PartyDocument::KIND)?;
        let (members, invited, marks) = (Vec::new(), Vec::new(), Marks::default());
        Ok(PartyDocument { v: PartyDocument::VERSION, id, leader: 0, members, invited, marks, rest: Map::new() })
    }

    fn marks<'a>(&self, document: &'a mut PartyDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut PartyDocument, effect: &PartyEffect) -> Result<(), Refusal> {
        match effect {
            PartyEffect::Found { leader } => {
                if document.leader != 0 {
                    return Err(Refusal::new(codes::TAKEN, format!("party id {} is or was another's", document.id)));
                }
                document.leader = *leader;
                document.members = vec![*leader];
            }
            PartyEffect::Invite { by, guest } => document.invite(*by, *guest)?,
            PartyEffect::Enter { player, most } => document.enter(*player, *most)?,
            PartyEffect::Leave { player } => document.leave(*player)?,
            PartyEffect::Lead { by, to } => {
                document.check_leader(*by)?;
                if !document.has(*to) {
                    let why = format!("player {to} is not in party {}", document.id);
                    return Err(Refusal::new(codes::MISSING, why));
                }
                document.leader = *to;
            }
            PartyEffect::Dissolve { by, members } => {
                document.check_leader(*by)?;
                if document.members != *members {
                    return Err(document.changed());
                }
                document.end();
            }
        }
        Ok(())
    }

    fn is_blank(&self, _key: &str, document: &PartyDocument) -> bool {
        document.members.is_empty()
    }
}

/// Members in transactions.
#[derive(Clone, Copy, Debug)]
pub struct MemberKind;

impl Kind for MemberKind {
    type Document = MemberDocument;
    type Effect = MemberEffect;

    fn born(&self, key: &str) -> Result<MemberDocument, Refusal> {
        let player = number_in(key, MemberDocument::KIND)?;
        let marks = Marks::default();
        Ok(MemberDocument { v: MemberDocument::VERSION, player, party: None, marks, rest: Map::new() })
    }

    fn marks<'a>(&self, document: &'a mut MemberDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut MemberDocument, effect: &MemberEffect) -> Result<(), Refusal> {
        let player = document.player;
        match (effect, document.party) {
            (MemberEffect::Join { party }, None) => document.party = Some(*party),
            (MemberEffect::Join { .. }, Some(other)) => {
                return Err(Refusal::new(codes::PARTY, format!("player {player} is in party {other} already")));
            }
            (MemberEffect::Part { party }, Some(present)) if present == *party => document.party = None,
            (MemberEffect::Part { party }, _) => {
                return Err(Refusal::new(codes::CHANGED, format!("player {player} is no longer in party {party}")));
            }
        }
        Ok(())
    }

    fn is_blank(&self, _key: &str, document: &MemberDocument) -> bool {
        document.party.is_none() && document.rest.is_empty()
    }
}

impl PartyDocument {
    /// Whether a player is in it.
    pub fn has(&self, player: u64) -> bool {
        self.members.contains(&player)
    }

    fn changed(&self) -> Refusal {
        Refusal::new(codes::CHANGED, format!("party {} has other members than were read", self.id))
    }

    fn check_leader(&self, by: u64) -> Result<(), Refusal> {
        match self.has(by) {
            true if self.leader == by => Ok(()),
            true => Err(Refusal::new(codes::FORBIDDEN, format!("player {by} does not lead party {}", self.id))),
            // Whoever was read to be in it has left since.
            false => Err(self.changed()),
        }
    }

    fn invite(&mut self, by: u64, guest: u64) -> Result<(), Refusal> {
        self.check_leader(by)?;
        if self.has(guest) {
            return Err(Refusal::new(codes::PARTY, format!("player {guest} is in party {} already", self.id)));
        }
        self.invited.retain(|other| *other != guest);
        self.invited.push(guest);
        let over = self.invited.len().saturating_sub(INVITED_MOST);
        self.invited.drain(..over);
        Ok(())
    }

    fn enter(&mut self, player: u64, most: usize) -> Result<(), Refusal> {
        if self.members.is_empty() {
            return Err(Refusal::new(codes::MISSING, format!("there is no party {}", self.id)));
        }
        if self.has(player) {
            return Err(Refusal::new(codes::PARTY, format!("player {player} is in party {} already", self.id)));
        }
        if !self.invited.contains(&player) {
            let why = format!("player {player} is not invited to party {}", self.id);
            return Err(Refusal::new(codes::FORBIDDEN, why));
        }
        let most = most.min(PARTY_MOST);
        if self.members.len() >= most {
            return Err(Refusal::new(codes::PARTY, format!("party {} has {most} members already", self.id)));
        }
        self.invited.retain(|other| *other != player);
        self.members.push(player);
        Ok(())
    }

    fn leave(&mut self, player: u64) -> Result<(), Refusal> {
        if !self.has(player) {
            return Err(self.changed());
        }
        self.members.retain(|member| *member != player);
        match self.members.first() {
            Some(oldest) if self.leader == player => self.leader = *oldest,
            Some(_) => {}
            None => self.end(),
        }
        Ok(())
    }

    /// Nobody is in it any more. The leader stays, so that nobody founds another under its number.
    fn end(&mut self) {
        self.members.clear();
        self.invited.clear();
        self.rest.clear();
    }
}

/// The number after the slash of a key such as `party/7`, in the one form in which it may be written.
fn number_in(key: &str, kind: &str) -> Result<u64, Refusal> {
    let number = key.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
    let id = number.and_then(|text| text.parse().ok().filter(|id: &u64| id.to_string() == text));
    let id = id.ok_or_else(|| Refusal::new(codes::MALFORMED, format!("{key:?} is not the key of a {kind}")))?;
    check_ids(&[id]).map(|()| id)
}
