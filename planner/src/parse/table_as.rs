//! The grammar of CREATE TABLE AS: before AS that of CREATE TABLE without definitions of columns, behind it a query.

use super::ast::{Ast, CreateTableAs};
use super::ddl;
use super::tokens::{find_top_level, is_word};
use super::words::Words;
use crate::error::SourceText;
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use eddyline_common::{Result, SqlError};

/// Where the AS stands, if a query follows it.
pub fn place(tokens: &[TokenWithSpan]) -> Option<usize> {
    let begins_query = |token: &Token| *token == Token::LParen || ["select", "with", "values"].iter().any(|word| is_word(token, word));
    find_top_level(tokens, 1, |i| is_word(&tokens[i].token, "as") && tokens.get(i + 1).is_some_and(|next| begins_query(&next.token)))
}

/// `CREATE TABLE [IF NOT EXISTS] name [(name, ...)] [WITH (...)] AS query [WITH [NO] DATA]`, whose AS is at `place`.
pub fn create(tokens: &[TokenWithSpan], place: usize, temporary: bool, text: &SourceText) -> Result<Ast> {
    let mut words = super::words(tokens[..place].to_vec(), text);
    while !words.eat("table") {
        words.parser.advance_token();
    }
    let mut table = ddl::relation_name(&mut words, false, temporary)?;
    let columns = if words.parser.peek_token_ref().token == Token::LParen { names(&mut words)? } else { Vec::new() };
    let start = words.parser.index();
    let clauses = if start < place { text.slice(tokens[start].span.start, tokens[place - 1].span.end).to_string() } else { String::new() };
    ddl::clauses(&mut words, &mut table)?;
    if table.like.is_some() {
        return Err(text.at(SqlError::unsupported("LIKE in CREATE TABLE AS is not supported"), tokens[start].span.start));
    }
    let end = ddl::query_end(tokens, place + 1);
    let (query, query_text) = ddl::query(&tokens[place + 1..end], text)?;
    let mut rest = super::words(tokens[end..].to_vec(), text);
    let with_data = !rest.eat_all(&["with", "no", "data"]);
    if with_data {
        rest.eat_all(&["with", "data"]);
    }
    rest.expect_end()?;
    Ok(Ast::CreateTableAs(Box::new(CreateTableAs { table, columns, clauses, query, query_text, with_data })))
}

fn names(words: &mut Words) -> Result<Vec<Ident>> {
    let ends_name = matches!(words.parser.peek_nth_token_ref(2).token, Token::Comma | Token::RParen);
    if !ends_name {
        let error = SqlError::unsupported("definitions of columns in CREATE TABLE AS are not supported");
        let hint = "The query's columns are the table's: write their names alone, or cast them in the query.";
        return Err(words.text.at(error.with_hint(hint), words.location()));
    }
    words.ident_list()
}
