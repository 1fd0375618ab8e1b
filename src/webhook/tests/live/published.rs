//! The published definitions as data: a value for every field, and the values at the edges of what each accepts.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

const FIELDS: &str = include_str!("../../../xtask/data/crd-fields.tsv");

/// What to try: an ordinary value everywhere, but for one place, or for every text, number and switch at once.
#[derive(Clone, Copy)]
pub(crate) enum Tried<'a> {
    Nothing,
    At(&'a str, usize),
    Scalars(usize),
}

/// One field of a published schema, and what is below it.
#[derive(Default)]
pub(crate) struct Field {
    columns: Vec<String>,
    below: BTreeMap<String, Field>,
}

const COLUMNS: [&str; 16] = [
    "type", "req", "format", "default", "enum", "pattern", "min", "max", "minLen", "maxLen", "minItems", "maxItems",
    "minProps", "maxProps", "list", "flags",
];

/// The schemas by kind and version.
pub(crate) fn published() -> BTreeMap<(String, String), Field> {
    let mut all: BTreeMap<(String, String), Field> = BTreeMap::new();
    for line in FIELDS.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        let mut field = all.entry((cells[1].to_owned(), cells[2].to_owned())).or_default();
        for step in steps(cells[3]) {
            field = field.below.entry(step).or_default();
        }
        field.columns = cells[4..].iter().map(|&cell| cell.to_owned()).collect();
    }
    all
}

/// `.a.b[].c{}` as `a`, `b`, `[]`, `c`, `{}`.
fn steps(path: &str) -> Vec<String> {
    path.replace("[]", ".[]")
        .replace("{}", ".{}")
        .split('.')
        .filter(|step| !step.is_empty())
        .map(str::to_owned)
        .collect()
}

