//! Owners that are frozen beyond their lease and thawed: never two of one thing. `WILDMESH_FREEZES` makes the row longer;
//! `cargo run --release -p wildmesh-tests --bin wildmesh-freezes` freezes sixty-four.

use std::process::Command;

use serde_json::Value;

/// How many are frozen.
const FREEZES: u32 = 6;

#[test]
fn of_owners_frozen_beyond_their_lease_and_thawed_there_never_are_two() {
    let freezes = std::env::var("WILDMESH_FREEZES").ok().and_then(|text| text.parse().ok()).unwrap_or(FREEZES);
    let output = Command::new(env!("CARGO_BIN_EXE_wildmesh-freezes"))
        .args(["--freezes", &freezes.to_string(), "--json"])
        .env("WILDMESH_BIN", tests::processes::binary())
        .output()
        .expect("the freezer");
    let (said, text) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let outcome: Value = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    assert!(output.status.success(), "{}: {outcome:#}\n{said}", output.status);
    println!("{outcome}");
    let number = |path: &str| outcome.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    assert_eq!(number("/freezes"), u64::from(freezes), "{outcome}");
    // There was something to be taken over, and somebody who would have noticed.
    assert!(number("/with_takeover/frontend") == u64::from(freezes.div_ceil(2)), "{outcome}");
    assert!(number("/with_takeover/zoo") >= 1, "{outcome}");
    assert!(number("/seen/new_epochs") > 0 && number("/answered/farewells") > 0, "{outcome}");
    assert!(number("/answered/granted") > 0 && number("/answered/meals") > 0, "{outcome}");
}
