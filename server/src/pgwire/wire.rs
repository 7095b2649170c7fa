//! The two halves of a client's socket. The reader yields whole frontend messages, decoded by the pgwire crate; the
//! writer collects backend messages in one buffer. Writing may be given up at any await: bytes
//! leave the buffer only once the socket has them, and the buffer only ever holds whole messages.

use super::cancel::CancelToken;
use super::guard::{CLIENT_GONE, shutting_down};
use super::shape;
use bytes::{Buf, BufMut, BytesMut};
use eddyline_common::postgres::decode::utf8;
use eddyline_common::{Result, SqlError, SqlState};
use pgwire::messages::{DecodeContext, PgWireFrontendMessage, ProtocolVersion, SslNegotiationMetaMessage};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The largest message taken from a client: a statement, a row of parameters, a piece of COPY data.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// What a startup packet may be at most, as in PostgreSQL.
const STARTUP_BYTES_MAX: usize = 10_000;

/// Rows are sent once this much has gathered: large enough to fill segments, small enough to flow.
pub const FLUSH_BYTES: usize = 64 << 10;

/// The kind of the message by which a client leaves.
const TERMINATE: u8 = b'X';

/// Room to read into at a time.
const READ_BYTES: usize = 8 << 10;

/// The buffer of a larger message is not kept for the next one: sessions are many, and most wait.
const KEPT_BYTES: usize = 1 << 20;

pub struct Reader {
    half: OwnedReadHalf,
    input: BytesMut,
    context: DecodeContext,
    /// What is wrong with the last message's statement.
    damage: Option<SqlError>,
}

impl Reader {
    pub fn new(half: OwnedReadHalf) -> Self {
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        Reader { half, input: BytesMut::with_capacity(READ_BYTES), context, damage: None }
    }

    /// The first packets are untyped: a request for encryption, a cancel request or the startup message.
    pub async fn startup(&mut self) -> Result<Option<PgWireFrontendMessage>> {
        loop {
            if let Some(length) = self.input.first_chunk::<4>().map(|l| u32::from_be_bytes(*l) as usize)
                && !(8..=STARTUP_BYTES_MAX).contains(&length)
            {
                return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, "invalid length of startup packet"));
            }
            match PgWireFrontendMessage::decode(&mut self.input, &self.context).map_err(protocol)? {
                Some(PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::None)) => self.context.awaiting_frontend_ssl = false,
                Some(message) => return Ok(Some(message)),
                None if !self.more().await? => return Ok(None),
                None => {}
            }
        }
    }

    /// From here on messages are typed.
    pub fn startup_done(&mut self) {
        self.context.awaiting_frontend_ssl = false;
        self.context.awaiting_frontend_startup = false;
    }

    /// The next message; `None` when the client is gone. May be given up while it waits.
    pub async fn message(&mut self) -> Result<Option<PgWireFrontendMessage>> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(message));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    fn buffered(&mut self) -> Result<Option<PgWireFrontendMessage>> {
        let Some(header) = self.input.first_chunk::<5>() else {
            self.input.reserve(READ_BYTES);
            return Ok(None);
        };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length < 4 {
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, "invalid message length"));
        }
        if length > MESSAGE_BYTES_MAX {
            let error = SqlError::new(SqlState("54000"), "message is too large");
            return Err(error.with_detail(format!("It has {length} bytes; the limit is {MESSAGE_BYTES_MAX}.")));
        }
        if self.input.len() <= length {
            let missing = length + 1 - self.input.len();
            // With room for all of it, more would double a large buffer.
            if self.input.capacity() - self.input.len() < missing {
                self.input.reserve(missing.max(READ_BYTES));
            }
            return Ok(None);
        }
        shape::check(self.input[0], &self.input[5..=length])?;
        self.damage = damage(&self.input[..=length]);
        let message = PgWireFrontendMessage::decode(&mut self.input, &self.context).map_err(protocol)?;
        if length > KEPT_BYTES {
            let rest = std::mem::replace(&mut self.input, BytesMut::with_capacity(READ_BYTES));
            self.input.extend_from_slice(&rest);
        }
        Ok(message)
    }

    /// Fails if the last message's statement is not what the client sent.
    pub fn check_statement(&mut self) -> Result<()> {
        self.damage.take().map_or(Ok(()), Err)
    }

    /// Reads into the room that there is.
    async fn more(&mut self) -> Result<bool> {
        if self.input.capacity() == self.input.len() {
            self.input.reserve(READ_BYTES);
        }
        match self.half.read_buf(&mut self.input).await {
            Ok(bytes) => Ok(bytes > 0),
            Err(e) if is_gone(&e) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns when the client has closed its end, or says that it leaves; never, if it has sent more instead.
    pub async fn gone(&self) {
        let mut kind = [0u8; 1];
        let stays = !self.input.is_empty() || (matches!(self.half.as_ref().peek(&mut kind).await, Ok(1)) && kind[0] != TERMINATE);
        if stays {
            std::future::pending::<()>().await;
        }
    }
}

/// The crate puts another character in the place of bytes that are no text. A Query has one text, a Parse a name and one.
fn damage(message: &[u8]) -> Option<SqlError> {
    let texts = match message.first()? {
        b'Q' => 1,
        b'P' => 2,
        _ => return None,
    };
    message.get(5..)?.split(|byte| *byte == 0).take(texts).find_map(|text| utf8(text).err())
}

fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
}

