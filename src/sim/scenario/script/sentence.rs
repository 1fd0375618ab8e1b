//! What is done and what is expected, in sentences.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use crate::world::Provider;
use crate::world::kinds::{self, Kind};

/// Something that happens in a story, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub at: Option<Duration>,
    pub command: Command,
    /// As it is written.
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Wait(Duration),
    Until(Condition, Duration),
    Kill(Who),
    Start(Provider),
    Freeze(Who),
    Thaw(Who),
    CreateHost(String),
    CreateMachine(String, Option<String>),
    CreateClaim(String, String),
    Delete(Kind, String),
    /// Labels or annotations; no value takes the key away.
    Mark(&'static str, Kind, String, String, Option<String>),
    Patch(Kind, String, Value),
    PauseCluster(bool),
    Scale(Kind, u32),
    /// What the host operator does to it fails, or does no more.
    Break(String, Option<String>),
}

/// All managers of a kind that live, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub provider: Provider,
    pub number: Option<u32>,
}

/// Every form of a step.
const STEPS: &str = "wait SPAN | wait until CONDITION [within SPAN] | kill, freeze or thaw infra or ipam [#N] | start infra or ipam | create host NAME | \
    create machine NAME [with data TEMPLATE] | create claim NAME from POOL | delete KIND NAME | label or annotate KIND NAME KEY=VALUE or KEY- | \
    patch KIND NAME JSON | pause cluster | resume cluster | scale workers or control-plane to N | break host NAME while OPERATION | \
    mend host NAME; before each may stand `at SPAN:`, counted from the beginning";

/// Something that can be told from the objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub what: What,
    /// As it is written.
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Runs(String),
    Run(usize),
    IsOn(String, String),
    HostIs(String, String),
    HostsAre(usize, String),
    Has(String, Option<String>),
    HasNone(String),
    Held(usize),
    Exists(Kind, String),
    Gone(Kind, String),
    ThereAre(usize, Kind),
    Shows(Kind, String, String, String),
    NothingLeft,
    Quiet,
}

/// Every form of a condition.
const CONDITIONS: &str = "machine NAME runs | N machines run | machine NAME is on HOST | host NAME is STATE (free, claimed, or as \
    status.provisioning.state has it) | N hosts are STATE | claim NAME has ADDRESS or an address | claim NAME has no address | N addresses are held | \
    KIND NAME exists | KIND NAME is gone | there are N KIND | KIND NAME shows /PATH=VALUE | nothing is left | all is quiet";

/// How kinds are called.
const KINDS: [(&str, Kind); 18] = [
    ("host", kinds::HOST),
    ("machine", kinds::MACHINE),
    ("metal3machine", kinds::METAL3_MACHINE),
    ("cluster", kinds::CLUSTER),
    ("metal3cluster", kinds::METAL3_CLUSTER),
    ("machinedeployment", kinds::MACHINE_DEPLOYMENT),
    ("machineset", kinds::MACHINE_SET),
    ("control-plane", kinds::CONTROL_PLANE),
    ("machinetemplate", kinds::METAL3_MACHINE_TEMPLATE),
    ("datatemplate", kinds::DATA_TEMPLATE),
    ("data", kinds::DATA),
    ("dataclaim", kinds::DATA_CLAIM),
    ("pool", kinds::POOL),
    ("claim", kinds::IP_CLAIM),
    ("address", kinds::IP_ADDRESS),
    ("capi-claim", kinds::CAPI_IP_CLAIM),
    ("secret", kinds::SECRET),
    ("node", kinds::NODE),
];

/// What else is nobody's word for a kind.
pub(super) fn kind_name(resource: &str, group: &str) -> Option<&'static str> {
    let found = KINDS.iter().find(|(_, kind)| kind.plural == resource && kind.group() == group);
    let others = [("bootstrap config", kinds::BOOTSTRAP), ("capi-address", kinds::CAPI_IP_ADDRESS)];
    let other = others.iter().find(|(_, kind)| kind.plural == resource && kind.group() == group).map(|(name, _)| *name);
    found.map(|(name, _)| *name).or(other)
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Unreadable {
    #[error("{text:?} is no step; there are: {STEPS}. KIND is one of {}", kinds_text())]
    Step { text: String },
    #[error("{text:?} is no condition; there are: {CONDITIONS}. KIND is one of {}", kinds_text())]
    Condition { text: String },
}

