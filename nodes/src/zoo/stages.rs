//! How far each habitat has come at this zoo: being claimed, awake, handed on, given up. Plain values; they NEVER change by
//! themselves.

use mesh::NodeId;
use tokio::sync::oneshot;

use super::keeper::Keeper;

/// How far a habitat's post has come.
pub(super) enum Stage {
    /// It is being claimed.
    Claiming(Claiming),
    /// It was not to be had.
    Refused(Refused),
    /// It is ours, and awake.
    Awake(Awake),
    /// It is handed on: its minds rest, and its animals stay to be seen until another zoo shows them.
    Moving(Moving),
    /// It is being given up; nothing of it is here any more.
    Leaving,
}

/// A claim under way.
pub(super) struct Claiming {
    /// The lease's gaps when it began: a claim that was made before one may be somebody else's by now.
    pub(super) gaps: u64,
    /// How long was waited before it was tried again, in milliseconds.
    pub(super) pause_ms: u64,
}

/// A claim that did not succeed.
pub(super) struct Refused {
    /// When it may be tried again.
    pub(super) again: u64,
    /// How long that is waited, in milliseconds.
    pub(super) pause_ms: u64,
}

/// A habitat that is awake.
pub(super) struct Awake {
    /// The epoch of its post.
    pub(super) epoch: u64,
    /// Who looks after the post.
    pub(super) keeper: Keeper,
    /// Since when nobody sees it.
    pub(super) unwatched_since: Option<u64>,
    /// When it is saved next.
    pub(super) save_at: u64,
    /// The number of the save that is under way.
    pub(super) saving: Option<u64>,
    /// It is not known whether the post is still ours, as was asked under this number: nothing is done for it until that is
    /// answered.
    pub(super) doubt: Option<u64>,
}

/// A habitat that is handed on.
pub(super) struct Moving {
    /// The epoch under which it was ours.
    pub(super) epoch: u64,
    /// Who has woken it since; none if nobody has yet, or nobody did.
    pub(super) to: Option<NodeId>,
    /// When that was told, or somebody was first seen to show animals of it.
    pub(super) handed_at: Option<u64>,
    /// Told when it is over.
    pub(super) done: Option<oneshot::Sender<()>>,
}

impl Stage {
    /// The habitat, if it is ours for sure.
    pub(super) fn sure(&self) -> Option<&Awake> {
        match self {
            Stage::Awake(awake) if awake.doubt.is_none() => Some(awake),
            _ => None,
        }
    }
}
