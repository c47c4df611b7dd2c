//! Goods as clients name them, and as documents have them.
//!
//! A client names uniques by their serials alone; what they are is looked up where they lie. Names that the content does not
//! know are refused, so that no client brings a new item into the world.

use estate::goods::{Goods, ItemName, Serial};
use mesh::CallRefusal;

use super::refused;
use crate::game::content::Content;
use crate::protocol::{Wares, codes};

/// What a client names, out of what lies there. Refused: `unknown_name`, `malformed` (nothing, or a serial that is none),
/// `too_little` (a unique that does not lie there).
pub(super) fn goods_of(content: &Content, wares: &Wares, there: &Goods) -> Result<Goods, CallRefusal> {
    let mut goods = Goods::default();
    for (name, count) in &wares.stacks {
        let item = item(content, name)?;
        let more = Goods::stack(item, *count);
        goods.add(&more).map_err(|refusal| CallRefusal::new(&refusal.code, refusal.why))?;
    }
    for (serial, _) in &wares.uniques {
        let serial: Serial = serial.parse().map_err(|why: String| CallRefusal::new(codes::MALFORMED, why))?;
        let Some(unique) = there.uniques.get(&serial) else {
            return refused("too_little", format!("there is no {serial}"));
        };
        if goods.uniques.insert(serial, unique.clone()).is_some() {
            return refused(codes::MALFORMED, format!("{serial} is named twice"));
        }
    }
    goods.stacks.retain(|_, count| *count > 0);
    if goods.is_empty() {
        return refused(codes::MALFORMED, "nothing is named");
    }
    Ok(goods)
}

/// Refuses goods that are not among `there`.
pub(super) fn held(goods: &Goods, there: &Goods) -> Result<(), CallRefusal> {
    there.clone().remove(goods).map_err(|refusal| CallRefusal::new(&refusal.code, refusal.why))
}

/// An item that the content knows.
pub(super) fn item(content: &Content, name: &str) -> Result<ItemName, CallRefusal> {
    let known = content.items.contains_key(name).then(|| name.parse().ok()).flatten();
    known.ok_or_else(|| CallRefusal::new(codes::UNKNOWN_NAME, "there is no such item"))
}

/// Goods as clients see them.
pub fn wares_of(goods: &Goods) -> Wares {
    Wares {
        stacks: goods.stacks.iter().map(|(item, count)| (item.to_string(), *count)).collect(),
        uniques: goods.uniques.iter().map(|(serial, unique)| (serial.to_string(), unique.item.to_string())).collect(),
    }
}

/// How many things there are.
pub(super) fn amount(goods: &Goods) -> u64 {
    goods.stacks.values().fold(goods.uniques.len() as u64, |sum, count| sum.saturating_add(*count))
}
