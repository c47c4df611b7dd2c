//! Others: whom a settler has met, its party, and the trade in which it is.
//!
//! A trade goes: propose, offer, look, consent at the round that is shown; now and then one is withdrawn at the last moment,
//! because people do. What a trade brings is booked when it is told as done; from one's own consent until then it may be done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::account::{Effect, counts};
use super::{Eyes, Settler};
use crate::protocol::{Act, TradeState, Wares};

/// A trade is withdrawn when it takes longer.
const TRADE_PATIENCE: Duration = Duration::from_secs(20);
/// Players that are remembered.
const MET_KEPT: usize = 64;
/// Invitations that are remembered.
const INVITES_KEPT: usize = 4;
/// One trade in so many is withdrawn instead of consented to.
const FICKLE_ONE_IN: u32 = 12;

/// What is known of others.
#[derive(Debug, Default)]
pub(super) struct People {
    party: u64,
    leader: u64,
    members: Vec<u64>,
    invites: Vec<u64>,
    pub(super) trade: Option<TradeState>,
    pub(super) trade_since: Option<Instant>,
    /// The round at which one's own offer was made, by trade.
    offered: Option<u64>,
    pub(super) consented: Option<(u64, u64)>,
    /// The trade that one has consented to last, its round, and what it would bring: until told, it may be done.
    agreed: Option<(u64, u64, Effect)>,
    met: BTreeSet<u64>,
    names: BTreeMap<u64, String>,
}

impl People {
    pub(super) fn in_party(&self) -> bool {
        self.party != 0
    }

    pub(super) fn leads(&self, me: u64) -> bool {
        self.party != 0 && self.leader == me
    }

    /// Another member of the party.
    pub(super) fn other(&self, me: u64) -> Option<u64> {
        self.members.iter().copied().find(|player| *player != me)
    }

    pub(super) fn party(&mut self, party: u64, leader: u64, members: &[(u64, String)]) {
        (self.party, self.leader) = (party, leader);
        self.members = members.iter().map(|(player, _)| *player).collect();
        self.names = members.iter().cloned().collect();
    }

    pub(super) fn noted(&mut self, code: &str, number: u64) {
        if code == "invite" && self.invites.len() < INVITES_KEPT {
            self.invites.push(number);
        }
    }

    /// Somebody met before, and who is near now is met.
    pub(super) fn met(&mut self, neighbours: &[u64], draw: u64) -> Option<u64> {
        for player in neighbours {
            if self.met.len() < MET_KEPT {
                self.met.insert(*player);
            }
        }
        let many = self.met.len() as u64;
        self.met.iter().copied().nth((draw % many.max(1)) as usize)
    }
}

impl Settler {
    /// A trade is as it says now.
    pub(super) fn traded(&mut self, state: &TradeState, now: Instant) {
        let known = self.people.trade.as_ref().is_some_and(|trade| trade.trade == state.trade);
        let agreed = self
            .people
            .agreed
            .take_if(|(trade, round, _)| *trade == state.trade && (state.state != 0 || state.round != *round));
        match state.state {
            0 => {
                if !known {
                    self.people.trade_since = Some(now);
                    (self.people.offered, self.people.consented) = (None, None);
                }
                self.people.trade = Some(state.clone());
            }
            // Told once more after a new welcome, it is not done once more.
            1 if agreed.is_some() => self.commons.report().trades_done += 1,
            _ => {}
        }
        if state.state != 0 && known {
            self.people.trade = None;
        }
        let Some((.., effect)) = agreed else { return };
        // If the bag has told already that it is done, it is booked.
        if self.account.settle_maybe(&effect) && state.state == 1 {
            self.account.change(&effect, now);
        }
    }

    /// Consent was surely not given.
    pub(super) fn disagrees(&mut self) {
        if let Some((.., effect)) = self.people.agreed.take() {
            self.account.settle_maybe(&effect);
        }
    }

    /// What is to be said or done about others now.
    pub(super) fn deal(&mut self, eyes: &Eyes<'_>) -> Option<Act> {
        if let Some(party) = self.people.invites.pop()
            && !self.people.in_party()
        {
            return Some(Act::Enter { party });
        }
        let trade = self.people.trade.clone()?;
        let number = trade.trade;
        let since = *self.people.trade_since.get_or_insert(eyes.now);
        if eyes.now.saturating_duration_since(since) > TRADE_PATIENCE {
            self.people.trade = None;
            return Some(Act::Withdraw { trade: number });
        }
        if self.people.offered != Some(number) {
            self.people.offered = Some(number);
            return Some(Act::Offer { trade: number, wares: self.goods_to_spare() });
        }
        let consented = self.people.consented == Some((number, trade.round)) || trade.mine.consents;
        let both = trade.theirs.wares != Wares::default() || trade.theirs.consents;
        if both && !consented {
            if self.below(FICKLE_ONE_IN) == 0 {
                self.people.trade = None;
                return Some(Act::Withdraw { trade: number });
            }
            self.people.consented = Some((number, trade.round));
            let effect = Effect { more: counts(&trade.theirs.wares), less: counts(&trade.mine.wares) };
            self.account.maybe(effect.clone(), eyes.now);
            self.people.agreed = Some((number, trade.round, effect));
            return Some(Act::Consent { trade: number, round: trade.round });
        }
        None
    }

    /// One of what there is most of.
    fn goods_to_spare(&self) -> Wares {
        let most = self.account.stacks().max_by_key(|(item, count)| (*count, (*item).clone()));
        let stacks = most.map(|(item, count)| vec![(item.clone(), count.div_ceil(3))]).unwrap_or_default();
        Wares { stacks, uniques: Vec::new() }
    }
}
