//! The grammar of CREATE FUNCTION ... LANGUAGE SQL: PostgreSQL's, for functions that are one expression.

use super::ast::{ArgumentAst, Ast, CreateFunction};
use super::words::Words;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use eddyline_common::{Result, SqlError, SqlState, SqlType};

const EXAMPLE: &str = "Write CREATE FUNCTION f(a text, n int) RETURNS text LANGUAGE SQL AS 'SELECT ...'.";

/// Words that go on a type's name, so that what stands before them is not an argument's name.
const OF_TYPES: &[&str] = &["precision", "varying", "with", "without", "array", "default"];

/// What follows CREATE [OR REPLACE] FUNCTION.
pub fn create(mut words: Words, tokens: &[TokenWithSpan], replace: bool) -> Result<Ast> {
    let name = words.name()?;
    let at = words.location();
    if words.is("as") {
        let error = SqlError::unsupported("functions in other languages than SQL are not supported");
        return Err(words.text.at(error.with_hint(EXAMPLE), at));
    }
    let arguments = arguments(&mut words)?;
    words.expect("returns")?;
    let returns = returns(&mut words)?;
    let (mut body, mut strict, mut language) = (None, false, false);
    while !words.at_end() {
        let at = words.location();
        if words.eat("language") {
            let name = if matches!(words.parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
                words.string()?
            } else {
                words.ident()?.value
            };
            if !name.eq_ignore_ascii_case("sql") {
                let error = SqlError::unsupported(format!("functions in language \"{}\" are not supported", name.to_lowercase()));
                return Err(words.text.at(error.with_hint(EXAMPLE), at));
            }
            language = true;
        } else if words.eat("as") {
            body = Some(words.string()?);
        } else if words.eat("return") {
            // The last clause: all that follows is the expression.
            let start = words.location();
            words.run(|p| p.parse_expr())?;
            words.expect_end()?;
            let end = tokens.last().map_or(start, |t| t.span.end);
            body = Some(words.text.slice(start, end).to_string());
            language = true;
        } else if words.eat("strict") || words.eat_all(&["returns", "null", "on", "null", "input"]) {
            strict = true;
        } else if words.eat_all(&["called", "on", "null", "input"]) {
            strict = false;
        } else if words.eat("parallel") || words.eat("cost") {
            words.option_value()?;
        } else if !["immutable", "stable", "volatile", "leakproof"].iter().any(|w| words.eat(w)) {
            return words.unexpected("LANGUAGE SQL, AS, RETURN, STRICT, IMMUTABLE, STABLE or VOLATILE");
        }
    }
    let missing = |what: &str| SqlError::new(SqlState("42P13"), format!("no {what} specified")).with_hint(EXAMPLE);
    let Some(body) = body else { return Err(missing("function body")) };
    if !language {
        return Err(missing("language"));
    }
    Ok(Ast::CreateFunction(Box::new(CreateFunction { name, replace, arguments, returns, body, strict })))
}

fn returns(words: &mut Words) -> Result<SqlType> {
    let at = words.location();
    if words.is("setof") || words.is("table") || words.is("trigger") || words.is("void") {
        let what = words.ident()?.value.to_uppercase();
        let error = SqlError::unsupported(format!("functions that return {what} are not supported"));
        return Err(words.text.at(error.with_hint("A function gives one value; put a query into a view."), at));
    }
    words.data_type()
}

fn arguments(words: &mut Words) -> Result<Vec<ArgumentAst>> {
    let mut arguments = Vec::new();
    words.expect_token(&Token::LParen)?;
    if words.eat_token(&Token::RParen) {
        return Ok(arguments);
    }
    loop {
        let location = words.location();
        if ["out", "inout", "variadic"].iter().any(|mode| words.is(mode))
            && matches!(words.parser.peek_nth_token_ref(1).token, Token::Word(_))
        {
            let mode = words.ident()?.value.to_uppercase();
            return Err(words.text.at(SqlError::unsupported(format!("{mode} arguments are not supported")), location));
        }
        if words.is("in") {
            words.parser.advance_token();
        }
        let is_named = match &words.parser.peek_nth_token_ref(1).token {
            Token::Word(next) => next.quote_style.is_some() || !OF_TYPES.contains(&next.value.to_lowercase().as_str()),
            _ => false,
        };
        let name = if is_named { Some(words.ident()?) } else { None };
        let ty = words.data_type()?;
        let at = words.location();
        if words.eat("default") || words.eat_token(&Token::Eq) {
            return Err(words.text.at(SqlError::unsupported("DEFAULT of an argument is not supported"), at));
        }
        arguments.push(ArgumentAst { name, ty, location });
        if !words.eat_token(&Token::Comma) {
            break;
        }
    }
    words.expect_token(&Token::RParen)?;
    Ok(arguments)
}

/// The types behind a function's name in DROP: a name has one function.
pub fn skip_arguments(words: &mut Words) -> Result<()> {
    if words.parser.peek_token_ref().token == Token::LParen {
        arguments(words)?;
    }
    Ok(())
}
