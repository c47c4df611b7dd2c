//! Rooms through a mesh in memory.
