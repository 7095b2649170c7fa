//! `INSERT INTO t PARTITION (column = value) ...`: Flink's clause, which sqlparser's grammar would take for the table's alias.

use super::tokens::{find_top_level, is_word};
use crate::error::SourceText;
use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use eddyline_common::Result;

/// The tokens of an INSERT without the clause, and what is in its parentheses.
pub fn without_partition(mut tokens: Vec<TokenWithSpan>, text: &SourceText) -> Result<(Vec<TokenWithSpan>, Option<Vec<Expr>>)> {
    let is = |at: usize, token: &Token| tokens.get(at).is_some_and(|t| t.token == *token);
    // INSERT INTO name, or name.name.
    let mut at = 3;
    while is(at, &Token::Period) {
        at += 2;
    }
    let is_clause = tokens.get(at).is_some_and(|t| is_word(&t.token, "partition")) && is(at + 1, &Token::LParen);
    let close = if is_clause { find_top_level(&tokens, at + 2, |i| tokens[i].token == Token::RParen) } else { None };
    let Some(close) = close else { return Ok((tokens, None)) };
    let clause: Vec<TokenWithSpan> = tokens.drain(at..=close).collect();
    let mut words = super::words(clause[2..clause.len() - 1].to_vec(), text);
    let items = words.run(|p| p.parse_comma_separated(|p| p.parse_expr()))?;
    words.expect_end()?;
    Ok((tokens, Some(items)))
}
