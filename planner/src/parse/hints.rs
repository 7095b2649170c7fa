//! Hints: comments that begin with a plus sign. `STATE_TTL` is taken, others that mean something are refused by name, and those that
//! only say how to run a join are read and do nothing. What is no hint that anybody knows is an error, as in Flink: a comment that was meant to say
//! something would say nothing.

use crate::error::{SourceText, lower_first, suggest};
use crate::lower::TtlHint;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};
use eddyline_common::options::{self, STATE_TTL};
use eddyline_common::{Result, SqlError, SqlState};

/// Hints that change what a statement means and are not followed.
const REFUSED: &[&str] = &["OPTIONS", "LOOKUP"];
/// Hints that choose how a join is done.
const WITHOUT_EFFECT: &[&str] = &["BROADCAST", "SHUFFLE_HASH", "SHUFFLE_MERGE", "NEST_LOOP", "MULTI_JOIN"];
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
        let read = of_comment(hints).map_err(|error| text.at(error, at))?;
        found.extend(read.into_iter().map(|ttl| Hint { at, ttl }));
    }
    Ok(found)
}

/// The hints of one comment: names with what stands in their parentheses, commas between them or not.
fn of_comment(comment: &str) -> Result<Vec<TtlHint>> {
    let tokens = Tokenizer::new(&super::DIALECT, comment).tokenize();
    let tokens = tokens
        .map_err(|error| malformed("a hint cannot be read").with_detail(format!("In /*+{comment}*/: {}.", lower_first(&error.message))))?;
    let mut tokens = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).peekable();
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        let name = match &token {
            Token::Word(word) => word.value.to_uppercase(),
            Token::Comma => continue,
            other => return Err(malformed(&format!("a hint begins with a name, not with \"{other}\""))),
        };
        let inside = arguments(&name, &mut tokens)?;
        match name.as_str() {
            TTL => found.extend(state_ttl(&inside)?),
            refused if REFUSED.contains(&refused) => {
                let error = SqlError::unsupported(format!("the hint {name} is not supported"));
                return Err(error.with_hint("Say it in the options of CREATE."));
            }
            known if WITHOUT_EFFECT.contains(&known) => {}
            _ => return Err(unknown(&name)),
        }
    }
    Ok(found)
}

fn malformed(message: &str) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, message)
        .with_hint("Write /*+ NAME(...) */, with every quote and parenthesis closed; without the plus sign it is a comment.")
}

fn unknown(name: &str) -> SqlError {
    let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("there is no hint {name}"));
    let known = [TTL].into_iter().chain(WITHOUT_EFFECT.iter().chain(REFUSED).copied());
    let near = suggest(error.clone(), name, known);
    if near.hint.is_some() { near } else { error.with_hint("STATE_TTL is one. Without the plus sign it is a comment.") }
}

/// What stands in the parentheses behind a hint's name.
fn arguments(name: &str, tokens: &mut std::iter::Peekable<impl Iterator<Item = Token>>) -> Result<Vec<Token>> {
    let mut inside = Vec::new();
    if tokens.peek() != Some(&Token::LParen) {
        return Ok(inside);
    }
    let mut depth = 0;
    for token in tokens {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            other => inside.push(other),
        }
        if depth == 0 {
            return Ok(inside);
        }
    }
    Err(malformed(&format!("the hint {name} lacks its closing parenthesis")))
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
