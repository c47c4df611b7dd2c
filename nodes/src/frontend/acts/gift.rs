//! Gifts: goods left for a player wherever they are.
//!
//! A gift is a promise: the goods leave the giver in the transaction that queues it, and reach the receiver once, when they
//! are at home. It NEVER asks where the receiver is.

use cartographer::geometry::ObjectId;
use estate::goods::Place;
use estate::goods::promise::{self, Promised, What};

use super::wares::{amount, goods_of, held};
use super::{Actor, Begun, Came, later, note, refusal};
use crate::frontend::people;
use crate::methods::living::{Changed, ChangedWhat, Note};
use crate::protocol::Wares;

/// Leaves goods for a player.
pub(super) fn gift(actor: &Actor<'_>, to: u64, wares: &Wares) -> Begun {
    let goods = goods_of(actor.content(), wares, &actor.carried.bag);
    let before = actor.before();
    let goods = if before {
        goods
    } else {
        let goods = goods?;
        held(&goods, &actor.carried.bag)?;
        Ok(goods)
    };
    let (shared, inputs, op, giver) = (actor.shared.clone(), actor.inputs.clone(), actor.op, actor.id.0);
    later(async move {
        if before && matches!(shared.estate.happened(op, None).await, Ok(true)) {
            return Came::done();
        }
        let goods = match goods {
            Ok(goods) => goods,
            Err(refusal) => return Err(refusal).into(),
        };
        let keeping = match promise::give(&shared.estate, op, Place::Player(giver), to, What::Goods(goods)).await {
            Ok(keeping) => keeping,
            Err(error) => return Err(refusal(&error)).into(),
        };
        // What was kept here at once nobody else tells.
        for note in keeping.kept.iter().map(|kept| told(ObjectId(to), kept)) {
            people::tell_note(&shared, &inputs, note).await;
        }
        let changed = Changed { players: vec![ObjectId(to)], what: ChangedWhat::Promise };
        people::tell_changed(&shared, &inputs, changed).await;
        Came::done()
    })
}

/// What a player is told of a promise that was kept.
pub fn told(player: ObjectId, kept: &Promised) -> Note {
    let from = match kept.from {
        Place::Player(giver) => format!(" from player {giver}"),
        _ => String::new(),
    };
    match &kept.what {
        What::Goods(goods) => {
            let code = if kept.from == Place::Mint { "loot" } else { "gift" };
            let stacks = goods.stacks.iter().map(|(item, count)| format!("{count} {item}"));
            let what: Vec<String> =
                stacks.chain(goods.uniques.values().map(|unique| unique.item.to_string())).collect();
            note(player, code, format!("{}{from}", what.join(", ")), amount(goods))
        }
        What::Experience(amount) => note(player, "experience", format!("{amount} experience{from}"), *amount),
        What::Note(text) => note(player, "word", text.clone(), 0),
    }
}
