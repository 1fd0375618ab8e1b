//! What real readers make of what we render: cloud-init reads config drives with the golden documents of the core's tests, and netplan
//! what cloud-init writes.
//!
//! Both come from the machines' image layer, so nothing of them is on this host, and no machine has to boot for it. PyYAML, a reader
//! of YAML 1.1, stands where baremetal-operator has its own: the strings must be the same to it as to our reader of 1.2 (HD-36).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::machine::layer;
use crate::paths::Paths;

/// Runs `$READER` in a private root of the layer over this host's `/`, with the documents in /tmp, and brings the answers back.
const RECIPE: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$MOUNT"
mkdir "$MOUNT/fs" "$MOUNT/upper" "$MOUNT/work" "$MOUNT/root"; R="$MOUNT/root"
mount -o loop,ro "$LAYER" "$MOUNT/fs"
mount -t overlay overlay -o "lowerdir=$MOUNT/fs/layer:/,upperdir=$MOUNT/upper,workdir=$MOUNT/work" "$R"
mount -t proc proc "$R/proc"; mount --rbind /dev "$R/dev"
mount -t tmpfs tmpfs "$R/run"; mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
cp -r "$DOCUMENTS" "$R/tmp/documents"
chroot "$R" /usr/bin/python3 -c "$READER"
for case in "$R"/tmp/documents/*; do cp "$case/answer.json" "$DOCUMENTS/${case##*/}/"; done
"#;

const READER: &str = r#"
import glob, json, os, shutil, subprocess, yaml
from cloudinit.config.schema import SchemaValidationError, get_schema, validate_cloudconfig_schema
from cloudinit.handlers.jinja_template import render_jinja_payload_from_file
from cloudinit.sources.helpers import openstack
schema = get_schema()
def check(config):
    validate_cloudconfig_schema(config, schema, strict=True)
try:
    check({"write_files": 7})
except SchemaValidationError:
    pass
else:
    raise SystemExit("cloud-init's schema takes anything")
for case in sorted(glob.glob("/tmp/documents/*/")):
    def read(name):
        with open(case + name, encoding="utf-8") as text:
            return yaml.safe_load(text)
    meta, network = read("metaData"), read("networkData")
    drive = case + "drive/openstack/latest/"
    os.makedirs(drive)
    with open(drive + "meta_data.json", "w") as out:
        json.dump({"uuid": "00000000-0000-4000-8000-000000000000", **meta}, out)
    with open(drive + "network_data.json", "w") as out:
        json.dump(network, out)
    if os.path.exists(case + "userData"):
        shutil.copy(case + "userData", drive + "user_data")
    seen = openstack.ConfigDriveReader(case + "drive").read_v2()
    answer = {"metaData": {key: seen["metadata"].get(key) for key in meta}, "networkData": seen["networkdata"]}
    if network:
        cards = [word for card in open(case + "cards").read().split() for word in ("-m", card)]
        subprocess.run(["cloud-init", "devel", "net-convert", "-p", drive + "network_data.json", "-k", "network_data.json",
                        "-d", case + "out", "-D", "debian", "-O", "netplan", *cards], check=True)
        subprocess.run(["netplan", "generate", "--root-dir", case + "out"], check=True)
        with open(case + "out/etc/netplan/50-cloud-init.yaml") as text:
            answer["netplan"] = yaml.safe_load(text)["network"]
    user = seen["userdata"] or b""
    user = user if isinstance(user, str) else user.decode()
    answer["userData"] = user
    if user.startswith('## template: jinja'):
        with open(case + "instance", "w") as out:
            json.dump({"ds": {"meta_data": seen["metadata"]}}, out)
        config = yaml.safe_load(render_jinja_payload_from_file(user, drive + "user_data", case + "instance"))
        check(config)
        answer["files"] = {file["path"]: file["content"] for file in config["write_files"]}
    with open(case + "answer.json", "w") as out:
        json.dump(answer, out)
"#;

/// One golden file: `nics` of the host, the documents, and `netplan`, which cloud-init is to make of them.
struct Golden {
    name: String,
    content: Value,
}

/// Has everything read; the number of files, or the first that is read as something else.
pub async fn read(paths: &Paths) -> Result<usize> {
    let all = golden(&paths.root.join("src/core/data/render/golden"))?;
    let cases = Cases::new(paths, "documents")?;
    for golden in &all {
        golden.write(&cases.folder(&golden.name)?)?;
    }
    cases.read().await?;
    for golden in &all {
        golden.check(&cases.answer(&golden.name)?).with_context(|| golden.name.clone())?;
    }
    Ok(all.len())
}

/// Config drives to be read: a folder each, with `metaData`, `networkData` and `cards`, and `userData` if there is any.
pub struct Cases {
    layer: PathBuf,
    documents: PathBuf,
    mount: PathBuf,
}

impl Cases {
    pub fn new(paths: &Paths, name: &str) -> Result<Self> {
        let layer = layer::made(&paths.cache).context("the machines' image has no cloud-init")?;
        let (documents, mount) = (paths.state.join(name), paths.state.join("documents.mount"));
        if documents.exists() {
            fs::remove_dir_all(&documents)?;
        }
        fs::create_dir_all(&mount)?;
        Ok(Self { layer, documents, mount })
    }

    pub fn folder(&self, case: &str) -> Result<PathBuf> {
        let folder = self.documents.join(case);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    pub async fn read(&self) -> Result<()> {
        let command = Command::new("unshare")
            .args(["--mount", "sh", "-c", RECIPE])
            .env("LAYER", &self.layer)
            .env("DOCUMENTS", &self.documents)
            .env("MOUNT", &self.mount)
            .env("READER", READER)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = command.await.context("unshare")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "a document cannot be read: {}", said.trim());
        Ok(())
    }

    pub fn answer(&self, case: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.documents.join(case).join("answer.json"))?)?)
    }
}

fn golden(folder: &Path) -> Result<Vec<Golden>> {
    let files = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.sort();
    ensure!(!files.is_empty(), "no documents in {}", folder.display());
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let content =
            serde_saphyr::from_str(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
        Ok(Golden { name, content })
    };
    files.into_iter().map(read).collect()
}

impl Golden {
    fn text(&self, key: &str) -> &str {
        self.content[key].as_str().unwrap_or("{}")
    }

    fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for key in ["metaData", "networkData"] {
            fs::write(folder.join(key), self.text(key))?;
        }
        let cards = self.content["nics"].as_object().into_iter().flatten();
        let cards = cards.map(|(name, mac)| format!("{name},{}\n", mac.as_str().unwrap_or_default().to_lowercase()));
        fs::write(folder.join("cards"), cards.collect::<String>())?;
        Ok(())
    }

    fn check(&self, answer: &Value) -> Result<()> {
        for key in ["metaData", "networkData"] {
            let written: Value = serde_saphyr::from_str(self.text(key))?;
            ensure!(answer[key] == written, "{key} is {written:#} and was read as {:#}", answer[key]);
        }
        let (meant, made) = (self.content.get("netplan").unwrap_or(&Value::Null), &answer["netplan"]);
        ensure!(meant == made, "meant is {meant:#}, and cloud-init made {made:#}");
        ensure!(*meant != json!({}), "nothing is meant");
        Ok(())
    }
}
