//! YAML for machines: one emitter, one published form, read alike by YAML 1.1 and YAML 1.2.
//!
//! What is rendered here is parsed by cloud-init and by the host operator, whose readers disagree about `yes`, `0777`
//! and `12:30:45`. So a string is written bare only when both would read it back as that string. The form itself is
//! compared byte for byte by users who switch providers, and therefore fixed: block style, keys sorted, the dashes of a
//! sequence in the column of its parent key, a trailing newline.
//!
//! Rules: docs/spec/data-rendering.md D-53, D-54 with hazard HD-36 adopted.

#[cfg(test)]
pub(crate) mod old_reader;

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

/// A key longer than this is written in the explicit `? key` form: readers look only so far ahead for its colon.
const LONGEST_SIMPLE_KEY: usize = 128;

/// Writes `value` as one YAML document.
#[must_use]
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut out, map, 0),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0),
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            scalar(&mut out, value);
        }
    }
    out
}

/// The first line continues where `out` stands, the others are indented by `column`.
fn mapping(out: &mut String, map: &Map<String, Value>, column: usize) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    for (n, (key, value)) in entries.into_iter().enumerate() {
        if n > 0 {
            indent(out, column);
        }
        let key = string(key);
        if key.len() > LONGEST_SIMPLE_KEY {
            let _ = writeln!(out, "? {key}");
            indent(out, column);
        } else {
            out.push_str(&key);
        }
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                indent(out, column + 2);
                mapping(out, inner, column + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                indent(out, column);
                sequence(out, items, column);
            }
            Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                out.push(' ');
                scalar(out, value);
            }
        }
    }
}

/// The first line continues where `out` stands, the others are indented by `column`.
fn sequence(out: &mut String, items: &[Value], column: usize) {
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            indent(out, column);
        }
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(out, map, column + 2),
            Value::Array(inner) if !inner.is_empty() => sequence(out, inner, column + 2),
            Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                scalar(out, item);
            }
        }
    }
}

fn indent(out: &mut String, column: usize) {
    out.extend(std::iter::repeat_n(' ', column));
}

/// One line: what needs no line of its own. Collections get here only when they are empty.
fn scalar(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&self::number(number)),
        Value::String(text) => out.push_str(&string(text)),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
    out.push('\n');
}

/// A float with an exponent needs a dot and a sign, or a YAML 1.1 reader takes it for a string.
fn number(number: &Number) -> String {
    let text = number.to_string();
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return text };
    let dot = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['+', '-']) { "" } else { "+" };
    format!("{mantissa}{dot}e{sign}{exponent}")
}

/// A string in the plainest form that every reader takes for exactly this string.
fn string(text: &str) -> Cow<'_, str> {
    if text.is_empty() || reads_as_another_type(text) || text.chars().any(|c| !is_plain(c)) {
        Cow::Owned(double_quoted(text))
    } else if breaks_plain_syntax(text) {
        Cow::Owned(format!("'{}'", text.replace('\'', "''")))
    } else {
        Cow::Borrowed(text)
    }
}

/// Characters that mean themselves in bare and in single-quoted text.
fn is_plain(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric())
}

/// Text that cannot stand bare: it would start a comment, a key, a collection, a tag or another document.
fn breaks_plain_syntax(text: &str) -> bool {
    let mut chars = text.chars();
    let first_breaks = match chars.next() {
        Some('-' | '?' | ':') => chars.next().is_none_or(|next| next == ' '),
        Some(first) => ",[]{}#&*!|>'\"%@`=<~".contains(first),
        None => true,
    };
    first_breaks
        || text.starts_with(' ')
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #")
        || text.starts_with("---")
        || text.starts_with("...")
}

