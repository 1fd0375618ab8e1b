//! The API server in the process and the real one, asked the same questions.
//!
//! A case is a short script of raw requests. What the real server answered is recorded in `recorded.txt`, without what differs from run
//! to run; the simulator must answer the same. The live tests ask a real server (the one that `bed api` starts): the recording must
//! still be true, and generated sequences of requests must get the same answers from both. When they differ, the simulator is wrong.
//!
//! `CAPM3_RECORD=1` with the live test writes the recording anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]
#![allow(clippy::needless_pass_by_value, reason = "objects are written in place")]

mod cases;
mod definitions;
mod harness;
mod normal;
mod random;

use std::collections::BTreeMap;

use harness::Site;

const RECORDED: &str = include_str!("recorded.txt");
const RECORD_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/recorded.txt");

/// The recorded answers of each case.
fn recorded() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = "";
    for line in RECORDED.lines() {
        match line.strip_prefix("## ") {
            Some(name) => current = name,
            None => all.entry(current).or_default().push(line),
        }
    }
    all
}

/// Compares case by case and says everything that differs.
async fn compare(site: &Site, whose: &str) -> BTreeMap<&'static str, Vec<String>> {
    let recorded = recorded();
    let (mut answers, mut differences) = (BTreeMap::new(), Vec::new());
    for case in cases::all() {
        let got = site.run(&case).await;
        match recorded.get(case.name) {
            None => differences.push(format!("{}: not recorded", case.name)),
            Some(expected) if expected.len() != got.len() => {
                differences.push(format!("{}: {} answers, recorded are {}", case.name, got.len(), expected.len()));
            }
            Some(expected) => {
                for (i, (expected, got)) in expected.iter().zip(&got).enumerate().filter(|(_, (e, g))| *e != g) {
                    let step = &case.steps[i];
                    differences.push(format!("{} step {i}: {step}\n  recorded {expected}\n  {whose} {got}", case.name));
                }
            }
        }
        answers.insert(case.name, got);
    }
    if std::env::var_os("CAPM3_RECORD").is_none() {
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn the_simulator_answers_as_the_real_server_did() {
    if std::env::var_os("CAPM3_RECORD").is_some() {
        return; // the recording is being made
    }
    compare(&Site::simulated(1).await, "answered").await;
}

#[test]
fn every_case_has_its_own_name_and_its_record() {
    let mut names: Vec<_> = cases::all().iter().map(|case| case.name).collect();
    names.sort_unstable();
    let recorded: Vec<_> = recorded().into_keys().collect();
    assert_eq!(names, recorded);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_answers() {
    let (one, other) = (Site::simulated(7).await, Site::simulated(7).await);
    for seed in 0..50 {
        let case = random::case(seed);
        assert_eq!(one.run_raw(&case).await, other.run_raw(&case).await, "seed {seed}");
    }
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn the_recording_is_true() {
    let answers = compare(&Site::live().await, "the real server").await;
    if std::env::var_os("CAPM3_RECORD").is_some() {
        let mut text = String::new();
        for (name, answers) in answers {
            text += &format!("## {name}\n{}\n", answers.join("\n"));
        }
        std::fs::write(RECORD_FILE, text).unwrap();
    }
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn generated_sequences_get_the_same_answers() {
    const SEQUENCES: u64 = 300;
    let (real, simulated) = (Site::live().await, Site::simulated(1).await);
    let mut differences = Vec::new();
    for seed in 0..SEQUENCES {
        let case = random::case(seed);
        let (expected, got) = (real.run(&case).await, simulated.run(&case).await);
        if let Some(i) = (0..expected.len()).find(|&i| expected[i] != got[i]) {
            let story: Vec<_> = case.steps[..=i].iter().map(ToString::to_string).collect();
            let story = story.join("\n    ");
            differences.push(format!("seed {seed}:\n    {story}\n  real {}\n  sim  {}", expected[i], got[i]));
        }
    }
    assert!(differences.is_empty(), "{} of {SEQUENCES} differ:\n{}", differences.len(), differences.join("\n"));
}
