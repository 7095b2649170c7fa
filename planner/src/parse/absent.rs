//! What PostgreSQL has and is not here: roles, databases, types of one's own, triggers and so on. A statement that makes, alters or drops such a thing is
//! refused with what there is in its place; one that drops what cannot be there, IF EXISTS, has its wish. It does not know what is there.

use super::ast::Ast;
use super::words::Words;
use crate::error::fold;
use crate::types;
use datafusion::sql::sqlparser::tokenizer::Token;
use eddyline_common::{Result, SqlError};

const CHANGES: &str = "SUBSCRIBE gives the changes of a table or view as they come.";
const EXTENSIONS: &str = "There are no extensions. Functions of your own are expressions in SQL: CREATE FUNCTION.";
const FUNCTIONS: &str = "There are no procedural languages. Functions of your own are expressions in SQL: CREATE FUNCTION.";
const ONE_DATABASE: &str = "There is one database, in one place. A second server has another one.";
const OUTSIDE: &str =
    "Sources and lookup tables read from outside, and sinks write there: CREATE SOURCE, CREATE TABLE ... WITH, CREATE SINK.";
const REACTIONS: &str = "A materialized view follows the changes of tables, and a sink passes them on.";
const ROLES: &str = "There are no roles and no privileges: whoever can connect may do everything.";
const TYPES: &str = "Declare the columns with a type that there is: text in place of an enumeration, a domain's own type in its place.";

/// First words of statements.
const STATEMENTS: [(&str, &str); 15] = [
    ("call", FUNCTIONS),
    ("checkpoint", "Checkpoints come by themselves: ALTER SYSTEM SET checkpoint_interval says how often."),
    ("cluster", "What is looked up by equal values is found by an index: CREATE INDEX."),
    ("do", FUNCTIONS),
    ("grant", ROLES),
    ("import", OUTSIDE),
    ("listen", CHANGES),
    ("load", EXTENSIONS),
    ("lock", "SELECT ... FOR UPDATE keeps others from writing to the tables that it reads, until the transaction ends."),
    ("merge", "INSERT ... ON CONFLICT writes rows that may be there."),
    ("notify", CHANGES),
    ("reassign", ROLES),
    ("reindex", "Indexes follow their tables at once: there is nothing to be made anew."),
    ("revoke", ROLES),
    ("security", ROLES),
];

/// What CREATE, ALTER and DROP may name.
const KINDS: [(&str, &str); 25] = [
    ("aggregate", FUNCTIONS),
    ("cast", FUNCTIONS),
    ("database", ONE_DATABASE),
    ("default", ROLES),
    ("domain", TYPES),
    ("event", REACTIONS),
    ("extension", EXTENSIONS),
    ("foreign", OUTSIDE),
    ("group", ROLES),
    ("language", FUNCTIONS),
    ("operator", FUNCTIONS),
    ("owned", ROLES),
    ("policy", ROLES),
    ("procedure", FUNCTIONS),
    ("publication", OUTSIDE),
    ("role", ROLES),
    ("routine", FUNCTIONS),
    ("rule", REACTIONS),
    ("sequence", types::NUMBERED),
    ("server", OUTSIDE),
    ("subscription", OUTSIDE),
    ("tablespace", ONE_DATABASE),
    ("trigger", REACTIONS),
    ("type", TYPES),
    ("user", ROLES),
];

/// Of which there is none, whatever its name, with the tag of the statement that drops it.
const NEVER_THERE: [(&str, &str); 3] = [("extension", "DROP EXTENSION"), ("sequence", "DROP SEQUENCE"), ("trigger", "DROP TRIGGER")];

/// Why a statement that begins so is refused.
pub fn statement(first: &str) -> Option<SqlError> {
    let (word, hint) = STATEMENTS.iter().find(|(word, _)| *word == first)?;
    Some(SqlError::unsupported(format!("{} is not supported", word.to_uppercase())).with_hint(*hint))
}

/// What there is in place of a kind of objects that is not here.
pub fn in_place_of(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(kind)).map(|(_, hint)| *hint)
}

/// Refuses to do that with what comes next, if it is of a kind that is not here.
pub fn check(words: &Words, verb: &str) -> Result<()> {
    let Token::Word(kind) = &words.parser.peek_token_ref().token else { return Ok(()) };
    let Some(hint) = in_place_of(&kind.value) else { return Ok(()) };
    let error = SqlError::unsupported(format!("{verb} {} is not supported", kind.value.to_uppercase()));
    Err(words.text.at(error.with_hint(hint), words.location()))
}

/// What follows DROP, if it is of a kind that is not here: `kind IF EXISTS name, ... [ON table] [CASCADE | RESTRICT]`.
pub fn drop(words: &mut Words) -> Result<Option<Ast>> {
    let never_there = NEVER_THERE.into_iter().find(|(kind, _)| words.eat_all(&[*kind, "if", "exists"]));
    let Some((kind, tag)) = never_there else { return check(words, "DROP").map(|()| None) };
    let mut names = Vec::new();
    loop {
        let parts: Vec<String> = words.name()?.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
        names.push(format!("\"{}\"", parts.join(".")));
        if !words.eat_token(&Token::Comma) {
            break;
        }
    }
    if words.eat("on") {
        words.name()?;
    }
    let _ = words.eat("cascade") || words.eat("restrict");
    let notice = SqlError::notice(format!("{kind} {} does not exist", names.join(", "))).skipped();
    Ok(Some(Ast::Idle { tag, tables: Vec::new(), notice: Some(notice) }))
}
