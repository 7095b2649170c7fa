//! Spellings that sqlparser has no grammar for, as tokens that it has one for: PostgreSQL's `TABLE t`, `ONLY`, `BETWEEN SYMMETRIC` and a trim
//! that names no characters, `U&'...'`, Flink's `WHEN a, b THEN`, `MAP[k, v, ...]` and `default_catalog.default_database.t`. New tokens have the places of those that they stand for.

use super::settings::{CATALOG, DATABASE};
use super::tokens::{find_top_level, is_word};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// What stands around the first bound of a BETWEEN SYMMETRIC.
pub const SYMMETRIC: &str = "__symmetric";

/// What stands around several values of a WHEN.
pub const VALUES_OF_WHEN: &str = "__values_of_when";

/// The words without which there is none of them.
const WORDS: [&str; 8] = ["table", "only", "symmetric", "asymmetric", "trim", "when", "local", "map"];

pub fn rewrite(tokens: &mut Vec<TokenWithSpan>) {
    // Most statements have none, long ones above all: they are not copied.
    if tokens.iter().any(|token| is_name(&token.token, DATABASE) || WORDS.iter().any(|word| is_word(&token.token, word))) {
        *tokens = rewritten(tokens);
    }
    for TokenWithSpan { token, .. } in tokens {
        if let Token::UnicodeStringLiteral(text) = token {
            *token = Token::SingleQuotedString(std::mem::take(text));
        }
    }
}

fn rewritten(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut closing: Vec<usize> = Vec::new();
    let mut rewritten = Vec::with_capacity(tokens.len());
    for (i, token) in tokens.iter().enumerate() {
        let mut put = |new: Token| rewritten.push(TokenWithSpan::new(new, token.span));
        closing.retain(|at| {
            if *at == i {
                put(Token::RParen);
            }
            *at != i
        });
        if is_table_command(tokens, i) {
            [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")].into_iter().for_each(put);
        } else if let Some(and) = symmetric(tokens, i) {
            closing.push(and);
            [Token::make_word(SYMMETRIC, None), Token::LParen].into_iter().for_each(put);
        } else if let Some(then) = several_values(tokens, i) {
            closing.push(then);
            [token.token.clone(), Token::make_word(VALUES_OF_WHEN, None), Token::LParen].into_iter().for_each(put);
        } else if let Some(bracket) = map_of_pairs(tokens, i) {
            closing.push(bracket + 1);
            [token.token.clone(), Token::LParen].into_iter().for_each(put);
        } else if !is_superfluous(tokens, i) {
            put(token.token.clone());
        }
    }
    if let Some(last) = tokens.last() {
        let at_end = closing.iter().filter(|at| **at == tokens.len());
        rewritten.extend(at_end.map(|_| TokenWithSpan::new(Token::RParen, last.span)));
    }
    rewritten
}

/// A word in quotes or not.
fn is_name(token: &Token, name: &str) -> bool {
    matches!(token, Token::Word(word) if word.value == name)
}

/// A token of `default_catalog.default_database.` or `default_database.` in front of a name.
fn is_qualifier(tokens: &[TokenWithSpan], i: usize) -> bool {
    let names = |at: usize, name: &str| {
        let is_point = |at: usize| tokens.get(at).is_some_and(|token| token.token == Token::Period);
        tokens.get(at).is_some_and(|token| is_name(&token.token, name)) && is_point(at + 1)
    };
    let is_database = |at: usize| names(at, DATABASE) && word_at(tokens, at + 2).is_some();
    let is_catalog = |at: usize| names(at, CATALOG) && is_database(at + 2);
    is_database(i) || is_catalog(i) || i.checked_sub(1).is_some_and(|before| is_database(before) || is_catalog(before))
}

fn word_at(tokens: &[TokenWithSpan], i: usize) -> Option<&Word> {
    match &tokens.get(i)?.token {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

fn is_at(tokens: &[TokenWithSpan], i: Option<usize>, word: &str) -> bool {
    i.and_then(|i| tokens.get(i)).is_some_and(|token| is_word(&token.token, word))
}

/// `TABLE t` where a query may begin.
fn is_table_command(tokens: &[TokenWithSpan], i: usize) -> bool {
    let is_name = |at: usize| word_at(tokens, at).is_some_and(|word| word.keyword == Keyword::NoKeyword);
    if !is_at(tokens, Some(i), "table") || word_at(tokens, i + 1).is_none() {
        return false;
    }
    let Some(before) = i.checked_sub(1) else { return true };
    match &tokens[before].token {
        Token::SemiColon | Token::RParen => true,
        // Not the argument of a function.
        Token::LParen => before.checked_sub(1).is_none_or(|name| !is_name(name)),
        Token::Word(word) if word.quote_style.is_none() => match word.keyword {
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::ALL => true,
            // Not the name of a column.
            Keyword::AS => is_name(i + 1),
            _ => false,
        },
        _ => false,
    }
}

/// The place of the AND of a BETWEEN that has SYMMETRIC at `i`.
fn symmetric(tokens: &[TokenWithSpan], i: usize) -> Option<usize> {
    let found = is_at(tokens, Some(i), "symmetric") && is_at(tokens, i.checked_sub(1), "between");
    if found { find_top_level(tokens, i + 1, |at| is_word(&tokens[at].token, "and")) } else { None }
}

/// The place of the THEN of a WHEN at `i` that has several values.
fn several_values(tokens: &[TokenWithSpan], i: usize) -> Option<usize> {
    if !is_at(tokens, Some(i), "when") {
        return None;
    }
    let then = |from: usize| find_top_level(tokens, from, |at| is_word(&tokens[at].token, "then"));
    let comma = find_top_level(tokens, i + 1, |at| tokens[at].token == Token::Comma || is_word(&tokens[at].token, "then"))?;
    if tokens[comma].token == Token::Comma { then(comma) } else { None }
}

/// The place of the bracket that ends a `MAP[key, value, ...]` at `i`. With one item in brackets it is a column of that name.
fn map_of_pairs(tokens: &[TokenWithSpan], i: usize) -> Option<usize> {
    if !is_at(tokens, Some(i), "map") || tokens.get(i + 1)?.token != Token::LBracket {
        return None;
    }
    let end = find_top_level(tokens, i + 2, |at| tokens[at].token == Token::RBracket)?;
    find_top_level(&tokens[..end], i + 2, |at| tokens[at].token == Token::Comma).map(|_| end)
}

/// What qualifies a name and says nothing, `ONLY` in front of a table, `ASYMMETRIC`, the `LOCAL` of a time zone, and the `FROM` of `trim(FROM x)`.
fn is_superfluous(tokens: &[TokenWithSpan], i: usize) -> bool {
    let before = |n: usize| i.checked_sub(n);
    if is_qualifier(tokens, i) {
        return true;
    }
    if is_at(tokens, Some(i), "only") {
        return (is_at(tokens, before(1), "from") || is_at(tokens, before(1), "join")) && word_at(tokens, i + 1).is_some();
    }
    if is_at(tokens, Some(i), "local") {
        return is_at(tokens, before(1), "with") && is_at(tokens, Some(i + 1), "time");
    }
    if is_at(tokens, Some(i), "asymmetric") {
        return is_at(tokens, before(1), "between");
    }
    let is_side = ["both", "leading", "trailing"].iter().any(|side| is_at(tokens, before(1), side));
    let (paren, name) = if is_side { (before(2), before(3)) } else { (before(1), before(2)) };
    let is_first = paren.is_some_and(|at| tokens[at].token == Token::LParen) && is_at(tokens, name, "trim");
    is_at(tokens, Some(i), "from") && is_first
}
