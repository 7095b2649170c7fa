//! The grammar of columns that number their rows: `SERIAL` and its kin in a type's place, `GENERATED {ALWAYS | BY DEFAULT} AS IDENTITY`, and INSERT's `OVERRIDING`. It
//! does not know where numbers come from.

use super::ast::ColumnValue;
use super::tokens::{find_top_level, is_word};
use super::words::Words;
use crate::error::SourceText;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use eddyline_common::{Result, SqlError, SqlType};

/// The type of a column whose type is said to be a number of its rows, if it is.
pub fn serial(words: &mut Words) -> Option<SqlType> {
    let types = [
        ("serial", SqlType::Integer),
        ("serial4", SqlType::Integer),
        ("bigserial", SqlType::BigInt),
        ("serial8", SqlType::BigInt),
        ("smallserial", SqlType::SmallInt),
        ("serial2", SqlType::SmallInt),
    ];
    types.into_iter().find(|(name, _)| words.eat(name)).map(|(_, ty)| ty)
}

/// `GENERATED {ALWAYS | BY DEFAULT} AS IDENTITY [(option ...)]`, if it is there.
pub fn identity(words: &mut Words) -> Result<Option<ColumnValue>> {
    let always = words.eat_all(&["generated", "always", "as", "identity"]);
    if !always && !words.eat_all(&["generated", "by", "default", "as", "identity"]) {
        return Ok(None);
    }
    let mut start = 1;
    if words.eat_token(&Token::LParen) {
        while !words.eat_token(&Token::RParen) {
            option(words, &mut start)?;
        }
    }
    Ok(Some(ColumnValue::Numbered { always, start }))
}

/// One option of a sequence. Numbers go up by one, from wherever they start.
fn option(words: &mut Words, start: &mut i64) -> Result<()> {
    let at = words.location();
    let is_meant = if words.eat("start") {
        words.eat("with");
        *start = number(words)?;
        true
    } else if words.eat("increment") {
        words.eat("by");
        number(words)? == 1
    } else if words.eat("cache") {
        number(words)? > 0
    } else {
        words.eat_all(&["no", "cycle"]) || words.eat_all(&["no", "minvalue"]) || words.eat_all(&["no", "maxvalue"])
    };
    if is_meant {
        return Ok(());
    }
    let error = SqlError::unsupported("this option of an identity column is not supported");
    Err(words.text.at(error.with_hint("START WITH is. Numbers go up by one, to the greatest that the column's type has."), at))
}

fn number(words: &mut Words) -> Result<i64> {
    let found = match &words.parser.peek_token_ref().token {
        Token::Number(digits, _) => digits.parse().ok(),
        _ => None,
    };
    let Some(number) = found else { return words.unexpected("a number") };
    words.parser.advance_token();
    Ok(number)
}

/// The tokens of an INSERT without `OVERRIDING SYSTEM VALUE`, and whether it says that.
pub fn without_overriding(mut tokens: Vec<TokenWithSpan>, text: &SourceText) -> Result<(Vec<TokenWithSpan>, bool)> {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| is_word(&token.token, word));
    let is_clause = |at: usize| is(at, "overriding") && (is(at + 1, "system") || is(at + 1, "user")) && is(at + 2, "value");
    let Some(at) = find_top_level(&tokens, 3, is_clause) else { return Ok((tokens, false)) };
    if is(at + 1, "user") {
        let error = SqlError::unsupported("OVERRIDING USER VALUE is not supported");
        return Err(text.at(error.with_hint("Leave the column that numbers the rows out."), tokens[at].span.start));
    }
    tokens.drain(at..at + 3);
    Ok((tokens, true))
}
