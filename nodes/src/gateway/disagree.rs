//! Where the nodes' views of the mesh contradict each other, or the directory: a pure function over their reports.
//!
//! A whole mesh has none: every node in the directory hears every other, in its present life. What is found here is for
//! people and tests; it NEVER decides anything.

use std::collections::BTreeMap;

use mesh::{Incarnation, MeshView, NodeId, PeerState};
use serde::Serialize;

/// Something that two views say differently, or that one says of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Disagreement {
    /// What kind, for programs.
    pub kind: Kind,
    /// Whom it concerns; the first is the one whose view is the odd one, where there is one.
    pub nodes: Vec<NodeId>,
    /// The same for people.
    pub text: String,
}

/// Kinds of disagreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The node did not report.
    Unreachable,
    /// The node is not surely in the directory: its own lease may have run out.
    Unregistered,
    /// The first does not know that the second exists.
    Unknown,
    /// The first knows the second in another life than the second lives.
    OtherLife,
    /// The second hears the first, but the first does not hear the second.
    OneWay,
    /// Neither hears the other.
    Apart,
}

/// What one node answered: its view, or why there is none.
pub type Answer = Result<MeshView, String>;

/// All disagreements among the nodes that the directory shows, in a stable order.
pub fn disagreements(answers: &BTreeMap<NodeId, Answer>) -> Vec<Disagreement> {
    let mut found: Vec<Disagreement> = answers.iter().flat_map(|(node, answer)| alone(node, answer)).collect();
    let views: Vec<&MeshView> = answers.values().filter_map(|answer| answer.as_ref().ok()).collect();
    for (i, one) in views.iter().enumerate() {
        for two in &views[i + 1..] {
            between(one, two, &mut found);
        }
    }
    found.sort_unstable();
    found
}

fn alone(node: &NodeId, answer: &Answer) -> Option<Disagreement> {
    let (kind, text) = match answer {
        Err(why) => (Kind::Unreachable, format!("{node} did not report: {why}")),
        Ok(view) if !view.registered => (Kind::Unregistered, format!("{node} is not surely in the directory")),
        Ok(_) => return None,
    };
    Some(Disagreement { kind, nodes: vec![node.clone()], text })
}

/// How one node sees another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    Unknown,
    OtherLife(Incarnation),
    Hears,
    Deaf(PeerState),
}

fn sight(viewer: &MeshView, other: &MeshView) -> Sight {
    match viewer.peers.iter().find(|peer| peer.node == other.node.node) {
        None => Sight::Unknown,
        Some(peer) if peer.incarnation != other.node.incarnation => Sight::OtherLife(peer.incarnation),
        Some(peer) if peer.state == PeerState::Up => Sight::Hears,
        Some(peer) => Sight::Deaf(peer.state),
    }
}

