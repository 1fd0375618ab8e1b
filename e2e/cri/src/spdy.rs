//! The server's side of SPDY/3.1 framing, as far as the kubelet's exec and port-forward use it.
//!
//! Streams are opened by the client only. There is no flow control (the client does none either); each stream's
//! channel is bounded, so that a slow consumer holds up the connection instead of filling memory. Header blocks are one
//! zlib stream per direction, primed with the protocol's dictionary.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};

/// First word of a control frame of version 3.
const CONTROL: u32 = 0x8003_0000;
const SYN_STREAM: u32 = 1;
const SYN_REPLY: u32 = 2;
const RST_STREAM: u32 = 3;
const PING: u32 = 6;
const GOAWAY: u32 = 7;
const FIN: u32 = 1;
const LENGTH: u32 = 0x00ff_ffff;
/// No header block of these protocols comes near it.
const HEADERS_LIMIT: usize = 1 << 20;

pub(crate) type Headers = BTreeMap<String, String>;
type Wire = Box<dyn AsyncWrite + Send + Unpin>;

/// A stream that the client opened.
pub(crate) struct Stream {
    pub headers: Headers,
    /// Ends when the client closes its half.
    pub incoming: mpsc::Receiver<Vec<u8>>,
    pub out: Sender,
}

/// Our half of a stream.
#[derive(Clone)]
pub(crate) struct Sender {
    id: u32,
    wire: Arc<Mutex<Outgoing>>,
}

/// One connection, read to its end by [`Session::run`].
pub(crate) struct Session<R> {
    reader: R,
    wire: Arc<Mutex<Outgoing>>,
    inflate: Decompress,
    streams: HashMap<u32, mpsc::Sender<Vec<u8>>>,
}

struct Outgoing {
    wire: Wire,
    deflate: Compress,
}

impl<R: AsyncRead + Unpin> Session<R> {
    pub(crate) fn new(reader: R, wire: impl AsyncWrite + Send + Unpin + 'static) -> io::Result<Self> {
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(&dictionary()).map_err(io::Error::other)?;
        let wire = Arc::new(Mutex::new(Outgoing { wire: Box::new(wire), deflate }));
        Ok(Self { reader, wire, inflate: Decompress::new(true), streams: HashMap::new() })
    }

    /// Serves the connection: hands each new stream to `opened` until the client goes away.
    pub(crate) async fn run(mut self, opened: mpsc::Sender<Stream>) -> io::Result<()> {
        loop {
            let (head, rest) = match self.reader.read_u32().await {
                Ok(head) => (head, self.reader.read_u32().await?),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut body = vec![0; (rest & LENGTH) as usize];
            self.reader.read_exact(&mut body).await?;
            let fin = rest >> 24 & FIN == FIN;
            if head >> 31 == 0 {
                self.data(head, body, fin).await;
                continue;
            }
            match head & 0xffff {
                SYN_STREAM => {
                    let stream = self.open(&body, fin).await?;
                    if opened.send(stream).await.is_err() {
                        return Ok(()); // nobody serves this connection any more
                    }
                }
                RST_STREAM => drop(self.streams.remove(&word(&body, 0)?)),
                PING if word(&body, 0)? % 2 == 1 => self.wire.lock().await.control(PING, &body).await?,
                GOAWAY => return Ok(()),
                _ => {}
            }
        }
    }

    async fn data(&mut self, id: u32, body: Vec<u8>, fin: bool) {
        if let Some(stream) = self.streams.get(&id)
            && !body.is_empty()
        {
            let _ = stream.send(body).await; // the consumer may have had enough
        }
        if fin {
            self.streams.remove(&id);
        }
    }

    async fn open(&mut self, body: &[u8], fin: bool) -> io::Result<Stream> {
        let id = word(body, 0)? & 0x7fff_ffff;
        let headers = inflate(&mut self.inflate, body.get(10..).ok_or_else(truncated)?)?;
        let mut wire = self.wire.lock().await;
        let mut reply = id.to_be_bytes().to_vec();
        reply.extend(deflate(&mut wire.deflate, &Headers::new())?);
        wire.control(SYN_REPLY, &reply).await?;
        drop(wire);
        let (tx, incoming) = mpsc::channel(16);
        if !fin {
            self.streams.insert(id, tx);
        }
        Ok(Stream { headers, incoming, out: Sender { id, wire: self.wire.clone() } })
    }
}

impl Sender {
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(1 << 20) {
            self.frame(part, false).await?;
        }
        Ok(())
    }

    /// Closes our half.
    pub(crate) async fn finish(&self) -> io::Result<()> {
        self.frame(&[], true).await
    }

    async fn frame(&self, bytes: &[u8], fin: bool) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(8 + bytes.len());
        frame.extend(self.id.to_be_bytes());
        frame.extend((u32::from(fin) << 24 | length).to_be_bytes());
        frame.extend(bytes);
        self.wire.lock().await.wire.write_all(&frame).await
    }
}

impl Outgoing {
    async fn control(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(8 + body.len());
        frame.extend((CONTROL | kind).to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend(body);
        self.wire.write_all(&frame).await
    }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "truncated SPDY frame")
}

