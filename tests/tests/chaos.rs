//! A short run of chaos: real processes, real etcd, kills, freezes and cuts, and accounts that agree at the end. The long ones
//! are `scripts/chaos`. Needs etcd and network namespaces, and fails without.

use std::time::Duration;

use tests::chaos::run::{self, Options, Stop};

#[test]
fn a_minute_of_chaos_loses_nothing_doubles_nothing_and_hangs_nobody() {
    let folder = tests::processes::folder().keep();
    let options = Options {
        length: Duration::from_secs(45),
        bots: 10,
        seed: 3,
        only: None,
        folder: folder.clone(),
        verbose: "info".to_owned(),
        upgrade_from: None,
        loud: false,
    };
    let outcome = run::run(&options, &Stop::default()).unwrap_or_else(|error| {
        panic!("{error:#}; logs in {}", folder.display());
    });
    assert!(outcome.failures.is_empty(), "{}\nlogs in {}", outcome.text, folder.display());
    assert!(outcome.json["kills"].as_u64() > Some(0), "{}", outcome.text);
    assert!(outcome.json["faults"].as_object().is_some_and(|faults| faults.len() > 2), "{}", outcome.text);
    // Only room is lost if it stays.
    let _ = std::fs::remove_dir_all(&folder);
}
