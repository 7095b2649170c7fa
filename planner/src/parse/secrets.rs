//! Texts of statements without what is nobody's business. Of a CREATE that is kept these are the values of options in `WITH (...)` whose keys say that
//! they are secret. Of a statement that somebody runs, which may be any text, also what stands behind such a name elsewhere: in `SET`, in a hint, in a
//! comment. Only values are cut out, by the places of their tokens.

use super::DIALECT;
use crate::error::SourceText;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};
use eddyline_common::options::{is_secret, mentions_secret};

const HIDDEN: &str = "'***'";

/// The statement that created a source, table or sink, as it may be shown.
pub fn without_secrets(sql: &str) -> String {
    // What was parsed once has tokens.
    let Ok(mut tokens) = Tokenizer::new(&DIALECT, sql).tokenize_with_location() else { return HIDDEN.to_string() };
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
    let text = SourceText::new(sql);
    cut_out(&text, values_of_options(&tokens, &text, &[Keyword::WITH]))
}

/// A statement as others may see it that may be cut off or wrong: it need not have been parsed.
pub fn hide_secrets(sql: &str) -> String {
    if !mentions_secret(sql) {
        return sql.to_string();
    }
    let text = SourceText::new(sql);
    let (mut tokens, unfinished) = match Tokenizer::new(&DIALECT, sql).tokenize_with_location() {
        Ok(tokens) => (tokens, None),
        Err(error) => {
            let before = text.slice(Location::new(1, 1), error.location);
            let Ok(tokens) = Tokenizer::new(&DIALECT, before).tokenize_with_location() else { return HIDDEN.to_string() };
            (tokens, Some(error.location))
        }
    };
    let mut cuts: Vec<Cut> = tokens.iter().filter_map(of_comment).collect();
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
    cuts.extend(values_of_options(&tokens, &text, &[Keyword::WITH, Keyword::SET]));
    cuts.extend((1..tokens.len()).filter(|at| is_secret_literal(&tokens, *at, &text)).map(|at| Cut::between(&tokens[at], &tokens[at])));
    // A literal without its end.
    cuts.extend(unfinished.map(|from| Cut { from, to: END, shown: HIDDEN.to_string() }));
    cuts.sort_by_key(|cut| (cut.from, std::cmp::Reverse(cut.to)));
    cut_out(&text, cuts)
}

/// Behind every text.
const END: Location = Location { line: u64::MAX, column: 1 };

/// A piece of a text, and what is shown for it.
struct Cut {
    from: Location,
    to: Location,
    shown: String,
}

impl Cut {
    fn between(first: &TokenWithSpan, last: &TokenWithSpan) -> Cut {
        Cut { from: first.span.start, to: last.span.end, shown: HIDDEN.to_string() }
    }
}

/// The text without the pieces, which are in order; those within another go with that.
fn cut_out(text: &SourceText, cuts: Vec<Cut>) -> String {
    let (mut shown, mut from) = (String::new(), Location::new(1, 1));
    for cut in cuts {
        if cut.from >= from {
            shown += text.slice(from, cut.from);
            shown += &cut.shown;
            from = cut.to;
        }
    }
    shown + text.slice(from, END)
}

/// Values behind keys that are secret, in the lists of options that these words begin.
fn values_of_options(tokens: &[TokenWithSpan], text: &SourceText, words: &[Keyword]) -> Vec<Cut> {
    let value = |option: &[TokenWithSpan]| {
        let equals = option.iter().position(|t| t.token == Token::Eq)?;
        let (key, value) = (option[..equals].first()?, &option[equals + 1..]);
        is_secret(unquoted(text.slice(key.span.start, option[equals].span.start))).then_some(Cut::between(value.first()?, value.last()?))
    };
    options(tokens, words).into_iter().filter_map(value).collect()
}

fn unquoted(key: &str) -> &str {
    key.trim().trim_matches(['\'', '"', '`'])
}

/// A comment with a secret in it: a hint, or an option that is not meant at present.
fn of_comment(token: &TokenWithSpan) -> Option<Cut> {
    let (open, comment, close) = match &token.token {
        Token::Whitespace(Whitespace::MultiLineComment(comment)) => ("/*", comment, "*/"),
        Token::Whitespace(Whitespace::SingleLineComment { comment, prefix }) => (prefix.as_str(), comment, ""),
        _ => return None,
    };
    mentions_secret(comment).then(|| Cut { shown: format!("{open}{}{close}", hide_secrets(comment)), ..Cut::between(token, token) })
}

