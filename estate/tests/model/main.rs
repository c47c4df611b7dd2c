//! A model of the transactions' protocol, of which every reachable state is visited.
//!
//! Two transactions change the same two documents, each driven by a driver of its own; a reader settles what it meets.
//! Anybody may be slow without bound, lose patience, die, lose a reply or have a write land late. The model is written
//! from `estate::transaction`: an attempt has one token, decisions are monotone, every write is a compare-and-swap. It
//! NEVER counts time: patience may run out whenever somebody waits. States are told apart by 64-bit fingerprints.
//!
//! What keeps the protocol safe can be taken out ([`Flaw`]); each time the checker MUST find what goes wrong then.

mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};
use world::{Action, HALF, World};

/// What is taken out of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Committing does not ask whether the arbiter is still pending.
    NoFencing,
    /// Whoever has lost patience with an attempt that it saw pending clears it, whatever has become of it meanwhile.
    StaleLook,
    /// Each driver marks in the order that suits it.
    NoOrder,
    /// An effect is applied without looking whether the intent still stands.
    NoPresence,
    /// An attempt whose insertion is in doubt is begun again under the same token if it is not there.
    SameToken,
}

/// The protocol as it is to be checked.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    flaw: Option<Flaw>,
    /// An aborted arbiter goes at once, as an entry of a ledger does; else it stays, as a transfer does.
    ledger: bool,
    /// Writes may land late.
    late: bool,
}

/// The most states that a search may visit: far more than there are.
const STATES_MOST: usize = 20_000_000;

const ONCE: &str = "no effect is applied twice";
const RECOVERED: &str = "one reader leaves nothing over, all of a transaction or none, and what was told is true";
const CALM: &str = "without pause or death, not both are aborted for being busy";
const BOTH: &str = "both may be committed";
const HELPED: &str = "a dead driver's transaction may be finished by others";
const HINDERED: &str = "a slow driver may be aborted by others";

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::default()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(self, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.take(self, action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Protocol>> {
        vec![
            Property::always(ONCE, |_, world: &World| world.never_twice()),
            Property::always(RECOVERED, |protocol: &Protocol, world: &World| {
                world.wrong_in_the_end(protocol).is_none()
            }),
            Property::always(CALM, |_, world: &World| !world.calm || !world.both_told_aborted()),
            Property::sometimes(BOTH, |_, world: &World| world.all_committed()),
            Property::sometimes(HELPED, |_, world: &World| world.helped()),
            Property::sometimes(HINDERED, |_, world: &World| world.hindered()),
        ]
    }
}

/// Visits every state of a protocol without flaws and prints how many there are.
fn check_whole(ledger: bool, late: bool) {
    let protocol = Protocol { flaw: None, ledger, late };
    let checker = protocol.checker().target_state_count(STATES_MOST).spawn_bfs().join();
    for property in [ONCE, RECOVERED, CALM] {
        if let Some(path) = checker.discovery(property) {
            panic!("{protocol:?} breaks {property:?}:\n{}", world::told(path));
        }
    }
    for property in [BOTH, HELPED, HINDERED] {
        assert!(checker.discovery(property).is_some(), "never: {property}");
    }
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    assert!(checker.state_count() < STATES_MOST, "the state space is larger than the bound");
    println!("{protocol:?}: all {states} states visited, the farthest {depth} steps away");
    assert!(states > 10_000, "a model of {states} states shows nothing");
}

/// Finds the shortest way to what a flaw does; `wrong` is what a reader finds there in the end, if that is the matter.
fn check_flawed(flaw: Flaw, ledger: bool, broken: &'static str, wrong: Option<&'static str>) {
    let protocol = Protocol { flaw: Some(flaw), ledger, late: false };
    let wanted = HasDiscoveries::AnyOf([broken].into());
    let checker = protocol.checker().target_state_count(STATES_MOST).finish_when(wanted).spawn_bfs().join();
    let path = checker.discovery(broken).unwrap_or_else(|| panic!("{flaw:?} was not found: {broken}"));
    let found = path.last_state().wrong_in_the_end(&protocol);
    let (steps, states) = (path.clone().into_actions().len(), checker.unique_state_count());
    println!(
        "{flaw:?} breaks {broken:?} ({found:?}) in {steps} steps, found after {states} states:\n{}",
        world::told(path)
    );
    if wrong.is_some() {
        assert_eq!(found, wrong, "{flaw:?}");
    }
}

#[test]
fn transfers_keep_every_promise_in_every_state() {
    check_whole(false, false);
}

#[test]
fn ledger_entries_keep_every_promise_in_every_state() {
    check_whole(true, false);
}

#[test]
fn late_writes_break_no_promise_in_any_state() {
    check_whole(true, true);
}

#[test]
fn without_fencing_an_aborted_transaction_is_committed_and_half_done() {
    check_flawed(Flaw::NoFencing, false, RECOVERED, Some(HALF));
}

#[test]
fn without_a_fresh_look_at_the_arbiter_a_committed_transaction_is_half_undone() {
    check_flawed(Flaw::StaleLook, false, RECOVERED, Some(HALF));
}

#[test]
fn without_the_order_of_keys_two_transactions_abort_each_other() {
    check_flawed(Flaw::NoOrder, false, CALM, None);
}

#[test]
fn without_looking_for_the_intent_a_slow_driver_applies_again_after_another_has_cleaned_up() {
    check_flawed(Flaw::NoPresence, false, ONCE, None);
}

#[test]
fn an_attempt_begun_again_under_its_token_loses_what_a_slow_reader_still_clears() {
    for ledger in [false, true] {
        check_flawed(Flaw::SameToken, ledger, RECOVERED, Some(HALF));
    }
}