/// Text that a YAML 1.1 or 1.2 reader resolves to a boolean, a null, a number or a time. The host operator's looks for numbers where
/// a sign or a digit stands first, and leaves out every `_` before.
fn reads_as_another_type(text: &str) -> bool {
    const WORDS: [&str; 13] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", ".nan", "<<", "="];
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
        || is_number(text)
        || (text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') && is_number(&text.replace('_', "")))
        || is_base_60(text)
        || is_date(text)
}

fn is_number(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    if text.eq_ignore_ascii_case(".inf") {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)];
    if let Some((digits, radix)) = radix.iter().find_map(|(prefix, radix)| Some((lower.strip_prefix(prefix)?, *radix)))
    {
        return !digits.is_empty() && digits.chars().all(|c| c == '_' || c.is_digit(radix));
    }
    let (mantissa, exponent) = match lower.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (lower.as_str(), "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.chars().all(|c| c == '_' || c.is_ascii_digit());
    let starts_with_digit = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    (starts_with_digit(whole) || (whole.is_empty() && starts_with_digit(fraction)))
        && digits(whole)
        && digits(fraction)
        && starts_with_digit(exponent)
        && digits(exponent)
}

/// `12:30:45`, and therefore a MAC address of decimal groups up to 59, is a number to the base of 60 in YAML 1.1.
fn is_base_60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut groups = whole.split(':');
    let first = groups.next().unwrap_or_default();
    let mut sixties = groups.peekable();
    let below_60 = |group: &str| matches!(group.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    sixties.peek().is_some()
        && first.starts_with(|c: char| c.is_ascii_digit())
        && [first, fraction].iter().all(|part| part.chars().all(|c| c == '_' || c.is_ascii_digit()))
        && sixties.all(below_60)
}

/// `2001-12-14`, alone or with a time of day after it.
fn is_date(text: &str) -> bool {
    let day = text.split_once(['T', 't', ' ']).map_or(text, |(day, _)| day);
    let parts: Vec<_> = day.split('-').collect();
    matches!(parts[..], [year, month, day] if year.len() == 4 && (1..=2).contains(&month.len()) && (1..=2).contains(&day.len()))
        && day.bytes().all(|b| b == b'-' || b.is_ascii_digit())
}

/// Every character by an escape that both versions know, unless it is printable to both.
fn double_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let code = u32::from(c);
        let _ = match c {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            c if is_plain(c) => write!(out, "{c}"),
            _ if code <= 0xff => write!(out, "\\x{code:02X}"),
            _ if code <= 0xffff => write!(out, "\\u{code:04X}"),
            _ => write!(out, "\\U{code:08X}"),
        };
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(value: &Value, expected: &str) {
        assert_eq!(to_yaml(value), expected);
        assert_reads_back(value);
    }

    #[track_caller]
    fn assert_reads_back(value: &Value) {
        let document = to_yaml(value);
        match serde_saphyr::from_str::<Value>(&document) {
            Ok(read) => assert_eq!(&read, value, "read back from\n{document}"),
            Err(error) => panic!("{error}\n{document}"),
        }
        assert_eq!(&old_reader::read(&document), value, "read back by a reader of 1.1 from\n{document}");
    }

    #[test]
    fn d_53_block_form_with_sorted_keys_and_dashes_in_the_parents_column() {
        check(
            &json!({"routes": [{"services": [{"type": "dns", "address": "8.8.8.8"}], "netmask": "255.255.0.0"}], "mtu": 1500, "a": {"b": {"c": null}}}),
            "a:\n  b:\n    c: null\nmtu: 1500\nroutes:\n- netmask: 255.255.0.0\n  services:\n  - address: 8.8.8.8\n    type: dns\n",
        );
    }

    #[test]
    fn d_53_empty_things_stay_on_the_line_of_their_key() {
        check(
            &json!({"list": [], "map": {}, "none": null, "text": "", "flag": true, "off": false}),
            "flag: true\nlist: []\nmap: {}\nnone: null\n\"off\": false\ntext: \"\"\n",
        );
        check(&json!([{}, []]), "- {}\n- []\n");
        check(&json!({}), "{}\n");
        check(&json!([]), "[]\n");
    }

    #[test]
    fn d_53_sequences_of_sequences() {
        check(&json!([[1, 2], [["x"]], {"k": [3]}]), "- - 1\n  - 2\n- - - x\n- k:\n  - 3\n");
    }

    #[test]
    fn d_54_words_that_would_read_as_something_else_get_double_quotes() {
        for word in [
            "",
            "24",
            "yes",
            "Yes",
            "NO",
            "on",
            "off",
            "y",
            "N",
            "null",
            "Null",
            "~",
            "true",
            "1e3",
            "1.5",
            "1.",
            ".5",
            "-7",
            "+1",
            "0x10",
            "0o17",
            "0b101",
            "0777",
            "1_000",
            ".inf",
            "-.INF",
            ".NaN",
            "12:30:45",
            "1:2:3:4:5:6:7:8",
            "00:11:22:33:44:55",
            "190:20:30.15",
            "2001-12-14",
            "2001-12-14t21:59:43.10-05:00",
            "2001-12-14 21:59:43",
            "<<",
            "=",
            "+_1",
            "-_.5",
            "0_x10",
            "1e_3",
            "0x_",
        ] {
            assert_eq!(string(word), format!("\"{word}\""));
        }
    }

    #[test]
    fn d_54_words_that_cannot_stand_bare_get_single_quotes() {
        for word in [
            "2001::",
            "ffff:ffff:ffff:ffff::",
            "::",
            "a: b",
            "- x",
            "-",
            "a #b",
            "#x",
            "*x",
            "&x",
            "!x",
            "%x",
            "@x",
            "`x",
            "[x",
            "{x",
            "x ",
            " x",
            "? x",
            ", x",
            "> x",
            "| x",
            "\"x\"",
            "--- x",
            "...",
            "~/.ssh",
            "<a>",
        ] {
            assert_eq!(string(word), format!("'{word}'"));
        }
        assert_eq!(string("'quoted'"), "'''quoted'''");
    }

    #[test]
    fn d_54_everything_else_is_bare() {
        for word in [
            "12:34:56:78:9A:BC",
            "DE:F0:12:34:56:78",
            "de-ad-be-ef-00-01",
            "10.0.0.1",
            "255.255.255.0",
            "fe80::1",
            "2001:db8:0:1::68",
            "::1",
            "802.3ad",
            "layer3+4",
            "w108",
            "e1",
            "a b",
            "a:b",
            "a#b",
            "-x",
            "?x",
            "0x",
            "0xg",
            "1e",
            "_1",
            "1.2.3",
            "12:60",
            "2001-12",
            "yesno",
            "it's",
            "a, b",
            "a[0]",
            "x=y",
            "straße",
        ] {
            assert_eq!(string(word), word);
        }
    }

    /// The values of the row, then everything that ever tripped a reader we know of.
    #[test]
    fn td_146_strings_read_back_unchanged() {
        let nasty = [
            "yes",
            "null",
            "0x10",
            "1e3",
            "12:30:45",
            "~",
            "",
            "a: b",
            "line one\nline two",
            "line\n",
            "\n",
            "\n\n  x\n",
            "\ttab",
            "tab\t",
            "cr\r\n",
            "\u{0}",
            "\u{7}bell",
            "\u{1b}[0m",
            "\u{7f}",
            "\u{85}",
            "\u{a0}",
            "\u{2028}",
            "\u{2029}",
            "\u{feff}bom",
            "\u{e000}",
            "\u{fffd}",
            "😀 x",
            "日本語",
            "\\",
            "\\n",
            "\"",
            "'",
            "''",
            "a'b",
            "a\"b",
            "'a",
            "a'",
            "{{ x }}",
            "{% if %}",
            "${x}",
            "- a\n- b",
            "? a",
            ": a",
            ":",
            "a:",
            "a :b",
            "#!/bin/sh\nset -e\n",
            "key: |\n  block",
            "!!int 3",
            "&a *a",
            "*",
            "@",
            "`",
            "%YAML 1.1",
            "---",
            "--- a",
            "...",
            "...x",
            "<<",
            "=",
            "0o7",
            "0b1",
            "+.inf",
            "-.INF",
            ".NAN",
            "nan",
            "1,000",
            "1_0",
            "0.",
            "08",
            "-",
            "--",
            "+",
            ".",
            "..",
            "1-2",
            "1/2",
            "24",
            "1:0",
            "::",
            "1::",
            "::1",
            "2001-01-01",
            "2001-01-01T00:00:00Z",
            "  indented",
            "trailing  ",
            " ",
            "  ",
            "x\u{200b}y",
            "=x",
            "<x",
            "[",
            "]",
            "{",
            "}",
            ",",
            "|",
            ">",
            "! x",
        ];
        for text in nasty {
            assert_reads_back(&json!({"k": text}));
            assert_reads_back(&json!({text: "v"}));
            assert_reads_back(&json!([text, {"k": [text]}]));
        }
        // Every single character of the first planes, alone and inside a word.
        for c in (0..0x3000).filter_map(char::from_u32) {
            assert_reads_back(
                &json!({"k": c.to_string(), "l": format!("a{c}b"), "m": format!("a {c}"), "n": format!("{c} a")}),
            );
        }
    }

    #[test]
    fn a_long_key_is_written_explicitly_and_reads_back() {
        let key = "k".repeat(512);
        check(&json!({&key: "v", "z": {&key: ["a"]}}), &format!("? {key}\n: v\nz:\n  ? {key}\n  :\n  - a\n"));
        assert_reads_back(&json!({"\u{1}".repeat(512): "v"}));
    }

    #[test]
    fn numbers_stay_numbers_to_both_readers() {
        check(&json!([100, -1, 1.5, 1e21, 1e-7]), "- 100\n- -1\n- 1.5\n- 1.0e+21\n- 1.0e-7\n");
    }

    #[test]
    fn d_54_what_cannot_be_seen_is_escaped_in_the_shortest_known_way() {
        let text = "\"a\"\\b\n\r\t\u{1}\u{85}\u{2028}\u{1f600}";
        assert_eq!(string(text), "\"\\\"a\\\"\\\\b\\n\\r\\t\\x01\\x85\\u2028\\U0001F600\"");
        assert_reads_back(&json!(text));
    }

    #[test]
    fn a_key_of_128_characters_is_still_a_simple_one() {
        assert_eq!(to_yaml(&json!({"k".repeat(128): 1})), format!("{}: 1\n", "k".repeat(128)));
        assert_eq!(to_yaml(&json!({"k".repeat(129): 1})), format!("? {}\n: 1\n", "k".repeat(129)));
    }
}
