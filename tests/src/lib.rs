//! What the tests of the whole share: the simulation of whole meshes, a village for stories, and real processes to be killed.
//!
//! The code under test is the nodes' own; only transport, directory, store and time are simulated. Workload, faults and
//! checks are apart from one another.

pub mod pipe;
pub mod sim;
pub mod village;

pub mod net;
pub mod processes;

pub mod chaos;
pub mod freezes;

pub mod couchbase;
pub mod hammer;
