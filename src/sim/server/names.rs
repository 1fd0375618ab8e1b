//! What may stand in a name, a label, an annotation key or a finalizer, and how the API server says that it may not.

const LABEL_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_1123: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_RULE: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// Which names a kind takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameRule {
    /// A DNS label of at most 63 bytes.
    Label,
    /// A DNS subdomain of at most 253 bytes.
    Subdomain,
    /// Anything that can stand in a path.
    Path,
}

impl NameRule {
    /// What is wrong with the name. A `prefix` may end in a dash, because something follows it.
    pub(super) fn errors(self, name: &str, prefix: bool) -> Vec<String> {
        let masked = match name.strip_suffix('-') {
            Some(head) if prefix && !head.is_empty() => format!("{head}a"),
            Some(_) | None => name.to_owned(),
        };
        match self {
            Self::Label => label(&masked),
            Self::Subdomain => subdomain(&masked, "characters"),
            Self::Path => path_segment(name),
        }
    }
}

fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<_> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

/// The server counts bytes everywhere and calls them characters in names.
fn too_long_a_name(most: usize, unit: &str) -> String {
    format!("must be no more than {most} {unit}")
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|&byte| inner(byte) || byte == b'-')
        && bytes.first().is_some_and(|&byte| inner(byte))
        && bytes.last().is_some_and(|&byte| inner(byte))
}

fn label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long_a_name(63, "characters"));
    }
    if !is_label(text) {
        let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                       start and end with an alphanumeric character";
        errors.push(regex_error(message, LABEL_1123, &["my-name", "123-abc"]));
    }
    errors
}

fn subdomain(text: &str, unit: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push(too_long_a_name(253, unit));
    }
    if !text.split('.').all(is_label) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                       and must start and end with an alphanumeric character";
        errors.push(regex_error(message, SUBDOMAIN_1123, &["example.com"]));
    }
    errors
}

fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ['/', '%'].into_iter().filter(|&c| text.contains(c)).map(|c| format!("may not contain '{c}'")).collect()
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Label and annotation keys, finalizers: a name with a DNS prefix or without.
pub(super) fn qualified(key: &str) -> Vec<String> {
    let examples = ["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        ["", name] => {
            errors.push("prefix part must be non-empty".to_owned());
            *name
        }
        [prefix, name] => {
            errors.extend(subdomain(prefix, "bytes").into_iter().map(|error| format!("prefix part {error}")));
            *name
        }
        _ => {
            let rule = regex_error(QUALIFIED_RULE, QUALIFIED, &examples);
            let form = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {rule} {form}")];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errors.push(format!("name part {}", too_long(63)));
    }
    if !is_qualified(name) {
        errors.push(format!("name part {}", regex_error(QUALIFIED_RULE, QUALIFIED, &examples)));
    }
    errors
}

pub(super) fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 63 {
        errors.push(too_long(63));
    }
    if !value.is_empty() && !is_qualified(value) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                       and must start and end with an alphanumeric character";
        errors.push(regex_error(message, &format!("({QUALIFIED})?"), &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// Keys of ConfigMaps and Secrets.
pub(super) fn config_key(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > 253 {
        errors.push("must be no more than 253 characters".to_owned());
    }
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(regex_error(message, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match key {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        key if key.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_their_rule() {
        for (rule, name, prefix, fine) in [
            (NameRule::Subdomain, "a.b-c", false, true),
            (NameRule::Subdomain, "a.-b", false, false),
            (NameRule::Subdomain, "a-", false, false),
            (NameRule::Subdomain, "a-", true, true),
            (NameRule::Subdomain, "-", true, false),
            (NameRule::Label, "a.b", false, false),
            (NameRule::Label, "", false, false),
            (NameRule::Path, "system:a", false, true),
            (NameRule::Path, "a/b", false, false),
        ] {
            assert_eq!(rule.errors(name, prefix).is_empty(), fine, "{rule:?} {name:?}");
        }
        assert!(qualified("example.com/Name_1").is_empty());
        assert_eq!(qualified("a/b/c").len(), 1);
        assert!(qualified("/b")[0].starts_with("prefix part must be non-empty"));
        assert!(label_value("").is_empty());
    }
}
