//! Whose name it is: decides, from what stands in the directory, whether this node may take its key. Pure.
//!
//! The name belongs to one living incarnation. An incarnation counts as dead when its key is gone, or when we are bound
//! to its very endpoints, which two living processes cannot be. NEVER because of how long something took.

use crate::directory::{Entry, LeaseId, Revision};
use crate::record::NodeRecord;
use crate::registry::nodes;

/// What to do about one's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The key stands as it should.
    Mine,
    /// Write the key if it is at this revision still (0: if it is missing).
    Take(Revision),
    /// Another incarnation has it, which may be alive.
    Held(Box<NodeRecord>),
}

/// Who wants the name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) me: &'a NodeRecord,
    pub(super) key: &'a str,
    /// The present lease.
    pub(super) lease: Option<LeaseId>,
    /// This life was registered already: whoever has the name now came later, and is alive.
    pub(super) had_it: bool,
}

/// Judges by all that stands under the district's prefix.
pub(super) fn judge(prefix: &str, claim: &Claim<'_>, entries: &[Entry]) -> Verdict {
    let mine = entries.iter().find(|entry| entry.key == claim.key);
    let verdict = mine.map_or(Verdict::Take(0), |entry| judge_key(prefix, claim, entry));
    // The same name in another role: there is no room for both, and whoever came first has it.
    let since = mine.filter(|_| verdict == Verdict::Mine).map(|entry| entry.created);
    let rivals = entries.iter().filter(|entry| entry.key != claim.key && entry.key.ends_with(name_of(claim.key)));
    for rival in rivals.filter(|rival| since.is_none_or(|since| rival.created < since)) {
        if let Some(record) = nodes::parse(prefix, rival) {
            return Verdict::Held(Box::new(record));
        }
    }
    verdict
}

fn judge_key(prefix: &str, claim: &Claim<'_>, entry: &Entry) -> Verdict {
    // Nobody can live under a record that nobody can read.
    let Some(record) = nodes::parse(prefix, entry) else { return Verdict::Take(entry.modified) };
    let me = claim.me;
    if record.incarnation == me.incarnation {
        let stands = record == *me && entry.lease.is_some() && entry.lease == claim.lease;
        if stands { Verdict::Mine } else { Verdict::Take(entry.modified) }
    } else if !claim.had_it && same_endpoints(&record, me) {
        Verdict::Take(entry.modified)
    } else {
        Verdict::Held(Box::new(record))
    }
}

/// The last part of a key, with its slash.
fn name_of(key: &str) -> &str {
    key.rfind('/').map_or(key, |at| &key[at..])
}

fn same_endpoints(a: &NodeRecord, b: &NodeRecord) -> bool {
    !a.publish.is_empty() && !a.request.is_empty() && a.publish == b.publish && a.request == b.request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Incarnation, Role};
    use crate::registry::tests::record;

    const PREFIX: &str = "/wildmesh/c/d/nodes/";

    fn entry(record: &NodeRecord, modified: Revision, lease: LeaseId) -> Entry {
        let key = format!("{PREFIX}{}/{}", record.role, record.node);
        Entry { key, value: serde_json::to_vec(record).unwrap(), created: modified, modified, lease: Some(lease) }
    }

    #[test]
    fn a_name_is_taken_only_from_the_dead() {
        let me = record("frontend-1", 7);
        let key = format!("{PREFIX}frontend/frontend-1");
        let judged = |entries: &[Entry], lease: Option<LeaseId>, had_it: bool| {
            judge(PREFIX, &Claim { me: &me, key: &key, lease, had_it }, entries)
        };
        let check = |entries: &[Entry], lease: Option<LeaseId>, expected: Verdict| {
            assert_eq!(judged(entries, lease, false), expected);
        };
        let elsewhere = |incarnation: u64| NodeRecord {
            publish: format!("tcp://10.0.0.9:{incarnation}"),
            request: format!("tcp://10.0.0.9:1{incarnation}"),
            ..record("frontend-1", incarnation)
        };
        check(&[], None, Verdict::Take(0));
        check(&[entry(&record("frontend-2", 8), 3, 1)], None, Verdict::Take(0));
        check(&[entry(&me, 3, 1)], Some(1), Verdict::Mine);
        // Under a lease that is not the present one, or not as it should be: written anew.
        check(&[entry(&me, 3, 1)], Some(2), Verdict::Take(3));
        check(&[entry(&me, 3, 1)], None, Verdict::Take(3));
        check(&[entry(&NodeRecord { version: "old".into(), ..me.clone() }, 3, 1)], Some(1), Verdict::Take(3));
        check(&[Entry { lease: None, ..entry(&me, 3, 1) }], None, Verdict::Take(3));
        check(&[Entry { value: b"{".to_vec(), ..entry(&me, 3, 1) }], None, Verdict::Take(3));
        // An earlier life: dead for sure if we have its endpoints, unless we had the name before it.
        check(&[entry(&elsewhere(6), 3, 1)], None, Verdict::Held(Box::new(elsewhere(6))));
        let same = NodeRecord { incarnation: Incarnation(6), ..me.clone() };
        check(&[entry(&same, 3, 1)], None, Verdict::Take(3));
        assert_eq!(judged(&[entry(&same, 3, 1)], None, true), Verdict::Held(Box::new(same)));
        let half = NodeRecord { publish: me.publish.clone(), ..elsewhere(6) };
        check(&[entry(&half, 3, 1)], None, Verdict::Held(Box::new(half)));
        // The name in another role: the first has it.
        let zoo = NodeRecord { role: Role::Zoo, ..elsewhere(6) };
        check(&[entry(&me, 3, 1), entry(&zoo, 4, 2)], Some(1), Verdict::Mine);
        check(&[entry(&me, 5, 1), entry(&zoo, 4, 2)], Some(1), Verdict::Held(Box::new(zoo.clone())));
        check(&[entry(&zoo, 4, 2)], None, Verdict::Held(Box::new(zoo)));
    }
}
