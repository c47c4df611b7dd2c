//! An unstable island sinks under twenty people.
