//! Eight processes hammer one store while they are killed: see `tests/src/hammer.rs`. `WILDMESH_CHAOS_SECONDS` makes it longer;
//! `cargo run --release -p wildmesh-tests --bin wildmesh-hammer` runs for two minutes.

use std::process::Command;

use serde_json::Value;

/// How long processes are killed.
const SECONDS: u64 = 10;

fn hammer(more: &[&str]) -> Value {
    let seconds = std::env::var("WILDMESH_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let output = Command::new(env!("CARGO_BIN_EXE_wildmesh-hammer"))
        .args(["--seconds", &seconds.to_string()])
        .args(more)
        .output()
        .expect("the hammer");
    let (said, text) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let outcome: Value = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    assert!(output.status.success(), "{}: {outcome:#} {said}", output.status);
    println!("{outcome}");
    outcome
}

fn check(outcome: &Value) {
    let number = |name: &str| outcome[name].as_u64().unwrap_or_default();
    assert_eq!(outcome["audit"], "clean");
    // Far below what a loaded machine makes in this time: enough to know that there was something to lose.
    assert!(number("kills") >= 3, "{outcome}");
    assert!(number("acknowledged") >= 20 && number("refused") > 0 && number("asked_again") > 0, "{outcome}");
    for kind in ["transfer", "gift", "trade", "promise", "build", "demolish", "claim"] {
        assert!(outcome["kinds"][kind].as_u64() > Some(0), "no {kind} ever happened: {outcome}");
    }
}

#[test]
fn killed_processes_lose_double_and_leave_nothing_on_the_embedded_store() {
    check(&hammer(&[]));
}

#[test]
fn killed_processes_lose_double_and_leave_nothing_on_couchbase() {
    check(&hammer(&["--couchbase-nodes", "3"]));
}
