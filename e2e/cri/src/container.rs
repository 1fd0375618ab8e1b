//! What a container's process shall be, worked out from the CRI's configuration and the image table: pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::config::default_path;
use crate::images::{Image, Root};
use crate::rootfs::{Mount, Overlay};
use crate::v1;

/// What root may do in a container that asks for nothing else; the common runtimes' set.
const DEFAULT_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Everything the helper needs to turn itself into the container's process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: PathBuf,
    pub root: RootFs,
    pub credentials: Credentials,
    /// Standard input is a terminal to be controlled.
    pub terminal: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RootFs {
    Machine,
    Build(Overlay),
    /// That of a running container: the path of its mount namespace.
    Join(PathBuf),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// Bits of the bounding set; `None` leaves it alone.
    pub capabilities: Option<u64>,
    pub no_new_privileges: bool,
}

/// Where the runtime puts containers.
pub(crate) struct Place<'a> {
    pub root: Root,
    /// This program, for idle images.
    pub own_program: &'a Path,
    pub scratch: &'a Path,
    /// `PATH` on the machine's root.
    pub path: &'a str,
    /// Variables that replace the pod's.
    pub env: &'a BTreeMap<String, String>,
    pub host_name: &'a str,
    pub dns: Option<&'a v1::DnsConfig>,
}

/// The process for one container, or why this runtime cannot run it.
pub(crate) fn spec(config: &v1::ContainerConfig, image: &Image, place: &Place<'_>) -> Result<Spec, String> {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let security = security.cloned().unwrap_or_default();
    let shares_pids = |options: &v1::NamespaceOption| options.pid == v1::NamespaceMode::Pod as i32;
    if security.namespace_options.as_ref().is_some_and(shares_pids) {
        return Err("shareProcessNamespace is not served by this node".to_owned());
    }
    if config.tty {
        return Err("a container with tty is not served by this node".to_owned());
    }
    if image.idle {
        return Ok(idle(image, place));
    }
    let mut argv: Vec<String> = match config.command.is_empty() {
        true => image.entrypoint.iter().chain(&config.args).cloned().collect(),
        false => config.command.iter().chain(&config.args).cloned().collect(),
    };
    let Some(program) = argv.first_mut() else {
        return Err("neither the pod nor the image names a command".to_owned());
    };
    if place.root == Root::Machine
        && let Some(local) = image.programs.get(program.as_str())
    {
        *program = local.display().to_string();
    }
    let working_dir = PathBuf::from(if config.working_dir.is_empty() { "/" } else { &config.working_dir });
    let credentials = credentials(&security, image)?;
    let env = env(config, place, credentials.uid)?;
    let root = match place.root {
        Root::Machine => RootFs::Machine,
        Root::Overlay => RootFs::Build(overlay(config, image, &security, place, &working_dir)),
    };
    Ok(Spec { argv, env, working_dir, root, credentials, terminal: false })
}

fn idle(image: &Image, place: &Place<'_>) -> Spec {
    let mut argv = vec![place.own_program.display().to_string(), "idle".to_owned()];
    argv.extend(image.answers.iter().map(ToString::to_string));
    let env = vec![("PATH".to_owned(), place.path.to_owned())];
    let credentials = Credentials::default();
    Spec { argv, env, working_dir: PathBuf::from("/"), root: RootFs::Machine, credentials, terminal: false }
}

fn overlay(
    config: &v1::ContainerConfig,
    image: &Image,
    security: &v1::LinuxContainerSecurityContext,
    place: &Place<'_>,
    working_dir: &Path,
) -> Overlay {
    // A program given by name lies in the machine's own /usr and is there without a mount.
    let own = image.programs.iter().chain(&image.files).filter(|(target, _)| target.starts_with('/'));
    let own = own.map(|(target, source)| Mount { source: source.clone(), target: target.into(), read_only: true });
    let asked = config.mounts.iter().map(|mount| Mount {
        source: mount.host_path.clone().into(),
        target: mount.container_path.clone().into(),
        read_only: mount.readonly,
    });
    let paths =
        |paths: &[String]| if security.privileged { Vec::new() } else { paths.iter().map(PathBuf::from).collect() };
    Overlay {
        scratch: place.scratch.to_owned(),
        mounts: own.chain(asked).collect(),
        texts: vec![
            ("/etc/resolv.conf".into(), place.dns.map(resolv_conf).unwrap_or_default()),
            ("/etc/hostname".into(), format!("{}\n", place.host_name)),
        ],
        working_dir: working_dir.to_owned(),
        read_only: security.readonly_rootfs,
        privileged: security.privileged,
        masked: paths(&security.masked_paths),
        read_only_paths: paths(&security.readonly_paths),
    }
}

