//! Which local programs stand for which image.
//!
//! An image that no row names does not exist for this node: pulling it fails and the pod's status says so, as it would
//! on a node without access to that registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Table(Vec<Image>);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// The whole image name, or a part of it. A whole name wins over a part; among parts the first row wins.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Path or command name in the container → program of this machine.
    #[serde(default)]
    pub programs: BTreeMap<String, PathBuf>,
    /// Path in the container → file or directory of this machine, read-only.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// Run when the pod names no command.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// User and group when the pod names none.
    #[serde(default)]
    pub user: u32,
    /// Runs nothing of the image: a stand-in that lives until it is stopped.
    #[serde(default)]
    pub idle: bool,
    /// Ports on which the idle stand-in answers HTTP probes.
    #[serde(default)]
    pub answers: Vec<u16>,
    /// Root file system; by default `overlay` where pods have their own network, `machine` where they share the node's.
    #[serde(default)]
    pub root: Option<Root>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Root {
    /// A root of its own with the kubelet's mounts.
    Overlay,
    /// The machine's root as it is.
    Machine,
}

/// Why an image cannot be had; the text ends up in the pod's status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unavailable<'a> {
    Unknown,
    NotBuilt(&'a Path),
}

impl Table {
    pub(crate) fn find(&self, image: &str) -> Option<&Image> {
        let whole = self.0.iter().find(|row| row.pattern == image);
        whole.or_else(|| self.0.iter().find(|row| image.contains(&row.pattern)))
    }

    /// The row for `image`, all of whose programs and files are there.
    pub(crate) fn pull(&self, image: &str) -> Result<&Image, Unavailable<'_>> {
        let row = self.find(image).ok_or(Unavailable::Unknown)?;
        match row.programs.values().chain(row.files.values()).find(|path| !path.exists()) {
            Some(missing) => Err(Unavailable::NotBuilt(missing)),
            None => Ok(row),
        }
    }
}

impl Unavailable<'_> {
    pub(crate) fn message(&self, image: &str) -> String {
        match self {
            Self::Unknown => format!("image {image:?} is not known to this node"),
            Self::NotBuilt(path) => format!("image {image:?} stands for {}, which does not exist", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        serde_json::from_str(
            r#"[{"match":"/kube-apiserver:","programs":{"kube-apiserver":"/bin/true"}},
                {"match":"example.test/kube-apiserver:v2","programs":{"kube-apiserver":"/bin/false"}},
                {"match":"pause","idle":true},
                {"match":"manager","programs":{"/manager":"/nonexistent/manager"}}]"#,
        )
        .unwrap()
    }

    #[test]
    fn a_whole_name_wins_over_a_part() {
        let table = table();
        let program = |image| table.find(image).and_then(|row| row.programs.values().next()).unwrap();
        assert_eq!(program("example.test/kube-apiserver:v1"), Path::new("/bin/true"));
        assert_eq!(program("example.test/kube-apiserver:v2"), Path::new("/bin/false"));
        assert!(table.find("registry.k8s.io/pause:3.10.2").unwrap().idle);
    }

    #[test]
    fn an_unknown_image_is_a_pull_error_that_names_it() {
        let error = table().pull("nginx:1").unwrap_err().message("nginx:1");
        assert_eq!(error, "image \"nginx:1\" is not known to this node");
    }

    #[test]
    fn a_program_that_was_not_built_is_a_pull_error_that_names_it() {
        let error = table().pull("manager:v1").unwrap_err().message("manager:v1");
        assert_eq!(error, "image \"manager:v1\" stands for /nonexistent/manager, which does not exist");
    }
}
