//! A JSON tokenizer over one record (RFC 8259, strictly): a position in text known to be UTF-8. It
//! validates what it skips and knows nothing of columns.

use std::borrow::Cow;

/// Nesting beyond this is refused rather than risking the stack.
pub const DEPTH_MAX: usize = 128;

#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

const BAD_ESCAPE: &str = "malformed JSON: a bad escape in a string";

/// A string between its quotes, as written.
#[derive(Clone, Copy)]
pub struct RawString<'a> {
    pub raw: &'a str,
    pub escaped: bool,
}

impl<'a> RawString<'a> {
    /// The string it stands for, or what is wrong with an escape.
    pub fn unescape(self) -> Result<Cow<'a, str>, String> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.raw));
        }
        let mut out = String::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some(backslash) = rest.find('\\') {
            out.push_str(&rest[..backslash]);
            let (char, used) = unescape_one(&rest[backslash..]).ok_or(BAD_ESCAPE)?;
            out.push(char);
            rest = &rest[backslash + used..];
        }
        out.push_str(rest);
        Ok(Cow::Owned(out))
    }

    /// Whether it looks as if one of its escapes were a NUL.
    pub fn may_have_nul(self) -> bool {
        self.escaped && self.raw.contains("\\u0000")
    }

    /// What is wrong with an escape, without making the string.
    pub fn check(self) -> Result<(), String> {
        let mut rest = if self.escaped { self.raw } else { "" };
        while let Some(backslash) = rest.find('\\') {
            let (_, used) = unescape_one(&rest[backslash..]).ok_or(BAD_ESCAPE)?;
            rest = &rest[backslash + used..];
        }
        Ok(())
    }
}

