//! The kinds that are served: the built-in ones, and those that CustomResourceDefinitions add.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::builtin::{BUILT_IN, BuiltIn};
use super::names::NameRule;
use super::schema::{ListType, Schema};
use super::status::Named;

/// One kind in all its versions.
#[derive(Debug)]
pub(super) struct Kind {
    /// `plural.group`, or the plural of the core group: how objects are filed and how messages name them.
    pub id: Arc<str>,
    pub group: String,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub versions: Vec<Version>,
    /// Index of the version that is stored.
    pub stored: usize,
    pub class: Class,
}

#[derive(Debug)]
pub(super) struct Version {
    pub name: String,
    pub served: bool,
    pub deprecated: bool,
    /// Whether writes to status go to a subresource.
    pub status: bool,
    /// Field selectors beyond name and namespace.
    pub selectable: Vec<String>,
    pub schema: Schema,
}

#[derive(Debug)]
pub(super) enum Class {
    BuiltIn(&'static BuiltIn),
    /// The webhook that converts between versions, if one does.
    Custom {
        convert: Option<Service>,
    },
}

/// A webhook as its configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub path: String,
}

impl Service {
    pub(super) fn parse(client_config: &Value) -> Option<Self> {
        let service = client_config.get("service")?;
        let text = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
        Some(Self { namespace: text("namespace"), name: text("name"), path: text("path") })
    }
}

/// A kind seen in one of its versions.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub kind: Arc<Kind>,
    at: usize,
}

impl View {
    pub(super) fn version(&self) -> &Version {
        &self.kind.versions[self.at]
    }

    pub(super) fn api_version(&self) -> String {
        self.kind.api_version(self.at)
    }

    /// The same kind as it is stored.
    pub(super) fn stored(&self) -> Self {
        Self { kind: self.kind.clone(), at: self.kind.stored }
    }

    pub(super) fn is_stored(&self) -> bool {
        self.at == self.kind.stored
    }

    pub(super) fn in_version(&self, name: &str) -> Option<Self> {
        let at = self.kind.versions.iter().position(|version| version.name == name)?;
        Some(Self { kind: self.kind.clone(), at })
    }

    pub(super) fn built_in(&self) -> Option<&'static BuiltIn> {
        match self.kind.class {
            Class::BuiltIn(built_in) => Some(built_in),
            Class::Custom { .. } => None,
        }
    }
}

impl Kind {
    fn api_version(&self, at: usize) -> String {
        let version = &self.versions[at].name;
        if self.group.is_empty() { version.clone() } else { format!("{}/{version}", self.group) }
    }

    /// As messages about an object name it.
    pub(super) fn named<'a>(&'a self, name: &'a str) -> Named<'a> {
        Named { group: &self.group, what: &self.plural, name }
    }

    /// As messages about its content name it.
    pub(super) fn named_kind<'a>(&'a self, name: &'a str) -> Named<'a> {
        Named { group: &self.group, what: &self.kind, name }
    }

    pub(super) fn name_rule(&self) -> NameRule {
        match self.class {
            Class::BuiltIn(built_in) => built_in.names,
            Class::Custom { .. } => NameRule::Subdomain,
        }
    }

    fn built_in(built_in: &'static BuiltIn) -> Self {
        Self {
            id: id(built_in.plural, built_in.group),
            group: built_in.group.to_owned(),
            kind: built_in.kind.to_owned(),
            list_kind: format!("{}List", built_in.kind),
            plural: built_in.plural.to_owned(),
            singular: built_in.kind.to_lowercase(),
            short: built_in.short.iter().map(|&name| name.to_owned()).collect(),
            categories: Vec::new(),
            namespaced: built_in.namespaced,
            versions: vec![Version {
                name: built_in.version.to_owned(),
                served: true,
                deprecated: false,
                status: built_in.status,
                selectable: built_in.selectable.iter().map(|&field| field.to_owned()).collect(),
                schema: merged(built_in.plural),
            }],
            stored: 0,
            class: Class::BuiltIn(built_in),
        }
    }

