//! Placeholder module doc.
fn main() {}
