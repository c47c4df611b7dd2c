//! Gardens.
