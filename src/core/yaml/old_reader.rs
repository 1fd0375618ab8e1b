//! A reader of YAML 1.1, for tests.
//!
//! The syntax is read by the parser beneath our reader of 1.2; what a bare word means is read here, by the tables that PyYAML (of
//! cloud-init) and go-yaml 2 (of baremetal-operator) go by. A word that either takes for something else than a string counts as that.
//! That PyYAML itself agrees is for the bed to show.

use std::sync::LazyLock;

use granit_parser::{Event, Parser, ScalarStyle};
use regex::Regex;
use serde_json::{Map, Number, Value, json};

/// Words, numbers and dates of the types of YAML 1.1. go-yaml drops every `_` after a sign or digit before it looks.
static OTHERWISE: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let of_pyyaml = [
        r"^(?i-u:y|n|yes|no|on|off|true|false|null|~|<<|=)?$",
        r"^[-+]?(0b[0-1_]+|0o?[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$",
        r"^[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+$",
        r"^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$",
        r"^([-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?$",
        r"^([-+]?\.(?i-u:inf)|\.(?i-u:nan))$",
        r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}.*)?$",
    ];
    of_pyyaml.iter().map(|table| Regex::new(table).unwrap()).collect()
});

static OF_GO: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let tables = [
        r"^[-+]?(0[bB][01]+|0[oO]?[0-7]+|0[xX][0-9a-fA-F]+|[0-9]+)$",
        r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$",
    ];
    tables.iter().map(|table| Regex::new(table).unwrap()).collect()
});

fn is_string(bare: &str) -> bool {
    let matches = |tables: &[Regex], text: &str| tables.iter().any(|table| table.is_match(text));
    let signed = bare.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let number_of_go = signed && matches(&OF_GO, &bare.replace('_', ""));
    !(number_of_go || matches(&OTHERWISE, bare))
}

fn bare(text: &str) -> Value {
    match text {
        _ if is_string(text) => text.into(),
        "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ => serde_json::from_str::<Number>(text).map_or_else(|_| json!({"no string": text}), Value::Number),
    }
}

/// The content of the one document, with whatever is not JSON standing out.
pub(crate) fn read(document: &str) -> Value {
    let events: Result<Vec<_>, _> = Parser::new_from_str(document).map(|event| event.map(|(event, _)| event)).collect();
    let events = events.unwrap_or_else(|error| panic!("{error}\n{document}"));
    let [Event::StreamStart, Event::DocumentStart(..), content @ .., Event::DocumentEnd, Event::StreamEnd] =
        &events[..]
    else {
        panic!("not one document: {events:?}\n{document}")
    };
    let mut content = content.iter();
    let first = content.next().unwrap();
    let value = node(first, &mut content);
    assert_eq!(content.next(), None, "{document}");
    value
}

fn node<'a, 'i: 'a>(event: &'a Event<'i>, rest: &mut std::slice::Iter<'a, Event<'i>>) -> Value {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, 0, None) => bare(text),
        Event::Scalar(text, _, 0, None) => text.as_ref().into(),
        Event::SequenceStart(_, 0, None) => {
            let mut items = Vec::new();
            loop {
                match rest.next().unwrap() {
                    Event::SequenceEnd => return items.into(),
                    event => items.push(node(event, rest)),
                }
            }
        }
        Event::MappingStart(_, 0, None) => {
            let mut map = Map::new();
            loop {
                let key = match rest.next().unwrap() {
                    Event::MappingEnd => return map.into(),
                    event => node(event, rest),
                };
                let value = node(rest.next().unwrap(), rest);
                let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                assert!(map.insert(key.clone(), value).is_none(), "{key} is there twice");
            }
        }
        other => json!({"no value": format!("{other:?}")}),
    }
}

#[test]
fn what_1_1_takes_for_something_else() {
    for text in [
        "yes",
        "~",
        "",
        "0777",
        "1_000",
        "12:30:45",
        "190:20:30.15",
        "1e3",
        "2001-12-14",
        "<<",
        "0b101",
        "-.INF",
        ".NaN",
        "+_1",
        "-_.5",
        "0_x10",
        "1e_3",
        "0x_",
    ] {
        assert!(!is_string(text), "{text}");
    }
    for text in ["12:34:56:78:9A:BC", "10.0.0.1", "fe80::1", "802.3ad", "w108", "_1", "1.2.3", "0xg", "yesno"] {
        assert!(is_string(text), "{text}");
    }
    assert_eq!(read("a: yes\nb: [1, \"yes\"]\n"), json!({"a": {"no string": "yes"}, "b": [1, "yes"]}));
}
