//! What a client may say, how much of it, and in what form: the gate between its bytes and the world.
//!
//! Every message is decoded and counted here, before it can take any of the world's time. Commands beyond the bound are
//! refused; a client that goes on, or sends bytes that are no message, is let go. NEVER panics whatever the bytes are.

use bytes::Bytes;

use crate::protocol::{ClientMessage, MAX_ASK_CELLS, Malformed, codes};

use super::players::Said;

/// Messages that a client may send per second, over time.
const PER_SECOND: u64 = 30;

/// Messages that a client may send at once after a pause.
const BURST: u64 = 60;

/// Refused messages after which a client is let go, unless it pauses.
const PATIENCE: u64 = 300;

/// Cells of one ask that cost as much as another message. An ordinary client sees up to 25 cells.
const CELLS_PER_MESSAGE: u64 = 16;

/// One message's cost in the bucket's unit: thousandths of a message, so that time in milliseconds fills it exactly.
const COST: u64 = 1_000;

/// The gate of one connection.
pub struct Gate {
    filled: u64,
    refused: u64,
    last_ms: u64,
}

impl Gate {
    /// A fresh client, with a full bucket.
    pub fn new(now_ms: u64) -> Gate {
        Gate { filled: BURST * COST, refused: 0, last_ms: now_ms }
    }

    /// Judges one binary message.
    pub fn take(&mut self, now_ms: u64, bytes: &[u8]) -> Said {
        let decoded = ClientMessage::decode(bytes);
        let (seq, price) = match &decoded {
            Ok(ClientMessage::Command { seq, .. })
            | Err(Malformed::UnknownOp { seq, .. } | Malformed::BadArguments { seq, .. }) => (Some(*seq), 1),
            Ok(ClientMessage::Ask { cells }) => (None, 1 + cells.len() as u64 / CELLS_PER_MESSAGE),
            Ok(_) => (None, 1),
            Err(e) => return Said::Expelled(codes::MALFORMED, e.to_string()),
        };
        if let Some(refusal) = self.charge(now_ms, seq, price) {
            return refusal;
        }
        match decoded {
            Ok(ClientMessage::Command { seq, command }) => Said::Command(seq, command),
            Ok(ClientMessage::Ask { cells }) => Said::Ask(cells),
            Ok(ClientMessage::Ping { t }) => Said::Ping(t),
            Ok(ClientMessage::Hello { .. }) => {
                Said::Expelled(codes::MALFORMED, "hello comes once, at the beginning".to_owned())
            }
            Err(Malformed::UnknownOp { seq, op }) => {
                Said::Refused(Some(seq), codes::UNKNOWN_OP, format!("no command is named {op:?}"))
            }
            Err(Malformed::BadArguments { seq, op, why }) => {
                Said::Refused(Some(seq), codes::MALFORMED, format!("wrong arguments of {op}: {why}"))
            }
            Err(e) => Said::Expelled(codes::MALFORMED, e.to_string()),
        }
    }

    /// Judges one ping of WebSocket itself: it costs as much as a message.
    pub fn knock(&mut self, now_ms: u64, payload: Bytes) -> Said {
        self.charge(now_ms, None, 1).unwrap_or(Said::Knock(payload))
    }

    /// Takes the price from the bucket; a refusal if it is not in there.
    fn charge(&mut self, now_ms: u64, seq: Option<u32>, price: u64) -> Option<Said> {
        let passed = now_ms.saturating_sub(self.last_ms);
        self.last_ms = now_ms;
        self.filled = (self.filled + passed * PER_SECOND).min(BURST * COST);
        let paid = self.filled >= price * COST;
        if paid {
            self.filled -= price * COST;
        } else {
            self.refused += 1;
        }
        if self.filled >= BURST * COST / 2 {
            self.refused = 0;
        }
        if self.refused > PATIENCE {
            let text = format!("more than {PER_SECOND} messages a second, again and again");
            return Some(Said::Expelled(codes::FLOOD, text));
        }
        (!paid).then(|| Said::Refused(seq, codes::FLOOD, format!("more than {PER_SECOND} messages a second")))
    }
}

const _: () = assert!(1 + MAX_ASK_CELLS as u64 / CELLS_PER_MESSAGE < BURST / 2, "the largest ask can be paid for");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Command;

    fn stop(seq: u32) -> bytes::Bytes {
        ClientMessage::Command { seq, command: Command::Stop }.encode()
    }

    #[test]
    fn an_ordinary_client_is_let_through() {
        let mut gate = Gate::new(0);
        for second in 0..100 {
            for seq in 0..20 {
                assert_eq!(
                    gate.take(second * 1000 + u64::from(seq) * 50, &stop(seq)),
                    Said::Command(seq, Command::Stop)
                );
            }
        }
    }

    #[test]
    fn a_flood_is_refused_then_let_go_and_a_pause_forgives() {
        let mut gate = Gate::new(0);
        let mut seen = [0; 3];
        for seq in 0..(BURST + PATIENCE + 2) as u32 {
            match gate.take(0, &stop(seq)) {
                Said::Command(..) => seen[0] += 1,
                Said::Refused(Some(_), codes::FLOOD, _) => seen[1] += 1,
                Said::Expelled(codes::FLOOD, _) => seen[2] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, [BURST, PATIENCE, 2]);
        assert_eq!(gate.take(60_000, &stop(1)), Said::Command(1, Command::Stop));
    }

    /// Whoever floods is let go at last, whatever they flood with.
    fn check_flood(mut judge: impl FnMut(&mut Gate) -> Said) {
        let mut gate = Gate::new(0);
        let judged: Vec<Said> = (0..=BURST + PATIENCE).map(|_| judge(&mut gate)).collect();
        assert!(matches!(judged.last(), Some(Said::Expelled(codes::FLOOD, _))), "{:?}", judged.last());
    }

    #[test]
    fn every_kind_of_message_can_be_too_many() {
        let ask = ClientMessage::Ask { cells: vec![(0, 0); MAX_ASK_CELLS] }.encode();
        let ping = ClientMessage::Ping { t: 0 }.encode();
        // [2, 1, "fly"] and [2, 1, "walk"].
        let (unknown, wrong) = (&b"\x93\x02\x01\xa3fly"[..], &b"\x93\x02\x01\xa4walk"[..]);
        for bytes in [&ask[..], &ping, unknown, wrong] {
            check_flood(|gate| gate.take(0, bytes));
        }
        check_flood(|gate| gate.knock(0, Bytes::new()));
    }

    #[test]
    fn a_large_ask_costs_more_than_a_small_one() {
        let passed = |cells| {
            let (mut gate, ask) = (Gate::new(0), ClientMessage::Ask { cells: vec![(0, 0); cells] }.encode());
            (0..BURST).filter(|_| matches!(gate.take(0, &ask), Said::Ask(_))).count()
        };
        assert_eq!((passed(1), passed(MAX_ASK_CELLS)), (60, 3));
    }

    #[test]
    fn what_is_no_message_ends_the_connection() {
        let mut gate = Gate::new(0);
        let hello = ClientMessage::Hello { protocol: 1, token: "t".into(), kind: crate::protocol::HelloKind::Ticket };
        for bytes in [&b""[..], b"\xff", b"\x93\x02", &hello.encode()] {
            assert!(matches!(gate.take(0, bytes), Said::Expelled(codes::MALFORMED, _)), "{bytes:?}");
        }
    }
}