impl Field {
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.below.get(name)
    }

    fn is(&self, column: &str) -> &str {
        let i = COLUMNS.iter().position(|name| *name == column).unwrap();
        self.columns.get(i).map_or("", String::as_str)
    }

    fn number(&self, column: &str) -> Option<i64> {
        self.is(column).parse().ok()
    }

    /// Every list and object below, in order, with how many values there are to try.
    pub(crate) fn structures(&self, path: &str, into: &mut Vec<(String, usize)>) {
        if !self.is_scalar() {
            into.push((path.to_owned(), self.values(path, Tried::Nothing).len()));
        }
        for (name, field) in &self.below {
            field.structures(&format!("{path}.{name}"), into);
        }
    }

    fn is_scalar(&self) -> bool {
        matches!(self.is("type"), "string" | "integer" | "boolean")
    }

    /// An ordinary value, but where something else is tried.
    pub(crate) fn value(&self, path: &str, tried: Tried<'_>) -> Value {
        let mut values = self.values(path, tried);
        let nth = match tried {
            Tried::At(at, nth) if at == path => nth,
            Tried::Scalars(nth) if self.is_scalar() => nth % values.len(),
            _ => 0,
        };
        values.swap_remove(nth)
    }

    fn values(&self, path: &str, tried: Tried<'_>) -> Vec<Value> {
        match self.is("type") {
            "object" if self.below.contains_key("{}") => {
                let entry = self.below["{}"].value(&format!("{path}.{{}}"), tried);
                let many = (0..5).map(|i| (format!("some-{i}"), entry.clone())).collect::<Map<_, _>>();
                vec![json!({"some": entry}), many.into(), json!({})]
            }
            "object" if self.is("flags").contains("preserve-unknown") => {
                vec![json!({"any": [1, "x", null]}), json!({})]
            }
            "object" => {
                let fields = |only_required: bool| -> Value {
                    let wanted = self.below.iter().filter(|(_, field)| !only_required || field.is("req") == "r");
                    Value::Object(
                        wanted
                            .map(|(name, field)| (name.clone(), field.value(&format!("{path}.{name}"), tried)))
                            .collect(),
                    )
                };
                let mut all = vec![fields(false)];
                if self.number("minProps").is_none() {
                    all.push(fields(true));
                }
                all
            }
            "array" => self.lists(path, tried),
            "boolean" => vec![json!(true), json!(false)],
            "integer" => self.integers(),
            "string" => self.strings(),
            _ => {
                vec![json!(100), json!("fast"), json!({"a": [1, {"b": null}]}), json!([1, 2]), json!(true), json!(1.5)]
            }
        }
    }

    fn lists(&self, path: &str, tried: Tried<'_>) -> Vec<Value> {
        let item = &self.below["[]"];
        let one = item.value(&format!("{path}.[]"), tried);
        let count = self.number("maxItems").unwrap_or(40).min(40); // bounds are compared elsewhere
        let keys: Vec<&str> =
            self.is("list").strip_prefix("map:").map(|keys| keys.split('|').collect()).unwrap_or_default();
        let is_set = self.is("list") == "set";
        let nth = |i: i64| {
            let mut item_i = one.clone();
            for key in &keys {
                item_i[*key] = item.below[*key].distinct(i);
            }
            if is_set {
                item_i = item.distinct(i);
            }
            item_i
        };
        let many: Vec<Value> = (0..count).map(nth).collect();
        let mut all = vec![json!([one]), many.into()];
        if self.number("minItems").is_none_or(|least| least == 0) {
            all.push(json!([]));
        }
        all
    }

    fn distinct(&self, i: i64) -> Value {
        match (self.is("type"), self.is("pattern")) {
            ("integer", _) => json!(i),
            (_, pattern) if pattern.contains("25[0-5]") => format!("10.0.{}.{}", i / 256, i % 256).into(),
            (_, pattern) if pattern.contains("fA-F") => format!("fd00::{i:x}").into(),
            _ => format!("n{i}").into(),
        }
    }

    fn integers(&self) -> Vec<Value> {
        let (far, wide) = if self.is("format") == "int32" { (i32::MAX.into(), 1) } else { (1 << 40, 0) };
        let least = self.number("min").unwrap_or(-far - wide);
        let most = self.number("max").unwrap_or(far);
        [least.max(1).min(most), least, most, (least + most) / 2].map(Value::from).to_vec()
    }

    fn strings(&self) -> Vec<Value> {
        let words: Vec<Value> = self.is("enum").split('|').filter(|word| !word.is_empty()).map(Value::from).collect();
        if !words.is_empty() {
            return words;
        }
        let most = self.number("maxLen").unwrap_or(2000) as usize;
        let texts: Vec<String> = match (self.is("format"), self.is("pattern")) {
            ("date-time", _) => ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05+01:00", "2026-01-02T03:04:05.123456789Z"]
                .map(str::to_owned)
                .into(),
            ("uri", _) => {
                let padded = format!("http://x/{}", "a".repeat(most - "http://x/".len()));
                vec!["http://images.example/i.qcow2".into(), "oci://registry/i:tag".into(), "/i".into(), padded]
            }
            (_, pattern) if pattern.contains("/([0-9]") => {
                ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/64", "::/128"].map(str::to_owned).into()
            }
            (_, pattern) if pattern.contains("25[0-5]") && pattern.contains("fA-F") => {
                ["192.0.2.1", "255.255.255.255", "2001:DB8::1", "::"].map(str::to_owned).into()
            }
            (_, pattern) if pattern.contains("25[0-5]") => {
                ["192.0.2.1", "0.0.0.0", "255.255.255.255"].map(str::to_owned).into()
            }
            (_, pattern) if pattern.contains("fA-F") => ["2001:db8::1", "::", "FE80::"].map(str::to_owned).into(),
            (_, pattern) if pattern.starts_with("^[A-Za-z]([A-Za-z0-9_,:]*") => {
                vec!["Ready".into(), "A".into(), "A,b:_9".into(), "A".repeat(most)]
            }
            (_, pattern) if pattern.contains("[-A-Za-z0-9_.]*") => {
                vec!["Ready".into(), "x.y/Z".into(), "A".repeat(most)]
            }
            (_, "^[a-zA-Z][a-zA-Z0-9._-]*$") => vec!["eth0".into(), "e".into(), "a.b_c-9".into(), "e".repeat(most)],
            (_, pattern) if pattern.starts_with("^[a-z0-9]([-a-z0-9]*") => {
                vec!["pool".into(), "0.a-b.c".into(), "a".repeat(most)]
            }
            (_, pattern) if pattern.starts_with("^[a-zA-Z]([-a-zA-Z0-9]*") => {
                vec!["Pool".into(), "p".into(), "P".repeat(most)]
            }
            (_, "") => {
                let mut texts = vec!["text".to_owned(), "ü\n\"'\\ ~: #{}".to_owned(), "ü".repeat(most)];
                if self.number("minLen").is_none_or(|least| least == 0) {
                    texts.push(String::new());
                }
                texts
            }
            (_, pattern) => panic!("what does {pattern} accept?"),
        };
        texts.into_iter().map(Value::from).collect()
    }
}
