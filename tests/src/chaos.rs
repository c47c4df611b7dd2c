//! Chaos with real processes: a whole cluster in network namespaces, bots that play from outside, and a seeded schedule of
//! kills, freezes, cuts and replacements; then quiet; then documents and the bots' own accounts must agree.
//!
//! What is to happen (`plan`, pure), what it happens to (`cluster`), what was noticed (`events`, `samples`) and what is judged
//! (`verdict`) are apart. Nothing here is part of a node, and nothing of it touches the machine's own network. Whatever was
//! started is ended by its process id, also on Ctrl-C and after a panic. Timing NEVER decides: only what is lost, doubled,
//! hung, grown or dead does.

pub mod plan;

pub mod cluster;

mod samples;

pub mod events;

pub mod run;

pub mod verdict;

mod plot;