fn resolv_conf(dns: &v1::DnsConfig) -> String {
    let mut text: String = dns.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (key, values) in [("search", &dns.searches), ("options", &dns.options)] {
        if !values.is_empty() {
            text.push_str(&format!("{key} {}\n", values.join(" ")));
        }
    }
    text
}

/// The pod's variables as they are, after those that an image would have set and before the node's replacements.
fn env(config: &v1::ContainerConfig, place: &Place<'_>, uid: u32) -> Result<Vec<(String, String)>, String> {
    let path = if place.root == Root::Machine { place.path.to_owned() } else { default_path() };
    let home = if uid == 0 { "/root" } else { "/" };
    let mut env = vec![
        ("PATH".to_owned(), path),
        ("HOME".to_owned(), home.to_owned()),
        ("HOSTNAME".to_owned(), place.host_name.to_owned()),
    ];
    for variable in &config.envs {
        let value = String::from_utf8(variable.value.clone())
            .map_err(|_| format!("the value of variable {} is not UTF-8", variable.key))?;
        env.retain(|(key, _)| *key != variable.key);
        env.push((variable.key.clone(), value));
    }
    for (key, value) in place.env {
        env.retain(|(known, _)| known != key);
        env.push((key.clone(), value.clone()));
    }
    Ok(env)
}

fn credentials(security: &v1::LinuxContainerSecurityContext, image: &Image) -> Result<Credentials, String> {
    let id = |value: i64| u32::try_from(value).map_err(|_| format!("{value} is no user or group id"));
    let uid = security.run_as_user.map_or(Ok(image.user), |user| id(user.value))?;
    let gid = security.run_as_group.map_or(Ok(image.user), |group| id(group.value))?;
    let mut groups = vec![gid];
    for group in &security.supplemental_groups {
        groups.push(id(*group)?);
    }
    let asked = security.capabilities.clone().unwrap_or_default();
    let capabilities = match security.privileged {
        true => None,
        false => Some(capabilities(&asked.add_capabilities, &asked.drop_capabilities)?.bits()),
    };
    Ok(Credentials { uid, gid, groups, capabilities, no_new_privileges: security.no_new_privs })
}

