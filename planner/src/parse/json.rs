//! What JSON_VALUE and JSON_QUERY give where there is nothing, or where something is wrong: `{NULL | ERROR | DEFAULT x} ON {EMPTY | ERROR}`, for which sqlparser
//! has no grammar. The clauses become four more arguments: of each a word, and the text that DEFAULT names or NULL. What JSON_QUERY says of an array around its result,
//! `WITH [UNCONDITIONAL | CONDITIONAL] [ARRAY] WRAPPER`, is a word behind them. So is what JSON_EXISTS says of errors; and JSON_OBJECT and JSON_OBJECTAGG have their keys
//! and values one after the other.

use super::tokens::{find_top_level, is_word};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::ops::Range;

/// A clause: where it begins, its word, and the tokens of its value.
struct Clause {
    begins: usize,
    word: &'static str,
    value: Range<usize>,
}

/// Rewrites the innermost calls first. A clause that is none of the function's stays, and is a syntax error.
pub fn rewrite(tokens: &mut Vec<TokenWithSpan>) {
    for name in (0..tokens.len()).rev() {
        if tokens.get(name + 1).is_none_or(|next| next.token != Token::LParen) {
            continue;
        }
        let is = |word: &str| is_word(&tokens[name].token, word);
        let is_value = is("json_value");
        if is_value || is("json_query") {
            if let Some((place, rewritten)) = with_arguments(tokens, name + 2, is_value) {
                tokens.splice(place, rewritten);
            }
        } else if is("json_exists") {
            on_error(tokens, name + 2);
        } else if is("json_object") || is("json_objectagg") {
            pairs(tokens, name + 2);
        }
    }
}

/// `{TRUE | FALSE | UNKNOWN | ERROR} ON ERROR` at the end of the arguments from `start` on becomes one more of them.
fn on_error(tokens: &mut Vec<TokenWithSpan>, start: usize) {
    let Some(end) = find_top_level(tokens, start, |i| tokens[i].token == Token::RParen) else { return };
    let Some(begins) = end.checked_sub(3).filter(|begins| *begins > start) else { return };
    if !is_word(&tokens[begins + 1].token, "on") || !is_word(&tokens[begins + 2].token, "error") {
        return;
    }
    let Some(word) = ["true", "false", "unknown", "error"].into_iter().find(|word| is_word(&tokens[begins].token, word)) else { return };
    let span = tokens[begins].span;
    let argument = [Token::Comma, Token::SingleQuotedString(word.to_string())].map(|token| TokenWithSpan { token, span });
    tokens.splice(begins..end, argument);
}

/// `[KEY] k VALUE v` and `k : v` among the arguments from `start` on become `k, v`.
fn pairs(tokens: &mut Vec<TokenWithSpan>, mut start: usize) {
    loop {
        let Some(end) = find_top_level(tokens, start, |i| matches!(tokens[i].token, Token::RParen | Token::Comma)) else { return };
        // Neither KEY nor VALUE is one that stands where a key or a value does.
        let is_between = |i: usize| i > start && i + 1 < end && (is_word(&tokens[i].token, "value") || tokens[i].token == Token::Colon);
        let has_word = is_word(&tokens[start].token, "key") && start + 1 < end && !is_between(start + 1);
        let from = start + usize::from(has_word);
        let Some(between) = find_top_level(&tokens[..end], from, |i| i > from && is_between(i)) else { return };
        tokens[between].token = Token::Comma;
        if has_word {
            tokens.remove(start);
        }
        let end = end - usize::from(has_word);
        if tokens[end].token == Token::RParen {
            return;
        }
        start = end + 1;
    }
}

