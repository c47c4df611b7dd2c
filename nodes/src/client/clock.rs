//! What a server's clock shows now, learnt from the times that it writes into its messages.
//!
//! A message can only be late, never early: so of all differences between the server's time and ours at receipt, the
//! largest is the nearest to the truth. This NEVER goes back to a worse estimate.

use tokio::time::Instant;

/// An estimate of one server's clock.
#[derive(Clone, Copy, Debug)]
pub struct ServerClock {
    base: Instant,
    /// Server time at `base`, in microseconds; the largest ever seen.
    offset_us: i64,
    samples: u32,
}

impl ServerClock {
    /// The first sample.
    pub fn new(received: Instant, server_ms: u64) -> Self {
        Self { base: received, offset_us: micros(server_ms), samples: 1 }
    }

    /// A further sample.
    pub fn observe(&mut self, received: Instant, server_ms: u64) {
        let since_base = received.saturating_duration_since(self.base).as_micros() as i64;
        self.offset_us = self.offset_us.max(micros(server_ms) - since_base);
        self.samples = self.samples.saturating_add(1);
    }

    /// How many samples it rests on.
    pub fn samples(&self) -> u32 {
        self.samples
    }

    /// The server's time at `at`, in milliseconds.
    pub fn at_ms(&self, at: Instant) -> i64 {
        self.at_us(at).div_euclid(1000)
    }

    /// The server's time at `at`, in microseconds.
    pub fn at_us(&self, at: Instant) -> i64 {
        match at.checked_duration_since(self.base) {
            Some(after) => self.offset_us.saturating_add(after.as_micros() as i64),
            None => self.offset_us - self.base.saturating_duration_since(at).as_micros() as i64,
        }
    }
}

fn micros(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_least_delayed_sample_decides() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        // Truth: the server's clock is at 5,000 at our start.
        let mut clock = ServerClock::new(start + ms(300), 5000);
        clock.observe(start + ms(1010), 6000);
        clock.observe(start + ms(2500), 7000);
        assert_eq!(clock.at_ms(start + ms(3010)), 8000);
        assert_eq!(clock.at_ms(start + ms(10)), 5000);
        assert_eq!(clock.samples(), 3);
    }
}
