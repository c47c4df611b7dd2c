//! Accounts: a name, a password and the player that belongs to them.
//!
//! Who has a name is decided by the store's insert; a registration that stopped half-way is finished by the next sign-in
//! (`estate::account`). Answers NEVER tell whether a name exists to somebody who does not know its password, except that
//! a taken name cannot be registered.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use cartographer::ground::Ground;
use estate::account::{self, AccountDocument, AccountError};
use estate::document::Kept;
use estate::player::{self, Birth, PlayerDocument};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::App;
use super::edge::ClientAddress;
use super::error::{ApiError, ApiResult, Body};

/// The fewest characters of a password.
const PASSWORD_MIN: usize = 8;

/// The most bytes of a password: hashing takes time in proportion.
const PASSWORD_MAX_BYTES: usize = 256;

/// The most bytes of an idempotency key.
const KEY_MAX_BYTES: usize = 128;

/// The body of `POST /v1/accounts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    name: String,
    password: String,
}

/// The answer to it.
#[derive(Debug, Serialize)]
pub struct AccountAnswer {
    account: String,
    player: u64,
}

/// `POST /v1/accounts`
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(client): Extension<ClientAddress>,
    headers: HeaderMap,
    Body(new): Body<NewAccount>,
) -> ApiResult<(StatusCode, Json<AccountAnswer>)> {
    account::check_name(&new.name).map_err(|fault| ApiError::bad("bad_name", fault.to_string()))?;
    check_password(&new.password)?;
    let token = token(&app, &headers, &new.name)?;
    app.creations.take(Instant::now(), client.0).map_err(too_many)?;
    // Asked before the costly hash; the insert decides all the same.
    if let Some(taken) = find(&app, &new.name).await?
        && taken.document.token != token
    {
        return Err(name_taken());
    }
    let hash = app.passwords.hash(new.password, app.random_salt()).await?;
    let birth = birth(&app)?;
    let made = account::register(app.store(), &new.name, &hash, token, &birth, || app.random_u64()).await;
    let made = made.map_err(refusal)?.document;
    app.metrics.accounts.inc();
    tracing::info!(account = made.name, player = made.player, "account made");
    Ok((StatusCode::CREATED, Json(AccountAnswer { account: made.name, player: made.player })))
}

/// The account of this name, if the password is right.
pub async fn authenticate(
    app: &App,
    client: ClientAddress,
    name: &str,
    password: String,
) -> ApiResult<Kept<AccountDocument>> {
    app.failures.allows(Instant::now(), client.0).map_err(too_many)?;
    if password.len() > PASSWORD_MAX_BYTES {
        return Err(wrong_credentials());
    }
    let found = find(app, name).await?;
    let hash = found.as_ref().map(|kept| kept.document.password_hash.clone());
    let right = app.passwords.verify(password, hash).await?;
    match found {
        Some(account) if right => Ok(account),
        _ => {
            // Taking one more than there is changes nothing: `allows` refused the next try already.
            let _ = app.failures.take(Instant::now(), client.0);
            Err(wrong_credentials())
        }
    }
}

/// The player of an account. Made now if its registration stopped before that.
pub async fn player_of(app: &App, account: &Kept<AccountDocument>) -> ApiResult<PlayerDocument> {
    let failed = |error: &dyn std::error::Error| ApiError::failed("reading the player", error);
    let holder = account::lower(&account.document.name);
    let found = player::find(app.store(), account.document.player).await.map_err(|error| failed(&error))?;
    if let Some(kept) = found.filter(|kept| kept.document.account == holder) {
        return Ok(kept.document);
    }
    let settled = account::settle(app.store(), account.clone(), &birth(app)?, || app.random_u64()).await;
    let settled = settled.map_err(refusal)?;
    let found = player::find(app.store(), settled.document.player).await.map_err(|error| failed(&error))?;
    found
        .map(|kept| kept.document)
        .ok_or_else(|| ApiError::unavailable("unavailable", "the player is not there yet", 1))
}

async fn find(app: &App, name: &str) -> ApiResult<Option<Kept<AccountDocument>>> {
    account::find(app.store(), name).await.map_err(|error| ApiError::failed("reading the account", &error))
}

fn check_password(password: &str) -> ApiResult<()> {
    let (characters, bytes) = (password.chars().count(), password.len());
    if characters < PASSWORD_MIN || bytes > PASSWORD_MAX_BYTES {
        let message =
            format!("a password has at least {PASSWORD_MIN} characters and at most {PASSWORD_MAX_BYTES} bytes");
        return Err(ApiError::bad("bad_password", message));
    }
    Ok(())
}

/// The token by which a repeated request recognises its own account: from the client's idempotency key, if it sent one.
fn token(app: &App, headers: &HeaderMap, name: &str) -> ApiResult<u64> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(app.random_u64()) };
    if key.is_empty() || key.len() > KEY_MAX_BYTES {
        let message = format!("an idempotency key has 1 to {KEY_MAX_BYTES} bytes");
        return Err(ApiError::bad("bad_idempotency_key", message));
    }
    let digest = Sha256::new().chain_update(account::lower(name)).chain_update([0]).chain_update(key.as_bytes());
    let mut token = [0; 8];
    token.copy_from_slice(&digest.finalize()[..8]);
    Ok(u64::from_le_bytes(token))
}

/// Where a new player begins: on an island that lasts and a spawn point drawn at random.
fn birth(app: &App) -> ApiResult<Birth> {
    let bits = app.random_u64();
    let lasting = app.islands.lasting();
    let count = lasting.len().max(1) as u64;
    let Some(terrain) = lasting.get((bits % count) as usize) else {
        return Err(ApiError::unavailable("no_island", "there is no island to begin on", 30));
    };
    let place = terrain.arrival(app.random_u64()).clamped(terrain.size());
    Ok(Birth { hue: (bits >> 32) as u16 % 360, island: terrain.id().0, x: place.x, y: place.y })
}

fn refusal(error: AccountError) -> ApiError {
    match error {
        AccountError::Taken => name_taken(),
        AccountError::Name(fault) => ApiError::bad("bad_name", fault.to_string()),
        error => ApiError::failed("making the account", &error),
    }
}

fn name_taken() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "name_taken", "somebody else has this name")
}

fn wrong_credentials() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "wrong_credentials", "no account has this name and password")
}

fn too_many(retry_after_s: u32) -> ApiError {
    let message = "too many of these from this address; ask again later";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message).retry_after(retry_after_s)
}
