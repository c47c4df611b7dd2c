//! Frames decoded once per process: the frontend sends the same bytes to everybody who sees the cell.
//!
//! Two generations of bounded size; what has not been asked for in a whole generation is forgotten. A hit NEVER rests
//! on the frame's head alone: the bytes are compared.

use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::protocol::{Frame, FrameHead, Malformed};

/// Frames in one generation.
const GENERATION: usize = 4096;

/// Frames decoded lately.
#[derive(Debug, Default)]
pub(super) struct FrameCache {
    young: FxHashMap<FrameHead, (Bytes, Arc<Frame>)>,
    old: FxHashMap<FrameHead, (Bytes, Arc<Frame>)>,
}

impl FrameCache {
    /// The frame of these bytes.
    pub(super) fn decode(&mut self, bytes: &Bytes) -> Result<Arc<Frame>, Malformed> {
        let head = FrameHead::decode(bytes)?;
        if let Some((known, frame)) = self.young.get(&head)
            && known == bytes
        {
            return Ok(frame.clone());
        }
        let frame = match self.old.remove(&head) {
            Some((known, frame)) if known == bytes => frame,
            _ => Arc::new(Frame::decode(bytes)?),
        };
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(head, (bytes.clone(), frame.clone()));
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Content, Entry, Motion};

    fn frame(seq: u64, x: i32) -> Bytes {
        let head = FrameHead { keyframe: false, publisher: 1, island: 1, cell: (0, 0), seq, time_ms: 5 };
        let entries = vec![Entry::Move { id: 1, version: 1, motion: Motion::still(x, 0, 0) }];
        let mut out = Vec::new();
        Frame { head, content: Content::Delta(entries) }.put(&mut out);
        out.into()
    }

    #[test]
    fn the_same_bytes_give_the_same_frame_and_others_their_own() {
        let mut cache = FrameCache::default();
        let first = cache.decode(&frame(1, 10)).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.decode(&frame(1, 10)).unwrap()));
        assert_ne!(first, cache.decode(&frame(1, 20)).unwrap(), "same head, other bytes");
        for seq in 0..3 * GENERATION as u64 {
            cache.decode(&frame(seq, 0)).unwrap();
        }
        assert!(cache.young.len() + cache.old.len() <= 2 * GENERATION);
        assert!(cache.decode(&Bytes::from_static(&[0x98, 10])).is_err());
    }
}
