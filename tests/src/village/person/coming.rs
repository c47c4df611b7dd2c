//! How a person comes in, goes on elsewhere, and goes.
//!
//! By tickets, passages and resume tokens as the protocol has them; NEVER by a way that a client does not have.

use std::sync::{Arc, PoisonError};

use cartographer::geometry::ObjectId;
use mesh::tasks::Tasks;
use nodes::frontend::connection::Gate;
use nodes::frontend::players::FrontInput;
use nodes::frontend::sessions::Sessions;
use nodes::methods::OpenSession;
use nodes::protocol::{HelloKind, PROTOCOL};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{AGAIN, ANSWER_MS, LOOK, Line, PATIENCE, Person};
use crate::pipe::{Pipe, within};
use crate::village::seen::Seen;

impl Person {
    /// Comes in at a frontend, however long it takes that its former one is believed dead.
    pub async fn arrives(&mut self, frontend: &str) -> &mut Person {
        self.line = None;
        let mut why = String::new();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.try_to_come_in(frontend).await {
                Ok(()) => return self,
                Err(refused) => why = refused,
            }
            sleep(AGAIN).await;
        }
        panic!("{} does not get in at {frontend}: {why}", self.name);
    }

    /// Tries once to come in at a frontend with a new session; why it is not let in: code and text.
    pub async fn tries_to_arrive(&mut self, frontend: &str) -> Result<(), String> {
        self.try_to_come_in(frontend).await
    }

    async fn try_to_come_in(&mut self, frontend: &str) -> Result<(), String> {
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(frontend).cloned();
        let (sessions, process) = door.ok_or("it does not run")?;
        let session = Uuid::from_u128(self.random.random());
        let offer = sessions.open(&OpenSession { session, player: ObjectId(self.player), island: None });
        let offer = offer.map_err(|refused| refused.to_string())?;
        self.session = session;
        self.connect(frontend, sessions, process, &offer.ticket).await
    }

    async fn connect(
        &mut self,
        frontend: &str,
        sessions: Sessions,
        process: Tasks,
        ticket: &str,
    ) -> Result<(), String> {
        let pipe = Arc::new(Pipe::default());
        let sink = pipe.clone();
        let kind = HelloKind::of(ticket);
        let entering = sessions.hello(PROTOCOL, ticket, kind, move || sink);
        let entered = within(&process, ANSWER_MS, entering).await.ok_or("it does not answer")?;
        let id = entered.map_err(|farewell| format!("{}: {}", farewell.code, farewell.text))?;
        let (gate, since) = (Gate::new(0), Instant::now());
        self.line = Some(Line { sessions, process, id, gate, pipe, since });
        self.frontend = frontend.to_owned();
        self.seen.begin();
        // Whoever let one in may die before it has said so.
        let until = Instant::now() + PATIENCE;
        while self.seen.welcome.is_none() {
            if self.is_lost() || Instant::now() >= until {
                return Err("it was lost before its welcome".to_owned());
            }
            sleep(LOOK).await;
            self.look();
        }
        let first = self.seen.welcome.as_ref().map_or(0, |welcome| welcome.first_operation);
        // A session that goes on may ask again for what it asked for.
        self.next = if kind == HelloKind::Resume { self.next.max(first) } else { first };
        if kind == HelloKind::Ticket {
            self.acts.clear();
        }
        Ok(())
    }

    /// Goes on wherever one can: where it was sent if it was, else where the welcome said, else anywhere, as clients do whose
    /// frontend is gone.
    ///
    /// # Panics
    /// If nobody lets this person back in within [`PATIENCE`].
    pub async fn comes_along(&mut self) -> &mut Person {
        let until = Instant::now() + PATIENCE;
        while !self.is_lost() && self.seen.redirect.is_none() {
            assert!(Instant::now() < until, "{} has nowhere to come along to: {}", self.name, self.seen);
            sleep(LOOK).await;
            self.look();
        }
        self.look();
        let (sent, mut token) = self.seen.redirect.clone().unzip();
        let known = self.seen.welcome.clone();
        if token.is_none() {
            token = known.as_ref().map(|welcome| welcome.resume_token.clone());
        }
        let token = token.unwrap_or_else(|| panic!("{} was never anywhere", self.name));
        let mut why = self.seen.farewell.clone().map_or_else(String::new, |(code, text)| format!("{code}: {text}"));
        while Instant::now() < until {
            let fallbacks = known.iter().flat_map(|welcome| welcome.fallbacks.clone());
            let named = sent.clone().into_iter().chain(fallbacks);
            let mut names: Vec<String> = named.filter_map(|url| url.rsplit('/').next().map(str::to_owned)).collect();
            names.extend(self.doors.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned());
            for name in names {
                match self.shows(&name, &token).await {
                    Ok(()) => return self,
                    Err(refused) => why = format!("{name}: {refused}"),
                }
            }
            sleep(AGAIN).await;
        }
        panic!("{} does not get back in: {why}; {}", self.name, self.seen);
    }

    /// Follows the redirect that was told, to the frontend where it leads.
    pub async fn follows(&mut self) {
        let (url, ticket) = self.waits_for("a redirect", |seen| seen.redirect.clone()).await;
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        let (sessions, process) = door.unwrap_or_else(|| panic!("{}: {url} leads nowhere", self.name));
        let came = self.connect(&name, sessions, process, &ticket).await;
        came.unwrap_or_else(|e| panic!("{} was sent to {url} and not let in: {e}", self.name));
    }

    /// Shows a ticket or passage at a frontend; why it is not let in there: code and text. Its present connection stays
    /// as it is unless another is let in.
    pub async fn shows(&mut self, frontend: &str, token: &str) -> Result<(), String> {
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(frontend).cloned();
        let (sessions, process) = door.ok_or("it does not run")?;
        self.connect(frontend, sessions, process, token).await
    }

    /// Shows a token at a frontend that lets its owner in, whose welcome never comes; the other end of that connection. If it
    /// `ends` the frontend hears of that, else it believes that somebody is there.
    ///
    /// # Panics
    /// If it is not let in.
    pub async fn is_welcomed_in_vain(&mut self, frontend: &str, token: &str, ends: bool) -> Arc<Pipe> {
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(frontend).cloned();
        let (sessions, process) = door.unwrap_or_else(|| panic!("{frontend} does not run"));
        let pipe = Arc::new(Pipe::default());
        let sink = pipe.clone();
        let entering = sessions.hello(PROTOCOL, token, HelloKind::of(token), move || sink);
        let entered = within(&process, ANSWER_MS, entering).await;
        let id = entered.unwrap_or_else(|| panic!("{frontend} does not answer {}", self.name));
        let id = id.unwrap_or_else(|e| panic!("{} is not let in at {frontend}: {e:?}", self.name));
        if ends {
            sessions.try_role(FrontInput::Detach(id));
        }
        pipe
    }

    /// The token of the last welcome.
    pub fn token(&self) -> String {
        self.seen.welcome.as_ref().map(|welcome| welcome.resume_token.clone()).unwrap_or_default()
    }

    /// Comes back with the token of the last welcome at a frontend, however long that takes it; why it is not let in: code and
    /// text.
    pub async fn tries_to_resume(&mut self, frontend: &str) -> Result<(), String> {
        let token = self.token();
        self.shows(frontend, &token).await
    }

    /// Comes back with the token of the last welcome at a frontend, which may first have to wait for another to be dead.
    ///
    /// # Panics
    /// If it is not let in.
    pub async fn resumes(&mut self, frontend: &str) -> &mut Person {
        let resumed = self.tries_to_resume(frontend).await;
        resumed.unwrap_or_else(|e| panic!("{} cannot come back at {frontend}: {e}", self.name));
        self
    }

    /// Another client of the same player, with the same token and no connection.
    pub fn twin(&self) -> Person {
        let mut seen = Seen::default();
        seen.welcome.clone_from(&self.seen.welcome);
        Person {
            name: format!("{} again", self.name),
            seen,
            line: None,
            frontend: String::new(),
            doors: self.doors.clone(),
            random: StdRng::seed_from_u64(self.player ^ 0x7_7769_6e00),
            acts: self.acts.clone(),
            ..*self
        }
    }

    /// Goes out of the game; returns when the player's document is released.
    pub async fn goes_offline(&mut self) {
        let Some(line) = self.line.take() else { return };
        line.say(FrontInput::Detach(line.id));
        line.sessions.close(ObjectId(self.player), "the story says so").await;
    }

    /// Loses the connection without a word, as a client that crashes.
    pub fn vanishes(&mut self) {
        if let Some(line) = self.line.take() {
            line.say(FrontInput::Detach(line.id));
        }
    }
}
