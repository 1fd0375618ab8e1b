//! What was asked and what came of it, so that two runs can be compared byte for byte.

use super::call::Call;

pub(super) struct Trace {
    hash: u64,
    keep: bool,
    lines: Vec<String>,
}

impl Trace {
    pub(super) fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, keep, lines: Vec::new() }
    }

    pub(super) fn note(&mut self, call: &Call, code: u16, wrote: Option<u64>) {
        let wrote = wrote.map(|revision| format!(" @{revision}")).unwrap_or_default();
        let line = format!("{} {call} {code}{wrote}", call.number);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.keep {
            self.lines.push(line);
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }
}
