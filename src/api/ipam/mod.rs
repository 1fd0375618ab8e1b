//! `ipam.metal3.io`: pools and the claims on them.

pub mod v1alpha1;
