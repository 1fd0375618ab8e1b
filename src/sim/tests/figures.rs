//! What the managers may ask of the API server, by count: never by time. `make bench` prints the same at full size.

#![allow(clippy::print_stdout, reason = "how far a figure is from its bound")]

use std::time::Duration;

use scale::{Fleet, burst, offers};

#[path = "../benches/scale/mod.rs"]
mod scale;

/// The most that a machine may cost, created to Running, with a data template and an address of each of two pools.
const PER_MACHINE: usize = 26;
/// Intent, claim, label of the credentials and status, and a part of a lost race, which costs three or four.
const PER_CLAIM: usize = 5;

#[tokio::test(start_paused = true)]
async fn machines_are_made_with_few_requests_and_none_at_rest_or_after_a_restart() {
    const MACHINES: usize = 12;
    let fleet = Box::pin(Fleet::of(MACHINES, true)).await;
    let created = &fleet.created;
    assert!(created.requests <= PER_MACHINE * MACHINES, "{} for {MACHINES}: {created}", created.requests);
    let rest = fleet.rest(Duration::from_secs(600)).await;
    assert_eq!(rest.requests, 0, "{rest}");
    let restart = fleet.restart().await;
    assert_eq!(restart.writes, 0, "{restart}");
    println!("{MACHINES} machines: created {created}; restart {restart}");
    assert!(restart.requests < 50, "lists, and nothing for each machine: {restart}");
}

/// More free hosts than the choice looks at, and many more than that.
#[tokio::test(start_paused = true)]
async fn a_claim_costs_the_same_among_few_and_many_hosts() {
    const MACHINES: usize = 10;
    let (among_few, _) = Box::pin(burst(80, MACHINES)).await;
    let (among_many, _) = Box::pin(burst(400, MACHINES)).await;
    for asked in [&among_few, &among_many] {
        println!("{MACHINES} claims: {asked}");
        assert!(asked.requests <= PER_CLAIM * MACHINES, "{} for {MACHINES}: {asked}", asked.requests);
    }
    assert!(among_many.requests <= among_few.requests + 4, "{among_few}\n{among_many}");
}

/// Machines that wait cost nothing while others get what there is.
#[tokio::test(start_paused = true)]
async fn h_35_a_host_that_becomes_available_is_claimed_at_once_and_wakes_no_crowd() {
    const EACH: usize = 20;
    for pause in [None, Some(Duration::from_secs(2))] {
        let waits = Box::pin(offers(EACH, pause)).await;
        let longest = waits.virtual_time[EACH - 1];
        assert!(longest < Duration::from_secs(1), "{longest:?}: {:?}", waits.virtual_time);
        let asked = &waits.asked;
        println!("{EACH} hosts, {pause:?}: {asked}");
        assert!(asked.requests <= (PER_CLAIM + 1) * EACH, "{} for {EACH}, {pause:?}: {asked}", asked.requests);
    }
}
