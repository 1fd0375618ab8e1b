//! Compiles the CRI's `api.proto` as it lies in the Go module `k8s.io/cri-api`, the version that the kubelet of
//! `e2e/tools/kube` was built with: nothing of it is copied into this project.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

const MODULE: &str = "k8s.io/cri-api";

fn main() -> Result<(), Box<dyn Error>> {
    let tools = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../tools/kube");
    println!("cargo::rerun-if-env-changed=CRI_API_DIR");
    println!("cargo::rerun-if-changed={}", tools.join("go.mod").display());
    let module = match std::env::var("CRI_API_DIR") {
        Ok(dir) => dir,
        Err(_) => module_dir(&tools)?,
    };
    let proto = PathBuf::from(module).join("pkg/apis/runtime/v1");
    let files = protox::compile(["api.proto"], [&proto])?;
    tonic_prost_build::configure().build_client(false).generate_default_stubs(true).compile_fds(files)?;
    Ok(())
}

fn module_dir(tools: &PathBuf) -> Result<String, Box<dyn Error>> {
    let go = |args: &[&str]| Command::new("go").args(args).current_dir(tools).env("GOFLAGS", "-mod=mod").output();
    let list = || -> Result<String, Box<dyn Error>> {
        let out =
            go(&["list", "-m", "-f", "{{.Dir}}", MODULE]).map_err(|e| format!("go (needed for {MODULE}): {e}"))?;
        Ok(String::from_utf8(out.stdout)?.trim().to_owned())
    };
    let mut dir = list()?;
    if dir.is_empty() {
        let out = go(&["mod", "download", MODULE])?;
        if !out.status.success() {
            return Err(format!("go mod download {MODULE}: {}", String::from_utf8_lossy(&out.stderr)).into());
        }
        dir = list()?;
    }
    if dir.is_empty() { Err(format!("{MODULE} is not in {}/go.mod", tools.display()).into()) } else { Ok(dir) }
}
