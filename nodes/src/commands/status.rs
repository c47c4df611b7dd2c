//! `wildmesh status`: the mesh as its members see it, with disagreements marked.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::calendar::Calendar;
use crate::cli;

/// Runs the command.
pub async fn run(status: cli::Status) -> Result<()> {
    let mut body = ask(&status.gateway, "/v1/mesh").await?;
    // A directory that is away is no reason to tell nothing of the mesh.
    let stewards =
        ask(&status.gateway, "/v1/stewards").await.unwrap_or_else(|error| json!({ "error": error.to_string() }));
    let islands = ask(&status.gateway, "/v1/islands").await?;
    let queue = ask(&status.gateway, "/v1/queue").await.unwrap_or_else(|error| json!({ "error": error.to_string() }));
    if status.json {
        if let Some(fields) = body.as_object_mut() {
            fields.insert("queue".to_owned(), queue);
            fields.insert("stewards".to_owned(), stewards);
            fields.insert("islands".to_owned(), islands);
        }
        println!("{body}");
    } else {
        print!("{}{}{}", table(&body), line(&queue), world(&stewards, &islands, Calendar::real().now_s()));
    }
    Ok(())
}

async fn ask(gateway: &str, path: &str) -> Result<Value> {
    let url = format!("{}{path}", gateway.trim_end_matches('/'));
    let answer = reqwest::get(&url).await.with_context(|| format!("could not ask the gateway at {gateway}"))?;
    let code = answer.status();
    let body: Value = answer.json().await.with_context(|| format!("{url} did not answer with JSON"))?;
    if !code.is_success() {
        bail!("{url} answered {code}: {}", body["error"]["message"].as_str().unwrap_or("no reason given"));
    }
    Ok(body)
}

/// The islands and who looks after them, as people read it.
fn world(stewards: &Value, islands: &Value, now_s: u64) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let age = |from: &Value| now_s.saturating_sub(number(from));
    let mut text = format!(
        "\n{:<10} {:<24} {:<10} {:<9} {:<8} {:>9} {:>9}\n",
        "ISLAND", "TITLE", "DISTRICT", "KIND", "STATE", "AGE", "LEFT"
    );
    for island in islands.as_array().into_iter().flatten() {
        let born = number(&island["born_s"]);
        let left = number(&island["ends_s"]).saturating_sub(now_s);
        text.push_str(&format!(
            "{:<10} {:<24} {:<10} {:<9} {:<8} {:>9} {:>9}\n",
            number(&island["id"]),
            plain(&island["title"]),
            plain(&island["district"]),
            plain(&island["stability"]),
            plain(&island["state"]),
            if born == 0 { "-".to_owned() } else { length(now_s.saturating_sub(born)) },
            if number(&island["ends_s"]) == 0 { "-".to_owned() } else { length(left) },
        ));
    }
    if let Some(error) = stewards["error"].as_str() {
        text.push_str(&format!("The stewards cannot be told: {error}\n"));
    } else if stewards.as_array().is_none_or(Vec::is_empty) {
        text.push_str("There is no steward: nobody looks after the islands.\n");
    }
    for office in stewards.as_array().into_iter().flatten() {
        text.push_str(&format!(
            "Steward of {}: {}, since {} ago; {} players, {:+} a minute; {} unstable islands open, {} wanted, {} animals there\n",
            plain(&office["district"]),
            plain(&office["node"]),
            length(age(&office["since_s"])),
            number(&office["players"]),
            office["growth_per_minute"].as_f64().unwrap_or(0.0),
            number(&office["open"]),
            number(&office["wanted"]),
            number(&office["animals"]),
        ));
        for deed in office["deeds"].as_array().into_iter().flatten() {
            let ago = length(age(&deed["at_s"]));
            text.push_str(&format!("    {ago:>8} ago: {}: {}\n", plain(&deed["what"]), plain(&deed["why"])));
        }
        for trouble in office["troubles"].as_array().into_iter().flatten() {
            text.push_str(&format!("    ! {}\n", plain(trouble)));
        }
    }
    text
}

