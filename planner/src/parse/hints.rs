//! Hints: comments that begin with a plus sign. `STATE_TTL` and `OPTIONS` are taken, one that means something and is not followed is refused by name, and
//! those that only say how to run a join are read and do nothing. What is no hint that anybody knows is an error, as in Flink: a comment that was meant to
//! say something would say nothing. It does not know what options there are.

use crate::error::{SourceText, lower_first, suggest};
use crate::lower::TtlHint;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};
use eddyline_common::options::{self, STATE_TTL};
use eddyline_common::{Result, SqlError, SqlState};
use std::collections::BTreeMap;

/// Hints that change what a statement means and are not followed.
const REFUSED: &[&str] = &["LOOKUP"];
/// Hints that choose how a join is done.
const WITHOUT_EFFECT: &[&str] = &["BROADCAST", "SHUFFLE_HASH", "SHUFFLE_MERGE", "NEST_LOOP", "MULTI_JOIN"];
const TTL: &str = "STATE_TTL";
const OPTIONS: &str = "OPTIONS";

/// A hint and where it stands.
#[derive(Clone, Debug)]
pub struct Hint {
    at: Location,
    /// Where the token before it begins.
    behind: Location,
    says: Says,
}

#[derive(Clone, Debug)]
enum Says {
    Ttl(TtlHint),
    Options(BTreeMap<String, String>),
}

/// `t /*+ OPTIONS('name' = 'value', ...) */`: other options of a source, for what reads it here.
#[derive(Clone, Debug)]
pub struct OptionsHint {
    pub at: Location,
    /// Where the last part of the source's name begins, if it is a name that the hint stands behind.
    pub table: Location,
    /// As they were written.
    pub options: BTreeMap<String, String>,
}

/// One statement's hints.
#[derive(Debug, Default)]
pub struct Hints {
    pub ttl: Vec<TtlHint>,
    pub options: Vec<OptionsHint>,
}

/// All hints of a text.
pub fn read(tokens: &[TokenWithSpan], text: &SourceText) -> Result<Vec<Hint>> {
    let mut found: Vec<Hint> = Vec::new();
    let mut behind = None;
    for token in tokens {
        let at = token.span.start;
        let Token::Whitespace(space) = &token.token else {
            behind = Some(at);
            continue;
        };
        let Whitespace::MultiLineComment(comment) = space else { continue };
        let Some(hints) = comment.strip_prefix('+') else { continue };
        let read = of_comment(hints).map_err(|error| text.at(error, at))?;
        found.extend(read.into_iter().map(|says| Hint { at, behind: behind.unwrap_or(at), says }));
    }
    Ok(found)
}

/// The hints of one comment: names with what stands in their parentheses, commas between them or not.
fn of_comment(comment: &str) -> Result<Vec<Says>> {
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
            TTL => found.extend(state_ttl(&inside)?.into_iter().map(Says::Ttl)),
            OPTIONS => found.push(Says::Options(source_options(&inside)?)),
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
    let known = [TTL, OPTIONS].into_iter().chain(WITHOUT_EFFECT.iter().chain(REFUSED).copied());
    let near = suggest(error.clone(), name, known);
    if near.hint.is_some() { near } else { error.with_hint("STATE_TTL and OPTIONS are two. Without the plus sign it is a comment.") }
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

/// `'name' = 'value', ...`.
fn source_options(arguments: &[Token]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for argument in arguments.split(|t| *t == Token::Comma) {
        let [Token::SingleQuotedString(name), Token::Eq, Token::SingleQuotedString(value)] = argument else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "the hint OPTIONS is malformed")
                .with_hint("Write t /*+ OPTIONS('scan.startup.mode' = 'latest-offset') */, with names and values in single quotes."));
        };
        if found.insert(name.clone(), value.clone()).is_some() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("the hint OPTIONS names \"{name}\" twice")));
        }
    }
    Ok(found)
}

impl Hint {
    /// Whether it is of the statement between two places of the text. One may stand behind a statement's last table.
    fn is_between(&self, start: Location, end: Location) -> bool {
        let place = match self.says {
            Says::Ttl(_) => self.at,
            Says::Options(_) => self.behind,
        };
        start <= place && place <= end
    }

    /// For one that is of no statement which could follow it.
    pub fn misplaced(&self, text: &SourceText) -> SqlError {
        let error = match self.says {
            Says::Ttl(_) => misplaced_ttl(),
            Says::Options(_) => misplaced_options(),
        };
        text.at(error, self.at)
    }
}

/// One statement's hints, between two places of the text: they are taken out of `all`.
pub fn between(all: &mut Vec<Hint>, start: Location, end: Location) -> Result<Hints> {
    let mut found = Hints::default();
    for hint in all.extract_if(.., |hint| hint.is_between(start, end)) {
        match hint.says {
            Says::Options(options) => found.options.push(OptionsHint { at: hint.at, table: hint.behind, options }),
            Says::Ttl(ttl) => match found.ttl.iter().find(|other| other.name == ttl.name) {
                Some(other) if *other != ttl => {
                    let message = format!("the hints STATE_TTL say different things of \"{}\"", ttl.name);
                    return Err(SqlError::unsupported(message).with_hint("Give the tables different aliases."));
                }
                Some(_) => {}
                None => found.ttl.push(ttl),
            },
        }
    }
    Ok(found)
}

/// For a hint in a statement that has no query of its own.
pub fn misplaced_options() -> SqlError {
    SqlError::unsupported("the hint OPTIONS belongs to a query, a materialized view, a sink or an INSERT of its own")
        .with_detail("Only what reads a source can have it with other options, for itself.")
        .with_hint("Write it there, or create another source with these options.")
}

/// For a hint that no query which keeps running has.
pub fn misplaced_ttl() -> SqlError {
    SqlError::unsupported("the hint STATE_TTL belongs to a query that keeps running")
        .with_hint("Write it into CREATE MATERIALIZED VIEW, CREATE SINK, or an INSERT of its own that reads a source.")
}
