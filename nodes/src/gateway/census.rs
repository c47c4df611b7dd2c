//! Who is there and what they say: the nodes as the peer table has them, and the reports that each gives when asked.
//!
//! Asking goes to all nodes at once, each with the method's own deadline, so that one that does not answer costs its own
//! row only. Nothing here decides anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures_util::future::join_all;
use mesh::{Incarnation, Mesh, NodeId, PeerState, Role};
use serde::Serialize;

use super::App;
use super::disagree::{self, Disagreement};
use super::error::{ApiError, ApiResult};
use crate::load::Load;
use crate::methods::{NODE_REPORT, NodeReport, ReportedLoad};
use crate::report;
use crate::world_loop::WorldReport;

/// Times the whole mesh may be asked at once, at most: each asks every node.
pub const CENSUSES: usize = 8;

/// One row of `GET /v1/nodes`.
#[derive(Clone, Debug, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// How the gateway's link to it stands; the gateway itself is up.
    pub state: PeerState,
    /// Its present life: the publisher in its frames.
    pub publisher: Incarnation,
    /// The address that clients use, if it serves any.
    pub public: Option<String>,
    /// The version of its software.
    pub version: String,
    /// What it last said of its load.
    pub load: Option<ReportedLoad>,
    /// What to add to its clock to get the gateway's, in milliseconds.
    pub offset_ms: i64,
    /// Round trip, in microseconds; 0 before the first.
    pub rtt_us: u64,
}

/// The answer of `GET /v1/mesh`.
#[derive(Debug, Serialize)]
pub struct MeshAnswer {
    /// The gateway that asked.
    pub asked_by: NodeId,
    /// Its clock, in milliseconds since it started.
    pub now_ms: u64,
    /// True if nobody disagrees with anybody.
    pub whole: bool,
    /// Where views contradict each other.
    pub disagreements: Vec<Disagreement>,
    /// What every node says, by name.
    pub nodes: Vec<Member>,
}

/// One node's report, or why there is none.
#[derive(Debug, Serialize)]
pub struct Member {
    /// What the gateway knows of it.
    #[serde(flatten)]
    pub row: NodeRow,
    /// What it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<NodeReport>,
    /// Why it said nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `GET /v1/nodes`
pub async fn nodes(State(app): State<Arc<App>>) -> Json<Vec<NodeRow>> {
    Json(rows(&app.mesh))
}

/// `GET /v1/mesh`
pub async fn whole_mesh(State(app): State<Arc<App>>) -> ApiResult<Json<MeshAnswer>> {
    let busy = || ApiError::unavailable("busy", "the mesh is being asked by many already", 1);
    let _place = app.censuses.try_acquire().map_err(|_| busy())?;
    let rows = rows(&app.mesh);
    let mut reports = reports(&app.mesh, &app.own_report()).await;
    let views = reports.iter().map(|(node, said)| {
        let view = said.as_ref().map(|report| report.mesh.clone()).map_err(Clone::clone);
        (node.clone(), view)
    });
    let disagreements = disagree::disagreements(&views.collect());
    let nodes = rows.into_iter().map(|row| {
        let said = reports.remove(&row.node).unwrap_or_else(|| Err("came while the others were asked".to_owned()));
        let (report, error) = match said {
            Ok(report) => (Some(report), None),
            Err(why) => (None, Some(why)),
        };
        Member { row, report, error }
    });
    Ok(Json(MeshAnswer {
        asked_by: app.mesh.me().node.clone(),
        now_ms: app.mesh.now_ms(),
        whole: disagreements.is_empty(),
        disagreements,
        nodes: nodes.collect(),
    }))
}

/// This gateway and every peer that the directory shows, by name.
pub fn rows(mesh: &Mesh) -> Vec<NodeRow> {
    let me = mesh.me();
    let own = NodeRow {
        node: me.node.clone(),
        role: me.role,
        state: PeerState::Up,
        publisher: me.incarnation,
        public: me.public.clone(),
        version: me.version.clone(),
        load: None,
        offset_ms: 0,
        rtt_us: 0,
    };
    let peers = mesh.peers();
    let others = peers.iter().map(|peer| NodeRow {
        node: peer.record.node.clone(),
        role: peer.record.role,
        state: peer.state,
        publisher: peer.record.incarnation,
        public: peer.record.public.clone(),
        version: peer.record.version.clone(),
        load: Load::decode(&peer.load).map(|load| ReportedLoad::from(&load)),
        offset_ms: peer.clock_offset_ms,
        rtt_us: peer.rtt_us,
    });
    let mut rows: Vec<NodeRow> = std::iter::once(own).chain(others).collect();
    rows.sort_unstable_by(|a, b| a.node.cmp(&b.node));
    rows
}

/// What every node says when asked now, this one included, or why it says nothing.
pub async fn reports(mesh: &Mesh, own: &WorldReport) -> BTreeMap<NodeId, Result<NodeReport, String>> {
    let peers = mesh.peers();
    let asked = peers.iter().map(|peer| async {
        let node = peer.record.node.clone();
        let said = match mesh.call(&node, &NODE_REPORT, bytes::Bytes::new()).await {
            Ok(answer) => serde_json::from_slice(&answer).map_err(|e| format!("its report cannot be read: {e}")),
            Err(error) => Err(error.to_string()),
        };
        (node, said)
    });
    let mut reports: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
    reports.insert(mesh.me().node.clone(), Ok(report::of(mesh, own)));
    reports
}