fn kinds_text() -> String {
    KINDS.map(|(name, _)| name).join(", ")
}

fn kind(word: &str) -> Option<Kind> {
    let one = |word: &str| KINDS.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind);
    one(word).or_else(|| one(word.strip_suffix("es")?)).or_else(|| one(word.strip_suffix('s')?))
}

fn provider(word: &str) -> Option<Provider> {
    match word {
        "infra" => Some(Provider::Infra),
        "ipam" => Some(Provider::Ipam),
        _ => None,
    }
}

fn manager(words: &[&str]) -> Option<Who> {
    match words {
        [who] => Some(Who { provider: provider(who)?, number: None }),
        [who, number] => Some(Who { provider: provider(who)?, number: Some(number.strip_prefix('#')?.parse().ok()?) }),
        _ => None,
    }
}

/// What is waited for without a word on how long comes within this.
const PATIENCE: Duration = Duration::from_secs(600);

fn command(text: &str) -> Option<Command> {
    if let Some(wanted) = text.strip_prefix("wait until ") {
        let (wanted, within) = match wanted.rsplit_once(" within ") {
            Some((wanted, within)) => (wanted, read_span(within)?),
            None => (wanted, PATIENCE),
        };
        return Some(Command::Until(wanted.parse().ok()?, within));
    }
    if let Some(patch) = text.strip_prefix("patch ") {
        let (of, rest) = patch.split_once(' ')?;
        let (name, patch) = rest.split_once(' ')?;
        return Some(Command::Patch(kind(of)?, name.to_owned(), serde_json::from_str(patch).ok()?));
    }
    let own = |word: &str| word.to_owned();
    Some(match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["wait", time] => Command::Wait(read_span(time)?),
        ["kill", ref who @ ..] => Command::Kill(manager(who)?),
        ["start", who] => Command::Start(provider(who)?),
        ["freeze", ref who @ ..] => Command::Freeze(manager(who)?),
        ["thaw", ref who @ ..] => Command::Thaw(manager(who)?),
        ["create", "host", name] => Command::CreateHost(own(name)),
        ["create", "machine", name] => Command::CreateMachine(own(name), None),
        ["create", "machine", name, "with", "data", template] => Command::CreateMachine(own(name), Some(own(template))),
        ["create", "claim", name, "from", pool] => Command::CreateClaim(own(name), own(pool)),
        ["delete", of, name] => Command::Delete(kind(of)?, own(name)),
        [how @ ("label" | "annotate"), of, name, mark] => {
            let field = if how == "label" { "labels" } else { "annotations" };
            let (key, value) = match mark.split_once('=') {
                Some((key, value)) => (key, Some(own(value))),
                None => (mark.strip_suffix('-')?, None),
            };
            Command::Mark(field, kind(of)?, own(name), own(key), value)
        }
        ["pause", "cluster"] => Command::PauseCluster(true),
        ["resume", "cluster"] => Command::PauseCluster(false),
        ["scale", "workers", "to", n] => Command::Scale(kinds::MACHINE_DEPLOYMENT, n.parse().ok()?),
        ["scale", "control-plane", "to", n] => Command::Scale(kinds::CONTROL_PLANE, n.parse().ok()?),
        ["break", "host", name, "while", operation] => Command::Break(own(name), Some(own(operation))),
        ["mend", "host", name] => Command::Break(own(name), None),
        _ => return None,
    })
}

impl FromStr for Step {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let whole = text.trim();
        let (at, rest) = match whole.strip_prefix("at ").and_then(|rest| rest.split_once(": ")) {
            Some((at, rest)) => (read_span(at).map(Some), rest),
            None => (Some(None), whole),
        };
        let step = at.zip(command(rest.trim()));
        let step = step.map(|(at, command)| Self { at, command, text: whole.to_owned() });
        step.ok_or_else(|| Unreadable::Step { text: whole.to_owned() })
    }
}

