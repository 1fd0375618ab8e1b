//! Breadth first through the states of a protocol.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A world in steps.
pub trait Protocol {
    type State: Clone + Hash;
    type Step: Copy + Eq;

    fn start(&self) -> Self::State;

    /// Everything that can happen next; the same step leads to the same state. States are canonical: what behaves alike is equal. True: on the way there the two managers have
    /// changed places.
    fn next(&self, state: &Self::State) -> Vec<(Self::Step, Self::State, bool)>;

    /// What is wrong with a step that was taken.
    fn broken(&self, before: &Self::State, step: Self::Step, after: &Self::State) -> Option<String>;

    /// Why the goal cannot be reached from here, when nothing goes wrong any more.
    fn stuck(&self, state: &Self::State) -> Option<String>;

    /// A line of the story. `swapped`: the managers go by each other's names.
    fn tell(&self, before: &Self::State, step: Self::Step, after: &Self::State, swapped: bool) -> String;
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub states: usize,
    pub depth: usize,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Explored {
    pub states: usize,
    /// Steps between these states.
    pub steps: usize,
    /// Every state that is so many steps away from the start has been seen.
    pub depth: usize,
    /// There are no other states.
    pub complete: bool,
    pub problem: Option<Problem>,
}

/// Something that must not happen, and the shortest way there.
#[derive(Clone, Debug)]
pub struct Problem {
    pub what: String,
    pub story: Vec<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, line) in self.story.iter().enumerate() {
            writeln!(f, "{:3}. {line}", i + 1)?;
        }
        write!(f, "     => {}", self.what)
    }
}

/// FNV-1a in 128 bits: the same in every run, and wide enough to stand for a state.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint(u128);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fingerprint {
    pub(super) fn of(value: &impl Hash) -> u128 {
        let mut hasher = Self::default();
        value.hash(&mut hasher);
        hasher.0
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn finish(&self) -> u64 {
        (self.0 >> 64) as u64 ^ self.0 as u64
    }
}

/// A map that is looked into and never walked through.
pub(super) type Memo<K, V> = HashMap<K, V, BuildHasherDefault<Fingerprint>>;

/// How a state was first reached.
struct Way<S> {
    from: usize,
    step: S,
}

/// Explores until the bounds, the end of what there is, or the first problem.
pub fn explore<P: Protocol>(protocol: &P, bounds: Bounds) -> Explored {
    let start = protocol.start();
    let mut known: Memo<u128, ()> = Memo::default();
    known.insert(Fingerprint::of(&start), ());
    let mut ways: Vec<Option<Way<P::Step>>> = Vec::from([None]);
    let mut seen = Explored { states: 1, steps: 0, depth: 0, complete: false, problem: None };
    if let Some(what) = protocol.stuck(&start) {
        seen.problem = Some(Problem { what, story: Vec::new() });
        return seen;
    }
    let mut level = vec![(0, start)];
    while seen.depth < bounds.depth {
        let mut following = Vec::new();
        for (at, state) in &level {
            for (step, after, _) in protocol.next(state) {
                seen.steps += 1;
                let broken = protocol.broken(state, step, &after);
                let is_new = known.insert(Fingerprint::of(&after), ()).is_none();
                if broken.is_none() && !is_new {
                    continue;
                }
                ways.push(Some(Way { from: *at, step }));
                seen.states = known.len();
                if let Some(what) = broken.or_else(|| protocol.stuck(&after)) {
                    let story = story(protocol, &ways, ways.len() - 1);
                    seen.problem = Some(Problem { what, story });
                    return seen;
                }
                following.push((ways.len() - 1, after));
                if seen.states >= bounds.states {
                    return seen;
                }
            }
        }
        if following.is_empty() {
            seen.complete = true;
            return seen;
        }
        seen.depth += 1;
        level = following;
    }
    seen
}

/// The steps that lead to a state, told one after the other.
fn story<P: Protocol>(protocol: &P, ways: &[Option<Way<P::Step>>], mut at: usize) -> Vec<String> {
    let mut steps = Vec::new();
    while let Some(way) = &ways[at] {
        steps.push(way.step);
        at = way.from;
    }
    let (mut state, mut swapped, mut lines) = (protocol.start(), false, Vec::new());
    for step in steps.into_iter().rev() {
        let Some((_, after, turned)) = protocol.next(&state).into_iter().find(|(taken, ..)| *taken == step) else {
            break;
        };
        lines.push(protocol.tell(&state, step, &after, swapped));
        swapped ^= turned;
        state = after;
    }
    lines
}
