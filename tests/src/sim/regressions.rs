//! Seeds that once failed, what they found, and which change mended it. The test runs them first.
//!
//! What a seed does changes whenever the simulation does, so an old seed is a good seed, not a proof; the bug itself has a
//! test of its own beside the code.

/// A seed, what it found, and where that was mended.
pub const SEEDS: &[(u64, &str)] = &[
    (2, "an act answered as unknown, then as unavailable, then refused for good, had happened: frontend/operations.rs"),
    (7, "the same, while the frontend's lease was lost: frontend/acts/answers.rs"),
    (181, "what a garden had done before it slept was told as not done when the call was repeated: garden.rs"),
    (40, "a garden that thawed carried out what had waited and what another had refused meanwhile: garden/pulse.rs"),
    (173, "an act that had happened was refused when it was asked again in a battle: frontend/acts/earlier.rs"),
    (
        231,
        "a frontend that the directory had removed for a while did not tell zoos again what its players see: audience.rs",
    ),
    (311, "the same, for the one habitat in front of a player who had sailed: audience.rs"),
    (209, "a repeated request of a refused operation was carried out as a new one: mesh/calls/server.rs"),
    (560, "the same, told by goods that came: mesh/calls/server.rs"),
    (888, "a colosseum went on showing a battle that it had handed over while others waited: colosseum/rules.rs"),
    (1136, "the same, while the others could not be saved: colosseum/rules.rs"),
    (1297, "the same, while another colosseum did not answer: colosseum/rules.rs"),
    (30195, "the same, in a rolling replacement: colosseum/rules.rs"),
];
