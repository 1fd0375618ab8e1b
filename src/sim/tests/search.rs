//! Every interleaving of two managers, to a bound: `SEARCH_STATES` says how many states (release builds go to a million).

#![expect(clippy::print_stdout, clippy::panic, reason = "a test's helpers fail the test, and say how far they got")]

use std::time::Instant;

use capm3_sim::search::{AddressSetting, Addresses, Bounds, Explored, Flaw, HostSetting, Hosts, Protocol, explore};

fn bounds() -> Bounds {
    let of_build = if cfg!(debug_assertions) { 3_000 } else { 1_000_000 };
    let states = std::env::var("SEARCH_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(of_build);
    Bounds { states, depth: 60 }
}

/// Without a problem, and far enough to say something.
#[track_caller]
fn holds(what: &str, protocol: &impl Protocol) -> Explored {
    let begun = Instant::now();
    let seen = explore(protocol, bounds());
    let Explored { states, steps, depth, complete, problem } = &seen;
    let all = if *complete { ", and there are no others" } else { "" };
    println!("{what}: {states} states, {steps} steps, depth {depth}{all}; {:.1} s", begun.elapsed().as_secs_f64());
    if let Some(problem) = problem {
        panic!("{what}\n{problem}");
    }
    assert!(*complete || *states >= bounds().states, "{what}: {states} states");
    seen
}

/// Whatever their caches show, and without a lock: the precondition of the claim is all that stands between them.
#[test]
fn k_145_two_managers_two_machines_two_hosts() {
    holds("claiming, one crash, one loss", &Hosts::new(HostSetting::default()));
}

#[test]
fn two_machines_want_one_host() {
    holds("one host for two", &Hosts::new(HostSetting { hosts: 1, ..HostSetting::default() }));
}

/// Under a manager that crashes and comes back, and whose requests and answers get lost.
#[test]
fn a_machine_is_deleted_at_any_moment() {
    let setting = HostSetting { two: false, deletes: 1, returns: 1, crashes: 2, losses: 2, ..HostSetting::default() };
    holds("one of two, deleted and made again", &Hosts::new(setting));
    let setting = HostSetting { hosts: 1, deletes: 2, returns: 2, ..setting };
    holds("two for one host, deleted and made again", &Hosts::new(setting));
}

/// Two managers at once: a claim that was decided before the machine was deleted, and that arrives after the other has let the
/// machine go, meets a host whose version is another by then.
#[test]
fn a_claim_on_the_wire_does_not_outlive_its_machine() {
    let setting = HostSetting { machines: 1, hosts: 1, deletes: 1, crashes: 0, losses: 0, ..HostSetting::default() };
    holds("one of two, deleted while a claim is on its way", &Hosts::new(setting));
}

#[test]
fn a_claim_without_a_version_is_found() {
    let setting =
        HostSetting { hosts: 1, crashes: 0, losses: 0, flaw: Some(Flaw::Unconditional), ..HostSetting::default() };
    let seen = explore(&Hosts::new(setting), Bounds { states: 200_000, depth: 40 });
    let problem = seen.problem.expect("a claim without a version gives a host to two machines");
    println!("after {} states:\n{problem}", seen.states);
    assert!(problem.what.contains("goes from m"), "{problem}");
}

#[test]
fn two_claims_want_one_address() {
    holds("one address for two claims", &Addresses::new(AddressSetting { addresses: 1, ..AddressSetting::default() }));
}

#[test]
fn two_claims_two_addresses() {
    holds("two addresses", &Addresses::new(AddressSetting::default()));
}

/// Claims of one name and both kinds, under two managers at once: what one has reserved for the Cluster API claim under the bare name the
/// other takes for the IPClaim's. `status.indexes` cannot tell them apart before the address object is there.
#[test]
fn a_reservation_does_not_say_for_which_kind_it_is() {
    let setting = AddressSetting { same_name: true, crashes: 0, losses: 0, ..AddressSetting::default() };
    let problem = explore(&Addresses::new(setting), bounds()).problem.expect("the entry has the bare name");
    println!("{problem}");
}

#[test]
fn an_address_that_is_kept_and_claims_that_go() {
    let setting = AddressSetting { kept: true, deletes: 1, crashes: 0, ..AddressSetting::default() };
    holds("one kept, one claim goes", &Addresses::new(setting));
    let setting = AddressSetting { addresses: 1, returns: 1, losses: 0, kept: false, finalizers: false, ..setting };
    holds("one address, a claim goes and comes back", &Addresses::new(setting));
}

#[test]
fn a_reservation_without_a_version_is_found() {
    let setting = AddressSetting {
        addresses: 1,
        crashes: 0,
        losses: 0,
        flaw: Some(Flaw::Unconditional),
        ..AddressSetting::default()
    };
    let seen = explore(&Addresses::new(setting), Bounds { states: 40_000, depth: 40 });
    let problem = seen.problem.expect("a reservation without a version gives an address away twice");
    println!("after {} states:\n{problem}", seen.states);
    assert!(problem.what.contains("is held twice"), "{problem}");
}
