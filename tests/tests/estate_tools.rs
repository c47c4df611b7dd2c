//! The tools for documents, as operators run them beside a mesh: a gift that reaches a player at home, audits, repairs,
//! rehearsals, and clear words for whatever is wrong.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use bytes::Bytes;
use estate::store::embedded::{self, EmbeddedStore};
use estate::store::{Store, WriteOptions};
use serde_json::Value;
use tests::processes::{Running, binary, folder, islands, path, wait_for};

/// `wildmesh up` on this store, with bots, once it is ready.
fn up(data: &str, bots: &str) -> Running {
    let mut up = Command::new(binary())
        .args(["up", "--http", "127.0.0.1:0", "--bots", bots, "--data", data, "--islands", islands()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map(Running)
        .expect("wildmesh up");
    let mut line = String::new();
    BufReader::new(up.0.stdout.take().expect("its standard output")).read_line(&mut line).expect("its first words");
    assert!(line.contains("is up"), "{line}");
    up
}

fn tool(data: &str, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(words).args(["--store", data]).stdin(Stdio::null());
    let takes_islands = !matches!(words, ["migrate", ..] | ["estate", "show", ..]);
    if takes_islands {
        command.args(["--islands", islands()]);
    }
    command.output().expect("its output")
}

/// The tool's last line, and its exit code.
fn json(data: &str, words: &[&str]) -> (Value, i32) {
    let output = tool(data, words);
    let text = String::from_utf8_lossy(&output.stdout);
    let value = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let value = value.unwrap_or_else(|| panic!("{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (value, output.status.code().expect("an exit code"))
}

fn document(data: &str, key: &str) -> Option<Value> {
    serde_json::from_slice(&tool(data, &["estate", "show", key]).stdout).ok()
}

/// Runs a tool that must refuse; what it says names each of `named`.
fn refused(data: &str, words: &[&str], named: &[&str]) {
    let output = tool(data, words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !said.contains("panicked"), "{words:?}: {said}");
    for name in named {
        assert!(said.contains(name), "{words:?}: no {name:?} in {said}");
    }
}

async fn store(data: &str) -> EmbeddedStore {
    embedded::open(data, None).await.expect("the store opens beside other processes")
}

/// The number of some player in the store.
async fn somebody(store: &EmbeddedStore) -> u64 {
    let players = store.scan("player/", None, 1).await.expect("a scan");
    let (key, _) = players.first().expect("a player");
    key["player/".len()..].parse().expect("a number")
}

#[tokio::test]
async fn a_gift_reaches_a_player_at_home_and_the_books_agree() {
    let folder = folder();
    let data = path(&folder, "data");
    let mesh = up(&data, "4");
    let beside = store(&data).await;
    wait_for("players", || (count(&data, "player") == 4).then_some(()));
    let player = somebody(&beside).await;
    let op = "000000000000000000000000000000a7";
    for _ in 0..2 {
        let given = tool(&data, &["estate", "give", &player.to_string(), "wood", "12", "--op", op]);
        assert!(given.status.success(), "{}", String::from_utf8_lossy(&given.stderr));
    }
    let key = format!("player/{player}");
    let kept = wait_for("the gift", || document(&data, &key).filter(|it| it["bag"]["stacks"]["wood"].is_u64()));
    assert_eq!(kept["bag"]["stacks"]["wood"], 12, "once, though it was given twice under one id");
    let (report, code) = json(&data, &["estate", "audit", "--json"]);
    assert_eq!((&report["clean"], code), (&Value::Bool(true), 0), "{report}");
    assert_eq!(report["documents"]["player"], 4);
    let (rehearsal, code) = json(&data, &["migrate", "--rehearse", "--json"]);
    assert_eq!((&rehearsal["failed"], code), (&Value::from(0), 0), "{rehearsal}");
    drop(mesh);
    let (report, code) = json(&data, &["estate", "audit", "--json", "--offline"]);
    assert_eq!((&report["clean"], code), (&Value::Bool(true), 0), "after SIGKILL: {report}");
}

fn count(data: &str, kind: &str) -> u64 {
    json(data, &["estate", "audit", "--json"]).0["documents"][kind].as_u64().unwrap_or(0)
}

async fn put(store: &EmbeddedStore, key: &str, value: &str) {
    store.insert(key, Bytes::from(value.to_owned()), WriteOptions::default()).await.expect("written");
}

#[tokio::test]
async fn what_is_broken_in_a_store_is_named_left_whole_and_mended_where_that_is_safe() {
    let folder = folder();
    let data = path(&folder, "data");
    let beside = store(&data).await;
    let newer = r#"{"v":9,"id":7,"wings":2}"#;
    put(&beside, "player/7", newer).await;
    put(&beside, "holding/8", "{\"v\":1,").await;
    put(&beside, "box/9", r#"{"v":1,"goods":{"stacks":{"wood":-4}},"limits":null}"#).await;
    // A deed that names an object which is not there, and a transaction that never was.
    let marks = r#""marks":{"intent":{"arbiter":"ledger/1/0/0","op":"000000000000000000000000000000aa","token":7}}"#;
    let deed = r#"{"v":1,"island":1,"x":0,"y":0,"stands":{"3":{"object":77}},MARKS}"#.replace("MARKS", marks);
    put(&beside, "deed/1/0/0", &deed).await;

    let (rehearsal, code) = json(&data, &["migrate", "--rehearse", "--json"]);
    assert_eq!((&rehearsal["failed"], code), (&Value::from(3), 2), "{rehearsal}");
    let failures = rehearsal["kinds"]["player"]["failures"].to_string();
    assert!(failures.contains("player/7 has version 9; this program knows up to 4"), "{failures}");

    let (report, code) = json(&data, &["estate", "audit", "--json"]);
    assert_eq!((&report["clean"], &report["found"], code), (&Value::Bool(false), &Value::from(5), 2), "{report}");
    let (report, code) = json(&data, &["estate", "audit", "--repair", "--json"]);
    assert_eq!((&report["repaired"], code), (&Value::from(2), 2), "{report}");
    let left: Vec<&str> = report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter(|it| it["repaired"] == false)
        .filter_map(|it| it["key"].as_str())
        .collect();
    assert_eq!(left, ["box/9", "holding/8", "player/7"]);
    let whole = beside.get("player/7").await.expect("read").expect("there").value;
    assert_eq!(whole, newer.as_bytes(), "left whole");
    let text = String::from_utf8(tool(&data, &["estate", "audit"]).stdout).expect("text");
    assert!(text.contains("player/7 [readable]") && text.contains("3 findings"), "{text}");
}

#[test]
fn a_deed_that_nobody_has_changed_is_the_terrain_package() {
    let folder = folder();
    let data = path(&folder, "data");
    drop(up(&data, "0"));
    let text = String::from_utf8(tool(&data, &["estate", "deed", "1", "9", "9"]).stdout).expect("text");
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows[0].starts_with("deed/1/9/9 (no document"), "{text}");
    assert!(rows[1..17].iter().all(|row| row.len() == 16 && row.chars().all(|c| c == '.' || c == 'n')), "{text}");
    assert_eq!(rows[17], "free land", "{text}");
    let (deed, code) = json(&data, &["estate", "deed", "1", "9", "9", "--json"]);
    assert_eq!((&deed["written"], code), (&Value::Bool(false), 0));
}

#[test]
fn tools_refuse_with_clear_words() {
    let folder = folder();
    let (data, nowhere) = (path(&folder, "data"), path(&folder, "nowhere"));
    drop(up(&data, "0"));
    refused(&nowhere, &["estate", "audit"], &[&nowhere, "--store"]);
    assert!(!Path::new(&nowhere).exists(), "no empty store is made by a mistyped name");
    refused(&data, &["estate", "show", "player/1"], &["player/1", &data]);
    refused(&data, &["estate", "deed", "99", "0", "0"], &["no island 99", "1 jeju"]);
    refused(&data, &["estate", "deed", "1", "9999", "0"], &["chunk"]);
    refused(&data, &["estate", "give", "1", "wood", "0"], &["nothing to give"]);
    refused(&data, &["estate", "give", "1", "Wood!", "1"], &["Wood!"]);
    refused(&data, &["estate", "give", "1", "wood", "1"], &["no player 1", "nothing was changed"]);
    refused(&data, &["estate", "give", "1", "wood", "1", "--op", "xyz"], &["32 hexadecimal digits"]);
    refused(&data, &["migrate"], &["--rehearse"]);
}
