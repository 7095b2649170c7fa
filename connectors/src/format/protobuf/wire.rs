//! Protocol Buffers' wire format: tags and payloads of a message's fields, one after the other. Knows no messages.

use super::schema::Scalar;
use crate::format::json::Fault;

/// Groups within groups.
const GROUPS_MAX: usize = 64;

pub type Read<T> = Result<T, Fault>;

pub const VARINT: u8 = 0;
pub const FIXED64: u8 = 1;
pub const BYTES: u8 = 2;
pub const GROUP: u8 = 3;
const GROUP_END: u8 = 4;
pub const FIXED32: u8 = 5;

/// Part of a record, with its place in it.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    pub bytes: &'a [u8],
    pub offset: usize,
}

impl<'a> Span<'a> {
    pub fn of_record(bytes: &'a [u8]) -> Self {
        Span { bytes, offset: 0 }
    }

    pub fn part(self, start: usize, end: usize) -> Self {
        Span { bytes: &self.bytes[start..end], offset: self.offset + start }
    }
}

/// One field as it stands in a message.
#[derive(Clone, Copy, Debug)]
pub struct Occurrence<'a> {
    pub number: u32,
    pub wire: u8,
    /// The value: of a varint its bytes, of a length-delimited field what is behind the length.
    pub value: Span<'a>,
    /// Where its tag begins and its value ends in the message.
    pub start: usize,
    pub end: usize,
    /// Where the value begins, and where it ends before a group's end.
    pub value_start: usize,
    pub value_end: usize,
}

/// Reads a message field by field.
pub struct Fields<'a> {
    message: Span<'a>,
    at: usize,
}

impl<'a> Fields<'a> {
    pub fn new(message: Span<'a>) -> Self {
        Fields { message, at: 0 }
    }

    /// From the middle of one; `at` is where a tag begins.
    pub fn from(message: Span<'a>, at: usize) -> Self {
        Fields { message, at }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    #[cold]
    pub fn malformed<T>(&self, what: &str) -> Read<T> {
        Err(Fault::Malformed(format!("malformed Protobuf at byte {}: {what}", self.message.offset + self.at)))
    }

    #[inline]
    pub fn varint(&mut self) -> Read<u64> {
        let bytes = self.message.bytes;
        if let Some(byte) = bytes.get(self.at).copied().filter(|byte| *byte < 0x80) {
            self.at += 1;
            return Ok(byte as u64);
        }
        let mut value: u64 = 0;
        for shift in (0..70).step_by(7) {
            let Some(byte) = bytes.get(self.at).copied() else { return self.malformed("the record ends early") };
            self.at += 1;
            let bits = (byte & 0x7F) as u64;
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        self.malformed("a number of more than 64 bits")
    }

    fn tag(&mut self) -> Read<(u32, u8)> {
        let tag = self.varint()?;
        match u32::try_from(tag >> 3) {
            Ok(number) if (1..1 << 29).contains(&number) => Ok((number, (tag & 7) as u8)),
            _ => self.malformed("not the number of a field"),
        }
    }

    pub fn skip(&mut self, len: u64) -> Read<()> {
        match usize::try_from(len).ok().filter(|len| *len <= self.message.bytes.len() - self.at) {
            Some(len) => {
                self.at += len;
                Ok(())
            }
            None => self.malformed("the record ends early"),
        }
    }

    /// The next field, or `None` at the message's end.
    #[inline]
    pub fn read(&mut self) -> Read<Option<Occurrence<'a>>> {
        if self.at == self.message.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let (number, wire) = self.tag()?;
        let (value_start, value_end) = match wire {
            GROUP => (self.at, self.skip_group(number)?),
            GROUP_END => return self.malformed("the end of a group that did not begin"),
            _ => (self.skip_value(wire)?, self.at),
        };
        let value = self.message.part(value_start, value_end);
        Ok(Some(Occurrence { number, wire, value, start, end: self.at, value_start, value_end }))
    }

    /// Goes behind a value that is no group, and says where it begins.
    #[inline]
    fn skip_value(&mut self, wire: u8) -> Read<usize> {
        let mut start = self.at;
        match wire {
            VARINT => drop(self.varint()?),
            FIXED64 => self.skip(8)?,
            FIXED32 => self.skip(4)?,
            BYTES => {
                let len = self.varint()?;
                start = self.at;
                self.skip(len)?;
            }
            _ => return self.malformed("a wire type that there is not"),
        }
        Ok(start)
    }

    /// Goes behind a group's end and says where that end's tag begins.
    fn skip_group(&mut self, number: u32) -> Read<usize> {
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            let start = self.at;
            let (number, wire) = self.tag()?;
            match wire {
                GROUP if open.len() < GROUPS_MAX => open.push(number),
                GROUP => return self.malformed("nested too deep"),
                GROUP_END if number == innermost => {
                    open.pop();
                    if open.is_empty() {
                        return Ok(start);
                    }
                }
                GROUP_END => return self.malformed("the end of another group"),
                _ => drop(self.skip_value(wire)?),
            }
        }
        self.malformed("the record ends early")
    }
}

/// How a field's values stand.
pub fn wire_of(scalar: Scalar) -> u8 {
    match scalar {
        Scalar::Double | Scalar::Fixed64 | Scalar::Sfixed64 => FIXED64,
        Scalar::Float | Scalar::Fixed32 | Scalar::Sfixed32 => FIXED32,
        Scalar::String | Scalar::Bytes => BYTES,
        _ => VARINT,
    }
}

/// A number in which small negative ones are short.
pub fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// What a wire type is, for people.
pub fn wire_name(wire: u8) -> &'static str {
    match wire {
        VARINT => "a varint",
        FIXED64 => "eight bytes",
        BYTES => "a length and bytes",
        GROUP => "a group",
        FIXED32 => "four bytes",
        _ => "nothing",
    }
}
