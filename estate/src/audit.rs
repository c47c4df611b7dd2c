//! Walks a whole store and checks every invariant that documents keep together.
//!
//! Memory is steady: it grows with the kinds of goods and with what is found wrong, NEVER with the documents. What is
//! checked of pairs of documents (deeds and objects, pointers and holdings) is looked up by key. Without `repair` nothing
//! is written. A repair settles transactions, as any reader would, and clears from deeds what does not exist; goods that do not add up are told and NEVER made up.
//!
//! On a store in use the audit sees transactions under way: what looks unfinished is looked at again after twice
//! [`PATIENCE`], and what still stands then is a finding. Goods are counted document by document, so while players trade
//! the sums may be off by what changed hands during the walk: the report says so (`in_use`).

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::time::sleep;

use crate::document::DocumentError;
use crate::goods::Balance;
use crate::player;
use crate::store::{SCAN_LIMIT, Store, StoreError};
use crate::transaction::{PATIENCE, Transactions};

mod repair;
mod rules;

use rules::Doubt;

/// The most findings that a report lists; the others are only counted.
pub const FINDINGS: usize = 1_000;

/// The most doubtful documents that one audit looks at again; the others are told as they were seen first.
const DOUBTS: usize = 10_000;

/// What a finding breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Every document can be read by this program.
    Readable,
    /// Every document is of a kind that this program knows.
    Known,
    /// No intent outlives its transaction.
    Intent,
    /// No transfer stays undecided or unfinished.
    Transfer,
    /// No ledger entry stays undecided or unfinished.
    Ledger,
    /// What is remembered as done is not still being decided.
    Operation,
    /// Every tile's object exists.
    Deed,
    /// No object stands on a tile that is not its own.
    Overlap,
    /// Every object stands on its tiles in the deeds.
    Object,
    /// Every chunk of a holding points to it.
    Holding,
    /// Every member of a party is told to be in it, and every player told to be in a party is listed there.
    Party,
    /// Goods held are goods created less goods destroyed.
    Goods,
    /// Unique goods are held once, those created and not destroyed.
    Serials,
    /// Promises are in order, and none is kept twice.
    Promise,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The document, or `*` for the whole store.
    pub key: String,
    /// What it breaks.
    pub rule: Rule,
    /// What is wrong, for people.
    pub text: String,
    /// True if this run has repaired it.
    pub repaired: bool,
}

/// What an audit found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many documents there are, by kind.
    pub documents: BTreeMap<String, u64>,
    /// What is wrong, at most [`FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many findings there were in all.
    pub found: u64,
    /// How many of them were repaired.
    pub repaired: u64,
    /// Transactions that were seen under way and were finished by others before the audit was over.
    pub under_way: u64,
    /// Deeds that point to a holding which does not list them: free land, and nothing wrong.
    pub stale_pointers: u64,
    /// True if documents were being changed during the walk.
    pub in_use: bool,
}

impl Report {
    /// True if nothing is wrong, or everything that was has been repaired.
    pub fn clean(&self) -> bool {
        self.found == self.repaired
    }

    pub(crate) fn find(&mut self, key: &str, rule: Rule, text: impl Into<String>, repaired: bool) {
        self.found += 1;
        self.repaired += u64::from(repaired);
        if self.findings.len() < FINDINGS {
            self.findings.push(Finding { key: key.to_owned(), rule, text: text.into(), repaired });
        }
    }
}

/// How far an audit has come.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// What it is doing.
    pub doing: &'static str,
    /// Documents seen so far in this walk.
    pub documents: u64,
    /// The latest of them.
    pub key: &'a str,
    /// Findings so far.
    pub found: u64,
}

