//! Crafting and eating: changes of the player's own document, in one transaction each.
//!
//! What is used up and what is made are booked on the player's page. A tool is a unique whose serial comes from the
//! operation. The operation is remembered by an arbiter of its own, not only among the last few of the document, so that one
//! and the same number NEVER makes two tools.

use std::sync::Arc;

use estate::goods::{Goods, GoodsEffect, Place, Serial, Unique};
use estate::transaction::{OperationId, Request};
use mesh::CallRefusal;
use serde_json::Map;

use super::wares::{held, item};
use super::{Actor, Begun, Came, Shared, Then, later, refusal, refused};
use crate::game::content::{Content, Recipe};
use crate::game::{kind, thing};
use crate::protocol::codes;

/// Makes something by a recipe.
pub(super) fn craft(actor: &Actor<'_>, name: &str) -> Begun {
    actor.ready()?;
    let Some(recipe) = actor.content().recipes.get(name) else {
        return refused(codes::UNKNOWN_NAME, "there is no such recipe");
    };
    if let Some(facility) = &recipe.at {
        beside(actor, facility)?;
    }
    let used = used(actor.content(), recipe, &actor.carried.bag);
    let made = made(actor.content(), recipe, actor.op)?;
    let experience = recipe.experience;
    let effect = used.map(|used| GoodsEffect { experience, ..GoodsEffect::craft(used, made) });
    run(actor, effect, ("craft", name.to_owned()), None)
}

/// Eats one of an item.
pub(super) fn eat(actor: &Actor<'_>, name: &str) -> Begun {
    actor.ready()?;
    let eaten = item(actor.content(), name)?;
    let food = actor.content().items.get(name).map_or(0, |item| item.food);
    if food == 0 {
        return refused(codes::UNKNOWN_NAME, format!("one cannot eat {name}"));
    }
    let eaten = Goods::stack(eaten, 1);
    let effect = held(&eaten, &actor.carried.bag).map(|()| GoodsEffect::craft(eaten, Goods::default()));
    run(actor, effect, ("eat", name.to_owned()), Some(food))
}

/// Runs the transaction; `fed` is by how much the player feels better after it.
fn run(
    actor: &Actor<'_>,
    effect: Result<GoodsEffect, CallRefusal>,
    asked: (&'static str, String),
    fed: Option<u8>,
) -> Begun {
    // What was asked for before may have used up what is missing now.
    let (before, fresh) = (actor.before(), actor.fresh);
    let effect = if before { effect } else { Ok(effect?) };
    let (shared, op, player) = (actor.shared.clone(), actor.op, Place::Player(actor.id.0));
    later(async move {
        let done = || match fed {
            // Another session has been fed by what it did.
            Some(percent) if fresh => Came::done().and(Then::Fed(percent)),
            _ => Came::done(),
        };
        match transact(&shared, op, player, effect, &asked, before).await {
            Ok(()) => done(),
            Err(refusal) => Err(refusal).into(),
        }
    })
}

async fn transact(
    shared: &Arc<Shared>,
    op: OperationId,
    player: Place,
    effect: Result<GoodsEffect, CallRefusal>,
    asked: &(&'static str, String),
    before: bool,
) -> Result<(), CallRefusal> {
    let unknown = |error: &dyn std::fmt::Display| CallRefusal::new(codes::UNKNOWN, error.to_string());
    if before && shared.estate.happened(op, None).await.map_err(|error| unknown(&error))? {
        return Ok(());
    }
    let part = player.part(op, &effect?);
    let request = Request::remembered(op, vec![part]).asked(asked);
    shared.estate.run(request).await.map_err(|error| refusal(&error))
}

/// Refuses who does not stand beside such a facility; a hearth must be lit.
fn beside(actor: &Actor<'_>, facility: &str) -> Result<(), CallRefusal> {
    if actor.again {
        return Ok(());
    }
    let burns = actor.content().facilities.get(facility).is_some_and(|facility| facility.burns.is_some());
    let mut found = false;
    for (_, place, view) in actor.things() {
        if view.kind != kind::FACILITY || view.name != facility {
            continue;
        }
        let near = Actor::footprint(place, view).is_some_and(|(first, size)| actor.reaches(first, size).is_ok());
        if near && (!burns || view.pose & thing::state::LIT != 0) {
            return Ok(());
        }
        found |= near;
    }
    match found {
        true => refused(codes::NEEDS, format!("the {facility} must be lit")),
        false => refused(codes::NEEDS, format!("one must stand beside a {facility}")),
    }
}

/// What a recipe takes out of a bag: of tools those with the lowest serials.
fn used(content: &Content, recipe: &Recipe, bag: &Goods) -> Result<Goods, CallRefusal> {
    let mut used = Goods::default();
    for (name, count) in &recipe.takes {
        let item = item(content, name)?;
        if !is_tool(content, name) {
            used.stacks.insert(item, *count);
            continue;
        }
        let tools = bag.uniques.iter().filter(|(_, unique)| unique.item == item);
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        let tools: Vec<(Serial, Unique)> =
            tools.take(count).map(|(serial, unique)| (*serial, unique.clone())).collect();
        if tools.len() < count {
            return refused("too_little", format!("there are {} {name}, not {count}", tools.len()));
        }
        used.uniques.extend(tools);
    }
    held(&used, bag)?;
    Ok(used)
}

/// What a recipe makes.
fn made(content: &Content, recipe: &Recipe, op: OperationId) -> Result<Goods, CallRefusal> {
    let item = item(content, &recipe.makes)?;
    if !is_tool(content, &recipe.makes) {
        return Ok(Goods::stack(item, recipe.count));
    }
    let indexes = 0..u16::try_from(recipe.count).unwrap_or(u16::MAX);
    let unique = Unique { item, data: Map::new() };
    let uniques = indexes.map(|index| (Serial { op, index }, unique.clone())).collect();
    Ok(Goods { uniques, ..Goods::default() })
}

fn is_tool(content: &Content, name: &str) -> bool {
    content.items.get(name).is_some_and(|item| item.tool.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OP: OperationId = OperationId(9);

    #[test]
    fn a_tool_is_a_unique_of_the_operation_and_using_one_up_takes_it_from_the_bag() {
        let content = Content::bundled();
        let axe =
            |index| Goods::unique(Serial { op: OP, index }, Unique { item: "axe".parse().unwrap(), data: Map::new() });
        let recipe = |makes: &str, takes: &str, count| Recipe {
            makes: makes.to_owned(),
            count,
            takes: [(takes.to_owned(), 1)].into(),
            at: None,
            experience: 0,
        };
        let mut both = axe(0);
        both.add(&axe(1)).unwrap();
        assert_eq!(made(&content, &recipe("axe", "wood", 2), OP).unwrap(), both);
        assert_eq!(made(&content, &recipe("wood", "axe", 2), OP).unwrap(), Goods::stack("wood".parse().unwrap(), 2));
        assert_eq!(used(&content, &recipe("wood", "axe", 1), &both).unwrap(), axe(0));
        for nothing in ["axe", "wood"] {
            let refusal = used(&content, &recipe("stone", nothing, 1), &Goods::default()).unwrap_err();
            assert_eq!(refusal.code, "too_little", "{nothing}");
        }
    }
}
