//! MATCH_RECOGNIZE as sqlparser's tree can carry it. Its own grammar reads patterns by PostgreSQL's operators, knows no WITHIN, and no
//! FINAL and RUNNING: so the tokens of the clause are read here, and put into the form that comes out as it was meant:
//!
//! - quantifiers become one token each; one that stands directly on another (`A+?`) means a reluctant one, as a group in parentheses stays one
//! - `WITHIN i` becomes one more definition, of `WITHIN`; `FINAL f(...)` becomes `__final(f(...))`
//! - `(SELECT ...)` in front of the clause becomes an argument of `DERIVED`, as sqlparser takes tables and functions alone there
//!
//! What the clause means is `bind::match_recognize`'s affair.

use super::tokens::{find_top_level, is_word};
use crate::error::SourceText;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use eddyline_common::{Result, SqlError};
use std::ops::Range;

/// What is defined to be the interval of WITHIN; no variable has this name.
pub const WITHIN: &str = "__within";
/// The function whose argument is the subquery that a clause reads.
pub const DERIVED: &str = "__derived";
/// Functions of a call.
pub const FINAL: &str = "__final";
pub const RUNNING: &str = "__running";

const QUANTIFIERS: &str = "?*+|{}-";

pub fn rewrite(tokens: &mut Vec<TokenWithSpan>, text: &SourceText) -> Result<()> {
    let mut from = 0;
    while let Some(mut at) = (from..tokens.len()).find(|i| opens(tokens, *i, "match_recognize")) {
        if at > 0 && tokens[at - 1].token == Token::RParen {
            let Some(open) = subquery_before(tokens, at - 1) else {
                let error = SqlError::unsupported("MATCH_RECOGNIZE over a function or a join in FROM is not supported");
                let error = error.with_hint("Put it into a subquery: SELECT * FROM (SELECT * FROM ...) MATCH_RECOGNIZE (...).");
                return Err(text.at(error, tokens[at].span.start));
            };
            let like = tokens[open].clone();
            tokens.insert(at, TokenWithSpan { token: Token::RParen, span: like.span });
            tokens.splice(open..open, [word(DERIVED, None, &like), like]);
            at += 3;
        }
        from = at + 2;
        let Some(close) = find_top_level(tokens, from, |i| tokens[i].token == Token::RParen) else { return Ok(()) };
        let clause = clause(tokens[from..close].to_vec(), text)?;
        let length = clause.len();
        tokens.splice(from..close, clause);
        from += length;
    }
    Ok(())
}

