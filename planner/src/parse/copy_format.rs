//! The options of COPY, in the present notation and the older one, and which of them go together, as in PostgreSQL.

use super::words::Words;
use crate::error::fold;
use crate::statement::{CopyColumns, CopyFormat, CopyKind};
use datafusion::sql::sqlparser::tokenizer::Token;
use eddyline_common::{Result, SqlError, SqlState};

/// `[WITH] (FORMAT csv, HEADER)`, or the older `[WITH] CSV HEADER`, up to the statement's end. `into`: it is a COPY FROM.
pub fn copy_format(words: &mut Words, into: bool) -> Result<CopyFormat> {
    words.eat("with");
    let mut options = Options::default();
    let parens = words.eat_token(&Token::LParen);
    while !words.at_end() && words.parser.peek_token_ref().token != Token::RParen {
        let at = words.location();
        let taken = options.take(words, parens);
        taken.map_err(|e| if e.position.is_some() { e } else { words.text.at(e, at) })?;
        words.eat_token(&Token::Comma);
    }
    if parens {
        words.expect_token(&Token::RParen)?;
    }
    words.expect_end()?;
    options.format(into)
}

/// As they were given.
#[derive(Default)]
struct Options {
    kind: Option<CopyKind>,
    header: Option<bool>,
    delimiter: Option<String>,
    null: Option<String>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<CopyColumns>,
    force_null: Option<CopyColumns>,
    force_not_null: Option<CopyColumns>,
}

impl Options {
    fn take(&mut self, words: &mut Words, parens: bool) -> Result<()> {
        let option = words.ident()?.value.to_lowercase();
        match option.as_str() {
            "format" => set(&mut self.kind, kind(&words.option_value()?)?),
            "csv" if !parens => set(&mut self.kind, CopyKind::Csv),
            "binary" if !parens => set(&mut self.kind, CopyKind::Binary),
            "header" => set(&mut self.header, header(words, parens)?),
            "delimiter" | "delimiters" => set(&mut self.delimiter, text(words)?),
            "null" => set(&mut self.null, text(words)?),
            "quote" => set(&mut self.quote, text(words)?),
            "escape" => set(&mut self.escape, text(words)?),
            "encoding" => check_encoding(&text(words)?),
            "force_quote" => set(&mut self.force_quote, columns(words)?),
            "force_null" => set(&mut self.force_null, columns(words)?),
            "force_not_null" => set(&mut self.force_not_null, columns(words)?),
            "force" if words.eat("quote") => set(&mut self.force_quote, columns(words)?),
            "force" if words.eat("null") => set(&mut self.force_null, columns(words)?),
            "force" if words.eat_all(&["not", "null"]) => set(&mut self.force_not_null, columns(words)?),
            other => {
                const HINT: &str =
                    "The options are FORMAT, HEADER, DELIMITER, NULL, QUOTE, ESCAPE, ENCODING, FORCE_QUOTE, FORCE_NULL and FORCE_NOT_NULL.";
                Err(SqlError::unsupported(format!("COPY option \"{other}\" is not supported")).with_hint(HINT))
            }
        }
    }

    fn format(self, into: bool) -> Result<CopyFormat> {
        let mut format = CopyFormat::new(self.kind.unwrap_or(CopyKind::Text));
        if format.kind == CopyKind::Binary {
            let not_binary = [("DELIMITER", self.delimiter.is_some()), ("NULL", self.null.is_some()), ("HEADER", self.header.is_some())];
            if let Some((option, _)) = not_binary.iter().find(|(_, given)| *given) {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("cannot specify {option} in BINARY mode")));
            }
        }
        let of_csv = [
            ("quote", self.quote.is_some()),
            ("escape", self.escape.is_some()),
            ("force quote", self.force_quote.is_some()),
            ("force null", self.force_null.is_some()),
            ("force not null", self.force_not_null.is_some()),
        ];
        if let Some((option, _)) = of_csv.iter().find(|(_, given)| *given && format.kind != CopyKind::Csv) {
            return Err(SqlError::unsupported(format!("COPY {option} available only in CSV mode")));
        }
        if into && self.force_quote.is_some() {
            return Err(SqlError::unsupported("COPY force quote only available using COPY TO"));
        }
        if !into && (self.force_null.is_some() || self.force_not_null.is_some()) {
            return Err(SqlError::unsupported("COPY force null and force not null only available using COPY FROM"));
        }
        format.header = self.header.unwrap_or(false);
        format.delimiter = byte("delimiter", self.delimiter)?.unwrap_or(format.delimiter);
        format.null = self.null.unwrap_or(format.null);
        format.quote = byte("quote", self.quote)?.unwrap_or(format.quote);
        format.escape = byte("escape", self.escape)?.unwrap_or(format.quote);
        format.force_quote = self.force_quote.unwrap_or_default();
        format.force_null = self.force_null.unwrap_or_default();
        format.force_not_null = self.force_not_null.unwrap_or_default();
        check_apart(&format)?;
        Ok(format)
    }
}