/// The queue, as people read it.
fn line(queue: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    if let Some(error) = queue["error"].as_str() {
        return format!("The queue cannot be told: {error}\n");
    }
    let stale = if queue["fresh"] == false { " (as last known: the directory is away)" } else { "" };
    let waiting =
        format!("In line: {}, {} of them returning{stale}", number(&queue["waiting"]), number(&queue["returning"]));
    let office = &queue["doorkeeper"];
    if office.is_null() {
        return format!("{waiting}. There is no doorkeeper: nobody is let in.\n");
    }
    format!(
        "{waiting}. Doorkeeper {}: {:.1} let in each second, at most {}; {} so far, {} left; room for {}\n",
        plain(&office["node"]),
        office["per_s"].as_f64().unwrap_or(0.0),
        number(&office["most_per_s"]),
        number(&office["admitted"]),
        number(&office["abandoned"]),
        number(&office["room"]),
    )
}

/// A length of time, for people.
fn length(seconds: u64) -> String {
    match seconds {
        s if s < 120 => format!("{s} s"),
        s if s < 7_200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3_600),
    }
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
            if node["load"]["draining"] == true { "draining" } else { plain(&node["state"]) },
            // What a colosseum counts there are battles.
            if node["role"] == "frontend" { number(&node["load"]["players"]) } else { "-".to_owned() },
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

    #[test]
    fn islands_and_stewards_become_lines_whatever_they_are() {
        assert!(world(&json!([]), &json!([]), 0).contains("no steward"));
        assert!(world(&json!({ "error": "away" }), &json!(null), 0).contains("cannot be told: away"));
        let islands = json!([{ "id": 1048576, "title": "Tristan 7", "district": "main", "stability": "unstable",
            "state": "warned", "born_s": 1_000, "ends_s": 9_100 }]);
        let stewards = json!([{ "node": "zoo-1", "district": "main", "since_s": 1_000, "players": 9, "open": 1,
            "deeds": [{ "at_s": 8_990, "what": "warned island 1048576", "why": "its life ends" }],
            "troubles": ["removing island 3 has failed"] }]);
        let text = world(&stewards, &islands, 9_000);
        for part in
            ["Tristan 7", "warned", "2 h", "100 s", "zoo-1", "10 s ago: warned island", "its life ends", "! removing"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn the_queue_becomes_a_line_whatever_it_is() {
        assert!(line(&json!({ "error": "away" })).contains("cannot be told: away"));
        assert!(line(&json!({})).contains("no doorkeeper"));
        let office = json!({ "node": "gateway-2", "most_per_s": 250, "per_s": 249.5, "admitted": 30, "abandoned": 4, "room": 7 });
        let text = line(&json!({ "waiting": 12, "returning": 3, "fresh": false, "doorkeeper": office }));
        for part in
            ["In line: 12, 3 of", "last known", "gateway-2", "249.5", "most 250", "30 so far", "4 left", "room for 7"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn whatever_a_gateway_answers_becomes_a_table() {
        assert!(table(&json!({})).contains("whole"));
        let mesh = json!({
            "nodes": [{ "node": "zoo-1", "role": "zoo", "state": "suspect", "error": "no answer in time",
                "report": { "mesh": { "peers": [{ "node": "garden-1", "state": "suspect", "reason": "one way" }] } } }],
            "disagreements": [{ "kind": "one_way", "text": "zoo-1 does not hear garden-1" }]
        });
        let drained = json!({ "nodes": [{ "node": "f-1", "state": "up", "load": { "draining": true } }] });
        assert!(table(&drained).contains("draining"));
        let text = table(&mesh);
        for part in ["zoo-1", "! no answer in time", "! sees garden-1 suspect: one way", "NOT whole", "does not hear"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