/// Audits the whole store of `transactions`. `repair` allows writes; `progress` is told after every page of documents.
///
/// # Errors
/// Only the store's: what is wrong with documents is in the report.
pub async fn audit(
    transactions: &Transactions,
    repair: bool,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Report, StoreError> {
    let mut audit = Audit { transactions, report: Report::default(), doubts: Vec::new(), balance: Balance::default() };
    audit.walk("checking", true, progress).await?;
    let unsettled = audit.balance.unsettled() > 0;
    if !audit.doubts.is_empty() {
        audit.look_again(repair, progress).await?;
    }
    if unsettled || audit.report.repaired > 0 {
        // Goods were under way when they were counted.
        audit.balance = Balance::default();
        audit.walk("counting goods again", false, progress).await?;
    }
    audit.report.in_use = audit.report.under_way > 0 || audit.balance.unsettled() > 0;
    for difference in audit.balance.differences() {
        let rule = if difference.serials && difference.held + difference.destroyed == difference.created {
            Rule::Serials
        } else {
            Rule::Goods
        };
        audit.report.find("*", rule, difference.to_string(), false);
    }
    Ok(audit.report)
}

struct Audit<'a> {
    transactions: &'a Transactions,
    report: Report,
    doubts: Vec<Doubt>,
    balance: Balance,
}

impl Audit<'_> {
    fn store(&self) -> &dyn Store {
        &**self.transactions.store()
    }

    /// Walks all documents: with `check` for everything, without only to count goods.
    async fn walk(
        &mut self,
        doing: &'static str,
        check: bool,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<(), StoreError> {
        let (mut after, mut documents) = (None::<String>, 0);
        loop {
            let page = self.store().scan("", after.as_deref(), SCAN_LIMIT).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, stored) in &page {
                documents += 1;
                if check {
                    let kind = key.split('/').next().unwrap_or(key);
                    *self.report.documents.entry(kind.to_owned()).or_default() += 1;
                    let (doubts, stale_pointers) = rules::check(self.transactions, key, &stored.value).await?;
                    self.report.stale_pointers += stale_pointers;
                    doubts.into_iter().for_each(|doubt| self.doubt(doubt));
                }
                self.count(key, &stored.value).await?;
            }
            let found = self.report.found + self.doubts.len() as u64;
            progress(Progress { doing, documents, key: after.as_deref().unwrap_or_default(), found });
        }
    }

    fn doubt(&mut self, doubt: Doubt) {
        // What cannot be read will not become readable by waiting.
        if doubt.rule <= Rule::Known || self.doubts.len() >= DOUBTS {
            self.report.find(&doubt.key, doubt.rule, doubt.text, false);
        } else {
            self.doubts.push(doubt);
        }
    }

    async fn count(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let kept = match Balance::asks(key) {
            Some(id) => match player::find(self.store(), id).await {
                Ok(player) => player.map_or(0, |kept| kept.document.kept),
                Err(DocumentError::Store(error)) => return Err(error),
                // Told when that document's turn comes.
                Err(_) => 0,
            },
            None => 0,
        };
        // An error means that the document cannot be read: told by the check.
        let _ = self.balance.add(key, value, kept);
        Ok(())
    }

    /// Looks again at what was doubtful, after whoever was at it had time to finish, or after repairing it.
    async fn look_again(
        &mut self,
        repair: bool,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<(), StoreError> {
        let mut doubts = std::mem::take(&mut self.doubts);
        // Transactions first: what looks broken may only be half applied.
        doubts.sort_by_key(|doubt| doubt.rule);
        let doing = if repair { "repairing" } else { "looking again at what may have been under way" };
        progress(Progress { doing, documents: 0, key: "", found: doubts.len() as u64 });
        if !repair || doubts.iter().any(|doubt| doubt.token.is_none()) {
            sleep(PATIENCE * 2).await;
        }
        for (seen, doubt) in doubts.into_iter().enumerate() {
            let mut tried = false;
            if repair && self.still(&doubt).await?.is_some() {
                tried = repair::repair(self.transactions, &doubt).await;
            }
            match self.still(&doubt).await? {
                Some(text) => self.report.find(&doubt.key, doubt.rule, text, false),
                None if tried => self.report.find(&doubt.key, doubt.rule, doubt.text, true),
                None => self.report.under_way += 1,
            }
            progress(Progress { doing, documents: seen as u64 + 1, key: &doubt.key, found: self.report.found });
        }
        Ok(())
    }

    /// What is still wrong of a doubt: the same transaction, or the same rule broken.
    async fn still(&self, doubt: &Doubt) -> Result<Option<String>, StoreError> {
        let Some(stored) = self.store().get(&doubt.key).await? else { return Ok(None) };
        let (now, _) = rules::check(self.transactions, &doubt.key, &stored.value).await?;
        Ok(now.into_iter().find(|other| other.is(doubt)).map(|other| other.text))
    }
}

#[cfg(test)]
mod tests;
