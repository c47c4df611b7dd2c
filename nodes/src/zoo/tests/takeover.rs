//! Zoos that die, leave, freeze and come, and stores and directories that are away: what becomes of their animals.

use std::collections::BTreeSet;

use estate::store::memory::Rates;
use mesh::directory::memory::Cut;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::*;
use crate::methods::animals::{ANIMAL_WAKE, Wake};
use crate::protocol::codes;

/// How long others take over, at most: the lease and two seconds.
const TAKEN_OVER: Duration = Duration::from_secs(7);
const LOOK: Duration = Duration::from_millis(20);

fn post_epochs(animals: &[(ObjectId, Epoch, Place)]) -> Vec<u64> {
    let mut epochs: Vec<u64> = animals.iter().map(|it| post_of(it.1)).collect();
    epochs.dedup();
    epochs
}

impl Reserve {
    /// Two zoos; the first habitat awake on one of them, which comes first.
    async fn awake() -> (Reserve, usize, usize) {
        let reserve = Reserve::new(2).await;
        reserve.show(1, true);
        let first = reserve.until(|animals| !animals.is_empty()).await;
        let second = 1 - first;
        // Long enough to walk about and to be seen by the other, and not so long that it is saved.
        sleep(Duration::from_secs(5)).await;
        let ghosts = async || reserve.look(second, |world| world.stats().ghosts).await > 0;
        reserve.until_so("the next in line seeing the animals", ghosts).await;
        (reserve, first, second)
    }

    async fn health(&self, i: usize, animal: ObjectId) -> Option<u8> {
        self.look(i, move |world| world.get(animal).map(|real| real.view().health)).await
    }

