//! What counts as a URL of an image: the lenient notion that users of the Go provider know, an absolute URI or path.

/// Whether `text` could stand in a request line: a scheme and what follows, or a path from the root.
pub(super) fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_ascii_control()) {
        return false;
    }
    let (has_scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (true, rest),
        _ => (false, text),
    };
    let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
    if !rest.starts_with('/') {
        return has_scheme;
    }
    let path = match rest.strip_prefix("//").filter(|_| has_scheme) {
        Some(rest) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
            if !is_authority(authority) {
                return false;
            }
            path
        }
        None => rest,
    };
    escapes_are_complete(path)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn is_authority(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let (name, port) = match (host.starts_with('['), host.rfind(']')) {
        (true, None) => return false,
        (true, Some(end)) => {
            (&host[..=end], host[end + 1..].strip_prefix(':').or(host[end + 1..].is_empty().then_some("")))
        }
        (false, _) => host.split_once(':').map_or((host, Some("")), |(name, port)| (name, Some(port))),
    };
    let Some(port) = port else { return false };
    port.chars().all(|c| c.is_ascii_digit())
        && !name.chars().any(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
        && escapes_are_complete(name)
}

fn escapes_are_complete(text: &str) -> bool {
    text.split('%').skip(1).all(|after| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

#[cfg(test)]
mod tests {
    use super::is_request_uri;

    #[test]
    fn ac_33_and_ac_34_urls() {
        for good in [
            "http://images.example/a.qcow2",
            "HTTPS://user:pw@h:8080/a%20b?c=d",
            "oci://registry/image:tag",
            "http://[fd00::1]:80/x",
            "file:///x",
            "/x",
            "http://h",
        ] {
            assert!(is_request_uri(good), "{good}");
        }
        for bad in [
            "",
            "test url",
            "x/y",
            "http://:invalid",
            "https://:invalid",
            "http://a b/",
            "http://h/%zz",
            "http://[::1",
            "http://[::1]x/",
        ] {
            assert!(!is_request_uri(bad), "{bad}");
        }
    }
}