fn protocol(error: pgwire::error::PgWireError) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, error.to_string().to_lowercase())
}

pub struct Writer {
    half: OwnedWriteHalf,
    pub out: BytesMut,
    /// What ends the session while it waits for a client that does not read.
    ends: Option<Arc<CancelToken>>,
}

impl Writer {
    pub fn new(half: OwnedWriteHalf) -> Self {
        Writer { half, out: BytesMut::with_capacity(READ_BYTES), ends: None }
    }

    /// From here on nothing is waited for once the session has to end.
    pub fn ends_with(&mut self, session: Arc<CancelToken>) {
        self.ends = Some(session);
    }

    /// The session has ended: its last message may take its time.
    pub fn has_ended(&mut self) {
        self.ends = None;
    }

    /// Sends everything in the buffer. What the socket takes at once is sent also when the session has to end.
    pub async fn flush(&mut self) -> Result<()> {
        let ends = self.ends.clone();
        let stopped = async {
            match &ends {
                Some(session) => session.stopped().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            sent = self.send() => sent,
            () = stopped => Err(shutting_down()),
        }
    }

    async fn send(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            let written = self.half.write(&self.out).await.map_err(lost)?;
            if written == 0 {
                return Err(SqlError::new(CLIENT_GONE, "connection to client lost"));
            }
            self.out.advance(written);
        }
        Ok(())
    }

    /// Sends if enough has gathered.
    pub async fn flush_if_full(&mut self) -> Result<()> {
        if self.out.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Puts one message: its type and what `body` writes.
    pub fn put(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut)) {
        self.out.put_u8(kind);
        let begin = self.out.len();
        self.out.put_i32(0);
        body(&mut self.out);
        let length = (self.out.len() - begin) as i32;
        self.out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    }
}

fn lost(error: std::io::Error) -> SqlError {
    SqlError::new(CLIENT_GONE, "connection to client lost").with_detail(format!("{error}."))
}

pub fn cstring(out: &mut BytesMut, text: &str) {
    // A zero byte would end the string early; it cannot be in valid text either.
    out.extend(text.bytes().filter(|b| *b != 0));
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    /// A session that has sent a large statement and waits holds no more than one that has not; what came behind the statement is there.
    #[tokio::test]
    async fn a_large_message_leaves_no_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (half, _writer) = listener.accept().await.unwrap().0.into_split();
        let mut reader = Reader::new(half);
        reader.startup_done();
        let text = vec![b'x'; 5 * KEPT_BYTES];
        let mut bytes = vec![b'Q'];
        bytes.extend((text.len() as u32 + 5).to_be_bytes());
        bytes.extend(&text);
        bytes.extend(b"\0S\0\0\0\x04");
        let sent = tokio::spawn(async move {
            client.write_all(&bytes).await.unwrap();
            client
        });
        let message = reader.message().await.unwrap();
        assert!(matches!(message, Some(PgWireFrontendMessage::Query(query)) if query.query.len() == text.len()));
        assert!(reader.input.capacity() <= KEPT_BYTES, "{} bytes are kept", reader.input.capacity());
        assert!(matches!(reader.message().await.unwrap(), Some(PgWireFrontendMessage::Sync(_))));
        drop(sent.await.unwrap());
        assert!(reader.message().await.unwrap().is_none());
    }

    /// One that is short was read on into the next, which was never answered, or ended the connection without a word.
    #[tokio::test]
    async fn a_message_that_is_short_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (half, _writer) = listener.accept().await.unwrap().0.into_split();
        let mut reader = Reader::new(half);
        reader.startup_done();
        client.write_all(b"S\0\0\0\x04D\0\0\0\x04S\0\0\0\x04").await.unwrap();
        assert!(matches!(reader.message().await.unwrap(), Some(PgWireFrontendMessage::Sync(_))));
        let error = reader.message().await.unwrap_err();
        assert_eq!((error.state, error.message.as_str()), (SqlState::PROTOCOL_VIOLATION, "insufficient data left in message"));
    }
}
