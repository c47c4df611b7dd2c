//! Chat: what players say to those near, to their party, to their island.
//!
//! A voice tires: so many things in a minute, a few of them at once. What is said is bounded and plain text. It is sent to every
//! frontend of the district, which tells its own who hear it. A word that is lost on the way is NEVER said again.

use super::{Actor, Begin, Begun, Came, Pace, Then, refused};
use crate::frontend::people;
use crate::methods::living::{PEOPLE_CHAT, Saying};
use crate::methods::pack;
use crate::protocol::acts::MAX_CHAT_BYTES;
use crate::protocol::codes;

/// To those near.
pub(crate) const NEAR: u8 = 0;
/// To the party.
pub(crate) const PARTY: u8 = 1;
/// To the island.
pub(crate) const ISLAND: u8 = 2;

/// Things that can be said at once after a silence.
const BREATH: u64 = 5;

const MINUTE_MS: u64 = 60_000;

/// How much breath a player has: a bucket that time fills.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    /// When all breath is back.
    full_ms: u64,
}

impl Voice {
    /// Says something at `now_ms`, if there is breath for it at `per_minute`.
    fn says(&mut self, now_ms: u64, per_minute: u32) -> bool {
        if per_minute == 0 {
            return false;
        }
        let each_ms = MINUTE_MS / u64::from(per_minute).min(MINUTE_MS);
        let full_ms = self.full_ms.max(now_ms) + each_ms;
        let breath = full_ms <= now_ms + each_ms * BREATH;
        if breath {
            self.full_ms = full_ms;
        }
        breath
    }
}

/// Says something.
pub(super) fn chat(actor: &Actor<'_>, pace: &mut Pace, channel: u8, text: &str) -> Begun {
    if channel > ISLAND {
        return refused(codes::MALFORMED, format!("no channel {channel}"));
    }
    if text.is_empty() || text.len() > MAX_CHAT_BYTES || text.chars().any(char::is_control) {
        return refused(codes::MALFORMED, format!("1 to {MAX_CHAT_BYTES} bytes without control characters"));
    }
    if channel == PARTY && actor.body.party == 0 {
        return refused(codes::PARTY, "one is in no party");
    }
    if !pace.voice.says(actor.now, actor.content().tuning.chats_per_minute) {
        return refused(codes::TOO_SOON, "too many words: take a breath");
    }
    let (body, player, island) = (actor.body, actor.id, actor.island);
    let (name, party, text) = (body.name.clone(), body.party, text.to_owned());
    let saying = Saying { channel, player, name, text, island, place: actor.place, party };
    people::spread(actor.shared, &PEOPLE_CHAT, &pack(&saying));
    Ok(Begin::Now(Came::done().and(Then::Heard(saying))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_words_is_cut_to_so_many_a_minute() {
        let (mut voice, mut said) = (Voice::default(), 0_u64);
        for now in (0..10 * MINUTE_MS).step_by(100) {
            said += u64::from(voice.says(now, 20));
        }
        assert_eq!(said, 10 * 20 + BREATH - 1);
        assert!(!voice.says(10 * MINUTE_MS, 0));
        let mut rested = Voice::default();
        assert_eq!((0..100).filter(|_| rested.says(1_000_000, 20)).count() as u64, BREATH);
    }
}
