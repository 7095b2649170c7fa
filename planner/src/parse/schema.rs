//! The grammar of CREATE SCHEMA and DROP SCHEMA. All user objects are in one schema, and none can be made or dropped: a statement whose wish is met already
//! is answered with a notice, any other is refused. It does not know what is in a schema.

use super::ast::Ast;
use super::words::Words;
use crate::error::fold;
use datafusion::sql::sqlparser::tokenizer::Token;
use eddyline_common::{Result, SqlError, SqlState};

/// Schemas that are always there; objects are created in the first.
const SCHEMAS: [&str; 4] = ["public", "pg_catalog", "information_schema", "eddyline"];

/// What follows CREATE SCHEMA: `[IF NOT EXISTS] name [AUTHORIZATION owner]`.
pub fn create(mut words: Words) -> Result<Ast> {
    let if_not_exists = words.eat_all(&["if", "not", "exists"]);
    let at = words.location();
    let name = fold(&words.ident()?);
    if words.eat("authorization") {
        words.ident()?;
    }
    words.expect_end()?;
    let exists = SqlError::new(SqlState("42P06"), format!("schema \"{name}\" already exists"));
    let error = match (SCHEMAS.contains(&name.as_str()), if_not_exists) {
        (true, true) => return Ok(met("CREATE SCHEMA", exists)),
        (true, false) => exists,
        (false, _) => SqlError::unsupported(format!("schema \"{name}\" cannot be created"))
            .with_hint("All user objects are in schema public: leave the schema out, or write public in its place."),
    };
    Err(words.text.at(error, at))
}

/// What follows DROP SCHEMA: `[IF EXISTS] name, ... [CASCADE | RESTRICT]`.
pub fn drop(words: &mut Words) -> Result<Ast> {
    let if_exists = words.eat_all(&["if", "exists"]);
    let mut missing = Vec::new();
    loop {
        let at = words.location();
        let name = fold(&words.ident()?);
        let error = match (SCHEMAS.contains(&name.as_str()), if_exists) {
            (false, true) => None,
            (false, false) => Some(SqlError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))),
            (true, _) => Some(SqlError::unsupported(format!("schema \"{name}\" cannot be dropped")).with_hint("Drop what is in it.")),
        };
        if let Some(error) = error {
            return Err(words.text.at(error, at));
        }
        missing.push(format!("\"{name}\""));
        if !words.eat_token(&Token::Comma) {
            break;
        }
    }
    let _ = words.eat("cascade") || words.eat("restrict");
    Ok(met("DROP SCHEMA", SqlError::notice(format!("schema {} does not exist", missing.join(", ")))))
}

fn met(tag: &'static str, why: SqlError) -> Ast {
    Ast::Idle { tag, tables: Vec::new(), notice: Some(why.skipped()) }
}
