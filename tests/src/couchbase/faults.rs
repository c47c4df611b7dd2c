//! What the test server is told to do wrong, and when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::wire::{Request, op, split_key};

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed, the request not applied.
    CloseBefore,
    /// The connection is closed once the request is applied.
    CloseAfter,
    /// Nothing happens, and nothing is answered.
    SwallowRequest,
    /// The request is applied, and nothing is answered.
    SwallowReply,
    /// The request is applied and answered this much later.
    Delay(Duration),
    /// The request is not applied, and answered with this status.
    Refuse(u16),
    /// The request is applied, and answered with this status.
    Misreport(u16),
}

/// Which requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Reads of documents.
    Reads,
    /// Writes of documents.
    Writes,
    /// Both.
    Documents,
}

/// A fault for some requests.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which requests.
    pub what: What,
    /// Only those whose key ends so.
    pub key: String,
    /// Only every so many of them: 1 for all.
    pub every: u32,
    /// How often at most.
    pub times: u32,
    /// What goes wrong.
    pub fault: Fault,
}

impl Rule {
    /// The fault once, for the next such request under a key that ends with `key`.
    pub fn once(what: What, key: &str, fault: Fault) -> Rule {
        Rule { what, key: key.to_owned(), every: 1, times: 1, fault }
    }

    /// The fault for as long as the rule stands.
    pub fn always(what: What, key: &str, fault: Fault) -> Rule {
        Rule { what, key: key.to_owned(), every: 1, times: u32::MAX, fault }
    }
}

/// The rules in force. Clones share them.
#[derive(Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    rules: Vec<(Rule, u32)>,
    hits: u32,
}

impl Faults {
    /// Adds a rule. The first that fits a request is used.
    pub fn add(&self, rule: Rule) {
        self.state().rules.push((rule, 0));
    }

    /// Takes all rules back.
    pub fn clear(&self) {
        self.state().rules.clear();
    }

    /// How often a rule has been used.
    pub fn hits(&self) -> u32 {
        self.state().hits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to go wrong with a request.
    pub(super) fn pick(&self, request: &Request) -> Option<Fault> {
        let what = match request.opcode {
            op::GET | op::GET_META => What::Reads,
            op::SET | op::ADD | op::REPLACE | op::DELETE | op::TOUCH | op::GET_AND_TOUCH => What::Writes,
            _ => return None,
        };
        let (_, key) = split_key(&request.key)?;
        let mut state = self.state();
        for (rule, met) in &mut state.rules {
            let fits = (rule.what == what || rule.what == What::Documents) && key.ends_with(rule.key.as_bytes());
            if !fits || rule.times == 0 {
                continue;
            }
            *met += 1;
            if met.is_multiple_of(rule.every) {
                rule.times -= 1;
                let fault = rule.fault;
                state.hits += 1;
                return Some(fault);
            }
        }
        None
    }
}
