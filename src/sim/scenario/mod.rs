//! What happens in a world: small stories, each with an end that can be told from the objects alone.
//!
//! A [`Scenario`] begins from a [`Stage`] that is built once, names who runs (the providers, and the [`Actor`]s that surround them),
//! asks for things, and says what must be true in the end. What goes wrong on the way is not its business: runners bring the faults, so
//! a scenario waits long enough for what it needs and its goal holds whatever happened.

mod addresses;
mod ask;
mod expect;
mod machines;
mod meddlers;
mod remedies;
pub mod script;
mod sets;
mod stage;

use futures::future::BoxFuture;

pub use stage::Stage;

use crate::actors::{self, Actor};
use crate::world::{Provider, Stuck, World};

/// A story.
pub trait Scenario: Send + Sync {
    fn name(&self) -> &'static str;

    fn stage(&self) -> Stage;

    /// Which managers run.
    fn providers(&self) -> &'static [Provider];

    /// Who else runs.
    fn actors(&self) -> &'static [Actor];

    /// How often the random runner takes it: cheap ones more often.
    fn weight(&self) -> u32;

    /// Asks for everything, waiting for what it needs in between.
    fn drive<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<(), Stuck>>;

    /// Whether the desired state is there; else what is not.
    fn goal(&self, world: &World) -> Result<(), String>;
}

/// Every scenario, in the order in which they are written.
pub fn all() -> Vec<Box<dyn Scenario>> {
    let plays =
        addresses::PLAYS.iter().chain(machines::PLAYS).chain(sets::PLAYS).chain(meddlers::PLAYS).chain(remedies::PLAYS);
    plays.map(|play| Box::new(play.clone()) as Box<dyn Scenario>).collect()
}

/// Starts all who take part. A world that is watched must be watched before.
pub async fn raise(scenario: &dyn Scenario, world: &World) {
    for &actor in scenario.actors() {
        actors::start(world, actor).await;
    }
    for &provider in scenario.providers() {
        world.start(provider);
    }
}

/// Asks for nothing.
fn nothing(_: &World) -> BoxFuture<'_, Result<(), Stuck>> {
    Box::pin(std::future::ready(Ok(())))
}

/// Every process of this provider is killed.
fn stop(world: &World, provider: Provider) {
    let processes = world.processes();
    processes.iter().filter(|process| process.provider == provider).for_each(|process| process.kill());
}

/// The same, and another one started.
fn restart(world: &World, provider: Provider) {
    stop(world, provider);
    world.start(provider);
}

/// A scenario as a row of a table.
#[derive(Clone)]
struct Play {
    name: &'static str,
    stage: Stage,
    providers: &'static [Provider],
    actors: &'static [Actor],
    weight: u32,
    drive: for<'a> fn(&'a World) -> BoxFuture<'a, Result<(), Stuck>>,
    goal: fn(&World) -> Result<(), String>,
}

impl Scenario for Play {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stage(&self) -> Stage {
        self.stage
    }

    fn providers(&self) -> &'static [Provider] {
        self.providers
    }

    fn actors(&self) -> &'static [Actor] {
        self.actors
    }

    fn weight(&self) -> u32 {
        self.weight
    }

    fn drive<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<(), Stuck>> {
        (self.drive)(world)
    }

    fn goal(&self, world: &World) -> Result<(), String> {
        (self.goal)(world)
    }
}
