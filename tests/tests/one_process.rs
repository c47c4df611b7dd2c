//! The program as people start it: `wildmesh up` is ready within seconds, ends in order, and says clearly what keeps it
//! from starting; so does `wildmesh node`.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::processes::{KEY, Running, binary, folder, islands, path, wait_for};

/// How soon `up` must be ready, by its own account.
const READY_S: f64 = 5.0;

/// How soon it must have ended after SIGTERM.
const ENDED: Duration = Duration::from_secs(8);

/// How long a program that cannot start may take to say so.
const REFUSED: Duration = Duration::from_secs(30);

fn status(gateway: &str, more: &[&str]) -> Output {
    Command::new(binary()).args(["status", "--gateway", gateway]).args(more).output().expect("the status")
}

#[test]
fn up_is_ready_within_seconds_and_ends_in_order() {
    let folder = folder();
    let mut up = Command::new(binary())
        .args(["up", "--http", "127.0.0.1:0", "--bots", "30", "--data", &path(&folder, "data"), "--islands", islands()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(folder.path().join("log")).expect("a log"))
        .spawn()
        .map(Running)
        .expect("wildmesh up");
    let mut said = BufReader::new(up.0.stdout.take().expect("its standard output"));
    let mut line = String::new();
    said.read_line(&mut line).expect("its first words");
    let seconds: f64 = part(&line, "up after ", " s").parse().unwrap_or_else(|e| panic!("{e}: {line}"));
    assert!(seconds < READY_S, "{line}");
    let gateway = part(&line, "Open ", "/ in a browser");

    let whole = status(gateway, &[]);
    let text = String::from_utf8_lossy(&whole.stdout);
    assert!(whole.status.success() && text.contains("The mesh is whole"), "{text}");
    wait_for("30 players", || {
        let status: Value = serde_json::from_slice(&status(gateway, &["--json"]).stdout).ok()?;
        let nodes = status["nodes"].as_array()?;
        let players: u64 = nodes.iter().filter_map(|node| node["load"]["players"].as_u64()).sum();
        (players == 30 && nodes.len() == 9).then_some(())
    });

    let asked = Instant::now();
    let signalled = Command::new("kill").args(["-s", "TERM", &up.0.id().to_string()]).status();
    assert!(signalled.is_ok_and(|s| s.success()));
    let code = wait_for("its end", || up.0.try_wait().expect("its state"));
    assert!(asked.elapsed() < ENDED, "it took {:?}", asked.elapsed());
    assert_eq!(code.code(), Some(0), "{}", std::fs::read_to_string(folder.path().join("log")).unwrap_or_default());
    // What it listened at is free again, and nobody answers there.
    let gone = status(gateway, &[]);
    assert!(!gone.status.success());
    assert!(String::from_utf8_lossy(&gone.stderr).contains(gateway), "{}", String::from_utf8_lossy(&gone.stderr));
}

/// What stands between two texts.
fn part<'a>(line: &'a str, before: &str, after: &str) -> &'a str {
    let rest = line.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {line:?}")).1;
    rest.split_once(after).unwrap_or_else(|| panic!("no {after:?} in {line:?}")).0
}

/// Runs a command that cannot start; what it says names each of `named`.
fn refused(words: &[&str], named: &[&str]) {
    let started = Instant::now();
    let output = Command::new(binary()).args(words).stdin(Stdio::null()).output().expect("its output");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    let error = said.split_once("error: ").unwrap_or_else(|| panic!("{words:?}: no error in {said}")).1;
    for name in named {
        assert!(error.contains(name), "{words:?}: no {name:?} in {error}");
    }
    assert!(!said.contains("panicked"), "{words:?}: {said}");
    assert!(started.elapsed() < REFUSED, "{words:?} took {:?}", started.elapsed());
}

#[test]
fn what_keeps_up_from_starting_is_named() {
    let folder = folder();
    let (data, maps, file) = (path(&folder, "data"), path(&folder, "maps"), path(&folder, "file"));
    std::fs::write(&file, "no folder").expect("a file");
    let up = |http: &str, data: &str, islands: &str, named: &[&str]| {
        refused(&["up", "--http", http, "--data", data, "--islands", islands], named);
    };
    let any = "127.0.0.1:0";

    up(any, &data, &maps, &[&maps]);
    std::fs::create_dir(&maps).expect("a folder");
    up(any, &data, &maps, &[&maps, ".tmx"]);
    let broken = Path::new(&maps).join("broken.tmx");
    std::fs::write(&broken, "<map width=\"10\"").expect("a map");
    up(any, &data, &maps, &[&maps, "broken.tmx"]);

    let busy = TcpListener::bind(any).expect("a port");
    let taken = busy.local_addr().expect("its address").to_string();
    up(&taken, &data, islands(), &[&taken, "--http", "in use"]);
    up("192.0.2.1:8080", &data, islands(), &["192.0.2.1:8080"]);

    up(any, &file, islands(), &[&file, "not a folder"]);
    up(any, &path(&folder, "file/below"), islands(), &[&path(&folder, "file/below")]);
}

#[test]
fn what_keeps_a_node_from_starting_is_named() {
    let nobody = "http://127.0.0.1:1";
    let node = |more: &[&str], named: &[&str]| {
        let words = ["node", "--role", "zoo", "--store", "memory", "--islands", islands()];
        refused(&[&words[..], more].concat(), named);
    };
    node(&["--key", KEY, "--etcd", nobody], &[nobody]);
    node(&["--key", KEY, "--etcd", " , "], &["--etcd"]);
    node(&["--key", "short", "--etcd", nobody], &["--key", "8"]);
    node(&["--key", KEY, "--name", "Zoo 1", "--etcd", nobody], &["Zoo 1"]);
}
