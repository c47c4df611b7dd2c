//! The topics of the blocks that a node sees, counted by cell.
//!
//! A block's topic is taken while any of its cells is in vision. Names are made once per block and shared.

use cartographer::geometry::Block;
use mesh::transport::Topic;
use rustc_hash::FxHashMap;

/// Names kept ready, at most; beyond it they are made anew.
const NAMES: usize = 65_536;

/// Which blocks are seen, and what they are called.
#[derive(Default)]
pub(super) struct Topics {
    names: FxHashMap<Block, Topic>,
    seen: FxHashMap<Block, u32>,
}

impl Topics {
    /// The topic of a block.
    pub(super) fn of(&mut self, block: Block) -> Topic {
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        self.names.entry(block).or_insert_with(|| Topic::new(&block.topic())).clone()
    }

    /// One more cell of the block is seen. The topic to subscribe to, if it is the first.
    pub(super) fn enter(&mut self, block: Block) -> Option<Topic> {
        let count = self.seen.entry(block).or_default();
        *count += 1;
        (*count == 1).then(|| self.of(block))
    }

    /// One cell fewer. The topic to leave, if it was the last.
    pub(super) fn leave(&mut self, block: Block) -> Option<Topic> {
        let count = self.seen.get_mut(&block)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.seen.remove(&block);
        Some(self.of(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cartographer::geometry::{Cell, IslandId};

    #[test]
    fn a_block_is_subscribed_once_and_left_with_its_last_cell() {
        let block = Cell::new(IslandId(1), 0, 0).block();
        let mut topics = Topics::default();
        assert!(topics.enter(block).is_some());
        assert!(topics.enter(block).is_none());
        assert!(topics.leave(block).is_none());
        assert!(topics.leave(block).is_some());
        assert!(topics.leave(block).is_none(), "never below zero");
    }
}
