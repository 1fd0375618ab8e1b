//! What a request asks for, read from its path, its query and its headers.

use std::collections::BTreeMap;
use std::fmt;

use http::request::Parts;
use http::{Method, header};
use serde_json::Value;

use super::status::Refusal;

/// On whose behalf a client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
    /// Which of several processes of this user; for seams and observers, the server does not look at it.
    pub process: u32,
}

impl User {
    /// May do everything.
    pub fn admin() -> Self {
        Self { name: "admin".into(), groups: vec!["system:masters".into(), "system:authenticated".into()], process: 0 }
    }

    pub(super) fn is_admin(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }

    /// May do what its roles say.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"];
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            process: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        use Verb::{Create, Delete, DeleteCollection, Get, List, Patch, Update, Watch};
        [Get, List, Watch, Create, Update, Patch, Delete, DeleteCollection].into_iter().find(|verb| verb.name() == name)
    }

    /// Whether it may change what is stored.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// What a write insists on about the object it meets, for observers: the server has held it to that by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fence {
    #[default]
    None,
    /// That it is the same object.
    Uid,
    /// That nobody has written it since it was read.
    Version,
}

impl Fence {
    /// Of a body that carries metadata.
    pub(super) fn of(body: &Value) -> Self {
        let stated = |field: &str| body["metadata"][field].as_str().is_some_and(|text| !matches!(text, "" | "0"));
        match (stated("resourceVersion"), stated("uid")) {
            (true, _) => Self::Version,
            (false, true) => Self::Uid,
            (false, false) => Self::None,
        }
    }
}

/// One request about objects, as faults and traces see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Counts the requests of this server.
    pub number: u64,
    pub user: String,
    /// See [`User::process`].
    pub process: u32,
    pub verb: Verb,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    /// Empty for all namespaces and for kinds without.
    pub namespace: String,
    /// Empty for a whole list; a create knows its name only from the body.
    pub name: String,
    /// Known once the body is read.
    pub fence: Fence,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.user, self.verb.name(), self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.namespace.is_empty() || !self.name.is_empty() {
            write!(f, " {}/{}", self.namespace, self.name)?;
        }
        Ok(())
    }
}

/// What a path is about.
#[derive(Debug)]
pub(super) enum Target {
    Call(Call),
    /// `/api`, `/apis` and what is below them without a resource.
    Discovery(Vec<String>),
    /// `/healthz` and its like.
    Health,
    Version,
}

/// The query of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pairs: BTreeMap<String, String>,
    /// Who the client says it is, for who does not name its field manager.
    agent: String,
}

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        });
        Self { pairs: pairs.collect(), agent: String::new() }
    }

    /// The name under which fields are owned.
    pub(super) fn manager(&self) -> &str {
        if self.has("fieldManager") { self.text("fieldManager") } else { &self.agent }
    }

    pub(super) fn text(&self, key: &str) -> &str {
        self.pairs.get(key).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.pairs.contains_key(key)
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.text(key), "true" | "1")
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.text(key).parse().ok()
    }

    pub(super) fn dry_run(&self) -> bool {
        self.text("dryRun") == "All"
    }
}

/// Percent-decoded, with `+` for a space.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escaped = || u8::from_str_radix(text.get(i + 1..i + 3)?, 16).ok();
        match bytes[i] {
            b'%' if let Some(byte) = escaped() => {
                out.push(byte);
                i += 3;
                continue;
            }
            b'+' => out.push(b' '),
            byte => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// In which form the client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    /// `PartialObjectMetadata`, or a list of it.
    Metadata,
}

impl Form {
    pub(super) fn of(parts: &Parts) -> Self {
        let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.contains("as=PartialObjectMetadata") { Self::Metadata } else { Self::Whole }
    }
}

pub(super) fn parse(parts: &Parts, user: &User, number: u64) -> Result<(Target, Query), Refusal> {
    let mut query = Query::parse(parts.uri.query().unwrap_or_default());
    let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    query.agent = agent.split('/').next().unwrap_or_default().to_owned();
    let path: Vec<String> = parts.uri.path().trim_matches('/').split('/').map(decoded).collect();
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let (group, version, rest): (&str, &str, &[&str]) = match segments.as_slice() {
        ["healthz" | "readyz" | "livez", ..] => return Ok((Target::Health, query)),
        ["version"] => return Ok((Target::Version, query)),
        [""] | ["api"] | ["apis"] | ["api", "v1"] | ["apis", _] | ["apis", _, _] => {
            return Ok((Target::Discovery(path), query));
        }
        ["api", version, rest @ ..] => ("", version, rest),
        ["apis", group, version, rest @ ..] => (group, version, rest),
        _ => return Err(Refusal::unknown_path()),
    };
    let (namespace, rest) = match rest {
        // A namespace itself and its subresources.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, rest @ ..] => (*namespace, rest),
        rest => ("", rest),
    };
    let (resource, name, subresource) = match rest {
        [resource] => (*resource, "", ""),
        [resource, name] => (*resource, *name, ""),
        [resource, name, subresource] => (*resource, *name, *subresource),
        _ => return Err(Refusal::unknown_path()),
    };
    let named = !name.is_empty();
    let verb = match parts.method {
        Method::GET if query.flag("watch") && !named => Verb::Watch,
        Method::GET if named => Verb::Get,
        Method::GET => Verb::List,
        // Which kinds take a POST to a name or a PUT to a list is known later.
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if named => Verb::Delete,
        Method::DELETE => Verb::DeleteCollection,
        _ => return Err(Refusal::method_not_allowed()),
    };
    let call = Call {
        number,
        user: user.name.clone(),
        process: user.process,
        verb,
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        fence: Fence::None,
    };
    Ok((Target::Call(call), query))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, uri: &str) -> (String, Query) {
        let (parts, ()) = http::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
        match parse(&parts, &User::admin(), 1).unwrap() {
            (Target::Call(call), query) => (call.to_string(), query),
            (other, _) => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_say_what_is_asked() {
        for (method, uri, expected) in [
            ("GET", "/api/v1/namespaces", "admin list namespaces"),
            ("GET", "/api/v1/namespaces/a", "admin get namespaces /a"),
            ("PATCH", "/api/v1/namespaces/a/status", "admin patch namespaces/status /a"),
            ("GET", "/api/v1/namespaces/a/secrets?watch=true", "admin watch secrets a/"),
            ("DELETE", "/apis/g/v1/namespaces/a/lamps", "admin deletecollection lamps a/"),
            ("PUT", "/apis/g/v1/namespaces/a/lamps/b/status", "admin update lamps/status a/b"),
            ("POST", "/apis/g/v1/lamps", "admin create lamps"),
        ] {
            assert_eq!(call(method, uri).0, expected);
        }
        let (_, query) = call("GET", "/api/v1/pods?labelSelector=a%3Db%2Cc+in+%28d%29&limit=5&watch=0");
        assert_eq!((query.text("labelSelector"), query.number("limit")), ("a=b,c in (d)", Some(5)));
    }
}