fn capabilities(add: &[String], drop: &[String]) -> Result<CapabilitySet, String> {
    let all = CapabilitySet::all().iter_names().fold(CapabilitySet::empty(), |all, (_, one)| all | one);
    let set = |names: &[String]| -> Result<CapabilitySet, String> {
        names.iter().try_fold(CapabilitySet::empty(), |set, name| {
            let name = name.to_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            let one = if name == "ALL" { Some(all) } else { CapabilitySet::from_name(name) };
            Ok(set | one.ok_or_else(|| format!("unknown capability {name}"))?)
        })
    };
    let (add, drop) = (set(add)?, set(drop)?);
    // "ALL" on one side yields to what the other side names.
    Ok(if drop.contains(all) { add } else { (DEFAULT_CAPABILITIES | add) - drop })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Image {
        serde_json::from_str(text).unwrap()
    }

    fn place(root: Root) -> Place<'static> {
        let (own_program, scratch) = (Path::new("/own"), Path::new("/scratch"));
        static NO_ENV: BTreeMap<String, String> = BTreeMap::new();
        Place { root, own_program, scratch, path: "/opt/bin:/bin", env: &NO_ENV, host_name: "web-0", dns: None }
    }

    fn names(set: &[&str]) -> Vec<String> {
        set.iter().map(|name| (*name).to_owned()).collect()
    }

    const MANAGER: &str = r#"{"match":"m","programs":{"/manager":"/build/manager"},"entrypoint":["/manager"]}"#;

    #[test]
    fn without_a_command_the_image_s_entrypoint_gets_the_pod_s_arguments() {
        let config = v1::ContainerConfig { args: names(&["--v=1"]), ..Default::default() };
        let spec = spec(&config, &image(MANAGER), &place(Root::Overlay)).unwrap();
        assert_eq!(spec.argv, ["/manager", "--v=1"]);
        let RootFs::Build(overlay) = spec.root else { panic!("no root of its own") };
        let expected = Mount { source: "/build/manager".into(), target: "/manager".into(), read_only: true };
        assert_eq!(overlay.mounts, [expected]);
    }

    #[test]
    fn on_the_machine_s_root_the_table_replaces_the_program() {
        let config = v1::ContainerConfig { command: names(&["etcd", "--x"]), ..Default::default() };
        let etcd = image(r#"{"match":"etcd","programs":{"etcd":"/opt/v3/etcd"}}"#);
        assert_eq!(spec(&config, &etcd, &place(Root::Machine)).unwrap().argv, ["/opt/v3/etcd", "--x"]);
    }

    #[test]
    fn the_pod_s_variables_win_over_the_defaults() {
        let variable = v1::KeyValue { key: "HOME".to_owned(), value: b"/data".to_vec() };
        let config = v1::ContainerConfig { envs: vec![variable], ..Default::default() };
        let spec = spec(&config, &image(MANAGER), &place(Root::Machine)).unwrap();
        let expected = [("PATH", "/opt/bin:/bin"), ("HOSTNAME", "web-0"), ("HOME", "/data")];
        assert_eq!(spec.env, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_node_s_replacements_win_over_the_pod_s_variables() {
        let variable = v1::KeyValue { key: "KUBERNETES_SERVICE_HOST".to_owned(), value: b"10.96.0.1".to_vec() };
        let config = v1::ContainerConfig { envs: vec![variable], ..Default::default() };
        let env = BTreeMap::from([("KUBERNETES_SERVICE_HOST".to_owned(), "198.51.100.1".to_owned())]);
        let place = Place { env: &env, ..place(Root::Overlay) };
        let spec = spec(&config, &image(MANAGER), &place).unwrap();
        let found =
            spec.env.iter().filter(|(key, _)| key == "KUBERNETES_SERVICE_HOST").map(|(_, value)| value.as_str());
        assert_eq!(found.collect::<Vec<_>>(), ["198.51.100.1"]);
    }

    #[test]
    fn capabilities_are_the_defaults_plus_added_minus_dropped() {
        let net = CapabilitySet::NET_BIND_SERVICE;
        assert_eq!(capabilities(&[], &[]), Ok(DEFAULT_CAPABILITIES));
        assert_eq!(capabilities(&[], &names(&["ALL"])), Ok(CapabilitySet::empty()));
        assert_eq!(capabilities(&names(&["NET_BIND_SERVICE"]), &names(&["all"])), Ok(net));
        assert_eq!(capabilities(&names(&["CAP_SYS_ADMIN"]), &[]), Ok(DEFAULT_CAPABILITIES | CapabilitySet::SYS_ADMIN));
        assert!(capabilities(&names(&["FLY"]), &[]).is_err());
    }

    #[test]
    fn user_and_group_come_from_the_pod_then_from_the_image() {
        let nonroot = image(r#"{"match":"m","user":65532}"#);
        let security = v1::LinuxContainerSecurityContext {
            run_as_user: Some(v1::Int64Value { value: 1000 }),
            supplemental_groups: vec![2000],
            ..Default::default()
        };
        let found = credentials(&security, &nonroot).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (1000, 65532, vec![65532, 2000]));
    }

    #[test]
    fn an_idle_image_runs_the_stand_in_whatever_the_pod_asks() {
        let config = v1::ContainerConfig { command: names(&["/coredns"]), ..Default::default() };
        let coredns = image(r#"{"match":"coredns","idle":true,"answers":[8080,8181]}"#);
        let spec = spec(&config, &coredns, &place(Root::Machine)).unwrap();
        assert_eq!(spec.argv, ["/own", "idle", "8080", "8181"]);
    }
}
