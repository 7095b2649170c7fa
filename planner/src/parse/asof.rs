//! `ASOF LEFT JOIN` and `LEFT ASOF JOIN`, which sqlparser has no grammar for: they become `ASOF JOIN` with a call around the condition.

use super::tokens::{find_top_level, is_word};
use crate::bind::ASOF_LEFT;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

pub fn rewrite(tokens: &mut Vec<TokenWithSpan>) {
    let mut from = 0;
    while let Some(at) = (from..tokens.len()).find(|i| is_word(&tokens[*i].token, "asof")) {
        from = at + 1;
        let word = |i: usize, w: &str| tokens.get(i).is_some_and(|t| is_word(&t.token, w));
        let behind = usize::from(word(at + 1, "left")) + usize::from(word(at + 1, "left") && word(at + 2, "outer"));
        let outer_before = at > 0 && word(at - 1, "outer");
        let left_before = at > usize::from(outer_before) && word(at - 1 - usize::from(outer_before), "left");
        let before = if left_before { 1 + usize::from(outer_before) } else { 0 };
        if behind + before == 0 || !word(at + 1 + behind, "join") {
            continue;
        }
        let condition = find_top_level(tokens, at, |i| is_word(&tokens[i].token, "match_condition") && opens(tokens, i + 1));
        let Some(condition) = condition else { continue };
        let Some(close) = find_top_level(tokens, condition + 2, |i| tokens[i].token == Token::RParen) else { continue };
        let span = tokens[condition].span;
        let token = |token: Token| TokenWithSpan { token, span };
        tokens.insert(close, token(Token::RParen));
        tokens.splice(condition + 2..condition + 2, [token(Token::make_word(ASOF_LEFT, None)), token(Token::LParen)]);
        tokens.drain(at + 1..at + 1 + behind);
        tokens.drain(at - before..at);
        from = at - before + 1;
    }
}

fn opens(tokens: &[TokenWithSpan], at: usize) -> bool {
    tokens.get(at).is_some_and(|t| t.token == Token::LParen)
}