impl FromStr for Condition {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let text = text.trim();
        let what = condition(text).ok_or_else(|| Unreadable::Condition { text: text.to_owned() })?;
        Ok(Self { what, text: text.to_owned() })
    }
}

fn condition(text: &str) -> Option<What> {
    let own = |word: &str| word.to_owned();
    if let Some((object, shown)) = text.split_once(" shows ") {
        let (of, name) = object.split_once(' ')?;
        let (path, value) = shown.split_once('=').filter(|(path, _)| path.starts_with('/'))?;
        return Some(What::Shows(kind(of)?, own(name), own(path), own(value)));
    }
    Some(match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["machine", name, "runs"] => What::Runs(own(name)),
        [n, "machine" | "machines", "run" | "runs"] => What::Run(n.parse().ok()?),
        ["machine", name, "is", "on", host] => What::IsOn(own(name), own(host)),
        ["claim", name, "has", "an", "address"] => What::Has(own(name), None),
        ["claim", name, "has", "no", "address"] => What::HasNone(own(name)),
        ["claim", name, "has", address] => What::Has(own(name), Some(own(address))),
        [n, "address" | "addresses", "is" | "are", "held"] => What::Held(n.parse().ok()?),
        ["nothing", "is", "left"] => What::NothingLeft,
        ["all", "is", "quiet"] => What::Quiet,
        [of, name, "exists"] => What::Exists(kind(of)?, own(name)),
        [of, name, "is", "gone"] => What::Gone(kind(of)?, own(name)),
        ["host", name, "is", ref state @ ..] if !state.is_empty() => What::HostIs(own(name), state.join(" ")),
        [n, "host" | "hosts", "is" | "are", ref state @ ..] if !state.is_empty() => {
            What::HostsAre(n.parse().ok()?, state.join(" "))
        }
        ["there", "is" | "are", n, of] => What::ThereAre(n.parse().ok()?, kind(of)?),
        _ => return None,
    })
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

macro_rules! from_text {
    ($($name:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
from_text!(Step, Condition);

/// `500ms`, `10s`, `5m` or `1h`.
fn read_span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let millis =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)].into_iter().find(|(name, _)| *name == unit)?.1;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?))
}

/// The kind of a manifest.
pub(super) fn kind_of(api_version: &str, name: &str) -> Option<Kind> {
    KINDS.iter().map(|(_, kind)| *kind).find(|kind| kind.kind == name && kind.api_version == api_version)
}

/// A moment of the story.
pub(super) fn moment(since: Duration) -> String {
    format!("{:8.1}s", since.as_millis() as f64 / 1000.0)
}

/// A bound in words.
pub(super) fn within(bound: Duration) -> String {
    format!("within {} s", bound.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_can_be_read() {
        for text in [
            "wait 5s",
            "at 10s: kill infra",
            "wait until machine m1 runs within 5m",
            "freeze ipam",
            "thaw infra #2",
            "create machine m1 with data template",
            "create claim a from pool",
            "delete metal3machine m1",
            "label host host-0 rack=a",
            "annotate machine m1 x-",
            "patch pool p {\"spec\": {\"prefix\": 24}}",
            "at 1m: pause cluster",
            "scale control-plane to 3",
            "break host host-0 while provisioning",
            "mend host host-0",
        ] {
            assert_eq!(text.parse::<Step>().map(|step| step.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "machine m1 runs",
            "100 machines run",
            "machine m1 is on host-0",
            "host host-0 is externally provisioned",
            "3 hosts are free",
            "claim a has 192.0.2.10",
            "claim a has no address",
            "2 addresses are held",
            "metal3machine m1 is gone",
            "there are 3 nodes",
            "machine m1 shows /status/phase=Running",
            "nothing is left",
            "all is quiet",
        ] {
            assert_eq!(text.parse::<Condition>().map(|found| found.to_string()), Ok(text.to_owned()));
        }
    }
}
