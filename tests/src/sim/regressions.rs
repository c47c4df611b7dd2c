//! Seeds that once failed, what they found, and which change mended it. The test runs them first.
//!
//! What a seed does changes whenever the simulation does, so an old seed is a good seed, not a proof; the bug itself has a
//! test of its own beside the code.

/// A seed, what it found, and where that was mended.
pub const SEEDS: &[(u64, &str)] = &[];
