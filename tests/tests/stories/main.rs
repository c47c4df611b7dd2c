//! Stories: what happens in the living world, each told in a village of its own (see `tests::village`) and audited at its end.

mod party;
