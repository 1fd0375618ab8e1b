//! The server that the kubelet is sent to for exec and port-forward: each request is announced over the CRI, gets a
//! one-time address, and then arrives here as an HTTP request that upgrades to SPDY/3.1.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::helper;
use crate::launch::{Launched, Streams};
use crate::runtime::{LAST_WORDS, Runtime};
use crate::spdy::{Sender, Session, Stream};

/// An announced request is fetched at once or not at all.
const ANNOUNCED_FOR: Duration = Duration::from_secs(60);
/// For the client to open its streams.
const STREAMS_WITHIN: Duration = Duration::from_secs(30);
const HEAD_LIMIT: u64 = 16 * 1024;
/// The exec protocol whose error stream ends in a status with the exit code.
const EXEC_PROTOCOL: &str = "v4.channel.k8s.io";
const FORWARD_PROTOCOL: &str = "portforward.k8s.io";

pub(crate) enum Request {
    Exec(Exec),
    /// For the sandbox of this id.
    PortForward(String),
}

pub(crate) struct Exec {
    pub container: String,
    pub command: Vec<String>,
    pub terminal: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

pub(crate) struct Streaming {
    runtime: Arc<Runtime>,
    listener: TcpListener,
    announced: Mutex<HashMap<String, (Instant, Request)>>,
}

/// The head of an HTTP request, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    token: String,
    protocols: Vec<String>,
}

impl Streaming {
    pub(crate) async fn bind(runtime: Arc<Runtime>) -> Result<Arc<Self>> {
        let port = runtime.config.streaming_port;
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.with_context(|| format!("listening on streaming port {port}"))?;
        Ok(Arc::new(Self { runtime, listener, announced: Mutex::default() }))
    }

    /// The address where `request` will be served, once.
    pub(crate) fn announce(&self, request: Request) -> Result<String> {
        let token = format!("{:032x}", fastrand::u128(..));
        let url = format!("http://{}/{token}", self.listener.local_addr()?);
        let mut announced = self.announced.lock();
        announced.retain(|_, (at, _)| at.elapsed() < ANNOUNCED_FOR);
        announced.insert(token, (Instant::now(), request));
        Ok(url)
    }

