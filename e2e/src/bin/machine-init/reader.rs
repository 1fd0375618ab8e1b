//! A small reader of user data for hosts on which cloud-init cannot be had: the demo still comes up, tests insist on the real one.
//!
//! It knows what bootstrap data of Cluster API's kubeadm provider is made of: the jinja header with `ds.meta_data` variables, `write_files`
//! and `runcmd`, once per disk. Anything else in the data is an error and not passed over, so that it never looks better than cloud-init.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::root::{SEED, set_hostname};

const DONE: &str = "/var/lib/cloud/machine-init.done";
const SCRIPT: &str = "/var/lib/cloud/machine-init.runcmd";

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Orders {
    write_files: Vec<File>,
    runcmd: Vec<Order>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    path: String,
    owner: Option<String>,
    permissions: Option<String>,
    encoding: Option<String>,
    append: bool,
    content: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Order {
    Line(String),
    Words(Vec<String>),
}

/// Does what cloud-init would do with the seed.
pub(crate) fn run() -> Result<ExitCode> {
    let meta: Map<String, Value> =
        serde_json::from_slice(&fs::read(format!("{SEED}/meta_data.json"))?).context("meta_data.json")?;
    if let Some(name) = meta.get("local-hostname").or_else(|| meta.get("name")).and_then(Value::as_str) {
        fs::write("/etc/hostname", format!("{name}\n"))?;
        set_hostname(name)?;
    }
    if Path::new(DONE).exists() {
        return Ok(ExitCode::SUCCESS);
    }
    let data = fs::read_to_string(format!("{SEED}/user_data")).context("user_data")?;
    let orders = orders(&render(&data, &meta)?)?;
    for file in &orders.write_files {
        write(file).with_context(|| format!("write_files: {}", file.path))?;
    }
    fs::create_dir_all("/var/lib/cloud")?;
    fs::write(DONE, "")?;
    fs::write(SCRIPT, script(&orders.runcmd))?;
    let status = Command::new("sh").arg(SCRIPT).status().context("runcmd")?;
    ensure!(status.success(), "runcmd: {status}");
    Ok(ExitCode::SUCCESS)
}

/// Fills in `{{ ds.meta_data.NAME }}` when the data says it is a template.
fn render(data: &str, meta: &Map<String, Value>) -> Result<String> {
    let Some(template) = data.strip_prefix("## template: jinja\n") else { return Ok(data.to_owned()) };
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) = after.split_once("}}").context("an expression of the template has no end")?;
        let name = expression.trim().strip_prefix("ds.meta_data.");
        let value = name.and_then(|name| meta.get(name));
        rendered.push_str(before);
        match value {
            Some(Value::String(text)) => rendered.push_str(text),
            Some(other) => rendered.push_str(&other.to_string()),
            None => bail!("the template wants {{{{{expression}}}}}, which meta_data.json does not have"),
        }
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

fn orders(data: &str) -> Result<Orders> {
    ensure!(data.starts_with("#cloud-config"), "user data of this kind needs the real cloud-init");
    serde_saphyr::from_str(data).context("user data is more than this small reader knows; it needs the real cloud-init")
}

fn write(file: &File) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let content = match file.encoding.as_deref() {
        None | Some("" | "text/plain") => file.content.clone().into_bytes(),
        Some("b64" | "base64") => base64::engine::general_purpose::STANDARD.decode(file.content.trim())?,
        Some(other) => bail!("encoding {other} needs the real cloud-init"),
    };
    let path = Path::new(&file.path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = u32::from_str_radix(file.permissions.as_deref().unwrap_or("0644"), 8).context("permissions")?;
    let mut options = fs::OpenOptions::new();
    options.create(true).append(file.append).write(true).truncate(!file.append).mode(mode);
    options.open(path)?.write_all(&content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    match file.owner.as_deref() {
        None | Some("root" | "root:root") => Ok(()),
        Some(owner) => {
            let status = Command::new("chown").arg(owner).arg(path).status()?;
            ensure!(status.success(), "chown {owner}: {status}");
            Ok(())
        }
    }
}

/// The commands as one script: lines go to the shell as they are, lists are quoted word by word.
fn script(orders: &[Order]) -> String {
    let mut script = String::from("#!/bin/sh\n");
    for order in orders {
        match order {
            Order::Line(line) => script.push_str(line),
            Order::Words(words) => {
                let quoted: Vec<String> =
                    words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
                script.push_str(&quoted.join(" "));
            }
        }
        script.push('\n');
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Map<String, Value> {
        serde_json::from_str(r#"{"name": "host-0", "uuid": "7", "index": 3}"#).unwrap()
    }

    #[test]
    fn a_template_is_filled_from_the_meta_data() {
        let data = "## template: jinja\n#cloud-config\nname: {{ ds.meta_data.name }} {{ds.meta_data.index}}\n";
        assert_eq!(render(data, &meta()).unwrap(), "#cloud-config\nname: host-0 3\n");
    }

    #[test]
    fn without_the_header_braces_are_text() {
        assert_eq!(render("#cloud-config\n# {{ x }}\n", &meta()).unwrap(), "#cloud-config\n# {{ x }}\n");
    }

    #[test]
    fn a_variable_that_the_meta_data_lacks_is_an_error_that_names_it() {
        let error = render("## template: jinja\n{{ ds.meta_data.providerid }}", &meta()).unwrap_err().to_string();
        assert_eq!(error, "the template wants {{ ds.meta_data.providerid }}, which meta_data.json does not have");
    }

    #[test]
    fn bootstrap_data_of_the_kubeadm_provider_is_understood() {
        let data = "#cloud-config\n\nwrite_files:\n-   path: /run/kubeadm/kubeadm.yaml\n    owner: root:root\n    permissions: '0640'\n    content: |\n      a: b\nruncmd:\n  - 'kubeadm init  && echo success > /run/x'\n  - [echo, \"it's\"]\n";
        let orders = orders(data).unwrap();
        assert_eq!(orders.write_files[0].content, "a: b\n");
        assert_eq!(script(&orders.runcmd), "#!/bin/sh\nkubeadm init  && echo success > /run/x\n'echo' 'it'\\''s'\n");
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        assert!(orders("#cloud-config\nusers: []\n").is_err());
        assert!(orders("{\"ignition\": {}}").is_err());
    }
}
