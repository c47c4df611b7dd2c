//! Logging in to the test server: PLAIN, and SCRAM-SHA512 as RFC 5802 has it.
//!
//! The password is NEVER sent back or logged.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use sha2::{Digest, Sha512};

/// How often the password is hashed: few, for tests log in often.
const ITERATIONS: u32 = 64;

const SALT: &[u8] = b"wildmesh test server";

/// Who may log in, and how the password looks to SCRAM.
pub(super) struct Credentials {
    user: String,
    password: String,
    client_key: Vec<u8>,
    server_key: Vec<u8>,
}

/// A SCRAM exchange under way.
pub(super) struct Scram {
    nonce: String,
    user_known: bool,
    /// What both sides sign: the client's first message without its header, and the server's first.
    signed: String,
}

impl Credentials {
    pub(super) fn new(user: &str, password: &str) -> Credentials {
        let salted = salted(password.as_bytes());
        Credentials {
            user: user.to_owned(),
            password: password.to_owned(),
            client_key: keyed(&salted, b"Client Key"),
            server_key: keyed(&salted, b"Server Key"),
        }
    }

    /// `\0user\0password`
    pub(super) fn plain(&self, message: &[u8]) -> bool {
        let mut parts = message.split(|byte| *byte == 0).skip(1);
        parts.next() == Some(self.user.as_bytes()) && parts.next() == Some(self.password.as_bytes())
    }

    /// `user:password`, as HTTP has it in base64.
    pub(super) fn basic(&self, header: &str) -> bool {
        let login = header.strip_prefix("Basic ").and_then(|encoded| STANDARD.decode(encoded).ok());
        login.is_some_and(|login| login == format!("{}:{}", self.user, self.password).as_bytes())
    }

    /// The server's first message to a client's `n,,n=USER,r=NONCE`.
    pub(super) fn first(&self, message: &[u8]) -> Option<(Scram, String)> {
        let bare = std::str::from_utf8(message).ok()?.strip_prefix("n,,")?;
        let (user, client_nonce) = bare.strip_prefix("n=")?.split_once(",r=")?;
        let mut bits = [0; 12];
        rand::rngs::OsRng.try_fill_bytes(&mut bits).ok()?;
        let nonce = format!("{client_nonce}{}", STANDARD.encode(bits));
        let reply = format!("r={nonce},s={},i={ITERATIONS}", STANDARD.encode(SALT));
        let scram = Scram { nonce, user_known: user == self.user, signed: format!("{bare},{reply}") };
        Some((scram, reply))
    }

    /// The server's last message to a client's `c=biws,r=NONCE,p=PROOF`, if the proof is right.
    pub(super) fn last(&self, scram: &Scram, message: &[u8]) -> Option<String> {
        let (without_proof, proof) = std::str::from_utf8(message).ok()?.rsplit_once(",p=")?;
        if !scram.user_known || without_proof != format!("c=biws,r={}", scram.nonce) {
            return None;
        }
        let signed = format!("{},{without_proof}", scram.signed);
        let stored_key = Sha512::digest(&self.client_key);
        let signature = keyed(&stored_key, signed.as_bytes());
        let expected: Vec<u8> = self.client_key.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
        let right = STANDARD.decode(proof).ok()? == expected;
        right.then(|| format!("v={}", STANDARD.encode(keyed(&self.server_key, signed.as_bytes()))))
    }
}

fn keyed(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// PBKDF2 with one block, which is what SCRAM calls Hi.
fn salted(password: &[u8]) -> Vec<u8> {
    let mut last = keyed(password, &[SALT, &[0, 0, 0, 1]].concat());
    let mut all = last.clone();
    for _ in 1..ITERATIONS {
        last = keyed(password, &last);
        all.iter_mut().zip(&last).for_each(|(all, last)| *all ^= last);
    }
    all
}
