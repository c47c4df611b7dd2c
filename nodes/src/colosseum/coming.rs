//! Battles that a flow is bringing here, and who waits for each.
//!
//! Of everybody who asks for a battle one brings it; the others wait for what comes of that and are told the same. Bounded: so
//! many wait, each no longer than it says; more, or longer, are told to ask again. It NEVER has two flows bring one battle.

use std::collections::BTreeMap;

use mesh::CallRefusal;

use super::{Reply, Reserved};
use crate::protocol::codes;

/// Askers who wait for one battle, at most.
const WAITING: usize = 64;

/// What flows are bringing.
#[derive(Default)]
pub(super) struct Coming(BTreeMap<u64, Vec<Waiting>>);

struct Waiting {
    /// When it is told to ask again.
    until_ms: u64,
    reply: Reply<Reserved>,
}

impl Coming {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.contains_key(&number)
    }

    /// A flow brings it from now on.
    pub(super) fn begin(&mut self, number: u64) {
        self.0.entry(number).or_default();
    }

    /// Somebody waits for a battle that is being brought, until then at most.
    pub(super) fn wait(&mut self, number: u64, now: u64, until_ms: u64, reply: Reply<Reserved>) {
        match self.0.get_mut(&number) {
            Some(waiting) if until_ms > now && waiting.len() < WAITING => waiting.push(Waiting { until_ms, reply }),
            _ => refuse(reply),
        }
    }

    /// It is here.
    pub(super) fn came(&mut self, number: u64) {
        for waiting in self.0.remove(&number).unwrap_or_default() {
            tell(waiting.reply, Ok(Reserved::Here));
        }
    }

    /// Nothing came of it: for a reason that is everybody's who asked, or else they ask anew.
    pub(super) fn nothing(&mut self, number: u64, why: Option<&CallRefusal>) {
        for waiting in self.0.remove(&number).unwrap_or_default() {
            match why {
                Some(why) => tell(waiting.reply, Ok(Reserved::Nothing(why.clone()))),
                None => refuse(waiting.reply),
            }
        }
    }

    /// Who has waited long enough is told to ask again.
    pub(super) fn ticked(&mut self, now: u64) {
        for waiting in self.0.values_mut() {
            waiting.extract_if(.., |it| it.until_ms <= now).for_each(|it| refuse(it.reply));
        }
    }
}

fn refuse(reply: Reply<Reserved>) {
    tell(reply, Err(CallRefusal::new(codes::BUSY, "the battle is just beginning")));
}

/// An answer that nobody waits for any more is lost, and the asker asks again.
fn tell(reply: Reply<Reserved>, answer: Result<Reserved, CallRefusal>) {
    let _ = reply.send(answer);
}
