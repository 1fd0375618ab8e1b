//! Fuzz targets as ordinary tests: what bytes say is done, and the rules hold.
//!
//! A target reads its input byte by byte, so that any fuzzer can drive it; here seeds do, and what is worth keeping stands in a corpus
//! beside the target, a line each: target, bytes in hex, why. More of it: `CAPM3_FUZZ=100000 cargo test -p capm3-core fuzz`. What
//! fails is cut down to the bytes that matter and printed as a line for the corpus.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::ipam::pool::mix;

const RUNS: u64 = 2_000;

/// An input, byte by byte; zeros when it is over.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.next()) % n
    }

    pub(crate) fn one_of<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn seeded(seed: u64) -> Vec<u8> {
    let length = 8 + mix(seed, 0) % 160;
    (1..=length).map(|n| mix(seed, n).to_le_bytes()[0]).collect()
}

/// What the target says against an input, if it fails.
fn complaint(target: fn(&mut Bytes<'_>), input: &[u8]) -> Option<String> {
    let failed = catch_unwind(AssertUnwindSafe(|| target(&mut Bytes(input)))).err()?;
    let text = failed.downcast_ref::<String>().cloned();
    Some(text.or_else(|| failed.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

/// The same with a part left out, the longest first, or with a byte that says less.
fn lesser(input: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let parts = [32, 8, 4, 3, 2, 1].into_iter().flat_map(move |n| {
        (0..(input.len() + 1).saturating_sub(n)).map(move |i| [&input[..i], &input[i + n..]].concat())
    });
    let zeros = (0..input.len()).filter(|i| input[*i] != 0).map(|i| {
        let mut less = input.to_vec();
        less[i] /= 2;
        less
    });
    parts.chain(zeros)
}

/// The corpus' lines of this name, then seeds.
pub(crate) fn run(corpus: &str, name: &str, target: fn(&mut Bytes<'_>)) {
    let lines = corpus.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let kept: Vec<_> = lines.map(|line| bytes(line.split_whitespace().next().unwrap())).collect();
    assert!(!kept.is_empty(), "the corpus has nothing for {name}");
    let runs = std::env::var("CAPM3_FUZZ").map_or(RUNS, |text| text.parse().unwrap());
    for mut input in kept.into_iter().chain((0..runs).map(seeded)) {
        if complaint(target, &input).is_none() {
            continue;
        }
        let worse = |input: &[u8]| lesser(input).find(|less| complaint(target, less).is_some());
        while let Some(less) = worse(&input) {
            input = less;
        }
        panic!("{name} {}: {}", hex(&input), complaint(target, &input).unwrap());
    }
}
