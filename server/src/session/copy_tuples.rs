//! Binary data of COPY: a signature, flags, tuples of fields with their lengths, and an end, as PostgreSQL's documentation has them. It knows nothing of tables, of
//! types and of messages.

use bytes::{Buf, BytesMut};

/// What the data begins with.
pub const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Stands where a tuple's number of fields would.
pub const END_OF_TUPLES: i16 = -1;

/// Signature, flags, and the length of what else the header has.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;

/// The larger half of the flags changes how the rest is read.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

pub enum Taken {
    /// More data is needed.
    Nothing,
    Tuple(Vec<Option<BytesMut>>),
    End,
}

/// The length of the header that the data begins with; `None` if it is not there as a whole.
pub fn header_length(data: &[u8]) -> Result<Option<usize>, String> {
    let known = data.len().min(SIGNATURE.len());
    if data[..known] != SIGNATURE[..known] {
        return Err("COPY file signature not recognized".to_string());
    }
    if data.len() < HEADER_BYTES {
        return Ok(None);
    }
    let mut rest = &data[SIGNATURE.len()..];
    if rest.get_u32() & CRITICAL_FLAGS != 0 {
        return Err("unrecognized critical flags in COPY file header".to_string());
    }
    let extension = usize::try_from(rest.get_i32()).map_err(|_| "invalid COPY file header (wrong length)".to_string())?;
    Ok((rest.len() >= extension).then_some(HEADER_BYTES + extension))
}

/// Takes the next tuple, of so many fields.
pub fn take(data: &mut BytesMut, fields: usize) -> Result<Taken, String> {
    let mut ahead = &data[..];
    if ahead.len() < 2 {
        return Ok(Taken::Nothing);
    }
    match ahead.get_i16() {
        END_OF_TUPLES => {
            data.advance(2);
            return Ok(Taken::End);
        }
        count if usize::try_from(count) == Ok(fields) => {}
        count => return Err(format!("row field count is {count}, expected {fields}")),
    }
    let mut lengths = Vec::with_capacity(fields);
    for _ in 0..fields {
        if ahead.len() < 4 {
            return Ok(Taken::Nothing);
        }
        let length = match ahead.get_i32() {
            -1 => None,
            length => Some(usize::try_from(length).map_err(|_| "invalid field size".to_string())?),
        };
        if ahead.len() < length.unwrap_or(0) {
            return Ok(Taken::Nothing);
        }
        ahead.advance(length.unwrap_or(0));
        lengths.push(length);
    }
    data.advance(2);
    let field = |length: Option<usize>| {
        data.advance(4);
        length.map(|length| data.split_to(length))
    };
    Ok(Taken::Tuple(lengths.into_iter().map(field).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    #[test]
    fn tuples_come_whole() {
        let mut data = BytesMut::from(SIGNATURE);
        data.put_u32(0);
        data.put_i32(3);
        assert_eq!(header_length(&data), Ok(None));
        data.put_slice(b"ext");
        assert_eq!(header_length(&data), Ok(Some(data.len())));
        assert!(header_length(b"1\t2\n").is_err());
        data.clear();
        data.put_i16(2);
        data.put_i32(1);
        data.put_u8(7);
        assert!(matches!(take(&mut data, 2), Ok(Taken::Nothing)));
        data.put_i32(-1);
        data.put_i16(END_OF_TUPLES);
        assert!(matches!(take(&mut data, 2), Ok(Taken::Tuple(fields)) if fields == [Some(BytesMut::from(&[7u8][..])), None]));
        assert!(matches!(take(&mut data, 2), Ok(Taken::End)));
        data.clear();
        data.put_i16(3);
        assert!(take(&mut data, 2).is_err());
    }
}
