//! Hints: comments that begin with a plus sign. `STATE_TTL` is taken, others that mean something are refused by name, and those that
//! only say how to run a query are comments.

use crate::error::SourceText;
use crate::lower::TtlHint;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};
use eddyline_common::options::{self, STATE_TTL};
use eddyline_common::{Result, SqlError, SqlState};

/// Hints that change what a statement means and are not followed.
const REFUSED: &[&str] = &["OPTIONS", "LOOKUP"];
const TTL: &str = "STATE_TTL";

/// A hint and where it stands.
#[derive(Clone, Debug)]
pub struct Hint {
    pub at: Location,
    pub ttl: TtlHint,
}

/// All hints of a text.
pub fn read(tokens: &[TokenWithSpan], text: &SourceText) -> Result<Vec<Hint>> {
    let mut found: Vec<Hint> = Vec::new();
    for token in tokens {
        let Token::Whitespace(Whitespace::MultiLineComment(comment)) = &token.token else { continue };
        let Some(hints) = comment.strip_prefix('+') else { continue };
        let at = token.span.start;
        let tokens = Tokenizer::new(&super::DIALECT, hints).tokenize().unwrap_or_default();
        let mut tokens = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).peekable();
        while let Some(token) = tokens.next() {
            let Token::Word(word) = &token else { continue };
            let name = word.value.to_uppercase();
            if REFUSED.contains(&name.as_str()) {
                let error = SqlError::unsupported(format!("the hint {name} is not supported"));
                return Err(text.at(error.with_hint("Say it in the options of CREATE."), at));
            }
            let inside = arguments(&mut tokens);
            if name == TTL {
                for ttl in state_ttl(&inside).map_err(|error| text.at(error, at))? {
                    found.push(Hint { at, ttl });
                }
            }
        }
    }
    Ok(found)
}

/// What stands in the parentheses behind a hint's name.
fn arguments(tokens: &mut std::iter::Peekable<impl Iterator<Item = Token>>) -> Vec<Token> {
    let mut inside = Vec::new();
    if tokens.peek() != Some(&Token::LParen) {
        return inside;
    }
    let mut depth = 0;
    for token in tokens {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            other => inside.push(other),
        }
        if depth == 0 {
            break;
        }
    }
    inside
}

/// `'name' = '1 h', ...`.
fn state_ttl(arguments: &[Token]) -> Result<Vec<TtlHint>> {
    let malformed = || {
        SqlError::new(SqlState::SYNTAX_ERROR, "the hint STATE_TTL is malformed")
            .with_hint("Write /*+ STATE_TTL('o' = '1 h', 'c' = '1 d') */, with names or aliases of tables.")
    };
    let mut found: Vec<TtlHint> = Vec::new();
    for argument in arguments.split(|t| *t == Token::Comma) {
        let name = match argument.first() {
            Some(Token::SingleQuotedString(name)) => name.to_lowercase(),
            Some(Token::Word(word)) => word.value.to_lowercase(),
            _ => return Err(malformed()),
        };
        let [_, Token::Eq, Token::SingleQuotedString(value)] = argument else { return Err(malformed()) };
        if found.iter().any(|hint| hint.name == name) {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("the hint STATE_TTL names \"{name}\" twice")));
        }
        found.push(TtlHint { name, micros: options::duration(STATE_TTL, value)? });
    }
    Ok(found)
}

/// One statement's hints, between two places of the text: they are taken out of `all`.
pub fn between(all: &mut Vec<Hint>, start: Location, end: Location) -> Result<Vec<TtlHint>> {
    let mut found: Vec<TtlHint> = Vec::new();
    for hint in all.extract_if(.., |hint| start <= hint.at && hint.at <= end) {
        match found.iter().find(|other| other.name == hint.ttl.name) {
            Some(other) if *other != hint.ttl => {
                let message = format!("the hints STATE_TTL say different things of \"{}\"", hint.ttl.name);
                return Err(SqlError::unsupported(message).with_hint("Give the tables different aliases."));
            }
            Some(_) => {}
            None => found.push(hint.ttl),
        }
    }
    Ok(found)
}

/// For a hint that no query which keeps running has.
pub fn misplaced() -> SqlError {
    SqlError::unsupported("the hint STATE_TTL belongs to a query that keeps running")
        .with_hint("Write it into CREATE MATERIALIZED VIEW, CREATE SINK, or an INSERT of its own that reads a source.")
}
