//! The machine room: a provisioned host becomes a machine that boots for real.
//!
//! A machine is one process tree in net, mount, pid, uts and ipc namespaces of its own. Its disk is a file system image, kept while the
//! machine is off and deleted when the host is wiped; its cards are veth pairs with the MAC addresses of the host, plugged into the bridge
//! of the site; its config drive holds the bytes the host operator made. Pid 1 is `machine-init`; from there on everything is what a
//! real machine runs: cloud-init, kubeadm, kubelet, etcd. Ending pid 1 is the power cut, and nothing remains of the machine but its disk.
//!
//! [`layer`] makes the operating system image, [`room`] is the [`capm3_sim::room::MachineRoom`], [`power`] runs one machine,
//! [`balancer`] is the load balancer that the site puts in front of control planes, [`manifest`] what pid 1 is told.
//!
//! The room must run in the network namespace that has the bridge. It mounts nothing itself: every mount belongs to a machine.

pub(crate) mod balancer;
pub(crate) mod layer;
mod manifest;
mod power;
pub(crate) mod room;
