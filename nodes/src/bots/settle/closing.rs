//! The end of a settler's life: what was asked is answered, trades are given up, and all accounts are compared.
//!
//! A settler that closes begins nothing new. It has settled up when its bag agrees with its account once more, what others
//! acknowledged to have left for it has come, and its works were looked at. What keeps it is told by [`Settler::open_points`].

use std::time::Duration;

use tokio::time::Instant;

use super::commons::ChunkKey;
use super::works::Found;
use super::{Eyes, Settler, Wish};
use crate::protocol::Act;

/// Others may still give, and promises are kept within half a minute at the latest: bags are compared so long at least.
const AT_LEAST: Duration = Duration::from_secs(4);
/// The bag is asked for again so long after it agreed, while gifts are waited for.
const INQUIRE_EVERY: Duration = Duration::from_secs(4);

/// How far closing has come.
#[derive(Debug)]
pub(super) struct Closing {
    since: Instant,
    inquired: Option<Instant>,
    /// The bag agreed after everything was answered.
    agreed: bool,
    looked: bool,
}

impl Settler {
    /// Begins nothing new from now on.
    pub(in crate::bots) fn close(&mut self, now: Instant) {
        if self.closing.is_none() {
            self.goals.clear();
            self.closing = Some(Closing { since: now, inquired: None, agreed: false, looked: false });
        }
    }

    /// What is done while closing, when nothing is unanswered.
    pub(super) fn close_turn(&mut self, eyes: &Eyes<'_>, agrees: bool) -> Wish {
        if let Some(trade) = self.people.trade.take() {
            return self.ask(eyes, Act::Withdraw { trade: trade.trade });
        }
        let gifts_due = !self.gifts_due().is_empty();
        let Some(closing) = &mut self.closing else { return Wish::Rest };
        if agrees && closing.inquired.is_some() && eyes.now.saturating_duration_since(closing.since) > AT_LEAST {
            closing.agreed = true;
        }
        let again = closing.inquired.is_none_or(|at| eyes.now.saturating_duration_since(at) > INQUIRE_EVERY);
        if again && (!closing.agreed || gifts_due) {
            closing.inquired = Some(eyes.now);
            self.account.inquire();
        }
        Wish::Rest
    }

    /// What others acknowledged to have left and has not come, in words.
    fn gifts_due(&self) -> Vec<String> {
        let given = self.commons.given_to(self.me);
        let received = self.account.received();
        let due = |item: &String, count: u64| count.saturating_sub(received.get(item).copied().unwrap_or(0));
        let due = given.acknowledged.iter().map(|(item, count)| (item, due(item, *count))).filter(|(_, due)| *due > 0);
        due.map(|(item, due)| format!("{due} {item}")).collect()
    }

    /// The chunks to look at, once everything else agrees; `None` before, or if they were looked at.
    pub(in crate::bots) fn to_look_at(&self) -> Option<Vec<ChunkKey>> {
        let closing = self.closing.as_ref()?;
        let ready = closing.agreed && self.asked.is_none() && !closing.looked;
        ready.then(|| self.works.chunks())
    }

    /// What was found there; a chunk that could not be looked at is left out.
    pub(in crate::bots) fn looked_at(&mut self, found: &[(ChunkKey, Found)]) {
        let me = self.me;
        let mut report = self.commons.report();
        for (chunk, found) in found {
            let (compared, missing, more) = self.works.compare(*chunk, found, me);
            report.works_checked += compared;
            for what in missing {
                report.lost += 1;
                report.finding("lost", || format!("player {me} misses {what}"));
            }
            for what in more {
                report.doubled += 1;
                report.finding("doubled", || format!("player {me} still has {what}"));
            }
        }
        drop(report);
        if let Some(closing) = &mut self.closing {
            closing.looked = true;
        }
    }

    /// Whether all accounts have been compared and nothing is waited for.
    pub(in crate::bots) fn settled_up(&self) -> bool {
        self.open_points().is_empty()
    }

    /// What keeps it from having settled up, in words.
    pub(in crate::bots) fn open_points(&self) -> Vec<String> {
        let Some(closing) = &self.closing else { return vec!["it has not begun to settle up".to_owned()] };
        let mut points = Vec::new();
        if let Some(asked) = &self.asked {
            points.push(format!("{} {} is not answered", asked.act.op(), asked.number));
        }
        if !closing.agreed {
            points.push("its bag was not compared".to_owned());
        }
        if !closing.looked {
            points.push("its works were not looked at".to_owned());
        }
        let due = self.gifts_due();
        if !due.is_empty() {
            points.push(format!("gifts that were acknowledged have not come: {}", due.join(", ")));
        }
        points
    }

    /// The end has come: what is open is found.
    pub(in crate::bots) fn ended(&mut self) {
        let (me, points, due) = (self.me, self.open_points(), self.gifts_due());
        let mut report = self.commons.report();
        report.doubts += self.account.doubts();
        if self.closing.is_none() {
            return;
        }
        report.settled_up += u64::from(points.is_empty());
        if !due.is_empty() && self.closing.as_ref().is_some_and(|closing| closing.agreed) {
            report.lost += due.len() as u64;
            report.finding("lost", || format!("player {me} was left {} that never came", due.join(", ")));
        }
        if !points.is_empty() {
            report.finding("not_settled_up", || format!("player {me}: {}", points.join("; ")));
        }
    }
}
