//! The scenario files of `docs/sim/` and the stories beside them. `RECORD_STORIES=1` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::path::{Path, PathBuf};

use capm3_sim::fault::Plan;
use capm3_sim::scenario::script::{Script, Told, play};
use tokio::runtime::Builder;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("docs/sim")
}

fn files() -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    all.sort();
    all
}

fn tell(script: &Script) -> Told {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(Box::pin(play(script, script.seed, &Plan::calm()))).unwrap()
}

/// A story that takes long without optimisation.
fn is_long(script: &Script) -> bool {
    script.hosts.iter().filter_map(|hosts| hosts.count).sum::<u32>() > 1000
}

#[test]
fn every_story_is_the_one_that_was_recorded() {
    let files = files();
    assert!(files.len() >= 8, "{files:?}");
    let mut different = Vec::new();
    for file in files {
        let script = Script::read(&std::fs::read_to_string(&file).unwrap()).unwrap();
        if is_long(&script) && cfg!(debug_assertions) {
            println!("{}: left to release builds", file.display());
            continue;
        }
        let told = tell(&script);
        assert!(told.failures.is_empty(), "{}: {:?}\n{}", file.display(), told.failures, told.lines.join("\n"));
        let (story, recorded) = (told.lines.join("\n") + "\n", file.with_extension("story"));
        if std::env::var_os("RECORD_STORIES").is_some() {
            std::fs::write(&recorded, story).unwrap();
        } else if is_long(&script) && !recorded.exists() {
            println!("{}: played, and recorded nowhere", file.display());
        } else if std::fs::read_to_string(&recorded).unwrap_or_default() != story {
            different.push(format!("{}:\n{story}", recorded.display()));
        }
    }
    assert!(different.is_empty(), "RECORD_STORIES=1 writes them anew:\n{}", different.join("\n"));
}

#[test]
fn the_same_script_and_seed_give_the_same_story() {
    let text = std::fs::read_to_string(folder().join("two-managers.yaml")).unwrap();
    let script = Script::read(&text).unwrap();
    assert_eq!(tell(&script).lines, tell(&script).lines);
}

/// An expectation that does not come true is said.
#[test]
fn what_does_not_come_true_is_a_failure() {
    let text = "about: nothing\nhosts: [{name: host}]\nsteps: [wait until machine m1 runs within 1m]\nexpect: [host host is claimed]\n";
    let told = tell(&Script::read(text).unwrap());
    assert_eq!(told.failures.len(), 2, "{:?}", told.failures);
    assert!(told.lines.iter().any(|line| line.contains("NO:  host host is claimed")));
}

#[test]
fn the_examples_of_the_manual_can_be_read() {
    let manual = std::fs::read_to_string(folder().with_file_name("simulate.md")).unwrap();
    let examples: Vec<&str> = manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        assert_eq!(std::fs::read_to_string(folder().join("pool-grows.yaml")).unwrap(), example);
    }
    let story = std::fs::read_to_string(folder().join("pool-grows.story")).unwrap();
    let shown = manual.split("```\n").find(|block| block.contains("claim a is made")).unwrap();
    assert!(story.contains(shown), "{story}");
}
