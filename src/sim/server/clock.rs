//! Wall-clock time that goes with tokio's, which tests pause.

use capm3_runtime::Clock;
use jiff::Timestamp;
use tokio::time::Instant;

/// Starts at a given time and advances as the runtime's clock does.
#[derive(Debug)]
pub struct VirtualClock {
    epoch: Timestamp,
    start: Instant,
}

impl VirtualClock {
    /// Must be called in the runtime whose time it follows.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, start: Instant::now() }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.epoch + self.start.elapsed()
    }
}
