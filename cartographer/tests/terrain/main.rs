//! Terrain packages as people meet them: the islands that come with Wildmesh, one map in every form that the editor saves,
//! and broken maps.

mod broken;
mod forms;
mod islands;
mod small;
