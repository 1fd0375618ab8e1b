//! What the machine room tells a machine when it is switched on; read by `machine-init` (its pid 1) before it enters its own root.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One boot of one machine. All paths are those of the room; none of them is visible inside the machine afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// File system image with the packages of the "operating system image", read only and shared by all machines. Without it a machine
    /// has what this host has.
    pub layer: Option<PathBuf>,
    /// File system image that is this machine's disk.
    pub disk: PathBuf,
    /// An empty folder to build the root on; mounted over inside the machine's own mount namespace.
    pub scratch: PathBuf,
    /// Folder with the files of the config drive's `openstack/latest`; none for a live image.
    pub drive: Option<PathBuf>,
    /// Folder that the machine sees as `/var/log`.
    pub log: PathBuf,
    /// Name in the machine's `/usr/local/bin` to the program that stands there.
    pub programs: BTreeMap<String, PathBuf>,
}