/// The tokens of a call's arguments that change, from `start` on, and what stands for them.
fn with_arguments(tokens: &[TokenWithSpan], start: usize, is_value: bool) -> Option<(Range<usize>, Vec<TokenWithSpan>)> {
    let end = find_top_level(tokens, start, |i| tokens[i].token == Token::RParen)?;
    let tokens = &tokens[..end];
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| is_word(&t.token, word));
    let is_on = |at: usize| is(at, "on") && (is(at + 1, "empty") || is(at + 1, "error"));
    let mut found: [Option<Clause>; 2] = [None, None];
    let wrapper = if is_value { None } else { wrapper(tokens, start) };
    let (mut from, mut begins) = wrapper.as_ref().map_or((start, None), |clause| (clause.value.end, Some(clause.begins)));
    while let Some(on) = find_top_level(tokens, from, is_on) {
        let clause = clause(tokens, from, on, is_value)?;
        let place = &mut found[usize::from(is(on + 1, "error"))];
        if place.is_some() || begins.is_some() && clause.begins != from {
            return None;
        }
        begins.get_or_insert(clause.begins);
        *place = Some(clause);
        from = on + 2;
    }
    let begins = begins.filter(|_| from == end)?;
    let returning = find_top_level(&tokens[..begins], start, |i| is(i, "returning")).unwrap_or(begins);
    let token = |token: Token| TokenWithSpan { token, span: tokens[begins].span };
    let mut rewritten = Vec::new();
    for clause in found {
        let (word, value) = clause.map_or(("null", 0..0), |clause| (clause.word, clause.value));
        rewritten.extend([Token::Comma, Token::SingleQuotedString(word.to_string()), Token::Comma].map(token));
        if value.is_empty() {
            rewritten.push(token(Token::make_keyword("NULL")));
        } else {
            rewritten.extend([Token::make_keyword("CAST"), Token::LParen].map(token));
            rewritten.extend_from_slice(&tokens[value]);
            rewritten.extend([Token::make_keyword("AS"), Token::make_keyword("TEXT"), Token::RParen].map(token));
        }
    }
    if let Some(wrapper) = wrapper {
        rewritten.extend([Token::Comma, Token::SingleQuotedString(wrapper.word.to_string())].map(token));
    }
    rewritten.extend_from_slice(&tokens[returning..begins]);
    Some((returning..end, rewritten))
}

/// The clause that ends with WRAPPER; its value are all of its tokens.
fn wrapper(tokens: &[TokenWithSpan], start: usize) -> Option<Clause> {
    let is_before = |at: usize, word: &str| at > start && is_word(&tokens[at - 1].token, word);
    let of = |wrapper: usize| {
        let mut at = wrapper;
        at -= usize::from(is_before(at, "array"));
        let kind = ["conditional", "unconditional"].into_iter().find(|kind| is_before(at, kind));
        at -= usize::from(kind.is_some());
        let word = match kind {
            _ if is_before(at, "with") => kind.unwrap_or("unconditional"),
            None if is_before(at, "without") => "without",
            _ => return None,
        };
        Some(Clause { begins: at - 1, word, value: at - 1..wrapper + 1 })
    };
    of(find_top_level(tokens, start, |i| is_word(&tokens[i].token, "wrapper") && of(i).is_some())?)
}

/// The clause whose ON is at `on`, behind `from`.
fn clause(tokens: &[TokenWithSpan], from: usize, on: usize, is_value: bool) -> Option<Clause> {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| is_word(&t.token, word));
    let before = on.checked_sub(1).filter(|at| *at >= from)?;
    if is_value && let Some(begins) = find_top_level(&tokens[..before], from, |i| is(i, "default")) {
        return Some(Clause { begins, word: "default", value: begins + 1..on });
    }
    let of_word = |begins: usize, word: &'static str| Some(Clause { begins, word, value: 0..0 });
    let is_empty = !is_value && before > from && is(before - 1, "empty");
    match () {
        () if is(before, "null") => of_word(before, "null"),
        () if is(before, "error") => of_word(before, "error"),
        () if is_empty && is(before, "array") => of_word(before - 1, "empty array"),
        () if is_empty && is(before, "object") => of_word(before - 1, "empty object"),
        () => None,
    }
}
