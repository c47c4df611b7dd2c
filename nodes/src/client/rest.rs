//! The gateway's REST calls that a player needs: accounts, sessions, islands.
//!
//! Answers are read leniently (unknown fields are ignored), refusals keep their code and the pause that the gateway asks
//! for. Every call has a deadline. This module NEVER retries by itself, except that [`Gateway::admit`] waits in line and
//! comes back after a pause that the gateway named, for as long as its caller allows. Of several gateways another one is
//! asked when one cannot be reached: all of them know the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::ClientError;

/// No call takes longer.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// The same where another gateway can be asked.
pub const CALL_DEADLINE_OF_SEVERAL: Duration = Duration::from_secs(10);
/// How often the place in line is asked for where the gateway does not say.
const QUEUE_POLL: Duration = Duration::from_secs(1);
/// The longest that it is let wait: the place is lost if nobody asks for it for long.
const QUEUE_POLL_MOST: Duration = Duration::from_secs(15);
/// The shortest and longest pause before an unavailable gateway is asked again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A gateway, by its base address; or several that serve the same mesh, of which the next is asked when one does not answer.
/// Clones share their connections.
#[derive(Clone, Debug)]
pub struct Gateway {
    bases: Arc<[String]>,
    /// Which one answered last.
    current: Arc<AtomicUsize>,
    http: reqwest::Client,
}

/// An account as created.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    /// The account's name.
    pub account: String,
    /// The player's object id.
    pub player: u64,
}

/// A session that was let in: where to connect and with what.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The session's id.
    pub session: String,
    /// The frontend's node id.
    pub node: String,
    /// The frontend's WebSocket address.
    pub url: String,
    /// The ticket to say hello with.
    pub ticket: String,
    /// How often the gateway had to be asked again.
    pub retries: u32,
}

/// An island.
#[derive(Clone, Debug, Deserialize)]
pub struct Island {
    /// Its number.
    pub id: u32,
    /// Its short name.
    #[serde(default)]
    pub name: String,
    /// Its width in tiles.
    pub width_tiles: u16,
    /// Its height in tiles.
    pub height_tiles: u16,
    /// `stable` or `unstable`.
    #[serde(default)]
    pub stability: String,
    /// Where players arrive.
    #[serde(default)]
    pub spawn_points: Vec<SpawnPoint>,
    /// Where ships lie.
    #[serde(default)]
    pub harbours: Vec<SpawnPoint>,
}

/// What stands on a chunk.
#[derive(Clone, Debug, Deserialize)]
pub struct ChunkTiles {
    /// The tiles on which something stands.
    pub tiles: Vec<ChunkTile>,
    /// The holding to which it belongs.
    #[serde(default)]
    pub holding: Option<Holding>,
}

/// Somebody's land.
#[derive(Clone, Debug, Deserialize)]
pub struct Holding {
    /// The player's object id.
    pub owner: u64,
}

/// A tile on which something stands.
#[derive(Clone, Debug, Deserialize)]
pub struct ChunkTile {
    /// The tile's column on the island.
    pub x: u16,
    /// The tile's row.
    pub y: u16,
    /// The name of the natural object.
    #[serde(default)]
    pub name: Option<String>,
    /// The object that was built there.
    #[serde(default)]
    pub object: Option<u64>,
}

/// A place where players arrive, in 1/256 tile.
#[derive(Clone, Debug, Deserialize)]
pub struct SpawnPoint {
    /// From the island's left edge.
    pub x: i32,
    /// From its top edge.
    pub y: i32,
}

#[derive(Debug, Deserialize)]
struct SessionAnswer {
    session: String,
    state: String,
    frontend: Option<FrontendAnswer>,
    ticket: Option<String>,
    poll_s: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct FrontendAnswer {
    node: String,
    url: String,
}

#[derive(Debug, Deserialize)]
struct ErrorAnswer {
    error: ErrorBody,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    code: String,
    message: String,
}

impl Gateway {
    /// A gateway at `http://host:port`, or several, separated by commas.
    pub fn new(bases: &str) -> Result<Self, ClientError> {
        let bases = bases.split(',').map(|base| base.trim().trim_end_matches('/').to_owned());
        let bases: Arc<[String]> = bases.filter(|base| !base.is_empty()).collect();
        if bases.is_empty() {
            return Err(ClientError::Answer("no address of a gateway".to_owned()));
        }
        let deadline = if bases.len() > 1 { CALL_DEADLINE_OF_SEVERAL } else { CALL_DEADLINE };
        let http = reqwest::Client::builder().timeout(deadline).build()?;
        Ok(Self { bases, current: Arc::default(), http })
    }

    /// Asks the gateway that answered last, and the others in turn if it does not answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        request: impl Fn(&reqwest::Client, String) -> reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        let mut left = self.bases.len();
        loop {
            let current = self.current.load(Ordering::Relaxed);
            let base = &self.bases[current % self.bases.len()];
            let answered = answer(request(&self.http, format!("{base}{path}"))).await;
            left -= 1;
            match answered {
                Err(ClientError::Http(error)) if left > 0 => {
                    tracing::debug!(%error, base, "a gateway does not answer: the next one");
                    // Somebody else may have gone on to the next one already.
                    let next = current.wrapping_add(1);
                    let _ = self.current.compare_exchange(current, next, Ordering::Relaxed, Ordering::Relaxed);
                }
                answered => return answered,
            }
        }
    }

    /// Creates an account; `name_taken` is a refusal like any other.
    pub async fn create_account(&self, name: &str, password: &str) -> Result<Account, ClientError> {
        let body = json!({ "name": name, "password": password });
        self.ask("/v1/accounts", |http, url| http.post(url).json(&body)).await
    }

