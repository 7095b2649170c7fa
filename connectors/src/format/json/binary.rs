//! Bytes written as text.

/// Bytes in a string: `\x` and hexadecimal digits, else base64 (RFC 4648, padding optional).
pub fn parse_binary(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits = hex.bytes().map(|b| (b as char).to_digit(16)).collect::<Option<Vec<u32>>>()?;
        return digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|d| (d[0] << 4 | d[1]) as u8).collect());
    }
    let digits = text.trim_end_matches('=').as_bytes();
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings() {
        assert_eq!(parse_binary("\\x00fF"), Some(vec![0, 255]));
        assert_eq!(
            (parse_binary("aGk="), parse_binary("aGk"), parse_binary("")),
            (Some(b"hi".to_vec()), Some(b"hi".to_vec()), Some(vec![]))
        );
        assert_eq!((parse_binary("\\x0"), parse_binary("a"), parse_binary("a b?")), (None, None, None));
    }
}