/// The character an escape at the start of `text` stands for, and the escape's length.
fn unescape_one(text: &str) -> Option<(char, usize)> {
    let hex = |at: usize| -> Option<u32> {
        let digits = text.get(at..at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    Some(match text.as_bytes().get(1)? {
        b'"' => ('"', 2),
        b'\\' => ('\\', 2),
        b'/' => ('/', 2),
        b'b' => ('\u{8}', 2),
        b'f' => ('\u{C}', 2),
        b'n' => ('\n', 2),
        b'r' => ('\r', 2),
        b't' => ('\t', 2),
        b'u' => match hex(2)? {
            high @ 0xD800..=0xDBFF if text.get(6..8) == Some("\\u") => {
                let low = hex(8)?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
                (char::from_u32(0x10000 + ((high - 0xD800) << 10) + low)?, 12)
            }
            code => (char::from_u32(code)?, 6),
        },
        _ => return None,
    })
}

/// A number as written. `integer` is set when it is one of at most 18 digits without fraction or exponent.
#[derive(Clone, Copy)]
pub struct Number<'a> {
    pub text: &'a str,
    pub integer: Option<i64>,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks the high bit of the first byte that ends a run of plain string characters: a quote, a
/// backslash or a control character (bits above the first are not meaningful).
fn string_stops(word: u64) -> u64 {
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    (zero(word ^ (ONES * b'"' as u64)) | zero(word ^ (ONES * b'\\' as u64)) | (word.wrapping_sub(ONES * 0x20) & !word)) & HIGHS
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Cursor { text, at: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The next byte, 0 at the end (a byte no token starts with).
    #[inline]
    fn byte(&self) -> u8 {
        self.bytes().get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    pub fn skip_space(&mut self) {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// The first byte of the next token.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        self.skip_space();
        self.byte()
    }

    pub fn is_at(&mut self, byte: u8) -> bool {
        self.peek() == byte
    }

    pub fn at_end(&mut self) -> bool {
        self.skip_space();
        self.at == self.text.len()
    }

    /// Takes `byte` if it is next. (Spelled with branches: rustc 1.95 at -O2 loses `self.at += taken as usize`.)
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        if self.peek() != byte {
            return false;
        }
        self.at += 1;
        true
    }

    #[inline]
    pub fn expect(&mut self, byte: u8, what: &str) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(self.malformed(what)) }
    }

    /// The reason for a record that is no JSON, at the present position.
    #[cold]
    pub fn malformed(&self, what: &str) -> String {
        let end = if self.at >= self.text.len() { " (the end)" } else { "" };
        format!("malformed JSON at byte {}{end}: {what}", self.at)
    }

    pub fn literal(&mut self, word: &str) -> Result<(), String> {
        self.skip_space();
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.malformed("not a JSON value"))
        }
    }

    /// A string; the cursor is at its opening quote.
    #[inline]
    pub fn string(&mut self) -> Result<RawString<'a>, String> {
        self.expect(b'"', "a string must come here")?;
        let (bytes, start) = (self.bytes(), self.at);
        let mut escaped = false;
        loop {
            while let Some(chunk) = bytes.get(self.at..self.at + 8) {
                let stops = string_stops(u64::from_le_bytes(chunk.try_into().expect("a chunk of eight bytes")));
                if stops != 0 {
                    self.at += stops.trailing_zeros() as usize / 8;
                    break;
                }
                self.at += 8;
            }
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(0..0x20) => return Err(self.malformed("a control character in a string")),
                Some(_) => self.at += 1,
                None => {
                    self.at = bytes.len();
                    return Err(self.malformed("a string without end"));
                }
            }
        }
        let raw = self.text.get(start..self.at).ok_or_else(|| self.malformed("a bad escape in a string"))?;
        self.at += 1;
        Ok(RawString { raw, escaped })
    }

    /// A number; the cursor is at its first character.
    #[inline]
    pub fn number(&mut self) -> Result<Number<'a>, String> {
        let (bytes, start) = (self.bytes(), self.at);
        let negative = self.byte() == b'-';
        if negative {
            self.at += 1;
        }
        let digits = self.at;
        let mut value: i64 = 0;
        while let Some(digit @ b'0'..=b'9') = bytes.get(self.at) {
            value = value.wrapping_mul(10).wrapping_add((digit - b'0') as i64);
            self.at += 1;
        }
        let count = self.at - digits;
        if count == 0 || (count > 1 && bytes[digits] == b'0') {
            return Err(self.malformed("not a JSON number"));
        }
        let mut whole = count <= 18;
        if self.byte() == b'.' {
            whole = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), b'e' | b'E') {
            whole = false;
            self.at += 1;
            if matches!(self.byte(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        let integer = whole.then_some(if negative { -value } else { value });
        Ok(Number { text: &self.text[start..self.at], integer })
    }

    fn digits(&mut self) -> Result<(), String> {
        let start = self.at;
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start { Err(self.malformed("not a JSON number")) } else { Ok(()) }
    }

    /// Checks and skips any value, and gives it as written.
    pub fn skip_value(&mut self, depth: usize) -> Result<&'a str, String> {
        if depth > DEPTH_MAX {
            return Err(self.malformed("nested too deep"));
        }
        let first = self.peek();
        let start = self.at;
        match first {
            b'"' => self.string()?.check()?,
            b'{' => self.skip_members(depth)?,
            b'[' => self.skip_elements(depth)?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            b'-' | b'0'..=b'9' => self.number().map(drop)?,
            _ => return Err(self.malformed("not a JSON value")),
        }
        Ok(&self.text[start..self.at])
    }

    fn skip_elements(&mut self, depth: usize) -> Result<(), String> {
        self.read_elements(|cursor| cursor.skip_value(depth + 1).map(drop))
    }

    fn skip_members(&mut self, depth: usize) -> Result<(), String> {
        self.read_members(|key, cursor| {
            key.check()?;
            cursor.skip_value(depth + 1).map(drop)
        })
    }

    /// Reads an array; `element` is called with the cursor at each value and must consume it.
    pub fn read_elements<E: From<String>>(&mut self, mut element: impl FnMut(&mut Cursor<'a>) -> Result<(), E>) -> Result<(), E> {
        self.expect(b'[', "an array must come here")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',', "a comma or the end of the array must come here")?;
        }
    }

    /// Reads an object; `member` is called with each name and the cursor at its value, and must consume it.
    #[inline]
    pub fn read_members<E: From<String>>(
        &mut self,
        mut member: impl FnMut(RawString<'a>, &mut Cursor<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'{', "an object must come here")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':', "a colon must come here")?;
            member(key, self)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',', "a comma or the end of the object must come here")?;
        }
    }
}
