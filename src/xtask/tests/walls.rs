//! The walls between crates: each arrow of the dependency graph is one that ARCHITECTURE.md draws.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Which of our crates a crate may name (ARCHITECTURE.md, code map).
const ARROWS: &[(&str, &[&str])] = &[
    ("capm3-api", &[]),
    ("capm3-runtime", &[]),
    ("capm3-core", &["capm3-api"]),
    ("capm3-remote", &["capm3-core", "capm3-runtime", "capm3-api"]),
    ("capm3-webhook", &["capm3-core", "capm3-runtime", "capm3-api"]),
    ("capm3-controllers", &["capm3-core", "capm3-runtime", "capm3-remote", "capm3-api"]),
    ("capm3-manager", &["capm3-controllers", "capm3-webhook", "capm3-runtime", "capm3-api"]),
    ("capm3-sim", &["capm3-api", "capm3-core", "capm3-runtime", "capm3-remote", "capm3-controllers", "capm3-webhook"]),
    ("capm3-cli", &["capm3-api", "capm3-core", "capm3-sim"]),
    ("capm3-xtask", &["capm3-api", "capm3-core", "capm3-sim"]),
    ("capm3-e2e", &["capm3-api", "capm3-core", "capm3-sim"]),
    ("capm3-process-cri", &[]),
];

/// What a crate must not be able to name, whatever it uses it for.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("capm3-api", &["tokio", "kube-client", "kube-runtime", "futures", "hyper"]),
    ("capm3-core", &["tokio", "kube", "kube-client", "kube-runtime", "k8s-openapi", "futures", "fastrand"]),
];

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Package name to the names of its dependencies, development ones apart.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let normal = dependencies.iter().filter(|d| d["kind"] != "dev").map(|d| text(&d["name"])).collect();
            (text(&package["name"]), normal)
        })
        .collect()
}

#[test]
fn every_arrow_between_crates_is_drawn() {
    let drawn: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (package, dependencies) in dependencies() {
        let allowed = drawn.get(package.as_str()).unwrap_or_else(|| panic!("{package} is not in ARCHITECTURE.md"));
        for dependency in dependencies.iter().filter(|name| name.starts_with("capm3-")) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{package} -> {dependency} is not drawn in ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn the_manager_does_not_link_the_simulator() {
    let all = dependencies();
    let mut reached = BTreeSet::new();
    let mut next = vec!["capm3-manager".to_owned()];
    while let Some(package) = next.pop() {
        if let Some(dependencies) = all.get(&package).filter(|_| reached.insert(package.clone())) {
            next.extend(dependencies.iter().cloned());
        }
    }
    assert!(!reached.contains("capm3-sim"), "capm3-manager reaches capm3-sim");
}

#[test]
fn decisions_cannot_name_a_client_an_executor_or_a_clock() {
    let all = dependencies();
    for (package, forbidden) in FORBIDDEN {
        for name in *forbidden {
            assert!(!all[*package].contains(*name), "{package} must not depend on {name}");
        }
    }
    for (path, text) in sources("src/core") {
        for clock in ["Timestamp::now", "Zoned::now", "SystemTime", "Instant::now", "HashMap", "HashSet", "async fn"] {
            assert!(!text.contains(clock), "{path} names {clock}");
        }
    }
}

fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no source below {folder}");
    found
}

/// The defects of `capm3_core::planted` are in no build but the simulator's own.
#[test]
fn nothing_that_ships_can_have_a_planted_defect() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut with = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let features = package["features"].as_object().unwrap();
        if features
            .values()
            .flat_map(|list| list.as_array().unwrap())
            .any(|on| on.as_str().unwrap().contains("planted"))
        {
            with.insert(name);
        }
        assert!(features.get("default").is_none_or(|on| on == &Value::Array(Vec::new())), "{name}");
        for dependency in package["dependencies"].as_array().unwrap() {
            let turned_on = dependency["features"].as_array().unwrap();
            assert!(!turned_on.iter().any(|on| on == "planted"), "{name} turns planted on in {}", dependency["name"]);
        }
    }
    assert_eq!(with, BTreeSet::from(["capm3-sim"]));
}
