//! The life of a machine after its root is there: network, container runtime, kubelet of an earlier boot, cloud-init, then reaping.
//!
//! One thread decides. Three feed it: the reaper says which process ended, the socket what `systemctl` wants, the cord that the power is
//! gone. A machine whose container runtime dies is broken and switches itself off, which the room sees.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Display};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use serde_json::json;

use crate::network::{self, NetworkData, Step};
use crate::root::SEED;
use crate::unit::{self, Verb};

const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CRI_SOCKET: &str = "/run/containerd/containerd.sock";
const CRI_CONFIG: &str = "/run/process-cri.json";
const CRI_LOG: &str = "/var/log/process-cri.log";
const KUBELET_LOG: &str = "/var/log/kubelet.log";
/// What bootstrap data of Cluster API leaves behind when every command of it succeeded.
const SENTINEL: &str = "/run/cluster-api/bootstrap-success.complete";
/// What kubeadm leaves behind on the disk of a node.
const JOINED: &str = "/etc/kubernetes/kubelet.conf";
const CLOUD_INIT: [&[&str]; 4] = [
    &["cloud-init", "init", "--local"],
    &["cloud-init", "init"],
    &["cloud-init", "modules", "--mode=config"],
    &["cloud-init", "modules", "--mode=final"],
];
/// Where the image has no cloud-init.
const SMALL_READER: [&[&str]; 1] = [&["machine-init", "user-data"]];
const CRI_PATIENCE: Duration = Duration::from_secs(300);
/// As the packaged unit: a kubelet without its configuration ends and is tried again.
const KUBELET_RESTART: Duration = Duration::from_secs(10);
const KUBELET_STOP: Duration = Duration::from_secs(30);

enum Event {
    Ended(Pid, WaitStatus),
    Asked(Verb, UnixStream),
    Unplugged,
    /// The machine has no process left but this one.
    Alone,
}

/// A line on the machine's console.
pub(crate) fn say(what: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "machine-init: {what}");
}

/// Runs the machine until its power is cut or its container runtime ends.
pub(crate) fn run() -> Result<ExitCode> {
    let console = Console { start: Instant::now() };
    let data = network_data(&console);
    configure(&console, &data)?;
    let address = network::main_address(&data);
    name_in_hosts(address)?;

    fs::create_dir_all("/run/containerd")?;
    let cri = spawn(cri_command(address)?, CRI_LOG)?; // the reaper needs one process to wait for
    let stages: &[&[&str]] = if Path::new("/usr/bin/cloud-init").exists() {
        &CLOUD_INIT
    } else {
        console.say("no cloud-init in this image: a small reader of the same data stands in");
        &SMALL_READER
    };
    let (events, inbox) = channel();
    feed(&events)?;
    let mut machine = Machine { console, cri, kubelet: Kubelet::Stopped, asked: Vec::new(), stages, stage: None };
    machine.live(&inbox)
}