    /// The kind that a CustomResourceDefinition describes.
    pub(super) fn custom(definition: &Value) -> Result<Self, String> {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().into_iter().flatten().map(&text).collect::<Vec<_>>();
        let names = &spec["names"];
        let (group, plural) = (text(&spec["group"]), text(&names["plural"]));
        let mut versions = Vec::new();
        let mut stored = None;
        for (at, version) in spec["versions"].as_array().into_iter().flatten().enumerate() {
            if version["storage"] == true {
                stored = Some(at);
            }
            let schema = match version.pointer("/schema/openAPIV3Schema") {
                Some(schema) => Schema::parse(schema).map_err(|error| format!("{plural}.{group}: {error}"))?,
                None => Schema::open(),
            };
            let selectable = version["selectableFields"].as_array().into_iter().flatten();
            versions.push(Version {
                name: text(&version["name"]),
                served: version["served"] == true,
                deprecated: version["deprecated"] == true,
                status: version.pointer("/subresources/status").is_some(),
                selectable: selectable.map(|s| text(&s["jsonPath"]).trim_start_matches('.').to_owned()).collect(),
                schema,
            });
        }
        let conversion = &spec["conversion"];
        let convert = (conversion["strategy"] == "Webhook").then(|| &conversion["webhook"]["clientConfig"]);
        Ok(Self {
            id: id(&plural, &group),
            kind: text(&names["kind"]),
            list_kind: text(&names["listKind"]),
            singular: text(&names["singular"]),
            short: list(&names["shortNames"]),
            categories: list(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            stored: stored.ok_or("no version is stored")?,
            class: Class::Custom { convert: convert.and_then(Service::parse) },
            group,
            plural,
            versions,
        })
    }
}

/// How server-side apply takes the parts of a built-in kind that are not simply maps, values and lists of one owner.
fn merged(plural: &str) -> Schema {
    let by = |keys: &[&str]| Schema {
        list: ListType::Map(keys.iter().map(|&key| key.to_owned()).collect()),
        items: Some(Box::default()),
        ..Schema::default()
    };
    let within =
        |schema: Schema, name: &str| Schema { properties: [(name.to_owned(), schema)].into(), ..Schema::default() };
    let properties = match plural {
        "nodes" => {
            let status = [("conditions", by(&["type"])), ("addresses", by(&["type"]))];
            let status = status.map(|(name, schema)| (name.to_owned(), schema)).into();
            vec![("status", Schema { properties: status, ..Schema::default() })]
        }
        "namespaces" => vec![("status", within(by(&["type"]), "conditions"))],
        "serviceaccounts" => vec![("secrets", by(&["name"]))],
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => vec![("webhooks", by(&["name"]))],
        "rolebindings" | "clusterrolebindings" => {
            vec![("roleRef", Schema { atomic_map: true, ..Schema::default() })]
        }
        _ => Vec::new(),
    };
    let properties = properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    Schema { properties, ..Schema::open() }
}

fn id(plural: &str, group: &str) -> Arc<str> {
    if group.is_empty() { plural.into() } else { format!("{plural}.{group}").into() }
}

/// All kinds, by id. Clones share them until one defines another.
#[derive(Clone, Debug)]
pub(super) struct Kinds(Arc<BTreeMap<Arc<str>, Arc<Kind>>>);

impl Default for Kinds {
    fn default() -> Self {
        static BUILT: LazyLock<Kinds> = LazyLock::new(|| {
            let kinds = BUILT_IN.iter().map(Kind::built_in).map(|kind| (kind.id.clone(), Arc::new(kind)));
            Kinds(Arc::new(kinds.collect()))
        });
        BUILT.clone()
    }
}

impl Kinds {
    /// The kind behind a path, if its version is served.
    pub(super) fn find(&self, group: &str, version: &str, plural: &str) -> Option<View> {
        let kind = if group.is_empty() { self.0.get(plural) } else { self.0.get(&*id(plural, group)) }?;
        let at = kind.versions.iter().position(|v| v.name == version && v.served)?;
        Some(View { kind: kind.clone(), at })
    }

    /// The kind under its id, as it is stored.
    pub(super) fn stored(&self, id: &str) -> Option<View> {
        self.0.get(id).map(|kind| View { kind: kind.clone(), at: kind.stored })
    }

    /// The kind that an owner reference or a manifest names.
    pub(super) fn by_kind(&self, api_version: &str, kind: &str) -> Option<View> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let found = self.0.values().find(|known| known.group == group && known.kind == kind)?;
        let at = found.versions.iter().position(|v| v.name == version && v.served)?;
        Some(View { kind: found.clone(), at })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.0.values()
    }

    pub(super) fn add(&mut self, kind: Kind) {
        Arc::make_mut(&mut self.0).insert(kind.id.clone(), Arc::new(kind));
    }

    pub(super) fn remove(&mut self, id: &str) {
        Arc::make_mut(&mut self.0).remove(id);
    }
}
