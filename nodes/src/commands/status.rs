//! `wildmesh status`: the mesh as its members see it, with disagreements marked.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cli;

/// Runs the command.
pub async fn run(status: cli::Status) -> Result<()> {
    let url = format!("{}/v1/mesh", status.gateway.trim_end_matches('/'));
    let answer =
        reqwest::get(&url).await.with_context(|| format!("could not ask the gateway at {}", status.gateway))?;
    let code = answer.status();
    let body: Value = answer.json().await.with_context(|| format!("{url} did not answer with JSON"))?;
    if !code.is_success() {
        bail!("{url} answered {code}: {}", body["error"]["message"].as_str().unwrap_or("no reason given"));
    }
    if status.json {
        println!("{body}");
    } else {
        print!("{}", table(&body));
    }
    Ok(())
}

/// The answer as people read it: one line a node, what is not well below it, disagreements at the end.
fn table(mesh: &Value) -> String {
    let mut text = format!(
        "{:<16} {:<10} {:<10} {:>8} {:>9} {:>8} {:>7} {:>7}  {}\n",
        "NODE", "ROLE", "STATE", "PLAYERS", "TICK P99", "RTT", "REALS", "GHOSTS", "ADDRESS"
    );
    for node in mesh["nodes"].as_array().into_iter().flatten() {
        let report = &node["report"];
        let number = |value: &Value| value.as_u64().map_or("-".to_owned(), |n| n.to_string());
        let us = |value: &Value| value.as_u64().map_or("-".to_owned(), |n| format!("{:.1} ms", n as f64 / 1000.0));
        text.push_str(&format!(
            "{:<16} {:<10} {:<10} {:>8} {:>9} {:>8} {:>7} {:>7}  {}\n",
            plain(&node["node"]),
            plain(&node["role"]),
            plain(&node["state"]),
            number(&node["load"]["players"]),
            us(&report["counters"]["tick_p99_us"]),
            us(&node["rtt_us"]),
            number(&report["counters"]["reals"]),
            number(&report["counters"]["ghosts"]),
            plain(&node["public"]),
        ));
        if let Some(error) = node["error"].as_str() {
            text.push_str(&format!("    ! {error}\n"));
        }
        for peer in report["mesh"]["peers"].as_array().into_iter().flatten() {
            if peer["state"] != "up" || peer["agrees"] == false {
                let why = peer["reason"].as_str().unwrap_or("it hears others than this node does");
                text.push_str(&format!("    ! sees {} {}: {why}\n", plain(&peer["node"]), plain(&peer["state"])));
            }
        }
        for stranger in report["mesh"]["strangers"].as_array().into_iter().flatten() {
            text.push_str(&format!("    ! refused {}: {}\n", plain(&stranger["node"]), plain(&stranger["reason"])));
        }
    }
    let disagreements: Vec<&str> =
        mesh["disagreements"].as_array().into_iter().flatten().filter_map(|d| d["text"].as_str()).collect();
    if disagreements.is_empty() {
        text.push_str("The mesh is whole: every node hears every other.\n");
    } else {
        text.push_str("The mesh is NOT whole:\n");
        disagreements.iter().for_each(|d| text.push_str(&format!("  ! {d}\n")));
    }
    text
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_a_gateway_answers_becomes_a_table() {
        assert!(table(&json!({})).contains("whole"));
        let mesh = json!({
            "nodes": [{ "node": "zoo-1", "role": "zoo", "state": "suspect", "error": "no answer in time",
                "report": { "mesh": { "peers": [{ "node": "garden-1", "state": "suspect", "reason": "one way" }] } } }],
            "disagreements": [{ "kind": "one_way", "text": "zoo-1 does not hear garden-1" }]
        });
        let text = table(&mesh);
        for part in ["zoo-1", "! no answer in time", "! sees garden-1 suspect: one way", "NOT whole", "does not hear"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