    fn frames(&self, i: usize) -> u64 {
        self.zoos[i].metrics.frames_published.get()
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_zoos_animals_go_on_within_the_lease_and_two_seconds_though_the_next_one_tried_too_early() {
    let (reserve, first, second) = Reserve::awake().await;
    let before = reserve.animals(first).await;
    reserve.zoos[first].tasks.stop();
    let died = Instant::now();
    reserve.until(|animals| !animals.is_empty()).await;
    assert!(died.elapsed() < TAKEN_OVER, "{:?}", died.elapsed());
    let after = reserve.animals(second).await;
    assert_eq!(after.len(), before.len());
    assert_eq!(post_epochs(&after), [post_epochs(&before)[0] + 1]);
    // What was only seen is saved at once.
    let saved = async || reserve.post()["state"]["epoch"] == post_epochs(&after)[0];
    reserve.until_so("the post being saved by the heir", saved).await;
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_zoo_that_leaves_hands_its_animals_on_and_they_are_never_out_of_sight() {
    let (reserve, first, second) = Reserve::awake().await;
    let before = reserve.animals(first).await;
    let epoch = post_epochs(&before)[0];
    reserve.zoos[first].draining.begin();
    let leaving = reserve.role(first).clone();
    let began = Instant::now();
    let leave = async {
        leaving.leave().await;
        began.elapsed()
    };
    let watch = async {
        let (mut handed, mut there) = (None, Vec::new());
        for _ in 0..250 {
            let (old, new) = (reserve.animals(first).await, reserve.animals(second).await);
            let seen = |id: &ObjectId| old.iter().chain(&new).any(|it| it.0 == *id);
            assert!(before.iter().all(|it| seen(&it.0)), "some are out of sight");
            if !new.is_empty() && handed.is_none() {
                handed = Some(began.elapsed());
                there.clone_from(&old);
            }
            sleep(LOOK).await;
        }
        (handed, there)
    };
    let (left, (handed, there)) = tokio::join!(leave, watch);
    let handed = handed.expect("the other has them");
    assert!(handed < Duration::from_millis(500) && left < Duration::from_secs(2), "{handed:?}, {left:?}");
    assert_eq!(reserve.animals(first).await, [], "nothing stays behind");
    let after = reserve.animals(second).await;
    assert_eq!((after.len(), post_epochs(&after)), (before.len(), vec![epoch + 1]));
    assert_eq!(there.len(), before.len(), "shown here until they are shown there");
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_battle_goes_on_with_an_animal_that_was_handed_on_and_late_words_of_its_room_reach_it() {
    let (reserve, first, second) = Reserve::awake().await;
    let object = reserve.animals(first).await[0].0;
    // A room that nobody finds: the animal waits for it.
    let me = reserve.zoos[second].mesh.me();
    let owner = Claimant { node: me.node.to_string(), incarnation: me.incarnation.0, claim: 1_000_000 };
    post::claim(&reserve.store.client(), "post/battle/5", &owner, &|_: &post::Owner| false).await.expect("claimed");
    ask(reserve.role(first), FIGHTER_TAKE.name, &FighterTake { battle: 5, object }).await.expect("taken");
    ask(reserve.role(first), FIGHTER_TOLD.name, &FighterTold { battle: 5, object, health: 40 }).await.expect("told");
    reserve.zoos[first].draining.begin();
    reserve.role(first).leave().await;
    assert_eq!(reserve.health(second, object).await, Some(40), "with its wounds");
    assert_eq!(reserve.health(first, object).await, None);
    let freed = FighterFreed { battle: 5, object, health: 0, how: Freed::Defeated };
    ask(reserve.role(first), FIGHTER_FREED.name, &freed).await.expect("passed on");
    let gone = async || reserve.health(second, object).await.is_none();
    reserve.until_so("the death at the zoo that has it", gone).await;
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_habitat_is_woken_on_request_once_and_by_no_zoo_that_leaves() {
    let reserve = Reserve::new(1).await;
    let (zoo, island) = (reserve.role(0), reserve.terrain.id());
    let wake = Wake { island, index: 0, epoch: 0 };
    for _ in 0..2 {
        ask(zoo, ANIMAL_WAKE.name, &wake).await.expect("awake");
        assert_eq!(post_epochs(&reserve.animals(0).await), [1]);
    }
    let none = Wake { index: 9_999, ..wake };
    assert_eq!(ask(zoo, ANIMAL_WAKE.name, &none).await.expect_err("none").code, codes::MISSING);
    assert_eq!(ask(zoo, ANIMAL_WAKE.name, &"what").await.expect_err("no body").code, CallRefusal::MALFORMED);
    // Nobody sees it: it sleeps again.
    let asleep = async || reserve.animals(0).await.is_empty();
    reserve.until_so("sleep", asleep).await;
    reserve.zoos[0].draining.begin();
    assert_eq!(ask(zoo, ANIMAL_WAKE.name, &wake).await.expect_err("leaving").code, codes::DRAINING);
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_death_is_told_when_it_is_saved_and_until_then_the_dead_is_to_be_seen() {
    let reserve = Reserve::new(1).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    let (zoo, object) = (reserve.role(0), reserve.animals(0).await[0].0);
    ask(zoo, FIGHTER_TAKE.name, &FighterTake { battle: 5, object }).await.expect("taken");
    reserve.store_is_away(0, true);
    let freed = FighterFreed { battle: 5, object, health: 0, how: Freed::Defeated };
    let told = ask(zoo, FIGHTER_FREED.name, &freed).await.expect_err("not saved");
    assert_eq!(told.code, codes::UNAVAILABLE, "so the room asks again");
    assert_eq!(reserve.health(0, object).await, Some(0), "it lies there");
    let strike = Struck { hunter: ObjectId(5), prey: object, harm: 3 };
    assert_eq!(ask(zoo, ANIMAL_STRUCK.name, &strike).await.expect_err("dead").code, codes::MISSING);
    reserve.store_is_away(0, false);
    let mut answer = Err(told);
    for _ in 0..20 {
        if answer.is_ok() {
            break;
        }
        answer = ask(zoo, FIGHTER_FREED.name, &freed).await;
    }
    answer.expect("told at last");
    assert_eq!(reserve.health(0, object).await, None);
    let index = AnimalId::of(object).expect("an animal").index;
    let deaths = reserve.post()["state"]["deaths"].clone();
    assert!(deaths.as_array().is_some_and(|all| all.iter().any(|death| death[0] == index)), "{deaths}");
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_died_with_its_zoo_before_the_death_was_saved_is_dead_for_the_heir() {
    let (reserve, first, second) = Reserve::awake().await;
    let before = reserve.animals(first).await;
    let object = before[0].0;
    ask(reserve.role(first), FIGHTER_TAKE.name, &FighterTake { battle: 5, object }).await.expect("taken");
    reserve.store_is_away(first, true);
    let freed = FighterFreed { battle: 5, object, health: 0, how: Freed::Defeated };
    assert!(ask(reserve.role(first), FIGHTER_FREED.name, &freed).await.is_err());
    reserve.zoos[first].tasks.stop();
    let heir = reserve.until(|animals| !animals.is_empty()).await;
    assert_eq!(heir, second);
    let after = reserve.animals(second).await;
    assert_eq!(after.len(), before.len() - 1, "one is dead");
    assert!(after.iter().all(|it| it.0 != object));
    let index = AnimalId::of(object).expect("an animal").index;
    let saved = async || {
        let deaths = reserve.post()["state"]["deaths"].clone();
        deaths.as_array().is_some_and(|all| all.iter().any(|death| death[0] == index))
    };
    reserve.until_so("the death being saved by the heir", saved).await;
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_zoo_that_was_replaced_says_nothing_of_what_it_lost() {
    let (reserve, first, second) = Reserve::awake().await;
    let object = reserve.animals(first).await[0].0;
    ask(reserve.role(first), FIGHTER_TAKE.name, &FighterTake { battle: 5, object }).await.expect("taken");
    ask(reserve.role(first), FIGHTER_FREED.name, &FighterFreed { battle: 5, object, health: 90, how: Freed::Left })
        .await
        .expect("freed");
    let frames = reserve.frames(first);
    reserve.zoos[first].tasks.freeze(true);
    let awake = async || !reserve.animals(second).await.is_empty();
    reserve.until_so("the heir", awake).await;
    sleep(Duration::from_secs(3)).await;
    let heirs = reserve.animals(second).await;
    let writes = reserve.post()["writes"].clone();
    reserve.zoos[first].tasks.freeze(false);
    // The first thing that it is asked after the thaw.
    let (zoo, told) = (reserve.role(first), FighterFreed { battle: 5, object, health: 0, how: Freed::Defeated });
    let take = ask(zoo, FIGHTER_TAKE.name, &FighterTake { battle: 6, object }).await.expect_err("not its own");
    assert!([codes::UNAVAILABLE, codes::MISSING].contains(&&*take.code), "{take}");
    // It may know by now who has the animal, and pass the word on: that zoo knows better.
    let freed = ask(zoo, FIGHTER_FREED.name, &told).await;
    assert!(freed.as_ref().is_ok_and(|_| true) || freed.as_ref().is_err_and(|it| it.code == codes::UNAVAILABLE));
    let dropped = async || reserve.animals(first).await.is_empty();
    reserve.until_so("the fenced one dropping all", dropped).await;
    assert_eq!(reserve.frames(first), frames, "not a frame was published before");
    let later = reserve.post();
    assert_eq!(later["owner"]["node"], format!("zoo-{second}"));
    assert!(later["writes"] == writes || later["epoch"] == post_epochs(&heirs)[0], "nor anything saved");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(post_epochs(&reserve.animals(second).await), post_epochs(&heirs), "the heir goes on undisturbed");
    assert!(reserve.health(second, object).await.is_some(), "and nobody has died of it");
    // What it does not own any more is passed on to who does.
    assert!(ask(zoo, FIGHTER_FREED.name, &told).await.is_ok());
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_zoo_that_was_frozen_and_not_replaced_goes_on_when_its_post_says_that_it_may() {
    let reserve = Reserve::new(1).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    sleep(Duration::from_secs(3)).await;
    let before = reserve.animals(0).await;
    let frames = reserve.frames(0);
    reserve.zoos[0].tasks.freeze(true);
    sleep(Duration::from_secs(9)).await;
    // Without the store it cannot know.
    reserve.store_is_away(0, true);
    reserve.zoos[0].tasks.freeze(false);
    sleep(Duration::from_secs(9)).await;
    assert_eq!(reserve.frames(0), frames, "it says nothing");
    let object = before[0].0;
    let take = FighterTake { battle: 5, object };
    let asked = ask(reserve.role(0), FIGHTER_TAKE.name, &take).await.expect_err("nor does it answer");
    assert_eq!(asked.code, codes::UNAVAILABLE);
    reserve.store_is_away(0, false);
    let goes_on = async || reserve.frames(0) > frames;
    reserve.until_so("its animals going on", goes_on).await;
    let after = reserve.animals(0).await;
    assert_eq!((after.len(), post_epochs(&after)), (before.len(), post_epochs(&before)));
    ask(reserve.role(0), FIGHTER_TAKE.name, &take).await.expect("it is its own");
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_directory_minds_stop_with_the_lease_and_go_on_with_it() {
    let reserve = Reserve::new(1).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    let way = reserve.way_to_directory(0);
    way.cut(Cut::Refused);
    // Until the lease could have run out they live on.
    let lease = reserve.zoos[0].mesh.lease();
    assert!(lease.holds());
    reserve.until_so("the end of the lease", async || !lease.holds()).await;
    // Who was under way arrives.
    sleep(Duration::from_secs(10)).await;
    let before = reserve.animals(0).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(reserve.animals(0).await, before, "nobody walks");
    way.heal();
    reserve.until_so("them walking again", async || reserve.animals(0).await != before).await;
    let after = reserve.animals(0).await;
    assert_eq!((after.len(), post_epochs(&after)), (before.len(), post_epochs(&before)), "nothing was lost");
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_store_animals_live_on_and_are_saved_when_it_is_back() {
    let reserve = Reserve::new(1).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    reserve.store_is_away(0, true);
    let before = reserve.animals(0).await;
    sleep(Duration::from_secs(90)).await;
    let after = reserve.animals(0).await;
    assert_ne!(before, after, "they walk about");
    assert_eq!(post_epochs(&before), post_epochs(&after));
    assert_eq!(reserve.post()["state"]["epoch"], Value::Null, "nothing could be saved");
    reserve.store_is_away(0, false);
    let back = Instant::now();
    let saved = async || reserve.post()["state"]["epoch"] == post_epochs(&before)[0];
    reserve.until_so("the save", saved).await;
    assert!(back.elapsed() < Duration::from_secs(10), "soon: {:?}", back.elapsed());
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_zoo_that_joins_takes_nothing_that_is_awake_and_gets_what_wakes() {
    let mut reserve = Reserve::new(1).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    let before = post_epochs(&reserve.animals(0).await);
    // Enough of them that one comes before the first for this habitat.
    let all: Vec<NodeId> = (0..9).map(|i| NodeId::new(&format!("zoo-{i}")).expect("a name")).collect();
    let id = HabitatId { island: reserve.terrain.id(), index: 0 };
    let ranked = crate::rendezvous::ranked(&id.bytes(), &all);
    let chosen = all.iter().position(|zoo| zoo == ranked[0]).expect("one of them");
    assert_ne!(chosen, 0, "another name is needed");
    let joins = reserve.node(&format!("zoo-{chosen}"), Role::Zoo, 8).await;
    reserve.zoos.push(joins);
    reserve.zoos[0].mesh.watch_peers().wait_for(|peers| peers.up(Role::Zoo).count() == 1).await.expect("it runs");
    reserve.show(2, true);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(post_epochs(&reserve.animals(0).await), before, "what is awake stays");
    assert_eq!(reserve.animals(1).await, []);
    reserve.show(3, false);
    let asleep = async || reserve.animals(0).await.is_empty();
    reserve.until_so("sleep", asleep).await;
    reserve.show(4, true);
    assert_eq!(reserve.until(|animals| !animals.is_empty()).await, 1, "what wakes goes to the new one");
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_habitat_that_falls_asleep_while_its_save_is_refused_wakes_again_when_it_is_seen() {
    let reserve = Reserve::new(1).await;
    reserve.show(1, true);
    reserve.until(|animals| !animals.is_empty()).await;
    let usurper = Claimant { node: "zoo-9".to_owned(), incarnation: 9, claim: 9 };
    let key = post::key("habitat", &format!("{}.0", reserve.terrain.id().0));
    let claim = post::claim(&reserve.store.client(), &key, &usurper, &|_: &post::Owner| true).await;
    assert!(matches!(claim, Ok(Claim::Claimed(_))), "{claim:?}");
    let awake = |world: &GameWorld| {
        let habitats = world.reals().filter_map(|real| AnimalId::of(real.id())).map(|animal| animal.habitat);
        habitats.collect::<BTreeSet<_>>().len() as u64
    };
    let awake = reserve.look(0, awake).await;
    // The next save of each is long on its way to the store.
    let faults = reserve.ways.borrow()["zoo-0"].0.clone();
    faults.random(1, Rates { delay: Duration::from_secs(300), ..Rates::default() });
    let before = faults.calls();
    reserve.until_so("all saves being under way", async || faults.calls() == before + awake).await;
    reserve.show(2, false);
    reserve.until_so("sleep", async || reserve.animals(0).await.is_empty()).await;
    assert_eq!(faults.calls(), before + awake, "they still are");
    faults.clear();
    reserve.show(3, true);
    reserve.until(|animals| post_epochs(animals) == [3]).await;
    reserve.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_players_see_is_told_again_to_a_zoo_that_the_directory_had_shown_their_frontend_as_gone() {
    let reserve = Reserve::new(2).await;
    // Who tells it is a node as good as a frontend; it sees the zoo all the time, and its players stand still.
    let (teller, cells) = (&reserve.zoos[1], reserve.role(0).audience.cells());
    let standing = BTreeSet::from([Cell::new(reserve.terrain.id(), 0, 0)]);
    let (_players, sees) = watch::channel(Arc::new(standing.clone()));
    teller.tasks.spawn(audience::lookout(teller.mesh.clone(), teller.report.clone(), sees));
    let told = async || **cells.borrow() == standing;
    reserve.until_so("the zoo being told", told).await;
    let lease =
        reserve.directory.peek("").into_iter().find(|entry| entry.key.ends_with("zoo-1")).and_then(|it| it.lease);
    assert!(lease.is_some_and(|lease| reserve.directory.lose_lease(lease)));
    reserve.until_so("the zoo believing it gone", async || cells.borrow().is_empty()).await;
    reserve.until_so("the zoo being told again", told).await;
    reserve.stop().await;
}
