//! The grammar of SUBSCRIBE: on its own, in DECLARE and in COPY.

use super::ast::Ast;
use super::words::Words;
use crate::statement::Subscriber;
use eddyline_common::{Result, SqlError, SqlState};

/// `[TO] relation [WITH (SNAPSHOT = boolean)] [AS OF epoch]`, behind the word SUBSCRIBE and to the end.
pub fn subscribe(words: &mut Words, to: Subscriber) -> Result<Ast> {
    words.eat("to");
    let name = words.name()?;
    let (mut snapshot, mut as_of) = (true, None);
    while !words.at_end() {
        let at = words.location();
        if words.eat("with") {
            for (key, value) in words.options()? {
                snapshot = match (key.to_lowercase().as_str(), value.to_lowercase().as_str()) {
                    ("snapshot", "true" | "on" | "1") => true,
                    ("snapshot", "false" | "off" | "0") => false,
                    _ => {
                        let error =
                            SqlError::new(SqlState::SYNTAX_ERROR, format!("SUBSCRIBE has no option \"{key}\" of value \"{value}\""));
                        return Err(words.text.at(error.with_hint("Write WITH (SNAPSHOT = false)."), at));
                    }
                };
            }
        } else if words.eat_all(&["as", "of"]) {
            words.eat("epoch");
            as_of = Some(words.run(|p| p.parse_literal_uint())?);
        } else {
            return words.unexpected("WITH (SNAPSHOT = false), AS OF or the end of the statement");
        }
    }
    Ok(Ast::Subscribe { name, snapshot, as_of, to })
}
