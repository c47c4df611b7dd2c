//! Stories: what happens in the living world, each told in a village of its own (see `tests::village`) and audited at its end.

mod asked_again;
mod battle_goes_on;
mod chat;
mod drain;
mod forgery;
mod garden_dies;
mod gift;
mod herd;
mod hot_village;
mod hunt;
mod one_winner;
mod party;
mod regrowth;
mod sinking;
mod takeover;
mod trade;
mod two_districts;
mod zoo_dies;
