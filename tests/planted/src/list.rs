//! The bugs that there are.
//!
//! To plant one more: a line of code that asks `planted::is("name")` where the rule is kept, and an entry here. A bug that no
//! test can tell from the true program is no bug and does NOT belong here.

use super::Bug;

/// All bugs that can be planted, from the mesh up.
pub const LIST: &[Bug] = &[
    // The mesh.
    Bug {
        name: "freeze_unnoticed",
        what: "a node that wakes from a freeze beyond its lease acts as an owner until its tasks have noticed",
        at: &["mesh/src/registry/lease.rs"],
        found_by: "mesh: a_lease_counts_from_when_its_renewal_was_sent",
    },
    Bug {
        name: "lease_counted_from_reply",
        what: "the lease counts anew whenever anything comes back of a renewal, even a refusal or its deadline",
        at: &["mesh/src/registry/keeper.rs"],
        found_by: "",
    },
    Bug {
        name: "watch_not_relisted",
        what: "a watch that ended, as after a compaction, goes on from now; what happened in between is never read",
        at: &["mesh/src/registry/follower.rs"],
        found_by: "",
    },
    Bug {
        name: "former_life_let_in",
        what: "a greeting of a node's former life is taken for one of its present life",
        at: &["mesh/src/membership/inbound.rs"],
        found_by: "",
    },
    Bug {
        name: "one_way_link_trusted",
        what: "a peer that is heard but hears nothing counts as up",
        at: &["mesh/src/membership/peer.rs"],
        found_by: "",
    },
    Bug {
        name: "suspect_given_work",
        what: "a peer whose link works one way only is given new work",
        at: &["mesh/src/peers.rs"],
        found_by: "",
    },
    Bug {
        name: "calls_not_deduplicated",
        what: "a call that arrives again is carried out again",
        at: &["mesh/src/calls/server.rs"],
        found_by: "mesh: an_operation_is_carried_out_once_whoever_asks",
    },
    // The cartographer.
    Bug {
        name: "no_gap_repair",
        what: "frames after a gap are applied as though nothing were missing, and nothing lost is asked for again",
        at: &["cartographer/src/world/feeds.rs", "cartographer/src/world/verify.rs"],
        found_by: "cartographer: a_world_that_repairs_no_gaps_is_found_out",
    },
    Bug {
        name: "no_verify",
        what: "digests are not compared, so that the loss of a cell's last frame is never noticed",
        at: &["cartographer/src/world/verify.rs"],
        found_by: "cartographer: a_world_that_verifies_nothing_is_found_out",
    },
    Bug {
        name: "no_version_check",
        what: "entries of frames are applied without looking at their epoch and version",
        at: &["cartographer/src/world/ghosts.rs"],
        found_by: "cartographer: a_world_that_ignores_versions_is_found_out",
    },
    Bug {
        name: "epoch_not_compared",
        what: "a ghost goes by versions alone: frames of a fenced owner are not outranked by its successor's",
        at: &["cartographer/src/world/ghosts.rs"],
        found_by: "",
    },
    Bug {
        name: "departed_forgotten",
        what: "a late frame brings back an object that has left since",
        at: &["cartographer/src/world/ghosts.rs"],
        found_by: "",
    },
    Bug {
        name: "no_keyframe_removal",
        what: "a keyframe adds what it lists and leaves what it does not",
        at: &["cartographer/src/world/ghosts.rs"],
        found_by: "cartographer: a_world_whose_keyframes_remove_nothing_is_found_out",
    },
    Bug {
        name: "keyframe_lost",
        what: "a keyframe that was asked for and did not come is not asked for again",
        at: &["cartographer/src/world/feeds.rs"],
        found_by: "",
    },
    Bug {
        name: "no_ghost_ageing",
        what: "the ghosts of a publisher that is gone stay for ever",
        at: &["cartographer/src/world/feeds.rs"],
        found_by: "cartographer: a_world_whose_ghosts_do_not_age_is_found_out",
    },
    // Owners of documents.
    Bug {
        name: "no_fencing",
        what: "an owner whose save is refused takes the newer version and writes over it",
        at: &["estate/src/owned.rs"],
        found_by: "",
    },
    Bug {
        name: "claim_without_asking",
        what: "a document is claimed whether or not its owner is gone",
        at: &["estate/src/owned.rs"],
        found_by: "",
    },
    Bug {
        name: "epoch_not_raised",
        what: "a claim leaves the epoch as it was",
        at: &["estate/src/owned.rs"],
        found_by: "",
    },
    Bug {
        name: "ambiguous_write_done",
        what: "an owner's write whose reply was lost is taken for done",
        at: &["estate/src/owned.rs"],
        found_by: "",
    },
    Bug {
        name: "ambiguous_claim_failed",
        what: "a claim whose reply was lost is taken for failed: the document has an owner that does not know of it",
        at: &["estate/src/owned.rs"],
        found_by: "",
    },
    Bug {
        name: "stale_owner_answers",
        what: "an owner of old says of a step that it is applied, though the intent stands in its heir's document",
        at: &["estate/src/player/steps.rs"],
        found_by: "",
    },
    Bug {
        name: "step_answered_unsaved",
        what: "an owner answers a step of a transaction before its document is saved",
        at: &["estate/src/player/steps.rs"],
        found_by: "",
    },
    // Transactions.
    Bug {
        name: "intent_not_checked",
        what: "a document is marked or changed though another transaction's intent stands in it",
        at: &["estate/src/transaction/participant.rs"],
        found_by: "",
    },
    Bug {
        name: "transfer_left_open",
        what: "a document is marked though the last transfer applied to it may not be closed",
        at: &["estate/src/transaction/participant.rs"],
        found_by: "",
    },
    Bug {
        name: "operation_forgotten",
        what: "an operation on one document is done again when it is asked for again",
        at: &["estate/src/transaction/participant.rs"],
        found_by: "",
    },
    Bug {
        name: "transfer_forgotten",
        what: "the memory of a transfer goes as soon as it is done, so that it is done again when it is asked for again",
        at: &["estate/src/transaction/driver.rs"],
        found_by: "",
    },
    Bug {
        name: "aborted_applied",
        what: "who aborts another's transaction applies its effects to the documents marked so far",
        at: &["estate/src/transaction/settle.rs"],
        found_by: "",
    },
    Bug {
        name: "promise_kept_twice",
        what: "the last promise kept is not saved with its effect",
        at: &["estate/src/player/steps.rs"],
        found_by: "",
    },
    Bug {
        name: "strokes_unguarded",
        what: "a stroke at a tree or a rock does not look whether another came first",
        at: &["estate/src/land/nature.rs"],
        found_by: "",
    },
    // The nodes.
    Bug {
        name: "life_not_compared",
        what: "a node's new life passes for the one that owned, so that the dead one's documents stay out of reach",
        at: &["nodes/src/owners.rs"],
        found_by: "",
    },
    Bug {
        name: "lease_loss_untold",
        what: "a role is not told that its node's lease is lost",
        at: &["nodes/src/world_loop.rs"],
        found_by: "",
    },
    Bug {
        name: "early_release",
        what: "a player's document is released without its last save",
        at: &["nodes/src/frontend/keeper.rs"],
        found_by: "",
    },
    Bug {
        name: "floor_not_kept",
        what: "acts whose number is too old to be remembered are done again, in this session and the next",
        at: &["nodes/src/frontend/keeper.rs", "nodes/src/frontend/operations.rs"],
        found_by: "",
    },
    Bug {
        name: "resume_not_rotated",
        what: "a resume token works any number of times",
        at: &["estate/src/player/seat.rs", "nodes/src/frontend/players/entering.rs"],
        found_by: "",
    },
    Bug {
        name: "second_session_stays",
        what: "a new session claims the player without ending the one that this frontend has",
        at: &["nodes/src/frontend/arriving.rs"],
        found_by: "",
    },
    Bug {
        name: "last_seen_of_any_epoch",
        what: "who takes over goes by a ghost of any epoch, also one that is older than the document",
        at: &["nodes/src/last_seen.rs", "nodes/src/zoo/waking.rs"],
        found_by: "",
    },
    Bug {
        name: "habitat_woken_twice",
        what: "the second zoo of a habitat wakes it beside the first",
        at: &["nodes/src/zoo/keeper.rs", "nodes/src/zoo/rules.rs"],
        found_by: "",
    },
    Bug {
        name: "battle_resumed_unhurt",
        what: "a battle that goes on elsewhere forgets the wounds there were",
        at: &["nodes/src/game/combat.rs"],
        found_by: "",
    },
    Bug {
        name: "loot_not_derived",
        what: "each payment of a spoil has an id of its own, so that it is paid again when it is asked for again",
        at: &["nodes/src/colosseum/flows.rs"],
        found_by: "",
    },
    Bug {
        name: "steward_after_its_term",
        what: "a steward goes on acting when its term is over",
        at: &["nodes/src/election.rs"],
        found_by: "nodes: of_two_candidates_one_wins_and_the_other_does_when_the_lease_is_lost",
    },
    Bug {
        name: "queue_order_by_clock",
        what: "who waits to come in is ordered by when its key was last kept alive, not by when it was made",
        at: &["nodes/src/gateway/queue/view.rs"],
        found_by: "",
    },
    Bug {
        name: "draining_given_work",
        what: "a node that is being emptied is given new work",
        at: &["nodes/src/draining.rs"],
        found_by: "",
    },
];
