//! The Couchbase driver over real sockets: the official SDK against a server of ours that can be told to fail.
//!
//! What is shown here is shown of driver and SDK, not of Couchbase itself; `conformance::a_real_cluster_keeps_every_promise`
//! runs the same suite against one, if there is one.

mod bed;
mod chaos;
mod conformance;
mod connecting;
mod faults;
mod setup;
mod wire;