    /// Serves until dropped, and drops its connections then: nobody waits for a forgotten port-forward.
    pub(crate) async fn serve(self: Arc<Self>) -> Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let (connection, _) = tokio::select! {
                accepted = self.listener.accept() => accepted.context("accepting a stream")?,
                Some(_) = connections.join_next() => continue,
            };
            let this = self.clone();
            connections.spawn(async move {
                if let Err(error) = this.connection(connection).await {
                    tracing::warn!(error = format!("{error:#}"), "stream failed");
                }
            });
        }
    }

    async fn connection(&self, connection: TcpStream) -> Result<()> {
        let (reader, mut writer) = connection.into_split();
        let mut reader = BufReader::new(reader);
        let head = tokio::time::timeout(STREAMS_WITHIN, read_head(&mut reader)).await.context("no request came")??;
        let request = self.announced.lock().remove(&head.token);
        let Some((_, request)) = request else {
            return Ok(writer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?);
        };
        let protocol = match request {
            Request::Exec(_) => EXEC_PROTOCOL,
            Request::PortForward(_) => FORWARD_PROTOCOL,
        };
        if !head.protocols.iter().any(|offered| offered == protocol) {
            writer.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await?;
            bail!("the client speaks none of {protocol}, but {}", head.protocols.join(", "));
        }
        let reply = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: {protocol}\r\n\r\n"
        );
        writer.write_all(reply.as_bytes()).await?;
        let (opened, streams) = mpsc::channel(16);
        let session = Session::new(reader, writer)?.run(opened);
        // Whichever ends first ends the other: a finished command closes the connection, a client that leaves the work.
        let served = async {
            match request {
                Request::Exec(exec) => self.exec(&exec, streams).await,
                Request::PortForward(sandbox) => self.forward(&sandbox, streams).await,
            }
        };
        tokio::select! {
            served = served => served,
            ended = session => Ok(ended?),
        }
    }

    async fn exec(&self, exec: &Exec, mut opened: mpsc::Receiver<Stream>) -> Result<()> {
        let mut wanted = vec!["error"];
        let asked = [
            (exec.stdin, "stdin"),
            (exec.stdout, "stdout"),
            (exec.stderr && !exec.terminal, "stderr"),
            (exec.terminal, "resize"),
        ];
        wanted.extend(asked.iter().filter(|(asked, _)| *asked).map(|(_, name)| *name));
        let mut streams = HashMap::new();
        while !wanted.iter().all(|name| streams.contains_key(*name)) {
            let next = tokio::time::timeout(STREAMS_WITHIN, opened.recv()).await.context("streams missing")?;
            let stream = next.ok_or_else(|| anyhow!("the client left"))?;
            streams.insert(stream.headers.get("streamtype").cloned().unwrap_or_default(), stream);
        }
        let error = streams.remove("error").ok_or_else(|| anyhow!("no error stream"))?;
        let status = match self.run(exec, &mut streams).await {
            Ok(status) => exit_report(status),
            Err(error) => failure(&format!("{error:#}")),
        };
        for stream in streams.values() {
            stream.out.finish().await?;
        }
        error.out.send(status.to_string().as_bytes()).await?;
        error.out.finish().await?;
        // The client closes when it has read all; leaving first could cut off what is on its way.
        let _ = tokio::time::timeout(STREAMS_WITHIN, opened.recv()).await;
        Ok(())
    }

    async fn run(&self, exec: &Exec, streams: &mut HashMap<String, Stream>) -> Result<ExitStatus> {
        let command = exec.command.clone();
        let out = |name: &str| streams.get(name).map(|stream| stream.out.clone());
        let (out, err) = (out("stdout"), out("stderr"));
        let mut incoming = |name: &str| streams.get_mut(name).map(replace_incoming);
        let (input, resize) = (incoming("stdin"), incoming("resize"));
        let mut feeders = JoinSet::new();
        let mut readers = JoinSet::new();
        let mut child = if exec.terminal {
            let (ours, theirs) = terminal()?;
            let stream = || theirs.try_clone().map(Stdio::from);
            let streams = Streams { stdin: stream()?, stdout: stream()?, stderr: stream()? };
            drop(theirs);
            let Launched { child, .. } = self.runtime.exec(&exec.container, command, true, streams).await?;
            let ours = File::from(ours);
            readers.spawn(send_all(out, tokio::fs::File::from_std(ours.try_clone()?)));
            feeders.spawn(feed(input, tokio::fs::File::from_std(ours.try_clone()?)));
            feeders.spawn(follow_size(resize, ours));
            child
        } else {
            let stdin = if exec.stdin { Stdio::piped() } else { Stdio::null() };
            let streams = Streams { stdin, ..Streams::captured() };
            let Launched { mut child, stdin, .. } = self.runtime.exec(&exec.container, command, false, streams).await?;
            if let Some(stdin) = stdin {
                feeders.spawn(feed(input, stdin));
            }
            if let Some(stdout) = child.stdout.take() {
                readers.spawn(send_all(out, stdout));
            }
            if let Some(stderr) = child.stderr.take() {
                readers.spawn(send_all(err, stderr));
            }
            child
        };
        let status = child.wait().await?;
        // What the command left in the background may hold its output open for as long as it likes.
        let drained = async { while readers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_WORDS, drained).await;
        Ok(status)
    }

    async fn forward(&self, sandbox: &str, mut opened: mpsc::Receiver<Stream>) -> Result<()> {
        let mut errors: HashMap<String, Sender> = HashMap::new();
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = opened.recv() => stream,
                Some(_) = connections.join_next() => continue,
            };
            let Some(stream) = stream else { return Ok(()) };
            let header = |name: &str| stream.headers.get(name).cloned().unwrap_or_default();
            let request = header("requestid");
            if header("streamtype") == "error" {
                errors.insert(request, stream.out);
                continue;
            }
            let errors = errors.remove(&request);
            let port = header("port");
            let dialled = match port.parse() {
                Ok(port) => self.runtime.dial(sandbox, port).await,
                Err(_) => Err(anyhow!("{port:?} is no port")),
            };
            connections.spawn(async move {
                let error = match dialled {
                    Ok(connection) => pump(stream, connection).await.err().map(|error| error.to_string()),
                    Err(error) => {
                        let _ = stream.out.finish().await; // fails only if the client left
                        Some(format!("{error:#}"))
                    }
                };
                if let Some(errors) = errors {
                    let sent = errors.send(error.unwrap_or_default().as_bytes()).await;
                    let _ = sent.and(errors.finish().await); // as above
                }
            });
        }
    }
}

