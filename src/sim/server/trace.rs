//! What was asked and what came of it, so that two runs can be compared byte for byte.

use std::fmt::{self, Write};

use super::call::Call;

pub(super) struct Trace {
    hash: Fnv,
    keep: bool,
    lines: Vec<String>,
}

/// Takes in text as it is written, so that nothing has to keep it.
struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    pub(super) fn new(keep: bool) -> Self {
        Self { hash: Fnv(0xcbf2_9ce4_8422_2325), keep, lines: Vec::new() }
    }

    pub(super) fn note(&mut self, call: &Call, code: u16, wrote: Option<u64>) {
        let line = Line { call, code, wrote };
        if self.keep {
            self.lines.push(line.to_string());
        }
        // Writing into a hash cannot fail.
        let _ = write!(self.hash, "{line}");
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }
}

struct Line<'a> {
    call: &'a Call,
    code: u16,
    wrote: Option<u64>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.call.number, self.call, self.code)?;
        match self.wrote {
            Some(revision) => write!(f, " @{revision}"),
            None => Ok(()),
        }
    }
}
