//! Words, numbers, strings and symbols of a `.proto` file; comments and blanks fall away.

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A name, with dots within or in front.
    Word(&'a str),
    Number(&'a str),
    /// Between its quotes, escapes as they stand.
    String(&'a str),
    Symbol(char),
}

/// Tokens of one file; a schema's text is a few thousand.
pub struct Tokens<'a> {
    text: &'a str,
    /// With where each begins.
    tokens: Vec<(Token<'a>, usize)>,
    next: usize,
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a str) -> Result<Self, String> {
        let mut tokens = Tokens { text, tokens: Vec::new(), next: 0 };
        let mut at = 0;
        while let Some((token, start, end)) = token(text, at).map_err(|(why, at)| format!("line {}: {why}", line(text, at)))? {
            tokens.tokens.push((token, start));
            at = end;
        }
        Ok(tokens)
    }

    pub fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|(token, _)| *token)
    }

    pub fn take(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.next += 1;
        token
    }

    /// What is wrong, with the line of the token that was taken last.
    pub fn at(&self, why: &str) -> String {
        let last = self.tokens.get(self.next.saturating_sub(1)).or(self.tokens.last());
        format!("line {}: {why}", line(self.text, last.map_or(0, |(_, start)| *start)))
    }
}

fn line(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

type Found<'a> = Option<(Token<'a>, usize, usize)>;

/// The token at or behind a place, with its place and end.
fn token(text: &str, mut at: usize) -> Result<Found<'_>, (&'static str, usize)> {
    loop {
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let found = |token, len| Ok(Some((token, at, at + len)));
        let second = rest.as_bytes().get(1).copied().unwrap_or(0);
        match first {
            _ if first.is_whitespace() || first == '\u{FEFF}' => at += first.len_utf8(),
            '/' if second == b'/' => at += rest.find('\n').unwrap_or(rest.len()),
            '/' if second == b'*' => at += rest[2..].find("*/").ok_or(("a comment that does not end", at))? + 4,
            '"' | '\'' => {
                let mut escaped = false;
                let end = rest[1..].bytes().position(|byte| {
                    let ends = !escaped && byte == first as u8;
                    escaped = !escaped && byte == b'\\';
                    ends
                });
                let end = end.ok_or(("a string that does not end", at))?;
                return found(Token::String(&rest[1..1 + end]), end + 2);
            }
            '0'..='9' => {
                let len = number_len(rest);
                return found(Token::Number(&rest[..len]), len);
            }
            '.' if second.is_ascii_digit() => {
                let len = number_len(rest);
                return found(Token::Number(&rest[..len]), len);
            }
            '.' | '_' | 'a'..='z' | 'A'..='Z' => {
                let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
                return found(Token::Word(&rest[..len]), len);
            }
            symbol if symbol.is_ascii_punctuation() => return found(Token::Symbol(symbol), 1),
            _ => return Err(("a character that does not belong here", at)),
        }
    }
}

fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let belongs = |at: usize| match bytes[at] {
        b'+' | b'-' => at > 0 && matches!(bytes[at - 1], b'e' | b'E'),
        byte => byte.is_ascii_alphanumeric() || byte == b'.',
    };
    (0..bytes.len()).find(|at| !belongs(*at)).unwrap_or(bytes.len())
}