/// Takes the receiving half out of a stream.
fn replace_incoming(stream: &mut Stream) -> mpsc::Receiver<Vec<u8>> {
    std::mem::replace(&mut stream.incoming, mpsc::channel(1).1)
}

async fn pump(mut stream: Stream, connection: TcpStream) -> io::Result<()> {
    let (reader, writer) = connection.into_split();
    let incoming = replace_incoming(&mut stream);
    let back = async {
        let result = send_all(Some(stream.out.clone()), reader).await;
        stream.out.finish().await.and(result)
    };
    let (_, result) = tokio::join!(feed(Some(incoming), writer), back);
    result
}

/// Reads to the end even when nobody listens, so that a command without that stream does not block.
async fn send_all(out: Option<Sender>, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    // A terminal whose last user is gone reads as an error: the end as well.
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        if let Some(out) = &out {
            out.send(&buffer[..n]).await?;
        }
    }
    Ok(())
}

async fn feed(input: Option<mpsc::Receiver<Vec<u8>>>, mut writer: impl AsyncWrite + Unpin) {
    let Some(mut input) = input else { return };
    while let Some(bytes) = input.recv().await {
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return; // a command need not read all its input
        }
    }
    let _ = writer.shutdown().await; // as above
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

async fn follow_size(resize: Option<mpsc::Receiver<Vec<u8>>>, terminal: File) {
    let Some(mut resize) = resize else { return };
    while let Some(bytes) = resize.recv().await {
        for size in serde_json::Deserializer::from_slice(&bytes).into_iter::<Size>().map_while(Result::ok) {
            let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(&terminal, size); // a size not taken is a cosmetic matter
        }
    }
}

fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    Ok((ours, theirs))
}

async fn read_head(reader: &mut (impl AsyncRead + Unpin + AsyncBufReadExt)) -> Result<Head> {
    let mut limited = reader.take(HEAD_LIMIT);
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if limited.read_line(&mut text).await? == 0 {
            bail!("the request has no end");
        }
    }
    head(&text).ok_or_else(|| anyhow!("malformed request"))
}

fn head(text: &str) -> Option<Head> {
    let (request, headers) = text.split_once("\r\n")?;
    let path = request.split(' ').nth(1)?;
    let token = path.split('?').next()?.trim_start_matches('/').to_owned();
    let headers = headers.lines().filter_map(|line| line.split_once(':'));
    let offered = headers.filter(|(name, _)| name.eq_ignore_ascii_case("x-stream-protocol-version"));
    let protocols = offered.flat_map(|(_, value)| value.split(',')).map(|value| value.trim().to_owned()).collect();
    Some(Head { token, protocols })
}

/// A Status object as the v4 protocol's error stream carries it.
fn exit_report(status: ExitStatus) -> serde_json::Value {
    let code = helper::code(status);
    if code == 0 && status.signal().is_none() {
        return serde_json::json!({"metadata": {}, "status": "Success"});
    }
    serde_json::json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failure(message: &str) -> serde_json::Value {
    serde_json::json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_and_the_offered_protocols_are_read_from_the_head() {
        let text = "POST /abc?x=1 HTTP/1.1\r\nHost: a\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
                    x-stream-protocol-version: v3.channel.k8s.io, channel.k8s.io\r\n\r\n";
        let protocols = ["v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"];
        let expected = Head { token: "abc".to_owned(), protocols: protocols.map(str::to_owned).to_vec() };
        assert_eq!(head(text), Some(expected));
    }

    #[test]
    fn a_failed_command_reports_its_exit_code_where_kubectl_looks() {
        let report = exit_report(ExitStatus::from_raw(3 << 8));
        assert_eq!(report["details"]["causes"][0], serde_json::json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(exit_report(ExitStatus::from_raw(0))["status"], "Success");
    }
}
