//! Natural objects and holdings: a stroke at a tree, a chunk claimed and given up.

use cartographer::geometry::{Chunk, Tile};
use cartographer::terrain::Stability;
use estate::goods::Goods;
use estate::land::claims::{self, Claim, Extension};
use estate::land::nature::{self, Gathering};
use estate::land::{By, codes as land_codes, ledger};

use super::Shared;
use super::desk::{Done, Refused, bag, stacks};
use super::things::growth;
use crate::game::made_by;
use crate::methods::living::GardenAsk;
use crate::protocol::codes;

impl Shared {
    /// A stroke at the natural object on a tile.
    pub(super) async fn gather(&self, ask: &GardenAsk, tile: Tile, tools: &[String]) -> Done {
        let terrain = self.terrain(ask.island)?;
        let named = terrain.natural_at(tile).and_then(|number| terrain.natural_name(number));
        let natural = self.grounds.natural(ask.island, tile);
        let Some(name) = named.filter(|_| natural != 0) else {
            return Err(Refused::new(codes::MISSING, format!("nothing grows on tile {tile}")));
        };
        let Some(kind) = self.content.naturals.get(name) else {
            return Err(Refused::new(codes::UNKNOWN_NAME, format!("nothing comes of a {name}")));
        };
        if let Some(tool) = kind.tool.as_ref().filter(|tool| !tools.contains(tool)) {
            return Err(Refused::new(codes::NEEDS, format!("a {name} needs a tool: {tool}")));
        }
        let made = stacks([(&kind.yields, &kind.count)])?;
        let gathering = Gathering {
            id: made_by(ask.op),
            island: ask.island,
            tile,
            natural,
            name: name.to_owned(),
            growth: growth(kind),
            now_s: self.calendar.now_s(),
        };
        let yields = [bag(ask.op, ask.player, Goods::default(), made)];
        nature::gather(&self.estate, &*self.grounds, ask.op, By::Player(ask.player), &gathering, &yields).await?;
        Ok(Some(tile.chunk(ask.island)))
    }

    /// Claims a chunk: the first of the player's holding, or one more. What one has already is paid for anew.
    pub(super) async fn claim(&self, ask: &GardenAsk, chunk: Chunk) -> Done {
        if self.terrain(ask.island)?.stability() != Stability::Stable {
            return Err(Refused::new(codes::FORBIDDEN, "land can be claimed on islands that last, only"));
        }
        let (estate, grounds, holding) = (&*self.estate, &*self.grounds, ask.player);
        let (now_s, tuning) = (self.calendar.now_s(), &self.content.tuning);
        let paid_until_s = now_s.saturating_add(tuning.claim_s);
        match claims::holding(estate, holding).await? {
            None => {
                let claim = Claim { holding, chunk, owner: ask.player, now_s, paid_until_s };
                claims::claim(estate, grounds, ask.op, &claim, &[]).await?;
            }
            Some(held) if held.lists(chunk) && held.owner == ask.player => {
                // It may be this very operation that has claimed it.
                let happened = estate.happened(ask.op, Some(&ledger::key_of_chunk(chunk))).await?;
                let seconds = paid_until_s.saturating_sub(held.paid_until_s.max(now_s));
                if !happened && seconds > 0 {
                    claims::pay(estate, ask.op, holding, now_s, seconds, &[]).await?;
                }
            }
            Some(held) if held.chunks.len() >= usize::from(tuning.holding_most) => {
                let why = format!("a holding has at most {} chunks", tuning.holding_most);
                return Err(Refused::new(land_codes::TOO_LARGE, why));
            }
            Some(_) => {
                let extension = Extension { holding, chunk, by: ask.player, now_s };
                claims::extend(estate, grounds, ask.op, &extension, &[]).await?;
            }
        }
        Ok(Some(chunk))
    }

    /// Gives up a chunk of the player's holding.
    pub(super) async fn give_up(&self, ask: &GardenAsk, chunk: Chunk) -> Done {
        claims::give_up(&self.estate, ask.op, ask.player, ask.player, chunk, &[]).await?;
        Ok(Some(chunk))
    }
}