    /// The islands of the world.
    pub async fn islands(&self) -> Result<Vec<Island>, ClientError> {
        self.ask("/v1/islands", |http, url| http.get(url)).await
    }

    /// What stands on a chunk.
    pub async fn chunk(&self, island: u32, x: u16, y: u16) -> Result<ChunkTiles, ClientError> {
        self.ask(&format!("/v1/islands/{island}/chunks/{x}/{y}"), |http, url| http.get(url)).await
    }

    /// Opens a session and waits, at most until `deadline`, until it is let in.
    pub async fn admit(
        &self,
        name: &str,
        password: &str,
        island: Option<u32>,
        deadline: Instant,
    ) -> Result<Admission, ClientError> {
        let mut body = json!({ "name": name, "password": password });
        if let Some(island) = island {
            body["island"] = json!(island);
        }
        let mut retries = 0;
        loop {
            let session = self.open(&body, &mut retries, deadline).await?;
            // A place that was lost because nobody could ask for it in time: the end of the line, once more.
            if let Some(session) = self.wait_in_line(session, &mut retries, deadline).await? {
                return session.admission(retries);
            }
        }
    }

    /// Opens a session: it is let in or waits in line.
    async fn open(
        &self,
        body: &serde_json::Value,
        retries: &mut u32,
        deadline: Instant,
    ) -> Result<SessionAnswer, ClientError> {
        let mut pause = PAUSE.0;
        loop {
            let refusal = match self.ask("/v1/sessions", |http, url| http.post(url).json(body)).await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            self.turn_from(&refusal);
            let wait = comeback(&refusal, pause).ok_or(refusal)?;
            if Instant::now() + wait > deadline {
                return Err(ClientError::Late("admission"));
            }
            sleep(wait).await;
            *retries += 1;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Asks until the session is let in; `None` if its place is lost.
    async fn wait_in_line(
        &self,
        mut session: SessionAnswer,
        retries: &mut u32,
        deadline: Instant,
    ) -> Result<Option<SessionAnswer>, ClientError> {
        while session.state == "queued" {
            let pause = session.poll_s.map_or(QUEUE_POLL, Duration::from_secs).min(QUEUE_POLL_MOST);
            if Instant::now() + pause > deadline {
                return Err(ClientError::Late("place"));
            }
            sleep(pause).await;
            match self.ask(&format!("/v1/sessions/{}", session.session), |http, url| http.get(url)).await {
                Ok(told) => session = told,
                Err(ClientError::Refused { status: 404, .. }) => return Ok(None),
                Err(error) => {
                    // Any other gateway knows the place as well.
                    self.turn_from(&error);
                    comeback(&error, pause).ok_or(error)?;
                    *retries += 1;
                }
            }
        }
        Ok(Some(session))
    }

    /// From a gateway that does not serve to the next one.
    fn turn_from(&self, error: &ClientError) {
        if let ClientError::Refused { status: 503, .. } = error {
            self.current.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SessionAnswer {
    fn admission(self, retries: u32) -> Result<Admission, ClientError> {
        match (self.frontend, self.ticket) {
            (Some(frontend), Some(ticket)) if self.state == "admitted" => {
                Ok(Admission { session: self.session, node: frontend.node, url: frontend.url, ticket, retries })
            }
            _ => Err(ClientError::Answer(format!("a session in state {:?} without frontend or ticket", self.state))),
        }
    }
}

/// The pause before asking again makes sense, if it ever does.
fn comeback(error: &ClientError, pause: Duration) -> Option<Duration> {
    match error {
        ClientError::Refused { status: 429 | 503, retry_after_s, .. } => {
            Some(retry_after_s.map_or(pause, Duration::from_secs).min(PAUSE.1))
        }
        // A gateway that died under the request may have done it: asking again keeps a place, and makes no second one.
        ClientError::Http(error) if error.is_connect() || error.is_request() => Some(pause),
        _ => None,
    }
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, ClientError> {
    let response = request.send().await?;
    let status = response.status();
    let retry_after = response.headers().get(reqwest::header::RETRY_AFTER);
    let retry_after_s = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = response.bytes().await?;
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer(error.to_string()));
    }
    let body = match serde_json::from_slice::<ErrorAnswer>(&bytes) {
        Ok(answer) => answer.error,
        Err(_) => ErrorBody { code: "unknown".to_owned(), message: String::from_utf8_lossy(&bytes).into_owned() },
    };
    Err(ClientError::Refused { status: status.as_u16(), code: body.code, message: body.message, retry_after_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_needs_a_frontend_and_a_ticket() {
        let whole = r#"{"session":"s","state":"admitted","frontend":{"node":"f1","url":"ws://f"},"ticket":"t","expires_in_s":9}"#;
        let parsed: SessionAnswer = serde_json::from_str(whole).unwrap();
        let admission = parsed.admission(2).unwrap();
        assert_eq!((admission.url.as_str(), admission.ticket.as_str(), admission.retries), ("ws://f", "t", 2));
        let closed: SessionAnswer = serde_json::from_str(r#"{"session":"s","state":"closed"}"#).unwrap();
        assert!(matches!(closed.admission(0), Err(ClientError::Answer(_))));
    }

    #[test]
    fn a_busy_gateway_is_asked_again_and_a_wrong_password_is_not() {
        let refused = |status, retry_after_s| ClientError::Refused {
            status,
            code: String::new(),
            message: String::new(),
            retry_after_s,
        };
        let pause = Duration::from_millis(300);
        assert_eq!(comeback(&refused(503, None), pause), Some(pause));
        assert_eq!(comeback(&refused(503, Some(2)), pause), Some(Duration::from_secs(2)));
        assert_eq!(comeback(&refused(429, Some(9999)), pause), Some(PAUSE.1));
        assert_eq!(comeback(&refused(401, None), pause), None);
    }
}
