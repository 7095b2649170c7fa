//! Whether a frontend message has in it what its type says, no less and no more: the crate that decodes it reads on where one is short, into the next message or beyond the
//! end. It knows no meaning of what is in a message.

use eddyline_common::{Result, SqlError, SqlState};
use pgwire::messages::PgWireFrontendMessage as Message;

/// `kind`: the letter that it begins with. `body`: what follows its length.
pub fn check(kind: u8, body: &[u8]) -> Result<()> {
    let mut rest = Rest(body);
    match kind {
        b'Q' | b'f' => rest.text()?,
        b'P' => {
            rest.text()?;
            rest.text()?;
            let types = rest.count()?;
            rest.bytes(4 * types)?;
        }
        b'B' => bind(&mut rest)?,
        b'C' | b'D' => {
            let of = rest.bytes(1)?;
            if !matches!(of, b"S" | b"P") {
                let name = if kind == b'C' { "CLOSE" } else { "DESCRIBE" };
                return Err(violation(format!("invalid {name} message subtype {}", of[0])));
            }
            rest.text()?;
        }
        b'E' => {
            rest.text()?;
            rest.bytes(4)?;
        }
        b'H' | b'S' | b'c' => {}
        b'X' | b'd' | b'p' => return Ok(()),
        b'F' => {
            return Err(SqlError::unsupported("calls of functions by message are not supported").with_hint("Write SELECT function(...)."));
        }
        other => return Err(violation(format!("invalid frontend message type {other}"))),
    }
    if rest.0.is_empty() { Ok(()) } else { Err(violation("invalid message format")) }
}

fn bind(rest: &mut Rest) -> Result<()> {
    rest.text()?;
    rest.text()?;
    let formats = rest.count()?;
    rest.bytes(2 * formats)?;
    let parameters = rest.count()?;
    if formats > 1 && formats != parameters {
        return Err(violation(format!("bind message has {formats} parameter formats but {parameters} parameters")));
    }
    for _ in 0..parameters {
        rest.value()?;
    }
    let results = rest.count()?;
    rest.bytes(2 * results).map(drop)
}

/// What of a message has not been looked at.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn count(&mut self) -> Result<usize> {
        Ok(self.bytes(2)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// One with its length in front, which is -1 for null.
    fn value(&mut self) -> Result<()> {
        let length = self.bytes(4)?.iter().fold(0_i32, |number, byte| number << 8 | i32::from(*byte));
        match usize::try_from(length) {
            Ok(length) => self.bytes(length).map(drop),
            Err(_) if length == -1 => Ok(()),
            Err(_) => Err(short()),
        }
    }

    /// Up to the zero behind it.
    fn text(&mut self) -> Result<()> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(|| violation("invalid string in message"))?;
        self.bytes(end + 1).map(drop)
    }
}

fn short() -> SqlError {
    violation("insufficient data left in message")
}

fn violation(what: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, what)
}

/// The refusal of a message where it is not expected; `when` follows its type.
pub fn unexpected(message: &Message, when: &str) -> SqlError {
    let letter = match message {
        Message::Query(_) => 'Q',
        Message::Parse(_) => 'P',
        Message::Bind(_) => 'B',
        Message::Describe(_) => 'D',
        Message::Execute(_) => 'E',
        Message::Close(_) => 'C',
        Message::Terminate(_) => 'X',
        Message::PasswordMessageFamily(_) => 'p',
        _ => '?',
    };
    violation(format!("unexpected message type '{letter}'{when}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_are_taken() {
        const WHOLE: &[(u8, &[u8])] = &[
            (b'Q', b"SELECT 1\0"),
            (b'P', b"name\0SELECT $1\0\0\x01\0\0\0\x17"),
            (b'P', b"\0\0\0\0"),
            (b'B', b"\0\0\0\0\0\0\0\0"),
            (b'B', b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01"),
            (b'D', b"S\0"),
            (b'C', b"Pname\0"),
            (b'E', b"\0\0\0\0\0"),
            (b'S', b""),
            (b'd', b"anything"),
            (b'f', b"why\0"),
        ];
        for (kind, body) in WHOLE {
            assert!(check(*kind, body).is_ok(), "{} {body:?}", char::from(*kind));
        }
    }

    #[test]
    fn what_is_short_or_long_is_told() {
        const BROKEN: &[(u8, &[u8], &str)] = &[
            (b'Q', b"SELECT 1", "invalid string in message"),
            (b'Q', b"SELECT 1\0;", "invalid message format"),
            (b'P', b"name\0", "invalid string in message"),
            (b'P', b"\0SELECT 1\0\0\x64", "insufficient data left in message"),
            (b'P', b"\0SELECT 1\0\xff\xff", "insufficient data left in message"),
            (b'B', b"\0", "invalid string in message"),
            (b'B', b"\0\0\0\0\0\x01\0\0\x03\xe812\0\0", "insufficient data left in message"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xf9\0\0", "insufficient data left in message"),
            (b'B', b"\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0", "bind message has 2 parameter formats but 1 parameters"),
            (b'D', b"", "insufficient data left in message"),
            (b'D', b"Xname\0", "invalid DESCRIBE message subtype 88"),
            (b'E', b"name\0", "insufficient data left in message"),
            (b'S', b"xyz", "invalid message format"),
            (b'!', b"", "invalid frontend message type 33"),
        ];
        for (kind, body, what) in BROKEN {
            let error = check(*kind, body).unwrap_err();
            assert_eq!((error.state, error.message.as_str()), (SqlState::PROTOCOL_VIOLATION, *what), "{} {body:?}", char::from(*kind));
        }
        assert_eq!(check(b'F', b"").unwrap_err().state, SqlState::FEATURE_NOT_SUPPORTED);
    }
}
