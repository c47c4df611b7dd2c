//! Passwords: hashed with argon2id on a bounded number of threads.
//!
//! A hash takes tens of milliseconds and megabytes on purpose, so that a flood of logins would take a whole machine: only
//! so many run at once, only so many wait, in the order in which they came, and the rest are shed at once. The megabytes are
//! kept from hash to hash, one [`Memory`] for each that may run: given back to the allocator they would stay with whichever of
//! its arenas the thread had, and add up over all of them. A password is NEVER stored, logged or returned.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{Output, ParamsString, PasswordHash, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// Hashes that run at once, at most, on however many cores: each keeps its memory for good.
const AT_ONCE: usize = 8;

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
    /// What OWASP asks for (argon2id, 19 MiB, 2 passes), on all cores but one, and on 8 at most.
    pub fn standard() -> PasswordCost {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        PasswordCost { memory_kib: 19_456, passes: 2, threads: cores.saturating_sub(1).clamp(1, AT_ONCE) }
    }

    /// Next to nothing: for tests and load generators, NEVER for people's passwords.
    pub fn cheap() -> PasswordCost {
        PasswordCost { memory_kib: 8, passes: 1, ..PasswordCost::standard() }
    }
}

/// What one hash works in.
type Memory = Vec<Block>;

/// The hashing threads.
#[derive(Clone)]
pub struct Passwords {
    params: Params,
    /// Of those that have run and run no more: with those that run, as many as may run at once.
    memories: Arc<Mutex<Vec<Memory>>>,
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
        let mut memory = Memory::new();
        let decoy = hash(&params, "", &[0; 16], &mut memory).unwrap_or_default();
        Ok(Passwords {
            params,
            memories: Arc::new(Mutex::new(vec![memory])),
            admitted: Arc::new(Semaphore::new(threads * (1 + WAITING_PER_THREAD))),
            running: Arc::new(Semaphore::new(threads)),
            gauge,
            decoy: decoy.into(),
        })
    }

    /// The hash of `password` as a PHC string. `salt` must be fresh for every account.
    pub async fn hash(&self, password: String, salt: [u8; 16]) -> Result<String, ApiError> {
        let params = self.params.clone();
        self.run(move |memory| hash(&params, &password, &salt, memory)).await?.ok_or_else(|| broken("hashing"))
    }

    /// True if `hash` is one of `password`. Takes as long, and says no, if there is no hash.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, ApiError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.to_string());
        let matches = self.run(move |memory| {
            let parsed = PasswordHash::new(&hash).ok()?;
            Some(matches(&parsed, &password, memory).unwrap_or(false))
        });
        Ok(matches.await?.ok_or_else(|| broken("reading a password hash"))? && known)
    }

    async fn run<T, W>(&self, work: W) -> Result<T, ApiError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Memory) -> T + Send + 'static,
    {
        let full = || ApiError::unavailable("busy", "too many logins at once; ask again shortly", RETRY_AFTER_S);
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|_| full())?;
        self.gauge.inc();
        let running = match self.running.clone().acquire_owned().await {
            Ok(running) => running,
            Err(_) => return Err(full()),
        };
        let place = Place { _admitted: admitted, _running: running, gauge: self.gauge.clone() };
        let (memories, usual) = (self.memories.clone(), self.params.block_count());
        // The gateway serves real sockets and never runs inside the simulation, where threads would break repeatability.
        #[allow(clippy::disallowed_methods)]
        let done = tokio::task::spawn_blocking(move || {
            // The place is given up by the thread, not by the request, which may have gone away by then.
            let _place = place;
            let kept = memories.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut memory = kept.unwrap_or_default();
            let done = work(&mut memory);
            // One that had to grow for an account of a higher cost is not kept.
            if memory.len() <= usual {
                memories.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
            }
            done
        });
        done.await.map_err(|_| broken("hashing"))
    }
}

