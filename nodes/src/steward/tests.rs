//! Tests of stewards over a memory directory and a memory store.
