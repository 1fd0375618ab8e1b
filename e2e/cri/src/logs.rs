//! Container output in the CRI's log format: `<time> <stdout|stderr> <P|F> <text>`, one entry a line, which the kubelet
//! reads for `kubectl logs`. A line longer than an entry may be is written in parts, all but the last tagged `P`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest text of one entry, the limit that the common runtimes use.
const ENTRY: usize = 16 * 1024;

/// One container's log file. The kubelet rotates it by renaming and asks to reopen.
pub(crate) struct Log {
    path: PathBuf,
    file: Mutex<File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Partial,
    Full,
}

/// Cuts a byte stream into entries.
#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
}

impl Log {
    pub(crate) fn open(path: &Path) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { path: path.to_owned(), file: Mutex::new(append(path)?) }))
    }

    pub(crate) fn reopen(&self) -> io::Result<()> {
        *self.file.lock() = append(&self.path)?;
        Ok(())
    }

    /// Copies `reader` into the log until its end, as the named stream.
    pub(crate) async fn copy(self: Arc<Self>, stream: &'static str, mut reader: impl AsyncRead + Unpin) {
        let mut lines = Lines::default();
        let mut buffer = vec![0; ENTRY];
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            self.write(stream, &lines.push(&buffer[..n]));
        }
        self.write(stream, &lines.end());
    }

    /// A full disk loses log lines, not containers.
    fn write(&self, stream: &str, entries: &[(Tag, Vec<u8>)]) {
        let now = crate::now();
        let bytes: Vec<u8> = entries.iter().flat_map(|(tag, text)| entry(now, stream, *tag, text)).collect();
        if let Err(error) = self.file.lock().write_all(&bytes) {
            tracing::warn!(path = %self.path.display(), %error, "container log not written");
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

fn entry(time: Timestamp, stream: &str, tag: Tag, text: &[u8]) -> Vec<u8> {
    let tag = match tag {
        Tag::Partial => 'P',
        Tag::Full => 'F',
    };
    let mut bytes = format!("{time:.9} {stream} {tag} ").into_bytes();
    bytes.extend(text);
    bytes.push(b'\n');
    bytes
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<(Tag, Vec<u8>)> {
        self.pending.extend(bytes);
        let mut entries = Vec::new();
        let mut rest = self.pending.as_slice();
        loop {
            match rest.iter().take(ENTRY + 1).position(|byte| *byte == b'\n') {
                Some(end) => {
                    entries.push((Tag::Full, rest[..end].to_vec()));
                    rest = &rest[end + 1..];
                }
                None if rest.len() > ENTRY => {
                    entries.push((Tag::Partial, rest[..ENTRY].to_vec()));
                    rest = &rest[ENTRY..];
                }
                None => break,
            }
        }
        self.pending = rest.to_vec();
        entries
    }

    /// What is left when the stream ends is a line, even without its newline.
    fn end(&mut self) -> Vec<(Tag, Vec<u8>)> {
        let rest = std::mem::take(&mut self.pending);
        if rest.is_empty() { Vec::new() } else { vec![(Tag::Full, rest)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_reads_fall() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"on"), vec![]);
        assert_eq!(lines.push(b"e\n\nthr"), vec![(Tag::Full, b"one".to_vec()), (Tag::Full, vec![])]);
        assert_eq!(lines.end(), vec![(Tag::Full, b"thr".to_vec())]);
        assert_eq!(lines.end(), vec![]);
    }

    #[test]
    fn a_line_as_long_as_an_entry_is_one_entry_and_a_longer_one_is_partial() {
        let mut lines = Lines::default();
        let mut text = vec![b'x'; ENTRY];
        text.push(b'\n');
        assert_eq!(lines.push(&text), vec![(Tag::Full, vec![b'x'; ENTRY])]);
        text.insert(0, b'x');
        assert_eq!(lines.push(&text), vec![(Tag::Partial, vec![b'x'; ENTRY]), (Tag::Full, b"x".to_vec())]);
    }

    #[test]
    fn an_entry_carries_nanoseconds_stream_and_tag() {
        let time = Timestamp::new(1_700_000_000, 5).unwrap();
        let text = entry(time, "stderr", Tag::Partial, b"a b");
        assert_eq!(String::from_utf8(text).unwrap(), "2023-11-14T22:13:20.000000005Z stderr P a b\n");
    }
}
