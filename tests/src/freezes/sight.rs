//! What owners publish, as one observer sees it: an object's epoch never goes back.
//!
//! The observer follows the protocol's rules of feeds (the bots' [`Sight`]) and remembers the highest epoch under which it was
//! ever shown each player, animal and battle. A frame that still speaks of an object under an older epoch is counted as stale: it
//! was on its way when its publisher was frozen, or ought not to have been sent. One by which the *shown* object goes back to an
//! older epoch, or comes back under one, is two owners in one sight. Natural objects and facilities have no owner and are left
//! out.

use std::collections::BTreeMap;
use std::sync::Arc;

use nodes::client::Sight;
use nodes::game::kind;
use nodes::protocol::{Content, Entry, Frame, Shown};
use serde::{Deserialize, Serialize};

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Frames.
    pub frames: u64,
    /// Times that an object was shown under a higher epoch than before.
    pub new_epochs: u64,
    /// Entries under an epoch that had been outranked already.
    pub stale: u64,
}

impl Counts {
    /// Both together.
    pub fn add(&mut self, more: Counts) {
        self.frames += more.frames;
        self.new_epochs += more.new_epochs;
        self.stale += more.stale;
    }
}

/// One observer.
#[derive(Debug, Default)]
pub struct Observer {
    name: String,
    /// What it is shown.
    pub sight: Sight,
    highest: BTreeMap<u64, (u64, u64)>,
    /// What it saw.
    pub counts: Counts,
    /// What was wrong, in words.
    pub violations: Vec<String>,
}

impl Observer {
    /// Nothing seen yet.
    pub fn new(name: impl Into<String>) -> Observer {
        Observer { name: name.into(), ..Observer::default() }
    }

    /// Everything shown is void; what epochs there were stays known.
    pub fn reset(&mut self) {
        self.sight = Sight::new();
    }

    /// A frame. True if the cell is to be asked for again.
    pub fn frame(&mut self, frame: &Arc<Frame>) -> bool {
        self.counts.frames += 1;
        let effect = self.sight.apply(frame);
        if effect.stray || effect.old || effect.waits || effect.gap {
            // Nothing of it is shown.
            return effect.gap;
        }
        let objects: Vec<&Shown> = match &frame.content {
            Content::Keyframe(objects) => objects.iter().collect(),
            Content::Delta(entries) => {
                let enters = entries.iter().filter_map(|entry| match entry {
                    Entry::Enter { object, .. } => Some(object),
                    _ => None,
                });
                enters.collect()
            }
        };
        for object in objects.into_iter().filter(|it| is_owned(it)) {
            self.object(frame.head.publisher, object);
        }
        false
    }

    fn object(&mut self, publisher: u64, object: &Shown) {
        let (highest, by) = self.highest.get(&object.id).copied().unwrap_or((0, publisher));
        if object.epoch >= highest {
            self.counts.new_epochs += u64::from(object.epoch > highest && highest > 0);
            self.highest.insert(object.id, (object.epoch, publisher));
        } else {
            self.counts.stale += 1;
        }
        let (highest, _) = self.highest[&object.id];
        if let Some(ghost) = self.sight.ghost(object.id)
            && ghost.epoch < highest
        {
            let (name, id, shown) = (&self.name, object.id, ghost.epoch);
            self.violations
                .push(format!("{name} is shown {id} under epoch {shown} of {publisher} after epoch {highest} of {by}"));
        }
    }
}

fn is_owned(object: &Shown) -> bool {
    [kind::PLAYER, kind::ANIMAL, kind::BATTLE].contains(&object.view.kind)
}

#[cfg(test)]
mod tests {
    use nodes::protocol::frames::{FrameHead, View};
    use nodes::protocol::motion::Motion;

    use super::*;

    fn says(observer: &mut Observer, publisher: u64, seq: u64, epoch: u64) {
        let head = FrameHead { keyframe: true, publisher, island: 1, cell: (0, 0), seq, time_ms: 0 };
        let object = Shown { id: 7, epoch, version: 1, motion: Motion::default(), view: Arc::new(View::default()) };
        observer.frame(&Arc::new(Frame { head, content: Content::Keyframe(vec![object]) }));
    }

    #[test]
    fn an_owner_that_was_outranked_is_stale_and_one_that_is_shown_again_is_wrong() {
        let mut observer = Observer::new("somebody");
        observer.sight.set_vision(1, &[(0, 0)], &[]);
        says(&mut observer, 1, 1, 3);
        says(&mut observer, 2, 1, 4);
        says(&mut observer, 1, 2, 3);
        assert_eq!((observer.counts.stale, observer.counts.new_epochs), (1, 1));
        assert_eq!(observer.violations, Vec::<String>::new(), "it was outranked");
        // Whoever forgets, as by a reset, is shown it again.
        observer.reset();
        observer.sight.set_vision(1, &[(0, 0)], &[]);
        says(&mut observer, 1, 3, 3);
        assert_eq!(observer.violations.len(), 1);
    }
}