fn hash(params: &Params, password: &str, salt: &[u8; 16], memory: &mut Memory) -> Option<String> {
    let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
    let argon2 = Argon2::new(algorithm, version, params.clone());
    let salt = SaltString::encode_b64(salt).ok()?;
    let output = output(&argon2, password, salt.as_salt(), memory)?;
    let hash = PasswordHash {
        algorithm: algorithm.ident(),
        version: Some(version.into()),
        params: ParamsString::try_from(params).ok()?,
        salt: Some(salt.as_salt()),
        hash: Some(output),
    };
    Some(hash.to_string())
}

/// Whether a hash is one of `password`; `None` if it is not of argon2. The cost comes from the hash itself, so that accounts of
/// another cost go on working.
fn matches(hash: &PasswordHash<'_>, password: &str, memory: &mut Memory) -> Option<bool> {
    let algorithm = Algorithm::try_from(hash.algorithm).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let argon2 = Argon2::new(algorithm, version, Params::try_from(hash).ok()?);
    // Outputs are compared in constant time.
    Some(output(&argon2, password, hash.salt?, memory)? == hash.hash?)
}

fn output(argon2: &Argon2<'_>, password: &str, salt: Salt<'_>, memory: &mut Memory) -> Option<Output> {
    let params = argon2.params();
    let blocks = params.block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    let mut decoded = [0; Salt::MAX_LENGTH];
    let salt = salt.decode_b64(&mut decoded).ok()?;
    let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let fill = |out: &mut [u8]| Ok(argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, memory)?);
    Output::init_with(length, fill).ok()
}

fn broken(doing: &'static str) -> ApiError {
    tracing::error!(doing, "a password operation failed");
    ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here")
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::{PasswordHasher, PasswordVerifier};

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
    async fn hashes_are_those_of_argon2_at_whatever_cost_they_were_made() {
        let passwords = passwords(1);
        for (memory_kib, passes, lanes) in [(8, 1, 1), (64, 3, 2), (8, 2, 1)] {
            let params = Params::new(memory_kib, passes, lanes, None).unwrap();
            let theirs = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let salt = SaltString::encode_b64(&[9; 16]).unwrap();
            let hash = theirs.hash_password(b"sesame", &salt).unwrap().to_string();
            assert!(passwords.verify("sesame".into(), Some(hash.clone())).await.unwrap(), "{hash}");
            assert!(!passwords.verify("sesam".into(), Some(hash)).await.unwrap());
        }
        let ours = passwords.hash("sesame".into(), [9; 16]).await.unwrap();
        let parsed = PasswordHash::new(&ours).unwrap();
        assert!(Argon2::default().verify_password(b"sesame", &parsed).is_ok());
        let foreign = "$pbkdf2-sha256$i=4096,l=32$CQkJCQkJCQkJCQkJCQkJCQ$q83vq83vq83vq83vq83vq83vq83vq83vq83vq83vq80";
        assert!(!passwords.verify("sesame".into(), Some(foreign.into())).await.unwrap());
        assert!(passwords.verify("sesame".into(), Some("no hash".into())).await.is_err());
    }

    #[tokio::test]
    async fn memory_is_kept_for_as_many_hashes_as_run_at_once_and_at_the_usual_size() {
        let passwords = passwords(3);
        for _ in 0..4 {
            let many = (0..40).map(|_| passwords.hash("x".into(), [1; 16]));
            assert!(futures_util::future::join_all(many).await.iter().all(Result::is_ok));
        }
        let dear = hash(&Params::new(64, 1, 1, None).unwrap(), "x", &[1; 16], &mut Memory::new()).unwrap();
        assert!(passwords.verify("x".into(), Some(dear)).await.unwrap());
        let kept: Vec<usize> = passwords.memories.lock().unwrap().iter().map(Vec::len).collect();
        assert!(kept.len() <= 3 && kept.iter().all(|blocks| *blocks == passwords.params.block_count()), "{kept:?}");
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
