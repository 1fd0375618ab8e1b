//! The config drive, made from the Secrets that a host names.
//!
//! User data goes on it byte for byte. Meta data are six keys of the operator's with those of the Secret merged over them; network data
//! are the Secret's YAML as JSON. What the real operator cannot parse is an error here as well.

use serde_json::{Map, Value, json};

use super::view::Host;
use crate::room::ConfigDrive;

/// What was read from the Secrets; `None` where the host names none.
#[derive(Default)]
pub struct Sources {
    pub user_data: Option<Vec<u8>>,
    pub meta_data: Option<Vec<u8>>,
    pub network_data: Option<Vec<u8>>,
}

/// The files of the config drive, or why they cannot be made.
pub fn config_drive(host: &Host, sources: &Sources) -> Result<ConfigDrive, String> {
    let id = host.id();
    let mut meta_data = Map::new();
    for (key, value) in [
        ("uuid", &id.uid),
        ("metal3-namespace", &id.namespace),
        ("metal3-name", &id.name),
        ("local-hostname", &id.name),
        ("local_hostname", &id.name),
        ("name", &id.name),
    ] {
        meta_data.insert(key.to_owned(), json!(value));
    }
    if let Some(given) = parse(sources.meta_data.as_deref(), "metadata")? {
        meta_data.extend(given);
    }
    let network_data = parse(sources.network_data.as_deref(), "network_data.json")?;
    Ok(ConfigDrive {
        user_data: sources.user_data.clone().filter(|bytes| !bytes.is_empty()),
        meta_data_json: sorted(meta_data).to_string(),
        network_data_json: network_data.map(|data| sorted(data).to_string()),
    })
}

/// An empty text is as good as none; anything but a map is refused.
fn parse(text: Option<&[u8]>, what: &str) -> Result<Option<Map<String, Value>>, String> {
    let Some(bytes) = text.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let broken = |why: String| format!("failed to unmarshal {what} from secret: {why}");
    let text = std::str::from_utf8(bytes).map_err(|error| broken(error.to_string()))?;
    match serde_saphyr::from_str::<Value>(text).map_err(|error| broken(error.to_string()))? {
        Value::Object(map) => Ok(Some(map)),
        Value::Null => Ok(None),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(broken("it is not a map".to_owned()))
        }
    }
}

/// In the order in which the real operator's JSON has its keys.
fn sorted(map: Map<String, Value>) -> Value {
    let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted_value(value))).collect();
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Value::Object(entries.into_iter().collect())
}

fn sorted_value(value: Value) -> Value {
    match value {
        Value::Object(map) => sorted(map),
        Value::Array(items) => Value::Array(items.into_iter().map(sorted_value).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        serde_json::from_value(json!({"metadata": {"namespace": "metal3", "name": "node-0", "uid": "u-1"}})).unwrap()
    }

    fn drive(meta: &str, network: &str) -> Result<ConfigDrive, String> {
        let bytes = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        config_drive(&host(), &Sources { user_data: None, meta_data: bytes(meta), network_data: bytes(network) })
    }

    #[test]
    fn the_operators_keys_come_first_and_the_secrets_keys_win() {
        assert_eq!(
            drive("name: other\nindex: 3\n", "").unwrap().meta_data_json,
            r#"{"index":3,"local-hostname":"node-0","local_hostname":"node-0","metal3-name":"node-0","metal3-namespace":"metal3","name":"other","uuid":"u-1"}"#
        );
    }

    #[test]
    fn network_data_keep_types_and_order_of_lists() {
        let yaml = "links:\n- id: eth0\n  mtu: 1500\n  type: phy\n- id: eth1\nservices: []\n";
        assert_eq!(
            drive("", yaml).unwrap().network_data_json.as_deref(),
            Some(r#"{"links":[{"id":"eth0","mtu":1500,"type":"phy"},{"id":"eth1"}],"services":[]}"#)
        );
        assert_eq!(drive("", "").unwrap().network_data_json, None);
    }

    #[test]
    fn user_data_are_not_looked_at() {
        let bytes = vec![0xff, 0, b'\n', b' '];
        let sources = Sources { user_data: Some(bytes.clone()), ..Sources::default() };
        assert_eq!(config_drive(&host(), &sources).unwrap().user_data, Some(bytes));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for broken in ["- a\n", "just text", "a: ["] {
            let error = drive(broken, "").unwrap_err();
            assert!(error.starts_with("failed to unmarshal metadata from secret: "), "{error}");
        }
    }

    /// The real operator's YAML is 1.1: quoting decides whether `yes` is a word. The rendered data quote it.
    #[test]
    fn quoted_words_stay_words() {
        let json = drive("a: \"yes\"\nb: 'on'\nc: \"0777\"\nd: \"12:30:45\"\n", "").unwrap().meta_data_json;
        assert!(json.contains(r#""a":"yes","b":"on","c":"0777","d":"12:30:45""#), "{json}");
    }
}
