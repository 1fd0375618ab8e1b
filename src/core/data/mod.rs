//! What a machine needs to boot: its metadata and network data, and the index and addresses that go into them.
//!
//! The chain: a Metal3Machine makes a Metal3DataClaim; the data template answers it with a Metal3Data that holds an index
//! ([`template`]); the Metal3Data claims one address from every pool that the template reads ([`pools`], [`claims`]) and
//! is rendered, once, into two Secrets ([`render`], [`life`]).
//!
//! Rules: docs/spec/data-rendering.md.

pub mod claims;
#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases are JSON literals")]
mod fixture;
pub mod life;
pub mod objects;
pub mod pools;
pub mod render;
pub mod template;

/// What a message in a status may hold (HD-37).
const LONGEST_MESSAGE: usize = 512;

/// Cuts a message to what the schema of a status admits, between two characters.
#[must_use]
pub fn message(text: &str) -> String {
    text.chars().take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn td_144_a_message_is_cut_to_512_characters() {
        let long = format!("{}é", "x".repeat(511));
        assert_eq!(message(&format!("{long}{}", "y".repeat(600))), long);
        assert_eq!(message("short"), "short");
    }
}