struct Machine {
    console: Console,
    cri: Pid,
    kubelet: Kubelet,
    /// `systemctl stop` and `restart` calls that wait for the kubelet's end.
    asked: Vec<UnixStream>,
    /// What carries out the user data, one command after the other.
    stages: &'static [&'static [&'static str]],
    /// The one that runs.
    stage: Option<(usize, Pid)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kubelet {
    Stopped,
    Running(Pid),
    Stopping { pid: Pid, kill_at: Instant, then_start: bool },
    RestartAt(Instant),
}

impl Machine {
    fn live(&mut self, inbox: &Receiver<Event>) -> Result<ExitCode> {
        let mut cri_deadline = Some(Instant::now() + CRI_PATIENCE);
        loop {
            if let Some(deadline) = cri_deadline {
                if Path::new(CRI_SOCKET).exists() {
                    cri_deadline = None;
                    self.software()?;
                } else if Instant::now() > deadline {
                    self.console.say("the container runtime opened no socket; powering off");
                    return Ok(ExitCode::FAILURE);
                }
            }
            match inbox.recv_timeout(self.tick(cri_deadline.is_some())) {
                Ok(Event::Ended(pid, status)) if pid == self.cri => {
                    self.console.say(format_args!("the container runtime ended ({}); powering off", Ending(status)));
                    self.console.tail(CRI_LOG);
                    return Ok(ExitCode::FAILURE);
                }
                Ok(Event::Ended(pid, status)) => self.ended(pid, status)?,
                Ok(Event::Asked(verb, reply)) => self.asked(verb, reply)?,
                Ok(Event::Unplugged) => return Ok(ExitCode::SUCCESS),
                Ok(Event::Alone) | Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::FAILURE),
                Err(RecvTimeoutError::Timeout) => self.due()?,
            }
        }
    }

    /// How long nothing can be due.
    fn tick(&self, awaiting_cri: bool) -> Duration {
        let now = Instant::now();
        let due = match self.kubelet {
            Kubelet::RestartAt(at) | Kubelet::Stopping { kill_at: at, .. } => at.saturating_duration_since(now),
            Kubelet::Stopped | Kubelet::Running(_) => Duration::from_secs(3600),
        };
        if awaiting_cri { due.min(Duration::from_millis(10)) } else { due }
    }

    fn due(&mut self) -> Result<()> {
        let now = Instant::now();
        match self.kubelet {
            Kubelet::RestartAt(at) if now >= at => self.start_kubelet(),
            Kubelet::Stopping { pid, kill_at, .. } if now >= kill_at => {
                rustix::process::kill_process(pid, Signal::KILL).context("kill the kubelet")
            }
            Kubelet::RestartAt(_) | Kubelet::Stopping { .. } | Kubelet::Stopped | Kubelet::Running(_) => Ok(()),
        }
    }

    /// The container runtime serves: the kubelet of an earlier boot first, then cloud-init.
    fn software(&mut self) -> Result<()> {
        if Path::new("/var/lib/kubelet/config.yaml").exists() {
            self.start_kubelet()?;
        }
        self.cloud_init(0)
    }

    fn cloud_init(&mut self, stage: usize) -> Result<()> {
        let Some([program, args @ ..]) = self.stages.get(stage).copied() else {
            self.stage = None;
            let outcome = match (Path::new(SENTINEL).exists(), Path::new(JOINED).exists()) {
                (true, _) => "bootstrap succeeded",
                (false, true) => "this machine is a node since an earlier boot",
                (false, false) => "bootstrap did not succeed",
            };
            self.console.say(format_args!("the user data is through: {outcome}"));
            return Ok(());
        };
        let mut command = command(program);
        command.args(args).stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("start {program}"))?;
        self.stage = Some((stage, pid(&child)?));
        Ok(())
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) -> Result<()> {
        if let Some((stage, running)) = self.stage
            && running == pid
        {
            let line = self.stages.get(stage).map(|words| words.join(" ")).unwrap_or_default();
            self.console.say(format_args!("{line}: {}", Ending(status)));
            return self.cloud_init(stage + 1);
        }
        match self.kubelet {
            Kubelet::Running(running) if running == pid => {
                let seconds = KUBELET_RESTART.as_secs();
                self.console.say(format_args!("the kubelet ended ({}); again in {seconds} s", Ending(status)));
                self.console.tail(KUBELET_LOG);
                self.kubelet = Kubelet::RestartAt(Instant::now() + KUBELET_RESTART);
            }
            Kubelet::Stopping { pid: stopping, then_start, .. } if stopping == pid => {
                self.kubelet = Kubelet::Stopped;
                if then_start {
                    self.start_kubelet()?;
                }
                for reply in self.asked.drain(..) {
                    respond(reply, "done");
                }
            }
            _ => {} // an orphan that came to us
        }
        Ok(())
    }

    fn asked(&mut self, verb: Verb, reply: UnixStream) -> Result<()> {
        match (verb, self.kubelet) {
            (Verb::IsActive, Kubelet::Running(_)) => respond(reply, "active"),
            (Verb::IsActive, Kubelet::RestartAt(_)) => respond(reply, "activating"),
            (Verb::IsActive, Kubelet::Stopping { .. }) => respond(reply, "deactivating"),
            (Verb::IsActive, Kubelet::Stopped) => respond(reply, "inactive"),
            (Verb::Start, Kubelet::Running(_)) => respond(reply, "done"),
            (Verb::Start | Verb::Restart, Kubelet::Stopped | Kubelet::RestartAt(_)) => {
                self.start_kubelet()?;
                respond(reply, "done");
            }
            (Verb::Stop, Kubelet::Stopped | Kubelet::RestartAt(_)) => {
                self.kubelet = Kubelet::Stopped;
                respond(reply, "done");
            }
            (Verb::Stop | Verb::Restart, Kubelet::Running(pid)) => {
                rustix::process::kill_process(pid, Signal::TERM).context("stop the kubelet")?;
                let kill_at = Instant::now() + KUBELET_STOP;
                self.kubelet = Kubelet::Stopping { pid, kill_at, then_start: verb == Verb::Restart };
                self.asked.push(reply);
            }
            (Verb::Start | Verb::Restart | Verb::Stop, Kubelet::Stopping { pid, kill_at, .. }) => {
                self.kubelet = Kubelet::Stopping { pid, kill_at, then_start: verb != Verb::Stop };
                self.asked.push(reply);
            }
        }
        Ok(())
    }

    fn start_kubelet(&mut self) -> Result<()> {
        self.kubelet = Kubelet::Running(spawn(unit::kubelet_command(), KUBELET_LOG)?);
        self.console.say("the kubelet starts");
        Ok(())
    }
}

fn respond(mut reply: UnixStream, text: &str) {
    let _ = reply.write_all(text.as_bytes()); // whoever asked may have been killed meanwhile
}

fn network_data(console: &Console) -> NetworkData {
    let Ok(text) = fs::read_to_string(format!("{SEED}/network_data.json")) else {
        console.say("no network_data.json on the config drive");
        return NetworkData::default();
    };
    match serde_json::from_str::<Option<NetworkData>>(&text) {
        Ok(data) => data.unwrap_or_default(),
        Err(e) => {
            console.say(format_args!("network_data.json cannot be read: {e}"));
            NetworkData::default()
        }
    }
}

