//! How often one address may do what is costly: a bucket of tokens per address, in a table of fixed size.
//!
//! Loopback is exempt (load generators and `wildmesh up`), and so is everybody beyond the table's size: a flood from very
//! many addresses must not lock out the players; the bounds on hashes and connections hold for it. NEVER waits.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

/// Addresses remembered at once, at most.
const ADDRESSES: usize = 16_384;

/// How often the table is looked through for addresses that are as good as new, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// So many at once, and so many a minute afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once, after a pause.
    pub burst: u32,
    /// In the long run.
    pub per_minute: u32,
}

/// The buckets of all addresses for one kind of action.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    buckets: FxHashMap<IpAddr, Bucket>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// Nobody has done anything yet.
    pub fn new(rate: Rate) -> Limiter {
        Limiter { rate, table: Mutex::new(Table { buckets: FxHashMap::default(), swept: None }) }
    }

    /// True if the address may act now; nothing is taken.
    pub fn allows(&self, now: Instant, address: IpAddr) -> Result<(), u32> {
        self.look(now, address, 0.0)
    }

    /// Takes one action of the address, or says in how many seconds there will be one.
    pub fn take(&self, now: Instant, address: IpAddr) -> Result<(), u32> {
        self.look(now, address, 1.0)
    }

    fn look(&self, now: Instant, address: IpAddr, cost: f64) -> Result<(), u32> {
        if is_loopback(address) {
            return Ok(());
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key = network(address);
        if !table.buckets.contains_key(&key) && !table.room(now, self.rate) {
            return Ok(());
        }
        let fresh = Bucket { tokens: f64::from(self.rate.burst), at: now };
        let bucket = table.buckets.entry(key).or_insert(fresh);
        bucket.tokens = bucket.tokens_at(now, self.rate);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= cost;
            return Ok(());
        }
        let per_second = f64::from(self.rate.per_minute) / 60.0;
        Err(((1.0 - bucket.tokens) / per_second.max(1e-3)).ceil().clamp(1.0, 3600.0) as u32)
    }
}

impl Table {
    /// Makes room for one more address; false if there is none.
    fn room(&mut self, now: Instant, rate: Rate) -> bool {
        let due = self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_EVERY);
        if self.buckets.len() >= ADDRESSES && due {
            self.swept = Some(now);
            self.buckets.retain(|_, bucket| bucket.tokens_at(now, rate) < f64::from(rate.burst));
        }
        self.buckets.len() < ADDRESSES
    }
}

impl Bucket {
    fn tokens_at(&self, now: Instant, rate: Rate) -> f64 {
        let earned = now.duration_since(self.at).as_secs_f64() * f64::from(rate.per_minute) / 60.0;
        (self.tokens + earned).min(f64::from(rate.burst))
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// One subscriber commonly holds a whole /64 of IPv6 addresses: they count as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, per_minute: 60 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_gets_its_burst_then_its_rate() {
        let limiter = Limiter::new(RATE);
        let now = Instant::now();
        let taken = (0..5).filter(|_| limiter.take(now, ip("192.0.2.1")).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(limiter.take(now, ip("192.0.2.1")), Err(1));
        assert_eq!(limiter.allows(now, ip("192.0.2.1")), Err(1));
        assert_eq!(limiter.take(now, ip("192.0.2.2")), Ok(()), "others are not concerned");
        assert_eq!(limiter.take(now + Duration::from_secs(1), ip("192.0.2.1")), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn loopback_is_exempt_and_a_v6_network_counts_once() {
        let limiter = Limiter::new(RATE);
        let now = Instant::now();
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!((0..100).all(|_| limiter.take(now, ip(address)).is_ok()), "{address}");
        }
        let taken = (0..10).filter(|i| limiter.take(now, ip(&format!("2001:db8::{i}"))).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_lets_strangers_pass_when_full() {
        let limiter = Limiter::new(RATE);
        let now = Instant::now();
        for i in 0..ADDRESSES as u32 + 100 {
            assert!(limiter.take(now, IpAddr::from((0x0b00_0000 + i).to_be_bytes())).is_ok());
        }
        assert_eq!(limiter.table.lock().unwrap().buckets.len(), ADDRESSES);
        let later = now + Duration::from_secs(10);
        assert!(limiter.take(later, ip("192.0.2.9")).is_ok());
        assert_eq!(limiter.table.lock().unwrap().buckets.len(), 1, "those as good as new were forgotten");
    }
}
