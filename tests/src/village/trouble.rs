//! Trouble for single nodes of a village: one is drained, one loses its way to the store or to the directory.
//!
//! What befalls everybody at once stands with the village itself. Nothing here ends by itself.

use mesh::directory::memory::Cut;

use super::Village;

impl Village {
    /// Has a node leave in order, as at SIGTERM; returns when it has.
    pub async fn leaves(&mut self, name: &str) {
        self.doors.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(name);
        let node = self.house(name).node.take();
        node.unwrap_or_else(|| panic!("{name} does not run")).leave().await;
    }

    /// Cuts one node off from the directory, or heals that.
    pub fn directory_of(&mut self, name: &str, cut: Option<Cut>) {
        match cut {
            Some(cut) => self.house(name).directory.cut(cut),
            None => self.house(name).directory.heal(),
        }
    }
}