fn configure(console: &Console, data: &NetworkData) -> Result<()> {
    for step in network::steps(data, &interfaces()?) {
        match step {
            Step::Ip(args) => {
                let line = args.join(" ");
                let done = command("ip").args(args).status().context("ip")?;
                if !done.success() {
                    console.say(format_args!("ip {line}: {done}"));
                }
            }
            Step::Announce { interface } => {
                fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/arp_notify"), "1").context("arp_notify")?;
            }
            Step::Complain(what) => console.say(format_args!("network: {what}")),
        }
    }
    Ok(())
}

/// MAC address to name of every card.
fn interfaces() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for card in fs::read_dir("/sys/class/net")? {
        let card = card?;
        if let Ok(mac) = fs::read_to_string(card.path().join("address")) {
            found.insert(mac.trim().to_lowercase(), card.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// The kubelet and kubeadm look up their own name, and there is no name service here.
fn name_in_hosts(address: Option<IpAddr>) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Names {
        name: Option<String>,
        #[serde(rename = "local-hostname")]
        local_hostname: Option<String>,
    }
    let Some(address) = address else { return Ok(()) };
    let meta = fs::read(format!("{SEED}/meta_data.json")).unwrap_or_default();
    let Ok(names) = serde_json::from_slice::<Names>(&meta) else { return Ok(()) };
    let mut line = address.to_string();
    for name in [&names.local_hostname, &names.name].into_iter().flatten() {
        if !line.split(' ').any(|word| word == name) {
            line = format!("{line} {name}");
        }
    }
    fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{line}\n")).context("/etc/hosts")
}

/// The container runtime with what its nodes know: the control plane as the programs of this machine, the rest of a kubeadm cluster as
/// stand-ins that live and can be stopped, because nothing here needs a proxy or names. Any other image is a pull error.
fn cri_command(address: Option<IpAddr>) -> Result<Command> {
    let program = |name: &str| json!({"match": format!("/{name}:"), "programs": {(name): format!("/usr/local/bin/{name}")}, "root": "machine"});
    let config = json!({
        "socket": CRI_SOCKET,
        "state_dir": "/run/process-cri",
        "network": {"mode": "host", "ip": address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))},
        "path": PATH,
        "images": [
            program("etcd"),
            program("kube-apiserver"),
            program("kube-controller-manager"),
            program("kube-scheduler"),
            {"match": "/pause:", "idle": true},
            {"match": "/kube-proxy:", "idle": true},
            {"match": "/coredns:", "idle": true, "answers": [8080, 8181]},
        ],
    });
    fs::write(CRI_CONFIG, serde_json::to_vec_pretty(&config)?)?;
    let mut cri = Command::new("process-cri");
    cri.arg(CRI_CONFIG);
    Ok(cri)
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("HOME", "/root");
    command
}

/// Starts a process of its own group that outlives no power cut and whose end the reaper reports.
fn spawn(mut command: Command, log: &str) -> Result<Pid> {
    use std::os::unix::process::CommandExt;
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let child = command.spawn().with_context(|| format!("start {command:?}"))?;
    pid(&child)
}

fn pid(child: &std::process::Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("process id")
}

/// Starts the threads behind [`Event`].
fn feed(events: &Sender<Event>) -> Result<()> {
    let send = events.clone();
    std::thread::spawn(move || {
        loop {
            let event = match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => Event::Ended(pid, status),
                Ok(None) | Err(rustix::io::Errno::INTR) => continue,
                Err(_) => Event::Alone,
            };
            let last = matches!(event, Event::Alone);
            if send.send(event).is_err() || last {
                return;
            }
        }
    });

    let _ = fs::remove_file(unit::SOCKET);
    let listener = UnixListener::bind(unit::SOCKET).context("systemctl socket")?;
    let send = events.clone();
    std::thread::spawn(move || {
        for mut asker in listener.incoming().flatten() {
            let mut word = String::new();
            let verb = asker.read_to_string(&mut word).ok().and_then(|_| Verb::parse(&word));
            if let Some(verb) = verb
                && send.send(Event::Asked(verb, asker)).is_err()
            {
                return;
            }
        }
    });

    let send = events.clone();
    std::thread::spawn(move || {
        let mut cord = std::io::stdin();
        let mut byte = [0];
        while matches!(cord.read(&mut byte), Ok(1)) {}
        let _ = send.send(Event::Unplugged);
    });
    Ok(())
}

struct Console {
    start: Instant,
}

impl Console {
    fn say(&self, what: impl Display) {
        say(format_args!("{:7.2} {what}", self.start.elapsed().as_secs_f64()));
    }

    /// The end of a log that explains what was just said.
    fn tail(&self, log: &str) {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(10)) {
            self.say(format_args!("| {line}"));
        }
    }
}

struct Ending(WaitStatus);

impl Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0.exit_status(), self.0.terminating_signal()) {
            (Some(0), _) => f.write_str("ok"),
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("ended"),
        }
    }
}
