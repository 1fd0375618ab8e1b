//! Time and chance come in here, so that a run can be repeated from its inputs.

use jiff::Timestamp;
use parking_lot::Mutex;

/// Wall-clock time for what is written to objects; durations are measured with tokio's clock, which tests can pause.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// A source of choices among equals.
pub trait Dice: Send + Sync + 'static {
    fn roll(&self) -> u64;
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Stands still until it is set.
#[derive(Debug)]
pub struct FixedClock(Mutex<Timestamp>);

impl FixedClock {
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    pub fn set(&self, now: Timestamp) {
        *self.0.lock() = now;
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDice;

impl Dice for SystemDice {
    fn roll(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// The same throws for the same seed.
#[derive(Debug)]
pub struct SeededDice(Mutex<fastrand::Rng>);

impl SeededDice {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Dice for SeededDice {
    fn roll(&self) -> u64 {
        self.0.lock().u64(..)
    }
}
