//! What a person does, once or as patiently as a client does it.
//!
//! What nobody knows is asked again under its number, what was refused for the moment is tried again; both NEVER without end.

use nodes::game::player::MAX_SPEED;
use nodes::protocol::{Act, Command, Outcome, UNITS_PER_TILE, Wares, codes};
use tokio::time::sleep;

use super::{AGAIN, Person, Reply, TRIES, middle};

impl Person {
    /// Does something as [`Person::does`], wherever one is sent meanwhile: what nobody answered is asked again there, under the
    /// same number.
    pub async fn does_on_the_way(&mut self, act: Act) -> u64 {
        let (mut number, mut reply) = self.act(act.clone()).await;
        for _ in 0..TRIES {
            match &reply {
                Reply::Done(made) => return *made,
                Reply::Lost => {
                    self.comes_along().await;
                    reply = self.act_as(number, act.clone()).await;
                }
                Reply::Refused(code, _) if code == codes::UNKNOWN => {
                    sleep(AGAIN).await;
                    reply = self.act_as(number, act.clone()).await;
                }
                Reply::Refused(code, _) if passes(code) => {
                    sleep(AGAIN).await;
                    (number, reply) = self.act(act.clone()).await;
                }
                Reply::Refused(..) => panic!("{} cannot {act:?}: {reply:?}; {}", self.name, self.seen),
            }
        }
        panic!("{} never gets to {act:?}: {reply:?}; {}", self.name, self.seen);
    }

    /// Walks to the middle of a tile, in a straight line, and waits until there.
    ///
    /// # Panics
    /// If something is in the way.
    pub async fn walks_to(&mut self, x: u16, y: u16) {
        let to = middle((x, y));
        for _ in 0..TRIES {
            self.look();
            let command = Command::Walk { from: self.seen.place(), to, speed: MAX_SPEED };
            let outcome = self.commands(command).await;
            match outcome {
                Some(Outcome::Ok { motion: Some(motion) }) => {
                    let end = motion.end_ms() as i64;
                    self.waits_until("the end of a walk", |seen| seen.now_ms() >= end).await;
                    let near = |a: i32, b: i32| (a - b).abs() <= UNITS_PER_TILE / 2;
                    let (at_x, at_y) = motion.end();
                    if near(at_x, to.0) && near(at_y, to.1) {
                        return;
                    }
                    // Something stands in the way, or the walk was replaced: once more from where one is.
                }
                Some(Outcome::Refused { code, .. }) if code == codes::OUT_OF_PLACE => {}
                other => panic!("{} cannot walk to ({x}, {y}): {other:?}; {}", self.name, self.seen),
            }
        }
        panic!("{} does not get to ({x}, {y}): {}", self.name, self.seen);
    }

    /// Does something under a number of its own, and waits for the answer.
    pub async fn act(&mut self, act: Act) -> (u64, Reply) {
        let number = self.next;
        self.next += 1;
        self.acts.insert(number, act.clone());
        (number, self.act_as(number, act).await)
    }

    /// Does something under this number.
    pub async fn act_as(&mut self, number: u64, act: Act) -> Reply {
        let seq = self.says(Command::Act { number, act });
        self.reply_to(seq).await
    }

    /// Waits for what became of an act that was begun.
    pub async fn reply_to(&mut self, seq: u32) -> Reply {
        match self.outcome(seq).await {
            Some(Outcome::Ok { .. }) => Reply::Done(0),
            Some(Outcome::Made { number }) => Reply::Done(number),
            Some(Outcome::Refused { code, text, .. }) => Reply::Refused(code, text),
            None => Reply::Lost,
        }
    }

    /// Asks again for what was asked under this number.
    pub async fn asks_again(&mut self, number: u64) -> Reply {
        let act = self.acts.get(&number).unwrap_or_else(|| panic!("nothing was asked under {number}")).clone();
        self.act_as(number, act).await
    }

    /// Does something as a patient client does it: what nobody knows is asked again under its number, and what was refused
    /// for the moment is tried again. The number of what came of it, or 0.
    ///
    /// # Panics
    /// If it is refused for good.
    pub async fn does(&mut self, act: Act) -> u64 {
        let mut last = None;
        let mut unknown = None;
        for _ in 0..TRIES {
            let (number, reply) = match unknown.take() {
                Some(number) => (number, self.asks_again(number).await),
                None => self.act(act.clone()).await,
            };
            match &reply {
                Reply::Done(made) => return *made,
                Reply::Refused(code, _) if code == codes::UNKNOWN => unknown = Some(number),
                Reply::Refused(code, _) if passes(code) => {}
                Reply::Refused(..) | Reply::Lost => panic!("{} cannot {act:?}: {reply:?}; {}", self.name, self.seen),
            }
            last = Some(reply);
            sleep(AGAIN).await;
        }
        panic!("{} never gets to {act:?}: {last:?}; {}", self.name, self.seen);
    }

    /// Asks for an act under this number, as often as nobody knows what became of it or it is refused for the moment only.
    pub async fn insists(&mut self, number: u64, act: &Act) -> Reply {
        let mut last = Reply::Lost;
        for _ in 0..TRIES {
            last = self.act_as(number, act.clone()).await;
            match &last {
                Reply::Refused(code, _) if passes(code) || code == codes::UNKNOWN => sleep(AGAIN).await,
                _ => return last,
            }
        }
        last
    }

    /// Tries something that is refused for good; the refusal's code.
    ///
    /// # Panics
    /// If it is done.
    pub async fn is_refused(&mut self, act: Act) -> String {
        for _ in 0..TRIES {
            match self.act(act.clone()).await.1 {
                Reply::Refused(code, _) if !passes(&code) && code != codes::UNKNOWN => return code,
                Reply::Refused(..) => {}
                reply => panic!("{} should not get to {act:?}: {reply:?}; {}", self.name, self.seen),
            }
            sleep(AGAIN).await;
        }
        panic!("{} gets no clear refusal of {act:?}: {}", self.name, self.seen);
    }

    /// Builds a facility of one tile on some tile in reach; its number.
    ///
    /// # Panics
    /// If no tile around is good for it.
    pub async fn builds(&mut self, facility: &str) -> u64 {
        let (x, y) = self.seen.tile();
        let mut last = None;
        for (x, y) in (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (x + dx, y + dy))) {
            let (Ok(x), Ok(y)) = (u16::try_from(x), u16::try_from(y)) else { continue };
            for _ in 0..TRIES {
                let (_, reply) = self.act(Act::Build { facility: facility.to_owned(), x, y, turned: 0 }).await;
                match &reply {
                    Reply::Done(object) => return *object,
                    Reply::Refused(code, _) if passes(code) => sleep(AGAIN).await,
                    _ => {
                        last = Some(reply);
                        break;
                    }
                }
            }
        }
        panic!("{} can build no {facility} here: {last:?}; {}", self.name, self.seen);
    }

    /// What the bag holds, asked for now.
    pub async fn bag(&mut self) -> Wares {
        let bags = self.seen.bags;
        self.does(Act::Bag {}).await;
        self.waits_for("the bag", |seen| (seen.bags > bags).then(|| seen.wares.clone())).await
    }

    /// What a box holds, looked into now.
    pub async fn looks_into(&mut self, object: u64) -> Wares {
        self.seen.stores.remove(&object);
        self.does(Act::Look { object }).await;
        self.waits_for("what is in the box", |seen| seen.stores.get(&object).cloned()).await
    }
}

/// Refusals that are over after a while.
fn passes(code: &str) -> bool {
    matches!(code, codes::BUSY | codes::TOO_SOON | codes::UNAVAILABLE | codes::FLOOD)
}
