//! The list of bugs against the source: every one is planted where the list says, and nothing is planted that it does not say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use planted::LIST;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Rust file of the product below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What is planted in a text: the names in `planted::is("…")` and `planted::stir("…")`.
fn planted_in(text: &str) -> BTreeSet<String> {
    let calls = ["planted::is(\"", "planted::stir(\""];
    let after = calls.into_iter().flat_map(|call| text.split(call).skip(1));
    after.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn every_bug_of_the_list_is_planted_where_it_says_and_no_other_is() {
    let mut files = Vec::new();
    for folder in ["mesh/src", "cartographer/src", "estate/src", "nodes/src"] {
        sources(&root().join(folder), &mut files);
    }
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let place = file.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
        found.extend(planted_in(&text).into_iter().map(|name| (name, place.clone())));
    }
    let listed = LIST.iter().flat_map(|bug| bug.at.iter().map(|at| (bug.name.to_owned(), (*at).to_owned())));
    assert_eq!(found, listed.collect::<BTreeSet<_>>());
}

#[test]
fn names_are_not_used_twice_and_everything_is_said() {
    let names: BTreeSet<&str> = LIST.iter().map(|bug| bug.name).collect();
    assert_eq!(names.len(), LIST.len());
    for bug in LIST {
        assert!(!bug.what.is_empty() && !bug.at.is_empty(), "{}", bug.name);
        assert!(bug.simulated || !bug.found_by.is_empty(), "nothing finds {}", bug.name);
        assert!(bug.found_by.is_empty() || bug.found_by.contains(": "), "{}", bug.found_by);
        assert_eq!(planted::find(bug.name), Some(bug));
    }
}

#[cfg(feature = "on")]
#[test]
fn a_bug_is_planted_for_one_thread_and_one_call() {
    let name = LIST[0].name;
    assert!(!planted::is(name) && planted::stir(name) == 0);
    planted::with(name, || {
        assert!(planted::is(name) && !planted::is(LIST[1].name));
        assert_eq!(planted::reached(), 1);
        assert_ne!(planted::stir(name), planted::stir(name));
        std::thread::scope(|scope| scope.spawn(|| assert!(!planted::is(name))).join()).expect("another thread");
        planted::with(LIST[1].name, || assert!(!planted::is(name)));
        assert!(planted::is(name), "the outer one is back");
    });
    assert!(!planted::is(name) && planted::reached() == 0);
    let failed = std::panic::catch_unwind(|| planted::with(name, || panic!("on purpose")));
    assert!(failed.is_err() && !planted::is(name), "a panic takes it out too");
    assert!(std::panic::catch_unwind(|| planted::with("no such bug", || ())).is_err());
}

#[cfg(not(feature = "on"))]
#[test]
fn without_the_feature_nothing_is_planted() {
    assert!(LIST.iter().all(|bug| !planted::is(bug.name) && planted::stir(bug.name) == 0));
}
