//! Escapes in the texts of Protocol Buffers: of string literals in `.proto` files, and of the defaults of `bytes` fields in descriptors. They stand for bytes, which need be no text.

/// What a text with escapes stands for.
pub fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = escape(&rest[at + 1..], &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Takes what follows a backslash, and gives the text behind it.
fn escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, String> {
    let Some(kind) = text.chars().next() else { return Err("a backslash with nothing behind it".to_string()) };
    let rest = &text[kind.len_utf8()..];
    bytes.push(match kind {
        'a' => 0x07,
        'b' => 0x08,
        't' => b'\t',
        'n' => b'\n',
        'v' => 0x0b,
        'f' => 0x0c,
        'r' => b'\r',
        '\\' | '\'' | '"' | '?' => kind as u8,
        '0'..='7' => {
            let (number, rest) = digits(text, 8, 3);
            bytes.push(number.and_then(|n| u8::try_from(n).ok()).ok_or_else(|| invalid(text, 3))?);
            return Ok(rest);
        }
        'x' | 'X' => {
            let (number, rest) = digits(rest, 16, 2);
            bytes.push(number.and_then(|n| u8::try_from(n).ok()).ok_or_else(|| invalid(text, 3))?);
            return Ok(rest);
        }
        'u' | 'U' => {
            let (character, rest) = unicode(text).ok_or_else(|| invalid(text, if kind == 'u' { 5 } else { 9 }))?;
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(rest);
        }
        _ => return Err(invalid(text, 1)),
    });
    Ok(rest)
}

fn invalid(text: &str, len: usize) -> String {
    format!("an escape \\{} that stands for nothing", text.chars().take(len).collect::<String>())
}

/// The number that at most so many digits in front make, if there are any, and the text behind them.
fn digits(text: &str, radix: u32, most: usize) -> (Option<u32>, &str) {
    let len = text.bytes().take(most).take_while(|byte| (*byte as char).is_digit(radix)).count();
    (u32::from_str_radix(&text[..len], radix).ok(), &text[len..])
}

/// `u` with four digits or `U` with eight. A character beyond the first 65,536 may be two of the former, as in UTF-16.
fn unicode(text: &str) -> Option<(char, &str)> {
    let unit = |text: &'_ str| {
        let len = if text.starts_with('u') { 4 } else { 8 };
        let code = text.get(1..1 + len).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        code.map(|code| (code, 1 + len))
    };
    let (code, len) = unit(text)?;
    let rest = &text[len..];
    if !(0xd800..0xdc00).contains(&code) {
        return Some((char::from_u32(code)?, rest));
    }
    let second = rest.strip_prefix('\\').filter(|second| second.starts_with('u'))?;
    let (low, len) = unit(second)?;
    let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    Some((char::from_u32(0x10000 + ((code - 0xd800) << 10) + low)?, &second[len..]))
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn escapes_stand_for_bytes() {
        let content = |text: &str| unescaped(text).unwrap();
        assert_eq!(content(r#"a\a\b\t\n\v\f\r\\\'\"\?z"#), b"a\x07\x08\t\n\x0b\x0c\r\\'\"?z");
        assert_eq!(content(r"\0\00\000\1234\377\18"), b"\0\0\0S4\xff\x018");
        assert_eq!(content(r"\x0\xA\Xff\x123"), b"\x00\x0a\xff\x123");
        assert_eq!(content(r"\u00e9\U0001F600\ud83d\ude00é"), "é😀😀é".as_bytes());
        assert_eq!(content(""), b"");
        for wrong in [r"\", r"\q", r"\400", r"\x", r"\xg", r"\u12", r"\ud83d", r"\ud83d\u0041", r"\udc00", r"\U00110000", r"\é", r"\u12é4"]
        {
            assert!(unescaped(wrong).unwrap_err().contains("escape") || wrong == r"\", "{wrong}");
        }
    }
}