/// What could not be told apart in the data.
fn check_apart(format: &CopyFormat) -> Result<()> {
    let is_csv = format.kind == CopyKind::Csv;
    let null = format.null.as_bytes();
    let delimiter = format.delimiter;
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let invalid = |message: String| Err(SqlError::new(SqlState::INVALID_PARAMETER, message));
    if is_line_end(&delimiter) {
        invalid("COPY delimiter cannot be newline or carriage return".to_string())
    } else if null.iter().any(is_line_end) {
        invalid("COPY null representation cannot use newline or carriage return".to_string())
    } else if !is_csv && (matches!(delimiter, b'\\' | b'.') || delimiter.is_ascii_lowercase() || delimiter.is_ascii_digit()) {
        invalid(format!("COPY delimiter cannot be \"{}\"", char::from(delimiter)))
    } else if is_csv && delimiter == format.quote {
        invalid("COPY delimiter and quote must be different".to_string())
    } else if null.contains(&delimiter) {
        Err(SqlError::unsupported("COPY delimiter must not appear in the NULL specification"))
    } else if is_csv && null.contains(&format.quote) {
        Err(SqlError::unsupported("CSV quote character must not appear in the NULL specification"))
    } else {
        Ok(())
    }
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(SqlError::new(SqlState::SYNTAX_ERROR, "conflicting or redundant options")),
    }
}

fn kind(name: &str) -> Result<CopyKind> {
    match name.to_lowercase().as_str() {
        "text" => Ok(CopyKind::Text),
        "csv" => Ok(CopyKind::Csv),
        "binary" => Ok(CopyKind::Binary),
        other => {
            Err(SqlError::unsupported(format!("COPY format \"{other}\" is not supported"))
                .with_hint("The formats are text, csv and binary."))
        }
    }
}

fn header(words: &mut Words, parens: bool) -> Result<bool> {
    if !parens || matches!(words.parser.peek_token_ref().token, Token::Comma | Token::RParen) {
        return Ok(true);
    }
    match words.option_value()?.to_lowercase().as_str() {
        "match" => Err(SqlError::unsupported("COPY with HEADER MATCH is not supported").with_hint("Name the columns in COPY.")),
        other => Ok(!matches!(other, "off" | "false" | "0")),
    }
}

fn text(words: &mut Words) -> Result<String> {
    words.eat("as");
    words.option_value()
}

fn byte(what: &str, given: Option<String>) -> Result<Option<u8>> {
    match given.as_deref().map(str::as_bytes) {
        None => Ok(None),
        Some([one]) => Ok(Some(*one)),
        Some(_) => Err(SqlError::unsupported(format!("COPY {what} must be a single one-byte character"))),
    }
}

fn check_encoding(name: &str) -> Result<()> {
    match name.to_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" | "unicode" | "sqlascii" => Ok(()),
        _ => Err(SqlError::unsupported(format!("COPY in the encoding \"{name}\" is not supported")).with_hint("Only UTF8 is spoken here.")),
    }
}

/// `*`, `(a, b)`, or `a, b` in the older notation.
fn columns(words: &mut Words) -> Result<CopyColumns> {
    if words.eat_token(&Token::Mul) {
        return Ok(CopyColumns::All);
    }
    let named = match words.parser.peek_token_ref().token {
        Token::LParen => words.ident_list()?,
        _ => {
            let mut named = vec![words.ident()?];
            while words.eat_token(&Token::Comma) {
                named.push(words.ident()?);
            }
            named
        }
    };
    Ok(CopyColumns::Named(named.iter().map(fold).collect()))
}
