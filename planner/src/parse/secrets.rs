//! The text of a CREATE without what is nobody's business: values of options in `WITH (...)` whose keys say that they are secret. Only
//! values are cut out, by the places of their tokens.

use super::DIALECT;
use crate::error::SourceText;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use eddyline_common::options::is_secret;

const HIDDEN: &str = "'***'";

/// The statement that created a source, table or sink, as it may be shown.
pub fn without_secrets(sql: &str) -> String {
    // What was parsed once has tokens.
    let Ok(mut tokens) = Tokenizer::new(&DIALECT, sql).tokenize_with_location() else { return HIDDEN.to_string() };
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
    let text = SourceText::new(sql);
    let (mut shown, mut from) = (String::with_capacity(sql.len()), Location::new(1, 1));
    for option in options(&tokens) {
        let Some(equals) = option.iter().position(|t| t.token == Token::Eq) else { continue };
        let (key, value) = (&option[..equals], &option[equals + 1..]);
        let named = |begin: &TokenWithSpan| text.slice(begin.span.start, option[equals].span.start).trim().trim_matches(['\'', '"', '`']);
        if let (Some(first), Some(last)) = (value.first(), value.last())
            && key.first().map(named).is_some_and(is_secret)
        {
            shown += text.slice(from, first.span.start);
            shown += HIDDEN;
            from = last.span.end;
        }
    }
    shown + text.slice(from, Location::new(u64::MAX, 1))
}

/// What stands between the commas of every `WITH (...)`.
fn options(tokens: &[TokenWithSpan]) -> Vec<&[TokenWithSpan]> {
    let opens = |at: usize| {
        tokens[at].token == Token::LParen
            && at > 0
            && matches!(&tokens[at - 1].token, Token::Word(word) if word.quote_style.is_none() && word.keyword == Keyword::WITH)
    };
    let (mut found, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen if depth > 0 => depth += 1,
            Token::LParen if opens(at) => (depth, start) = (1, at + 1),
            Token::Comma if depth == 1 => {
                found.push(&tokens[start..at]);
                start = at + 1;
            }
            Token::RParen if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    found.push(&tokens[start..at]);
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secret_values_are_hidden() {
        let flink = "CREATE TABLE c (id INT,\n  password STRING) WITH ('connector' = 'jdbc', 'password' = 'p''w, (x', 'table-name' = 't')";
        assert_eq!(
            without_secrets(flink),
            "CREATE TABLE c (id INT,\n  password STRING) WITH ('connector' = 'jdbc', 'password' = '***', 'table-name' = 't')"
        );
        let plain =
            "CREATE SOURCE s (a INT) WITH (connector = 'kafka', properties.sasl.password = 'x', topic = 'é') FORMAT PLAIN ENCODE CSV";
        assert_eq!(without_secrets(plain), plain.replace("'x'", "'***'"));
        let sink = "CREATE SINK s AS WITH w AS (SELECT 1 AS token) SELECT * FROM w WHERE token = 'a' WITH (connector = 'blackhole')";
        assert_eq!(without_secrets(sink), sink);
    }
}
