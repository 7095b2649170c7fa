//! Words that are names of relations in quotes only. Of those that both PostgreSQL and Flink reserve it is the ones that clauses are made of: where such a word stands for a
//! relation, a name was forgotten. It does not know names of columns, which may be such words.

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::tokenizer::Location;
use eddyline_common::{SqlError, SqlState};

const WORDS: &str = "all and as case create distinct else except fetch for from group having in intersect into lateral limit not null offset on or order \
    select table then union using when where window with";

/// What is wrong with a relation's name that is such a word, and where.
pub fn misplaced(name: &ObjectName) -> Option<(SqlError, Location)> {
    let word = name.0.last()?.as_ident()?;
    if word.quote_style.is_some() || !WORDS.split(' ').any(|reserved| word.value.eq_ignore_ascii_case(reserved)) {
        return None;
    }
    let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{}\"", word.value));
    Some((error.with_hint("A name is missing here. One that is a reserved word stands in double quotes."), word.span.start))
}