/// Where the subquery opens that is closed at `close`.
fn subquery_before(tokens: &[TokenWithSpan], close: usize) -> Option<usize> {
    let mut depth = 0usize;
    let open = (0..=close).rev().find(|i| {
        match tokens[*i].token {
            Token::RParen => depth += 1,
            Token::LParen => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    let is_query = ["select", "with"].iter().any(|first| tokens.get(open + 1).is_some_and(|t| is_word(&t.token, first)));
    let is_factor = open.checked_sub(1).is_some_and(|before| {
        let words = ["from", "join", "lateral"];
        matches!(tokens[before].token, Token::Comma | Token::LParen) || words.iter().any(|w| is_word(&tokens[before].token, w))
    });
    (is_query && is_factor).then_some(open)
}

/// Whether `word (` stands there.
fn opens(tokens: &[TokenWithSpan], at: usize, word: &str) -> bool {
    is_word(&tokens[at].token, word) && tokens.get(at + 1).is_some_and(|t| t.token == Token::LParen)
}

fn clause(mut tokens: Vec<TokenWithSpan>, text: &SourceText) -> Result<Vec<TokenWithSpan>> {
    qualified_functions(&mut tokens);
    skip_to_variable(&mut tokens);
    let Some(at) = find_top_level(&tokens, 0, |i| opens(&tokens, i, "pattern")) else { return Ok(tokens) };
    let Some(close) = find_top_level(&tokens, at + 2, |i| tokens[i].token == Token::RParen) else { return Ok(tokens) };
    let quantified = quantifiers(&tokens[at + 2..close]);
    let behind = at + 2 + quantified.len() + 1;
    tokens.splice(at + 2..close, quantified);
    if let Some(subset) = find_top_level(&tokens, behind, |i| is_word(&tokens[i].token, "subset")) {
        let error = SqlError::unsupported("SUBSET in MATCH_RECOGNIZE is not supported");
        return Err(text.at(error.with_hint("Name the variables one by one."), tokens[subset].span.start));
    }
    if tokens.get(behind).is_some_and(|t| is_word(&t.token, "within")) {
        let define = find_top_level(&tokens, behind, |i| is_word(&tokens[i].token, "define")).unwrap_or(tokens.len());
        move_within(&mut tokens, behind..define);
    }
    Ok(tokens)
}

fn word(text: &str, keyword: Option<Keyword>, like: &TokenWithSpan) -> TokenWithSpan {
    let mut token = Token::make_word(text, None);
    if let (Token::Word(word), Some(keyword)) = (&mut token, keyword) {
        word.keyword = keyword;
    }
    TokenWithSpan { token, span: like.span }
}

/// `FINAL f(...)` and `RUNNING f(...)` as calls.
fn qualified_functions(tokens: &mut Vec<TokenWithSpan>) {
    let mut at = 0;
    while at + 2 < tokens.len() {
        let qualifier = [("final", FINAL), ("running", RUNNING)].into_iter().find(|(word, _)| is_word(&tokens[at].token, word));
        let is_call = matches!(tokens[at + 1].token, Token::Word(_)) && tokens[at + 2].token == Token::LParen;
        if let Some((_, qualifier)) = qualifier.filter(|_| is_call)
            && let Some(close) = find_top_level(tokens, at + 3, |i| tokens[i].token == Token::RParen)
        {
            let like = tokens[at].clone();
            tokens.insert(close, TokenWithSpan { token: Token::RParen, span: like.span });
            tokens.splice(at..=at, [word(qualifier, None, &like), TokenWithSpan { token: Token::LParen, span: like.span }]);
        }
        at += 1;
    }
}

/// `SKIP TO x` is `SKIP TO LAST x`.
fn skip_to_variable(tokens: &mut Vec<TokenWithSpan>) {
    let at = find_top_level(tokens, 0, |i| {
        let words = ["after", "match", "skip", "to"];
        words.iter().enumerate().all(|(n, w)| tokens.get(i + n).is_some_and(|t| is_word(&t.token, w)))
    });
    let Some(at) = at else { return };
    let Some(next) = tokens.get(at + 4) else { return };
    let known = is_word(&next.token, "next") && tokens.get(at + 5).is_some_and(|t| is_word(&t.token, "row"));
    let place =
        ["first", "last"].iter().any(|w| is_word(&next.token, w)) && !tokens.get(at + 5).is_some_and(|t| is_word(&t.token, "pattern"));
    if matches!(next.token, Token::Word(_)) && !known && !place {
        let last = word("LAST", Some(Keyword::LAST), next);
        tokens.insert(at + 4, last);
    }
}

/// A pattern with one token for each quantifier, however many the tokenizer took for one operator.
fn quantifiers(pattern: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut all = Vec::with_capacity(pattern.len());
    for token in pattern {
        let written = token.token.to_string();
        if !written.chars().all(|c| QUANTIFIERS.contains(c)) {
            all.push(token.clone());
            continue;
        }
        all.extend(written.chars().map(|c| {
            let single = match c {
                '?' => Token::Placeholder("?".to_string()),
                '*' => Token::Mul,
                '+' => Token::Plus,
                '|' => Token::Pipe,
                '{' => Token::LBrace,
                '}' => Token::RBrace,
                _ => Token::Minus,
            };
            TokenWithSpan { token: single, span: token.span }
        }));
    }
    all
}

/// Moves `WITHIN ...` behind the definitions.
fn move_within(tokens: &mut Vec<TokenWithSpan>, range: Range<usize>) {
    let moved: Vec<TokenWithSpan> = tokens.drain(range).collect();
    let like = moved[0].clone();
    let any = tokens.iter().any(|t| is_word(&t.token, "define"));
    let before = if any { TokenWithSpan { token: Token::Comma, span: like.span } } else { word("DEFINE", Some(Keyword::DEFINE), &like) };
    tokens.extend([before, word(WITHIN, None, &like), word("AS", Some(Keyword::AS), &like)]);
    tokens.extend(moved.into_iter().skip(1));
}
