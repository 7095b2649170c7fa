//! Statement sets: `EXECUTE STATEMENT SET BEGIN insert; insert; END`, and Flink's older `BEGIN STATEMENT SET; ...; END`.
//! They are the one statement with semicolons inside. A client that cuts its input at semicolons sends the parts
//! one by one: then what opens the set has no END, and whoever runs statements keeps the parts until it comes.

use super::Parsed;
use super::ast::Ast;
use super::tokens::{check_length, is_word};
use crate::error::SourceText;
use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;
use eddyline_common::{Result, SqlError, SqlState};

/// What a statement is to a set whose parts come one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetPiece {
    /// A set without its END.
    Opens,
    Insert,
    Ends,
    GivesUp,
    Nothing,
    Other,
}

impl Parsed {
    pub fn set_piece(&self) -> SetPiece {
        let says_end = || self.sql.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("end"));
        match &self.ast {
            Ast::StatementSet { ended: false, .. } => SetPiece::Opens,
            Ast::Insert(..) => SetPiece::Insert,
            Ast::Commit { chain: false } if says_end() => SetPiece::Ends,
            Ast::Rollback { .. } => SetPiece::GivesUp,
            Ast::Empty => SetPiece::Nothing,
            _ => SetPiece::Other,
        }
    }
}

/// Where a set's first statement begins within the part, if it opens a set.
pub fn begin(part: &[TokenWithSpan]) -> Option<usize> {
    let starts = |words: &[&str]| words.iter().enumerate().all(|(i, word)| part.get(i).is_some_and(|t| is_word(&t.token, word)));
    if starts(&["execute", "statement", "set", "begin"]) {
        Some(4)
    } else if starts(&["begin", "statement", "set"]) {
        Some(3)
    } else {
        None
    }
}

pub fn statement_set(
    mut opening: Vec<TokenWithSpan>,
    first: usize,
    parts: &mut impl Iterator<Item = Vec<TokenWithSpan>>,
    text: &SourceText,
) -> Result<Parsed> {
    let mut inserts = Vec::new();
    let start = opening[0].span.start;
    let mut last = opening[opening.len() - 1].span.end;
    let mut add = |part: Vec<TokenWithSpan>| -> Result<()> {
        let start = part[0].span.start;
        check_length(&part, text)?;
        match super::statement(part, text)? {
            insert @ Ast::Insert(..) => inserts.push(insert),
            _ => {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, "a statement set holds INSERT statements only");
                return Err(text.at(error, start));
            }
        }
        Ok(())
    };
    if opening.len() > first {
        add(opening.split_off(first))?;
    }
    let mut ended = false;
    for part in parts {
        last = part[part.len() - 1].span.end;
        if part.len() == 1 && is_word(&part[0].token, "end") {
            ended = true;
            break;
        }
        add(part)?;
    }
    let sql = text.slice(start, last).to_string();
    Ok(Parsed::without_hints(sql, Ast::StatementSet { inserts, ended }, text.clone()))
}
