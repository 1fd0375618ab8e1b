//! The settings that make Argo CD know the health of our kinds: the scripts of `docs/argocd` as one ConfigMap.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::yaml;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/argocd");

/// One entry for each kind that we define; a kind without a script is an error. Argo CD knows no modules, so that what they share goes
/// before each.
pub fn settings() -> Result<String> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let common = read(&Path::new(SCRIPTS).join("common.lua"))?;
    let mut text = format!(
        "{}apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\ndata:\n",
        yaml::HEADER
    );
    for crd in capm3_api::crds::infrastructure().into_iter().chain(capm3_api::crds::ipam()) {
        let (group, kind) = (&crd.spec.group, &crd.spec.names.kind);
        let path = Path::new(SCRIPTS).join(group).join(kind).join("health.lua");
        let script = format!("{common}{}", read(&path)?);
        text += &format!("  resource.customizations.health.{group}_{kind}: |\n");
        for line in script.lines() {
            text += &if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") };
        }
    }
    Ok(text)
}