fn word(bytes: &[u8], at: usize) -> io::Result<u32> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).ok_or_else(truncated)?;
    Ok(u32::from_be_bytes(word))
}

fn inflate(stream: &mut Decompress, mut block: &[u8]) -> io::Result<Headers> {
    let mut plain = Vec::with_capacity(4096);
    loop {
        let (read, written) = (stream.total_in(), plain.len());
        let result = stream.decompress_vec(block, &mut plain, FlushDecompress::Sync);
        block = &block[usize::try_from(stream.total_in() - read).map_err(io::Error::other)?..];
        if let Err(error) = result {
            error.needs_dictionary().ok_or_else(|| io::Error::other(error))?;
            stream.set_dictionary(&dictionary()).map_err(io::Error::other)?;
        } else if plain.len() == plain.capacity() {
            if plain.len() > HEADERS_LIMIT {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "SPDY header block too large"));
            }
            plain.reserve(plain.len());
        } else if block.is_empty() || plain.len() == written {
            break;
        }
    }
    let mut at = 4;
    let mut text = || -> io::Result<String> {
        let length = word(&plain, at)? as usize;
        let bytes = plain.get(at + 4..at + 4 + length).ok_or_else(truncated)?;
        at += 4 + length;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    (0..word(&plain, 0)?).map(|_| Ok((text()?, text()?))).collect()
}

fn deflate(stream: &mut Compress, headers: &Headers) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let number = |plain: &mut Vec<u8>, n: usize| -> io::Result<()> {
        plain.extend(u32::try_from(n).map_err(io::Error::other)?.to_be_bytes());
        Ok(())
    };
    number(&mut plain, headers.len())?;
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        number(&mut plain, text.len())?;
        plain.extend(text.as_bytes());
    }
    let mut block = Vec::with_capacity(plain.len() + 256);
    stream.compress_vec(&plain, &mut block, FlushCompress::Sync).map_err(io::Error::other)?;
    Ok(block)
}

/// The dictionary of SPDY/3: words with their lengths, then running text.
fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in DICTIONARY_WORDS.split('|') {
        bytes.extend([0, 0, 0, word.len() as u8]);
        bytes.extend(word.as_bytes());
    }
    bytes.extend(DICTIONARY_TEXT.as_bytes());
    bytes
}

const DICTIONARY_WORDS: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|\
    accept-language|accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|\
    content-language|content-length|content-location|content-md5|content-range|content-type|date|etag|expect|expires|\
    from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|\
    max-forwards|pragma|proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|\
    transfer-encoding|upgrade|user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|\
    url|public|set-cookie|keep-alive|origin";

const DICTIONARY_TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504\
    505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept \
    Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
    charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// zlib names a dictionary by its Adler-32; this is the one that every SPDY/3 peer asks for.
    #[test]
    fn the_dictionary_is_the_published_one() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((dictionary().len(), b << 16 | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn header_blocks_survive_a_round_trip_and_share_one_compressor() {
        let mut out = Compress::new(Compression::default(), true);
        out.set_dictionary(&dictionary()).unwrap();
        let mut back = Decompress::new(true);
        let long = "x".repeat(20_000);
        for set in
            [headers(&[("streamtype", "stdin")]), headers(&[("port", "8080"), ("requestid", &long)]), headers(&[])]
        {
            let block = deflate(&mut out, &set).unwrap();
            assert_eq!(inflate(&mut back, &block).unwrap(), set);
        }
    }

    #[tokio::test]
    async fn a_stream_is_opened_answered_and_carries_data_both_ways() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(server);
        let (opened, mut streams) = mpsc::channel(4);
        let session = Session::new(reader, writer).unwrap().run(opened);
        let dialogue = async move {
            let (mut reader, mut writer) = tokio::io::split(client);
            let mut out = Compress::new(Compression::default(), true);
            out.set_dictionary(&dictionary()).unwrap();
            let mut body = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            body.extend(deflate(&mut out, &headers(&[("streamtype", "data")])).unwrap());
            let mut frame = (CONTROL | SYN_STREAM).to_be_bytes().to_vec();
            frame.extend((body.len() as u32).to_be_bytes());
            frame.extend(body);
            frame.extend([0, 0, 0, 1, 1, 0, 0, 2, b'h', b'i']); // data of stream 1, and its end
            writer.write_all(&frame).await.unwrap();

            let mut stream = streams.recv().await.unwrap();
            assert_eq!(stream.headers["streamtype"], "data");
            assert_eq!(stream.incoming.recv().await, Some(b"hi".to_vec()));
            assert_eq!(stream.incoming.recv().await, None);
            stream.out.send(b"ho").await.unwrap();
            stream.out.finish().await.unwrap();

            assert_eq!(reader.read_u32().await.unwrap(), CONTROL | SYN_REPLY);
            let mut reply = vec![0; reader.read_u32().await.unwrap() as usize];
            reader.read_exact(&mut reply).await.unwrap();
            let mut rest = [0; 18];
            reader.read_exact(&mut rest).await.unwrap();
            assert_eq!(rest, [0, 0, 0, 1, 0, 0, 0, 2, b'h', b'o', 0, 0, 0, 1, 1, 0, 0, 0]);
        };
        let (ended, ()) = tokio::join!(session, dialogue);
        ended.unwrap();
    }
}
