//! Writes what is generated (`crds/`, `clusterctl/`, the bed's host CRDs) and says when a committed file differs.
//!
//! `cargo xtask generate` writes; `cargo xtask check` compares, names each difference and fails.

#![expect(unreachable_pub, reason = "a binary exports nothing; `pub` marks what a module offers to the others")]

mod argocd;
mod flavours;
mod host_crds;
mod outputs;
mod packaging;
mod pages;
mod rbac;
mod yaml;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Generates and checks the committed output of this project")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write every generated file.
    Generate,
    /// Fail when a generated file differs from what would be written, or is left over.
    Check,
}

fn main() -> Result<()> {
    let root = root()?;
    let wanted = outputs::all()?;
    match Args::parse().command {
        Command::Generate => {
            for (path, text) in &wanted {
                let path = root.join(path);
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
                }
                std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            }
            for path in left_over(&root, &wanted)? {
                std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            }
            Ok(())
        }
        Command::Check => {
            let mut differences: Vec<String> = wanted
                .iter()
                .filter(|(path, text)| std::fs::read_to_string(root.join(path)).ok().as_deref() != Some(text))
                .map(|(path, _)| path.display().to_string())
                .collect();
            differences.extend(left_over(&root, &wanted)?.iter().map(|path| format!("{} (left over)", path.display())));
            if !differences.is_empty() {
                bail!("generated files differ; run `make generate`:\n  {}", differences.join("\n  "));
            }
            Ok(())
        }
    }
}

fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_path_buf).context("the workspace root is two folders up")
}

/// Files below the generated folders that nothing would write any more.
fn left_over(root: &Path, wanted: &[(PathBuf, String)]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = outputs::FOLDERS.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if !wanted.iter().any(|(kept, _)| root.join(kept) == path) {
                found.push(path);
            }
        }
    }
    Ok(found)
}
