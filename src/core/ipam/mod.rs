//! Addresses for claims: what a pool holds, who holds what, and what the next claim gets.
//!
//! One table serves both claim kinds, so that no address is given out twice (spec/ipam.md HI-1, HI-2, HI-5). [`pool::decide`] is the
//! entry; [`objects`] is the border to the API types.

pub mod allocate;
pub mod objects;
pub mod pool;
pub mod range;
pub mod table;