/// Whether the token is a literal right behind a secret name, or behind one with `=` or `TO`.
fn is_secret_literal(tokens: &[TokenWithSpan], at: usize, text: &SourceText) -> bool {
    use Token::*;
    let is_literal = matches!(
        tokens[at].token,
        Number(..)
            | SingleQuotedString(_)
            | DoubleQuotedString(_)
            | DollarQuotedString(_)
            | NationalStringLiteral(_)
            | EscapedStringLiteral(_)
            | UnicodeStringLiteral(_)
    );
    let end = match &tokens[at - 1].token {
        Eq => at - 1,
        Word(word) if word.keyword == Keyword::TO => at - 1,
        Word(_) => at,
        _ => return false,
    };
    if !is_literal || end == 0 {
        return false;
    }
    let is_part = |t: &TokenWithSpan| matches!(t.token, Word(_) | Period | Minus | Number(..));
    let mut begin = end - 1;
    while begin > 0 && is_part(&tokens[begin]) && is_part(&tokens[begin - 1]) && tokens[begin - 1].span.end == tokens[begin].span.start {
        begin -= 1;
    }
    is_secret(unquoted(text.slice(tokens[begin].span.start, tokens[end - 1].span.end)))
}

/// What stands between the commas of every list in parentheses behind one of these words.
fn options<'a>(tokens: &'a [TokenWithSpan], words: &[Keyword]) -> Vec<&'a [TokenWithSpan]> {
    let opens = |at: usize| {
        tokens[at].token == Token::LParen
            && at > 0
            && matches!(&tokens[at - 1].token, Token::Word(word) if word.quote_style.is_none() && words.contains(&word.keyword))
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
    if depth > 0 {
        found.push(&tokens[start..]);
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

    #[test]
    fn what_runs_is_shown_without_secrets() {
        let source = "CREATE SOURCE s (a INT) WITH (connector = 'kafka', properties.sasl.password = 'x', topic = 'é')";
        let shown = source.replace("'x'", HIDDEN);
        assert_eq!(hide_secrets(source), shown);
        for (sql, shown) in [
            ("SELECT 'é', 'password'", "SELECT 'é', 'password'"),
            (
                "SELECT 1 AS token FROM t WHERE t.token = u.token AND u.token = $1",
                "SELECT 1 AS token FROM t WHERE t.token = u.token AND u.token = $1",
            ),
            (
                "ALTER SOURCE s SET ('properties.sasl.password' = 'x', topic = 't')",
                "ALTER SOURCE s SET ('properties.sasl.password' = '***', topic = 't')",
            ),
            ("ALTER SOURCE s SET (password = x.y, topic = 't')", "ALTER SOURCE s SET (password = '***', topic = 't')"),
            ("SET s3.secret-access-key = 'x'; SELECT 1", "SET s3.secret-access-key = '***'; SELECT 1"),
            ("SET my_token TO 12", "SET my_token TO '***'"),
            ("CREATE USER u PASSWORD 'x'", "CREATE USER u PASSWORD '***'"),
            (
                "SELECT * FROM s /*+ OPTIONS('properties.sasl.jaas.config' = 'x; y', 'topic' = 't') */ AS a",
                "SELECT * FROM s /*+ OPTIONS('properties.sasl.jaas.config' = '***', 'topic' = 't') */ AS a",
            ),
            ("SELECT 1 -- password = 'x'\n, 2", "SELECT 1 -- password = '***'\n, 2"),
            ("SELECT 'a' WHERE password = 'x", "SELECT 'a' WHERE password = '***'"),
            ("CREATE SINK k FROM v WITH (secret = x", "CREATE SINK k FROM v WITH (secret = '***'"),
            ("SELECT secret /* and", "'***'"),
        ] {
            assert_eq!(hide_secrets(sql), shown);
        }
        // Wherever it is cut off, nothing of the value is left.
        let long = source.replace("'x'", "'hunter-2'");
        for end in (0..=long.len()).filter(|end| long.is_char_boundary(*end)) {
            assert!(!hide_secrets(&long[..end]).contains('h'), "{}", hide_secrets(&long[..end]));
        }
    }
}