fn between(one: &MeshView, two: &MeshView, found: &mut Vec<Disagreement>) {
    let (there, back) = (sight(one, two), sight(two, one));
    let (a, b) = (&one.node.node, &two.node.node);
    let mut tell = |kind, first: &NodeId, second: &NodeId, text: String| {
        found.push(Disagreement { kind, nodes: vec![first.clone(), second.clone()], text });
    };
    for (sight, viewer, seen) in [(there, one, two), (back, two, one)] {
        let (viewer, seen_id, life) = (&viewer.node.node, &seen.node.node, seen.node.incarnation.0);
        match sight {
            Sight::Unknown => tell(Kind::Unknown, viewer, seen_id, format!("{viewer} does not know {seen_id}")),
            Sight::OtherLife(Incarnation(other)) => {
                let text = format!("{viewer} knows {seen_id} as {other:x}, but it lives as {life:x}");
                tell(Kind::OtherLife, viewer, seen_id, text);
            }
            Sight::Hears | Sight::Deaf(_) => {}
        }
    }
    match (there, back) {
        (Sight::Deaf(one), Sight::Deaf(two)) => {
            tell(Kind::Apart, a, b, format!("{a} has {b} as {one}, {b} has {a} as {two}"));
        }
        (Sight::Deaf(state), _) => tell(Kind::OneWay, a, b, format!("{a} has {b} as {state}, {b} hears {a}")),
        (_, Sight::Deaf(state)) => tell(Kind::OneWay, b, a, format!("{b} has {a} as {state}, {a} hears {b}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A view of `node`, which sees its peers so: (name, life, state).
    fn view(node: &str, life: u64, peers: &[(&str, u64, &str)]) -> MeshView {
        let peers: Vec<_> = peers
            .iter()
            .map(|(name, life, state)| {
                json!({ "node": name, "role": "zoo", "incarnation": life, "state": state, "reason": null,
                    "since_ms": 0, "rtt_us": 0, "clock_offset_us": 0, "heard_ms_ago": null, "agrees": true,
                    "misses": [], "reconnects": 0 })
            })
            .collect();
        let counters = serde_json::to_value(mesh::peers::MeshCounters::default()).unwrap();
        serde_json::from_value(json!({
            "node": { "node": node, "role": "zoo", "incarnation": life, "publish": "", "request": "",
                "public": null, "version": "", "protocol": 1 },
            "cluster": "c", "district": "d", "now_ms": 0, "registered": true, "hears": "", "peers": peers,
            "strangers": [], "counters": counters,
        }))
        .unwrap()
    }

    fn check(views: Vec<MeshView>, unreachable: &[&str], expected: &[(Kind, &[&str])]) {
        let mut answers: BTreeMap<NodeId, Answer> =
            views.into_iter().map(|view| (view.node.node.clone(), Ok(view))).collect();
        answers.extend(unreachable.iter().map(|name| (NodeId::new(name).unwrap(), Err("no answer".to_owned()))));
        let found = disagreements(&answers);
        let short: Vec<(Kind, Vec<&str>)> =
            found.iter().map(|d| (d.kind, d.nodes.iter().map(NodeId::as_str).collect())).collect();
        let expected: Vec<(Kind, Vec<&str>)> = expected.iter().map(|(kind, nodes)| (*kind, nodes.to_vec())).collect();
        assert_eq!(short, expected);
    }

    #[test]
    fn a_whole_mesh_agrees() {
        let a = view("a", 1, &[("b", 2, "up"), ("c", 3, "up")]);
        let b = view("b", 2, &[("a", 1, "up"), ("c", 3, "up")]);
        let c = view("c", 3, &[("a", 1, "up"), ("b", 2, "up")]);
        check(vec![a, b, c], &[], &[]);
        check(vec![view("alone", 1, &[])], &[], &[]);
    }

    #[test]
    fn a_link_that_works_one_way_is_told_from_the_deaf_side() {
        let a = view("a", 1, &[("b", 2, "up")]);
        let b = view("b", 2, &[("a", 1, "suspect")]);
        check(vec![a, b], &[], &[(Kind::OneWay, &["b", "a"])]);
    }

    #[test]
    fn nodes_that_are_apart_are_told_once() {
        let a = view("a", 1, &[("b", 2, "connecting")]);
        let b = view("b", 2, &[("a", 1, "suspect")]);
        check(vec![a, b], &[], &[(Kind::Apart, &["a", "b"])]);
    }

    #[test]
    fn a_node_unknown_to_another_or_known_in_a_former_life_is_told() {
        let a = view("a", 1, &[("c", 3, "up")]);
        let b = view("b", 2, &[("a", 1, "up"), ("c", 9, "up")]);
        let c = view("c", 3, &[("a", 1, "up"), ("b", 2, "up")]);
        check(vec![a, b, c], &[], &[(Kind::Unknown, &["a", "b"]), (Kind::OtherLife, &["b", "c"])]);
    }

    #[test]
    fn silent_and_unregistered_nodes_are_told() {
        let mut a = view("a", 1, &[("b", 2, "up")]);
        a.registered = false;
        check(vec![a], &["b"], &[(Kind::Unreachable, &["b"]), (Kind::Unregistered, &["a"])]);
    }
}
