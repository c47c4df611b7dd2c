//! Passwords: hashed with argon2id on a bounded number of threads.
//!
//! A hash takes tens of milliseconds and megabytes on purpose, so that a flood of logins would take a whole machine: only
//! so many run at once, only so many wait, and the rest are shed at once. A password is NEVER stored, logged or returned.

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, Salt, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// Hashes that wait for a thread, at most, per thread; beyond it requests are shed.
const WAITING_PER_THREAD: usize = 64;

/// What clients are told to wait before they ask again.
const RETRY_AFTER_S: u32 = 2;

/// What a hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Hashes that run at once, at most.
    pub threads: usize,
}

impl PasswordCost {
    /// What OWASP asks for (argon2id, 19 MiB, 2 passes), on all cores but one.
    pub fn standard() -> PasswordCost {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        PasswordCost { memory_kib: 19_456, passes: 2, threads: cores.saturating_sub(1).max(1) }
    }

    /// Next to nothing: for tests and load generators, NEVER for people's passwords.
    pub fn cheap() -> PasswordCost {
        PasswordCost { memory_kib: 8, passes: 1, ..PasswordCost::standard() }
    }
}

/// The hashing threads.
#[derive(Clone, Debug)]
pub struct Passwords {
    params: Params,
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
    gauge: IntGauge,
    /// A hash of nothing in particular, verified when an account is unknown, so that both cases take as long.
    decoy: Arc<str>,
}

/// A place among the hashes that wait or run.
struct Place {
    _admitted: OwnedSemaphorePermit,
    _running: OwnedSemaphorePermit,
    gauge: IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Passwords {
    /// Sets up hashing at this cost. `gauge` shows how many hashes run or wait.
    pub fn new(cost: PasswordCost, gauge: IntGauge) -> Result<Passwords, argon2::Error> {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None)?;
        let threads = cost.threads.max(1);
        let decoy = hash(&params, "", &[0; 16]).unwrap_or_default();
        Ok(Passwords {
            params,
            admitted: Arc::new(Semaphore::new(threads * (1 + WAITING_PER_THREAD))),
            running: Arc::new(Semaphore::new(threads)),
            gauge,
            decoy: decoy.into(),
        })
    }

    /// The hash of `password` as a PHC string. `salt` must be fresh for every account.
    pub async fn hash(&self, password: String, salt: [u8; 16]) -> Result<String, ApiError> {
        let params = self.params.clone();
        self.run(move || hash(&params, &password, &salt)).await?.ok_or_else(|| broken("hashing"))
    }

    /// True if `hash` is one of `password`. Takes as long, and says no, if there is no hash.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, ApiError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.to_string());
        let matches = self.run(move || {
            let parsed = PasswordHash::new(&hash).ok()?;
            // The cost comes from the hash itself, so that accounts of another cost go on working.
            Some(Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
        });
        Ok(matches.await?.ok_or_else(|| broken("reading a password hash"))? && known)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let full = || ApiError::unavailable("busy", "too many logins at once; ask again shortly", RETRY_AFTER_S);
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|_| full())?;
        self.gauge.inc();
        let running = match self.running.clone().acquire_owned().await {
            Ok(running) => running,
            Err(_) => return Err(full()),
        };
        let place = Place { _admitted: admitted, _running: running, gauge: self.gauge.clone() };
        // The gateway serves real sockets and never runs inside the simulation, where threads would break repeatability.
        #[allow(clippy::disallowed_methods)]
        let done = tokio::task::spawn_blocking(move || {
            // The place is given up by the thread, not by the request, which may have gone away by then.
            let _place = place;
            work()
        });
        done.await.map_err(|_| broken("hashing"))
    }
}

fn hash(params: &Params, password: &str, salt: &[u8; 16]) -> Option<String> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let salt = SaltString::encode_b64(salt).ok()?;
    let salt: Salt<'_> = salt.as_salt();
    Some(argon2.hash_password(password.as_bytes(), salt).ok()?.to_string())
}

fn broken(doing: &'static str) -> ApiError {
    tracing::error!(doing, "a password operation failed");
    ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(threads: usize) -> Passwords {
        let gauge = IntGauge::new("hashes", "hashes").unwrap();
        Passwords::new(PasswordCost { threads, ..PasswordCost::cheap() }, gauge).unwrap()
    }

    #[tokio::test]
    async fn a_hash_verifies_its_own_password_only() {
        let passwords = passwords(1);
        let hash = passwords.hash("sesame".into(), [7; 16]).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert!(passwords.verify("sesame".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("Sesame".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(String::new(), Some(hash)).await.unwrap());
        assert!(!passwords.verify(String::new(), None).await.unwrap(), "not even the decoy's own password");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_shed_and_the_rest_is_served() {
        let passwords = passwords(1);
        let flood = (0..WAITING_PER_THREAD + 20).map(|_| passwords.hash("x".into(), [1; 16]));
        let done = futures_util::future::join_all(flood).await;
        let shed: Vec<_> = done.iter().filter_map(|r| r.as_ref().err()).collect();
        assert!(!shed.is_empty() && shed.iter().all(|e| e.code() == "busy"));
        assert!(done.iter().filter(|r| r.is_ok()).count() > WAITING_PER_THREAD);
        assert!(passwords.hash("x".into(), [1; 16]).await.is_ok(), "places come free again");
        assert_eq!(passwords.gauge.get(), 0);
    }
}
