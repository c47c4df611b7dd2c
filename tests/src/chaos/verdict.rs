//! What a run showed: figures, and everything that must not be, each in words.
//!
//! A run is good if nothing acknowledged was lost or doubled, nobody hung, the documents are whole, no process died by itself
//! or panicked, and none has grown. How long anything took is told and NEVER judged here.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::events::{self, Felt, Times};
use super::plot;
use super::run::{Happened, Options};
use super::samples::{Sample, Samples};

/// Findings of bots that are failures under any chaos; others are told only.
const FAILURES: [&str; 3] = ["never_answered", "not_settled_up", "two_places"];
/// Findings of the audit that are told, at most.
const AUDITED: usize = 10;

/// What a run showed.
#[derive(Debug)]
pub struct Outcome {
    /// The figures.
    pub json: Value,
    /// The same for people.
    pub text: String,
    /// What must not be; a good run has none.
    pub failures: Vec<String>,
}

#[expect(clippy::too_many_arguments, reason = "everything that a run leaves behind")]
pub(super) fn judge(
    options: &Options,
    happened: Vec<Happened>,
    samples: &Samples,
    timeline: &str,
    bots: Value,
    audit: Value,
    found: Vec<String>,
    left_out: u64,
) -> Result<Outcome> {
    let events = events::read(timeline);
    let end_ms = events.last().map_or(0, |event| event.at_ms);
    let kills: Vec<(u64, &'static str)> = happened.iter().filter_map(|it| Some((it.at_ms, it.killed?))).collect();
    let felt = events::felt(&events, &kills, end_ms);
    let mut failures = found;
    failures.extend(of_bots(&bots));
    failures.extend(of_audit(&audit));
    failures.extend(samples.grown());
    let json = figures(options, &happened, samples, &felt, &bots, &audit, left_out, &failures);
    let text = words(options, &happened, &felt, &bots, &json, &failures);
    let write = |name: &str, text: &str| {
        let path: &Path = &options.folder;
        std::fs::write(path.join(name), text).with_context(|| format!("{name} could not be written"))
    };
    write("report.json", &serde_json::to_string_pretty(&json)?)?;
    write("bots-report.json", &serde_json::to_string_pretty(&bots)?)?;
    write("audit.json", &serde_json::to_string_pretty(&audit)?)?;
    write("report.txt", &text)?;
    write(
        "report.html",
        &plot::page(&plot::Seen { options, happened: &happened, samples, events: &events, text: &text }),
    )?;
    Ok(Outcome { json, text, failures })
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or(0)
}

fn of_bots(bots: &Value) -> Vec<String> {
    let mut failures = Vec::new();
    let findings = &bots["settle"]["findings"];
    let first = |kind: &str| {
        let texts = findings[kind]["first"].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(|text| format!("\n    {text}")).collect::<String>()
    };
    for kind in ["lost", "doubled"] {
        let count = number(bots, kind);
        if count > 0 {
            failures.push(format!("{kind}: {count} times{}", first(kind)));
        }
    }
    if number(bots, "hung") > 0 {
        failures.push(format!("hung: {} times a player could not play for longer than a minute", number(bots, "hung")));
    }
    for kind in FAILURES {
        let count = findings[kind]["count"].as_u64().unwrap_or(0);
        if count > 0 {
            failures.push(format!("{kind}: {count} times{}", first(kind)));
        }
    }
    if number(bots, "joined") != number(bots, "players") {
        failures.push(format!("only {} of {} bots came in", bots["joined"], bots["players"]));
    }
    let settled = number(&bots["settle"], "settled_up");
    if settled != number(bots, "players") {
        failures.push(format!("only {settled} of {} bots could compare all their accounts", bots["players"]));
    }
    if number(bots, "acknowledged") == 0 {
        failures.push("nothing was acknowledged: there was nothing to lose".to_owned());
    }
    failures
}

fn of_audit(audit: &Value) -> Vec<String> {
    let found = number(audit, "found");
    if found == 0 {
        return Vec::new();
    }
    let first = audit["findings"].as_array().into_iter().flatten().take(AUDITED);
    let first: String = first.map(|finding| format!("\n    {finding}")).collect();
    vec![format!("the audit of the documents found {found}:{first}")]
}

#[expect(clippy::too_many_arguments, reason = "everything that is told")]
fn figures(
    options: &Options,
    happened: &[Happened],
    samples: &Samples,
    felt: &BTreeMap<&'static str, Felt>,
    bots: &Value,
    audit: &Value,
    left_out: u64,
    failures: &[String],
) -> Value {
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    happened.iter().for_each(|it| *faults.entry(it.kind).or_default() += 1);
    let of = |kind: &str| faults.get(kind).copied().unwrap_or(0);
    let takeover = bots["away_ms"]["killed"].clone();
    let took =
        |kind: &str| Times::of(happened.iter().filter(|it| it.kind == kind).map(|it| it.until_ms - it.at_ms).collect());
    json!({
        "seed": options.seed,
        "seconds": options.length.as_secs(),
        "bots": options.bots,
        "kills": of("kill"),
        "cuts": of("cut") + of("cut_one_way") + of("no_directory"),
        "faults": faults,
        "left_out": left_out,
        "acknowledged": number(bots, "acknowledged"),
        "acknowledged_again": number(&bots["settle"], "acknowledged_again"),
        "lost": number(bots, "lost"),
        "doubled": number(bots, "doubled"),
        "hung": number(bots, "hung"),
        "takeover_ms": { "p50": takeover["p50"].as_f64().unwrap_or(0.0).round(), "p99": takeover["p99"].as_f64().unwrap_or(0.0).round() },
        "away_ms": bots["away_ms"],
        "felt": felt,
        "replacement_ms": took("replace"),
        "redirects": number(bots, "redirects"),
        "drops": number(bots, "drops"),
        "unresolved": bots["settle"]["unresolved"],
        "refused_again": number(&bots["settle"], "refused_again"),
        "accounts_checked": number(&bots["settle"], "accounts_checked"),
        "works_checked": number(&bots["settle"], "works_checked"),
        "audit_found": number(audit, "found"),
        "documents": audit["documents"],
        "memory_mib": samples.medians(|sample: &Sample| sample.memory_mib),
        "descriptors": samples.medians(|sample: &Sample| sample.descriptors),
        "failures": failures,
    })
}

fn words(
    options: &Options,
    happened: &[Happened],
    felt: &BTreeMap<&'static str, Felt>,
    bots: &Value,
    json: &Value,
    failures: &[String],
) -> String {
    let mut text = format!(
        "chaos, seed {}: {} s of faults, {} bots, {} faults: {}\n",
        options.seed,
        options.length.as_secs(),
        options.bots,
        happened.len(),
        json["faults"]
    );
    text.push_str(&format!(
        "{} acts acknowledged ({} after being asked again), {} lost, {} doubled, {} hung; {} bags and {} works compared; the audit found {}\n",
        json["acknowledged"],
        json["acknowledged_again"],
        json["lost"],
        json["doubled"],
        json["hung"],
        json["accounts_checked"],
        json["works_checked"],
        json["audit_found"]
    ));
    for (role, felt) in felt {
        let (players, last) = (felt.players_ms, felt.last_ms);
        text.push_str(&format!(
            "{} kills of a {role}: {} players affected, each plays again after p50 {} p99 {} ms; the last of a kill after p50 {} \
             most {} ms\n",
            felt.kills, players.count, players.p50, players.p99, last.p50, last.most
        ));
    }
    for (cause, away) in bots["away_ms"].as_object().into_iter().flatten() {
        text.push_str(&format!(
            "away ({cause}): {} times, p50 {:.0} p99 {:.0} most {:.0} ms\n",
            away["count"],
            away["p50"].as_f64().unwrap_or(0.0),
            away["p99"].as_f64().unwrap_or(0.0),
            away["most"].as_f64().unwrap_or(0.0)
        ));
    }
    for (kind, found) in bots["settle"]["findings"].as_object().into_iter().flatten() {
        text.push_str(&format!("the bots noticed {kind} {} times, first: {}\n", found["count"], found["first"][0]));
    }
    for (kind, found) in bots["error_kinds"].as_object().into_iter().flatten() {
        text.push_str(&format!("the bots met {kind} {} times, first: {}\n", found["count"], found["first"][0]));
    }
    match failures {
        [] => text.push_str("nothing lost, nothing doubled, nobody hung\n"),
        failures => {
            text.push_str("FAILED:\n");
            failures.iter().for_each(|failure| text.push_str(&format!("  {failure}\n")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        json!({
            "players": 5, "joined": 5, "acknowledged": 100, "lost": 0, "doubled": 0, "hung": 0,
            "settle": { "settled_up": 5, "findings": { "unanswered": { "count": 3, "first": ["slow"] } } },
        })
    }

    #[test]
    fn everything_that_must_not_be_fails_a_run_and_slowness_does_not() {
        assert!(of_bots(&good()).is_empty());
        for (field, value) in [("lost", 1), ("doubled", 1), ("hung", 1), ("joined", 4), ("acknowledged", 0)] {
            let mut bots = good();
            bots[field] = json!(value);
            assert_eq!(of_bots(&bots).len(), 1, "{field}");
        }
        for kind in FAILURES {
            let mut bots = good();
            bots["settle"]["findings"][kind] = json!({ "count": 1, "first": ["why"] });
            assert!(of_bots(&bots)[0].contains("why"), "{kind}");
        }
        let mut bots = good();
        bots["settle"]["settled_up"] = json!(4);
        assert_eq!(of_bots(&bots).len(), 1);
        assert!(of_audit(&json!({ "found": 0, "findings": [] })).is_empty());
        assert!(of_audit(&json!({ "found": 1, "findings": [{ "key": "player/7" }] }))[0].contains("player/7"));
    }
}
