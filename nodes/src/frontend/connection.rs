//! What a client may say, how much of it, and in what form: the gate between its bytes and the world.
//!
//! Every message is decoded and counted here, before it can take any of the world's time. Commands beyond the bound are
//! refused; a client that goes on, or sends bytes that are no message, is let go. NEVER panics whatever the bytes are.

use crate::protocol::{ClientMessage, Malformed, codes};

use super::players::Said;

/// Messages that a client may send per second, over time.
const PER_SECOND: u64 = 30;

/// Messages that a client may send at once after a pause.
const BURST: u64 = 60;

/// Refused messages after which a client is let go, unless it pauses.
const PATIENCE: u64 = 300;

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
        let passed = now_ms.saturating_sub(self.last_ms);
        self.last_ms = now_ms;
        self.filled = (self.filled + passed * PER_SECOND).min(BURST * COST);
        let paid = self.filled >= COST;
        if paid {
            self.filled -= COST;
        } else {
            self.refused += 1;
        }
        if self.filled >= BURST * COST / 2 {
            self.refused = 0;
        }
        let message = match ClientMessage::decode(bytes) {
            Ok(message) => message,
            Err(Malformed::UnknownOp { seq, op }) => {
                return Said::Refused(Some(seq), codes::UNKNOWN_OP, format!("no command is named {op:?}"));
            }
            Err(Malformed::BadArguments { seq, op, why }) => {
                return Said::Refused(Some(seq), codes::MALFORMED, format!("wrong arguments of {op}: {why}"));
            }
            Err(e) => return Said::Expelled(codes::MALFORMED, e.to_string()),
        };
        if self.refused > PATIENCE {
            return Said::Expelled(codes::FLOOD, format!("more than {PER_SECOND} messages a second, again and again"));
        }
        if !paid {
            let seq = if let ClientMessage::Command { seq, .. } = message { Some(seq) } else { None };
            return Said::Refused(seq, codes::FLOOD, format!("more than {PER_SECOND} messages a second"));
        }
        match message {
            ClientMessage::Command { seq, command } => Said::Command(seq, command),
            ClientMessage::Ask { cells } => Said::Ask(cells),
            ClientMessage::Ping { t } => Said::Ping(t),
            ClientMessage::Hello { .. } => Said::Expelled(codes::MALFORMED, "hello comes once, at the beginning".to_owned()),
        }
    }
}

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
                assert_eq!(gate.take(second * 1000 + u64::from(seq) * 50, &stop(seq)), Said::Command(seq, Command::Stop));
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

    #[test]
    fn what_is_no_message_ends_the_connection() {
        let mut gate = Gate::new(0);
        let hello = ClientMessage::Hello { protocol: 1, token: "t".into(), kind: crate::protocol::HelloKind::Ticket };
        for bytes in [&b""[..], b"\xff", b"\x93\x02", &hello.encode()] {
            assert!(matches!(gate.take(0, bytes), Said::Expelled(codes::MALFORMED, _)), "{bytes:?}");
        }
    }
}
