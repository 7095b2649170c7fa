//! The grammar of CREATE INDEX: PostgreSQL's, without what means nothing where rows are found by equal values.

use super::ast::{Ast, CreateIndex};
use super::words::Words;
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::tokenizer::Token;
use eddyline_common::{Result, SqlError};

/// What follows CREATE.
pub fn create(mut words: Words) -> Result<Ast> {
    let at = words.location();
    if words.eat("unique") {
        let error = SqlError::unsupported("unique indexes are not supported")
            .with_hint("A PRIMARY KEY keeps a table's rows apart, GROUP BY a view's; leave UNIQUE out for look-ups.");
        return Err(words.text.at(error, at));
    }
    words.expect("index")?;
    // Nobody who reads or writes waits for it in any case.
    words.eat("concurrently");
    let if_not_exists = words.eat_all(&["if", "not", "exists"]);
    let name = if words.is("on") && !if_not_exists { None } else { Some(words.name()?) };
    words.expect("on")?;
    let relation = words.name()?;
    method(&mut words)?;
    let columns = columns(&mut words)?;
    let include = if words.eat("include") { words.ident_list()? } else { Vec::new() };
    let at = words.location();
    if words.is("where") {
        let error = SqlError::unsupported("an index over a part of the rows is not supported");
        return Err(words.text.at(error.with_hint("Leave WHERE out, or index a materialized view that has the condition."), at));
    }
    if ["with", "tablespace", "nulls"].iter().any(|word| words.is(word)) {
        let what = words.ident()?.value.to_uppercase();
        let error = SqlError::unsupported(format!("{what} is not supported in CREATE INDEX"));
        return Err(words.text.at(error.with_hint("An index has no options: leave it out."), at));
    }
    words.expect_end()?;
    Ok(Ast::CreateIndex(Box::new(CreateIndex { name, if_not_exists, relation, columns, include })))
}

/// `USING method`, if it is there. A B-tree finds equal values too.
fn method(words: &mut Words) -> Result<()> {
    if !words.eat("using") {
        return Ok(());
    }
    let at = words.location();
    let method = words.ident()?.value.to_lowercase();
    if matches!(method.as_str(), "hash" | "btree") {
        return Ok(());
    }
    let error = SqlError::unsupported(format!("access method \"{method}\" is not supported"));
    Err(words.text.at(error.with_hint("An index finds rows by equal values: leave USING out, or write USING hash."), at))
}

/// `(name, ...)`.
fn columns(words: &mut Words) -> Result<Vec<Ident>> {
    words.expect_token(&Token::LParen)?;
    let mut columns = Vec::new();
    loop {
        let at = words.location();
        let is_open = |n: usize| matches!(words.parser.peek_nth_token_ref(n).token, Token::LParen);
        if is_open(0) || is_open(1) {
            return Err(words.text.at(over_expression(), at));
        }
        columns.push(words.ident()?);
        // The order that there would be anyway.
        words.eat("asc");
        if words.eat_token(&Token::RParen) {
            return Ok(columns);
        }
        if !words.eat_token(&Token::Comma) {
            return behind_column(words);
        }
    }
}

fn over_expression() -> SqlError {
    SqlError::unsupported("an index over an expression is not supported")
        .with_hint("Make the expression a column of a materialized view, and index that.")
}

/// What stands behind a column's name, and is no comma or parenthesis.
fn behind_column<T>(words: &mut Words) -> Result<T> {
    let at = words.location();
    match words.parser.peek_token_ref().token.clone() {
        Token::EOF => words.unexpected("a comma or a closing parenthesis"),
        Token::Word(word) => {
            let error = SqlError::unsupported(format!("{} is not supported in an index", word.value.to_uppercase()));
            let hint = "An index finds rows by equal values and has no order: write the names of columns alone.";
            Err(words.text.at(error.with_hint(hint), at))
        }
        _ => Err(words.text.at(over_expression(), at)),
    }
}
