//! Holdings: claiming, extending, paying, giving up and away, and what is not paid for.

use cartographer::geometry::{Chunk, IslandId, ObjectId};
use futures_util::future::join_all;

use super::{ANN, BOB, Meadow, NOW_S, PAID_UNTIL_S, World, chunk, claim_of, code, price, rectangle};
use crate::land::claims::{self, Claim, Extension, extend, give_away, give_up, give_up_all, pay};
use crate::land::holding::PAID_MOST_S;
use crate::land::{GRACE_S, HOLDING_CHUNKS, works};
use crate::transaction::{OperationId, TransactionError};

impl World {
    async fn extend(&self, op: u128, by: u64, holding: u64, chunk: Chunk) -> Result<(), TransactionError> {
        self.extend_at(op, by, holding, chunk, NOW_S).await
    }

    async fn extend_at(
        &self,
        op: u128,
        by: u64,
        holding: u64,
        chunk: Chunk,
        now_s: u64,
    ) -> Result<(), TransactionError> {
        let extension = Extension { holding: ObjectId(holding), chunk, by: ObjectId(by), now_s };
        extend(&self.node, &Meadow, OperationId(op), &extension, &[]).await
    }

    async fn owner(&self, chunk: Chunk) -> Option<u64> {
        self.whose(chunk).await.map(|holding| holding.owner.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_has_one_owner_and_a_holding_grows_at_its_sides_only() {
    let world = World::new();
    assert_eq!(world.owner(chunk(1, 1)).await, None);
    assert_eq!(code(world.claim(1, 1, 500, chunk(1, 1)).await), "");
    assert_eq!(world.owner(chunk(1, 1)).await, Some(1));
    assert_eq!(code(world.claim(2, 2, 501, chunk(1, 1)).await), "owned");
    assert_eq!(code(world.claim(3, 1, 502, chunk(1, 1)).await), "owned", "one's own as well");
    assert_eq!(code(world.claim(4, 2, 500, chunk(8, 8)).await), "taken");
    for (n, (x, y)) in [(3, 1), (2, 2), (0, 0), (1, 3), (8, 8)].into_iter().enumerate() {
        assert_eq!(code(world.extend(10 + n as u128, 1, 500, chunk(x, y)).await), "not_adjacent");
    }
    assert_eq!(code(world.extend(20, 1, 500, chunk(1, 1)).await), "owned");
    assert_eq!(code(world.extend(21, 2, 500, chunk(2, 1)).await), "owned");
    assert_eq!(code(world.extend(22, 1, 503, chunk(2, 1)).await), "missing");
    assert_eq!(code(world.extend(23, 1, 500, chunk(2, 1)).await), "");
    assert_eq!(code(world.extend(24, 1, 500, chunk(3, 1)).await), "");
    assert_eq!(code(world.claim(25, 2, 504, chunk(2, 2)).await), "");
    assert_eq!(code(world.extend(26, 1, 500, chunk(2, 2)).await), "owned");
    assert_eq!(world.owner(chunk(2, 2)).await, Some(2));
    let keys = ["deed/7/1/1", "deed/7/2/1", "deed/7/2/2", "deed/7/3/1", "holding/500", "holding/504"];
    assert_eq!(world.settled().await, keys);
}

#[tokio::test(start_paused = true)]
async fn land_that_is_none_cannot_be_claimed() {
    let world = World::new();
    for (n, chunk) in [chunk(13, 0), chunk(0, 10), chunk(4095, 4095), chunk(u16::MAX, u16::MAX)].into_iter().enumerate()
    {
        assert_eq!(code(world.claim(n as u128, 1, 500, chunk).await), "outside", "{chunk}");
        assert_eq!(code(world.extend(n as u128, 1, 500, chunk).await), "outside", "{chunk}");
    }
    let nowhere = Chunk { island: IslandId(8), ..chunk(0, 0) };
    assert_eq!(code(world.claim(5, 1, 500, nowhere).await), "outside");
    assert_eq!(code(world.claim(6, 1, 500, chunk(4, 4)).await), "water");
    assert_eq!(code(world.claim(7, 1, 500, chunk(12, 9)).await), "", "cut by the island's edge");
    for bad in [0, 1 << 53] {
        assert_eq!(code(world.claim(8, bad, 501, chunk(0, 0)).await), "malformed");
        assert_eq!(code(world.claim(8, 1, bad, chunk(0, 0)).await), "malformed");
    }
    let far = Claim { paid_until_s: PAID_MOST_S + 1, ..claim_of(1, 501, chunk(0, 0)) };
    assert_eq!(code(claims::claim(&world.node, &Meadow, OperationId(8), &far, &[]).await), "malformed");
    assert_eq!(world.settled().await, ["deed/7/12/9", "holding/500"]);
}

#[tokio::test(start_paused = true)]
async fn a_holding_has_a_largest_size() {
    let world = World::new();
    world.claim(1, 1, 500, chunk(0, 0)).await.expect("claim");
    // Row by row, back and forth, so that each touches the last; only columns and rows before the lake.
    let snake = (0..9u16).flat_map(|y| (0..12u16).map(move |n| (if y % 2 == 0 { n } else { 11 - n }, y)));
    let dry = snake.filter(|(x, y)| !((4..6).contains(x) && (4..6).contains(y))).skip(1).take(HOLDING_CHUNKS);
    let answers: Vec<String> = {
        let mut answers = Vec::new();
        for (n, (x, y)) in dry.enumerate() {
            answers.push(code(world.extend(10 + n as u128, 1, 500, chunk(x, y)).await));
        }
        answers
    };
    let (last, others) = answers.split_last().expect("some");
    let wrong: Vec<(usize, &String)> = others.iter().enumerate().filter(|(_, code)| !code.is_empty()).collect();
    assert_eq!((wrong, last.as_str()), (vec![], "too_large"));
    assert_eq!(claims::holding(&world.node, ObjectId(500)).await.expect("read").expect("it is").chunks.len(), 64);
    // However large, it is given up in one write; its pointers then point to nothing.
    give_up_all(&world.node, OperationId(2), ObjectId(1), ObjectId(500), &[]).await.expect("give up");
    assert_eq!(world.owner(chunk(0, 0)).await, None);
    let left = world.settled().await;
    assert_eq!(left.len(), 64, "only stale pointers: {left:?}");
    // Whoever comes by uses the free land, and clears them.
    assert_eq!(code(world.build(3, BOB, 10, rectangle(15, 15, 2, 2)).await), "");
    works::demolish(&world.node, OperationId(4), BOB, ObjectId(10), &[]).await.expect("demolish");
    assert_eq!(world.settled().await.len(), 60);
    assert_eq!(code(world.claim(5, 2, 501, chunk(2, 0)).await), "");
    assert_eq!(code(world.extend(6, 2, 501, chunk(3, 0)).await), "");
    assert_eq!(world.settled().await.len(), 61);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_free_and_what_is_kept_stays() {
    let world = World::new();
    world.claim(1, 1, 500, chunk(1, 1)).await.expect("claim");
    world.extend(2, 1, 500, chunk(2, 1)).await.expect("extend");
    let give = |op, by, holding, chunk| {
        let node = &world.other;
        async move { code(give_up(node, OperationId(op), ObjectId(by), ObjectId(holding), chunk, &[]).await) }
    };
    assert_eq!(give(3, 2, 500, chunk(1, 1)).await, "owned");
    assert_eq!(give(4, 1, 500, chunk(5, 1)).await, "missing");
    assert_eq!(give(5, 1, 501, chunk(1, 1)).await, "missing");
    assert_eq!(give(6, 1, 500, chunk(1, 1)).await, "");
    assert_eq!((world.owner(chunk(1, 1)).await, world.owner(chunk(2, 1)).await), (None, Some(1)));
    assert_eq!(code(world.claim(7, 2, 501, chunk(1, 1)).await), "");
    assert_eq!(give(6, 1, 500, chunk(1, 1)).await, "", "asked again");
    assert_eq!(give(8, 1, 500, chunk(2, 1)).await, "", "the last one");
    assert_eq!(give(9, 1, 500, chunk(2, 1)).await, "missing");
    assert_eq!(world.owner(chunk(1, 1)).await, Some(2));
    assert_eq!(world.settled().await, ["deed/7/1/1", "holding/501"]);
}

#[tokio::test(start_paused = true)]
async fn a_holding_given_away_is_the_others() {
    let world = World::new();
    world.fill_purse(10).await;
    world.claim(1, 1, 500, chunk(1, 1)).await.expect("claim");
    let give = |op, by, to, costs| {
        let node = &world.node;
        async move { code(give_away(node, OperationId(op), ObjectId(by), ObjectId(500), ObjectId(to), costs).await) }
    };
    assert_eq!(give(2, 2, 2, &[]).await, "owned");
    assert_eq!(give(3, 1, 0, &[]).await, "malformed");
    let (dear, fair) = ([price(11)], [price(10)]);
    assert_eq!(give(4, 1, 2, &dear).await, "too_little");
    assert_eq!(world.owner(chunk(1, 1)).await, Some(1));
    assert_eq!([give(5, 1, 2, &fair).await, give(5, 1, 2, &fair).await], ["", ""], "a sale, asked for twice");
    assert_eq!((world.owner(chunk(1, 1)).await, world.coins()), (Some(2), 0));
    assert_eq!(code(world.build(6, ANN, 10, rectangle(20, 20, 1, 1)).await), "owned");
    assert_eq!(code(world.build(7, BOB, 10, rectangle(20, 20, 1, 1)).await), "");
    assert_eq!([give(8, 2, 1, &[]).await, give(8, 2, 1, &[]).await], ["", ""]);
    assert_eq!(world.owner(chunk(1, 1)).await, Some(1));
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn unpaid_land_is_lost_after_the_grace_and_only_to_a_claimant() {
    let world = World::new();
    world.claim(1, 1, 500, chunk(1, 1)).await.expect("claim");
    world.extend(2, 1, 500, chunk(2, 1)).await.expect("extend");
    let claim_at = |op, owner, holding, chunk, now_s| {
        let claim = Claim { now_s, paid_until_s: now_s + 1_000, ..claim_of(owner, holding, chunk) };
        let node = &world.other;
        async move { code(claims::claim(node, &Meadow, OperationId(op), &claim, &[]).await) }
    };
    let last_s = PAID_UNTIL_S + GRACE_S;
    assert_eq!(claim_at(3, 2, 501, chunk(1, 1), PAID_UNTIL_S).await, "owned");
    assert_eq!(claim_at(4, 2, 501, chunk(1, 1), last_s).await, "owned");
    // Past the grace it is the owner's still, who cannot extend it, but pay.
    assert_eq!(code(world.extend_at(5, 1, 500, chunk(3, 1), last_s + 1).await), "unpaid");
    assert_eq!(code(world.build(6, BOB, 10, rectangle(16, 16, 1, 1)).await), "owned");
    assert_eq!(code(world.build(7, ANN, 10, rectangle(16, 16, 1, 1)).await), "");
    assert_eq!(claim_at(8, 2, 501, chunk(1, 1), last_s + 1).await, "");
    assert_eq!((world.owner(chunk(1, 1)).await, world.owner(chunk(2, 1)).await), (Some(2), Some(1)));
    assert_eq!(claim_at(8, 2, 501, chunk(1, 1), last_s + 5).await, "", "asked again, a little later");
    pay(&world.node, OperationId(9), ObjectId(500), last_s + 1, 50, &[]).await.expect("pay");
    assert_eq!(claim_at(10, 2, 502, chunk(2, 1), last_s + 51 + GRACE_S).await, "owned");
    // Another holding extends onto it once it is forfeited again; with its last chunk the old one is gone.
    assert_eq!(code(world.extend_at(11, 2, 501, chunk(2, 1), last_s + 50 + GRACE_S).await), "owned");
    pay(&world.node, OperationId(12), ObjectId(501), last_s, 1_000_000, &[]).await.expect("pay");
    assert_eq!(code(world.extend_at(13, 2, 501, chunk(2, 1), last_s + 52 + GRACE_S).await), "");
    assert_eq!(world.owner(chunk(2, 1)).await, Some(2));
    assert_eq!(code(pay(&world.node, OperationId(14), ObjectId(500), last_s, 50, &[]).await), "missing");
    assert_eq!(world.settled().await, ["deed/7/1/1", "deed/7/2/1", "holding/501", "object/10"]);
}

#[tokio::test(start_paused = true)]
async fn paying_adds_up_once_for_each_operation() {
    let world = World::new();
    world.fill_purse(10).await;
    world.claim(1, 1, 500, chunk(1, 1)).await.expect("claim");
    let paid = |op, now_s, seconds, costs| {
        let node = &world.node;
        async move { code(pay(node, OperationId(op), ObjectId(500), now_s, seconds, costs).await) }
    };
    let until_s = || async { world.whose(chunk(1, 1)).await.expect("held").paid_until_s };
    assert_eq!([paid(2, NOW_S, 10, &[]).await, paid(2, NOW_S + 3, 10, &[]).await], ["", ""]);
    assert_eq!(until_s().await, PAID_UNTIL_S + 10);
    let costs = [price(6)];
    assert_eq!([paid(3, NOW_S, 10, &costs).await, paid(3, NOW_S + 1, 10, &costs).await], ["", ""]);
    assert_eq!(paid(4, NOW_S, 10, &costs).await, "too_little");
    assert_eq!((until_s().await, world.coins()), (PAID_UNTIL_S + 20, 4));
    assert_eq!(paid(5, PAID_UNTIL_S + 500, 10, &[]).await, "");
    assert_eq!(until_s().await, PAID_UNTIL_S + 510, "counted from now if that is later");
    assert_eq!(paid(6, NOW_S, u64::MAX, &[]).await, "too_large");
    assert_eq!(paid(7, u64::MAX, 1, &[]).await, "too_large");
    assert_eq!(code(pay(&world.node, OperationId(8), ObjectId(501), 0, 1, &[]).await), "missing");
    world.settled().await;
}

#[tokio::test(start_paused = true)]
async fn of_many_claimants_at_once_exactly_one_wins() {
    for (seed, expired) in [false, true, false, true, false, true].into_iter().enumerate() {
        let world = World::seeded(seed as u64);
        if expired {
            world.claim(99, 9, 99, chunk(2, 2)).await.expect("the former owner");
        }
        let claimed = (0..8).map(|n| {
            let node = if n % 2 == 0 { &world.node } else { &world.other };
            let now_s = PAID_UNTIL_S + GRACE_S + 1;
            let claim = Claim { now_s, paid_until_s: now_s + 5, ..claim_of(1 + n, 500 + n, chunk(2, 2)) };
            async move { claims::claim(node, &Meadow, OperationId(n.into()), &claim, &[]).await }
        });
        let answers: Vec<String> = join_all(claimed).await.into_iter().map(code).collect();
        assert_eq!(answers.iter().filter(|code| code.is_empty()).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|code| *code == "owned").count(), 7, "{answers:?}");
        let winner = answers.iter().position(String::is_empty).expect("one") as u64;
        assert_eq!(world.owner(chunk(2, 2)).await, Some(1 + winner));
        assert_eq!(world.settled().await, ["deed/7/2/2".to_owned(), format!("holding/{}", 500 + winner)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_asked_for_again_has_the_same_answer_though_the_land_has_gone_to_others() {
    let world = World::new();
    let mine = || async { code(world.claim(1, 1, 500, chunk(1, 1)).await) };
    let more = || async { code(world.extend(2, 1, 500, chunk(2, 1)).await) };
    let less =
        || async { code(give_up(&world.node, OperationId(3), ObjectId(1), ObjectId(500), chunk(1, 1), &[]).await) };
    let none = || async { code(give_up_all(&world.node, OperationId(4), ObjectId(1), ObjectId(500), &[]).await) };
    assert_eq!([mine().await, mine().await], ["", ""]);
    assert_eq!([more().await, more().await, mine().await], ["", "", ""]);
    assert_eq!([less().await, less().await, mine().await], ["", "", ""]);
    assert_eq!([none().await, none().await], ["", ""]);
    assert_eq!(code(world.claim(5, 2, 501, chunk(1, 1)).await), "");
    assert_eq!(code(world.claim(6, 3, 502, chunk(2, 1)).await), "");
    assert_eq!([mine().await, more().await, less().await, none().await], ["", "", "", ""]);
    assert_eq!((world.owner(chunk(1, 1)).await, world.owner(chunk(2, 1)).await), (Some(2), Some(3)));
    assert_eq!(code(world.claim(1, 1, 503, chunk(1, 1)).await), "misused");
    assert_eq!(code(world.claim(7, 4, 500, chunk(8, 8)).await), "taken", "an id is one player's");
    assert_eq!(code(world.claim(8, 1, 500, chunk(8, 8)).await), "", "who has given up all of it may begin anew");
    assert_eq!(code(world.claim(9, 1, 500, chunk(9, 9)).await), "taken");
    let keys = ["deed/7/1/1", "deed/7/2/1", "deed/7/8/8", "holding/500", "holding/501", "holding/502"];
    assert_eq!(world.settled().await, keys);
}

#[tokio::test(start_paused = true)]
async fn a_pointer_to_a_holding_that_never_was_or_does_not_list_the_chunk_is_free_land() {
    let world = World::new();
    world.claim(1, 1, 500, chunk(5, 1)).await.expect("a holding elsewhere");
    for (x, holding) in [(1, 77), (2, 500), (3, 77), (4, 500)] {
        let deed = format!(r#"{{"v":1,"island":7,"x":{x},"y":1,"stands":{{}},"holding":{holding}}}"#);
        world.put(&format!("deed/7/{x}/1"), &deed).await;
        assert_eq!(world.owner(chunk(x, 1)).await, None);
    }
    assert_eq!(code(world.build(2, BOB, 10, rectangle(16, 20, 1, 1)).await), "");
    assert_eq!(
        code(world.build(3, BOB, 11, rectangle(47, 20, 2, 1)).await),
        "",
        "two stale ones of different holdings"
    );
    assert_eq!(code(world.claim(4, 2, 501, chunk(2, 1)).await), "");
    assert_eq!(code(world.extend(5, 1, 500, chunk(4, 1)).await), "", "onto a pointer that was its own");
    assert_eq!((world.owner(chunk(2, 1)).await, world.owner(chunk(4, 1)).await), (Some(2), Some(1)));
    assert_eq!(world.owner(chunk(1, 1)).await, None);
    let left = world.settled().await;
    assert!(!left.contains(&"holding/77".to_owned()), "{left:?}");
    assert!(!world.text("deed/7/1/1").contains("holding"), "the pointer was cleared");
}
