//! The grammar of DROP, ALTER, transactions, cursors and prepared statements; it sends SHOW, SET, RESET and COPY
//! to theirs.

use super::ast::{Ast, ShowAst};
use super::subscribe::subscribe;
use super::words::Words;
use super::{absent, ddl, settings};
use crate::error::{SourceText, suggest};
use crate::statement::{FetchCount, ObjectKind, Subscriber};
use datafusion::sql::sqlparser::ast::{Expr, ObjectName};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use eddyline_common::options::Changes;
use eddyline_common::{Result, SqlError, SqlState};
use std::collections::BTreeMap;

/// The first words of statements, for suggestions.
const STATEMENTS: &[&str] = &[
    "abort",
    "alter",
    "analyze",
    "begin",
    "check",
    "close",
    "comment",
    "commit",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "desc",
    "describe",
    "discard",
    "drop",
    "end",
    "execute",
    "explain",
    "fetch",
    "flush",
    "insert",
    "move",
    "prepare",
    "refresh",
    "release",
    "reset",
    "rollback",
    "savepoint",
    "select",
    "set",
    "show",
    "start",
    "subscribe",
    "truncate",
    "unlisten",
    "update",
    "use",
    "vacuum",
    "values",
    "with",
];

pub fn statement(first: &str, tokens: Vec<TokenWithSpan>, text: &SourceText) -> Result<Ast> {
    if first == "declare" {
        return declare(&tokens, text);
    }
    if first == "prepare" {
        return prepare(&tokens, text);
    }
    if first == "copy" {
        return super::copy::copy(&tokens, text);
    }
    let at = tokens[0].span.start;
    let mut words = super::words(tokens, text);
    if !STATEMENTS.contains(&first) {
        return unknown(first, words);
    }
    words.parser.advance_token();
    let ast = match first {
        "comment" => comment(&mut words)?,
        "drop" => drop(&mut words)?,
        "truncate" => truncate(&mut words)?,
        "alter" => alter(&mut words)?,
        "show" => settings::show(&mut words)?,
        "describe" | "desc" => Ast::Show(ShowAst::Columns(words.name()?)),
        "set" => settings::set(&mut words)?,
        "reset" if words.at_end() => Ast::Set { name: "all".to_string(), value: None, local: false },
        "reset" => settings::reset(&mut words)?,
        "use" => settings::use_name(&mut words)?,
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => transaction(first, &mut words)?,
        "fetch" | "move" => fetch(&mut words, first == "move")?,
        "close" => Ast::Close(name_or_all(&mut words)?),
        "execute" => execute(&mut words)?,
        "deallocate" => {
            words.eat("prepare");
            Ast::Deallocate(name_or_all(&mut words)?)
        }
        "discard" => {
            let all = words.eat("all");
            if !all && !words.eat("temp") && !words.eat("temporary") {
                return Err(text.at(SqlError::unsupported("only DISCARD ALL and DISCARD TEMP are supported"), words.location()));
            }
            Ast::Discard { all }
        }
        "flush" => Ast::Flush,
        "analyze" => idle(&mut words, "ANALYZE", "queries are planned without statistics, so there are none to collect")?,
        "vacuum" => idle(&mut words, "VACUUM", "rows that nobody can see any more are removed as the server runs")?,
        "refresh" => refresh(&mut words)?,
        "unlisten" => {
            name_or_star(&mut words)?;
            Ast::Idle { tag: "UNLISTEN", tables: Vec::new(), notice: None }
        }
        "subscribe" => subscribe(&mut words, Subscriber::Client)?,
        "check" => {
            words.expect("materialized")?;
            words.expect("view")?;
            Ast::Check(words.name()?)
        }
        _ => return Err(text.at(SqlError::unsupported(format!("{} is not supported", first.to_uppercase())), at)),
    };
    words.expect_end()?;
    Ok(ast)
}

fn unknown(first: &str, words: Words) -> Result<Ast> {
    let at = words.location();
    let error = absent::statement(first).unwrap_or_else(|| {
        let shown = words.parser.peek_token_ref().token.to_string();
        let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{shown}\""));
        suggest(error, first, STATEMENTS.iter().copied())
    });
    Err(words.text.at(error, at))
}

pub fn object_kind(words: &mut Words) -> Result<ObjectKind> {
    match relation_kind(words) {
        Some(kind) => Ok(kind),
        None => words.unexpected("SOURCE, TABLE, VIEW, MATERIALIZED VIEW, SINK or JOB"),
    }
}

fn relation_kind(words: &mut Words) -> Option<ObjectKind> {
    if words.eat("source") {
        Some(ObjectKind::Source)
    } else if words.eat("table") {
        Some(ObjectKind::Table)
    } else if words.eat("view") {
        Some(ObjectKind::View)
    } else if words.eat_all(&["materialized", "view"]) {
        Some(ObjectKind::MaterializedView)
    } else if words.eat("sink") || words.eat("job") {
        Some(ObjectKind::Sink)
    } else {
        None
    }
}

fn drop(words: &mut Words) -> Result<Ast> {
    if words.eat("schema") {
        return super::schema::drop(words);
    }
    if let Some(dropped) = absent::drop(words)? {
        return Ok(dropped);
    }
    let temporary = words.eat("temporary") || words.eat("temp");
    let kind = if words.eat("function") {
        ObjectKind::Function
    } else if words.eat("index") {
        words.eat("concurrently");
        ObjectKind::Index
    } else if let Some(kind) = relation_kind(words) {
        kind
    } else {
        return words.unexpected("SOURCE, TABLE, VIEW, MATERIALIZED VIEW, SINK, JOB, INDEX, FUNCTION or SCHEMA");
    };
    let if_exists = words.eat_all(&["if", "exists"]);
    let mut names = Vec::new();
    loop {
        names.push(words.name()?);
        if kind == ObjectKind::Function {
            super::function::skip_arguments(words)?;
        }
        if !words.eat_token(&Token::Comma) {
            break;
        }
    }
    let cascade = words.eat("cascade");
    words.eat("restrict");
    Ok(Ast::Drop { kind, names, if_exists, cascade, temporary })
}

/// `[TABLE] [ONLY] name, ... [{CONTINUE | RESTART} IDENTITY] [CASCADE | RESTRICT]`: there are no keys that refer to others.
fn truncate(words: &mut Words) -> Result<Ast> {
    words.eat("table");
    words.eat("only");
    let mut names = vec![words.name()?];
    while words.eat_token(&Token::Comma) {
        words.eat("only");
        names.push(words.name()?);
    }
    let restart = words.eat_all(&["restart", "identity"]);
    words.eat_all(&["continue", "identity"]);
    let _ = words.eat("cascade") || words.eat("restrict");
    Ok(Ast::Truncate { names, restart })
}

fn alter(words: &mut Words) -> Result<Ast> {
    let at = words.location();
    if words.eat("system") {
        let set = if words.eat("set") { settings::set(words)? } else { words.expect("reset").and_then(|()| settings::reset(words))? };
        return match set {
            Ast::Set { name, value, local: false } => Ok(Ast::AlterSystem { name, value }),
            _ => Err(words.text.at(SqlError::new(SqlState::SYNTAX_ERROR, "ALTER SYSTEM takes SET name = value, or RESET name"), at)),
        };
    }
    absent::check(words, "ALTER")?;
    let kind = object_kind(words)?;
    let may_lack = words.eat_all(&["if", "exists"]);
    let name = words.name()?;
    let alter = altered(words, kind, name.clone(), at)?;
    Ok(if may_lack { Ast::IfThere { kind, name, alter: Box::new(alter) } } else { alter })
}

/// What ALTER says behind the name.
fn altered(words: &mut Words, kind: ObjectKind, name: ObjectName, at: Location) -> Result<Ast> {
    if matches!(kind, ObjectKind::Source | ObjectKind::Table) && words.eat_all(&["advance", "watermark", "to"]) {
        let to = words.run(|p| p.parse_expr())?;
        return Ok(Ast::AdvanceWatermark { name, to });
    }
    if matches!(kind, ObjectKind::Sink | ObjectKind::MaterializedView) {
        for (word, pause) in [("pause", true), ("suspend", true), ("resume", false)] {
            if words.eat(word) {
                return Ok(Ast::PauseJob { kind, name, pause });
            }
        }
    }
    if words.eat_all(&["rename", "to"]) {
        return Ok(Ast::Rename { kind, name, to: words.ident()? });
    }
    if words.eat("set") {
        let changes = Changes { set: words.options()?, reset: Vec::new() };
        return Ok(Ast::AlterOptions { kind, name, changes });
    }
    if words.eat("reset") {
        let changes = Changes { set: BTreeMap::new(), reset: words.option_keys()? };
        return Ok(Ast::AlterOptions { kind, name, changes });
    }
    if kind == ObjectKind::Table && words.is("add") {
        return super::ddl::add_columns(words, name);
    }
    let error = SqlError::unsupported(
        "ALTER is supported for SET and RESET of options, RENAME TO, ADD COLUMN, ADVANCE WATERMARK TO, PAUSE and RESUME only",
    );
    Err(words.text.at(error.with_hint("DROP the object and CREATE it anew."), at))
}

/// What PostgreSQL keeps comments of too.
const WITHOUT_COMMENTS: [&str; 9] = ["index", "function", "schema", "database", "constraint", "type", "extension", "role", "trigger"];

/// `COMMENT ON {kind name | COLUMN name.column} IS {'text' | NULL}`.
fn comment(words: &mut Words) -> Result<Ast> {
    words.expect("on")?;
    if let Some(other) = WITHOUT_COMMENTS.iter().find(|other| words.is(other)) {
        let error = SqlError::unsupported(format!("COMMENT ON {} is not supported", other.to_uppercase()));
        return Err(words.text.at(error.with_hint("Tables, sources, views, sinks and their columns may have comments."), words.location()));
    }
    let of_column = words.eat("column");
    let kind = if of_column { ObjectKind::Table } else { object_kind(words)? };
    let mut name = words.name()?;
    let column = match of_column {
        true if name.0.len() < 2 => return words.unexpected("a column's name behind its relation's"),
        true => name.0.pop().and_then(|part| part.as_ident().cloned()),
        false => None,
    };
    words.expect("is")?;
    // As in PostgreSQL, a comment of no letters is none.
    let text = if words.eat("null") { None } else { Some(words.string()?).filter(|text| !text.is_empty()) };
    Ok(Ast::Comment { kind, name, column, text })
}

fn transaction(first: &str, words: &mut Words) -> Result<Ast> {
    match first {
        "savepoint" => return Ok(Ast::Savepoint(folded(words)?)),
        "release" => {
            words.eat("savepoint");
            return Ok(Ast::ReleaseSavepoint(folded(words)?));
        }
        _ => {}
    }
    let _ = words.eat("transaction") || words.eat("work");
    match first {
        "begin" | "start" => {
            let modes = if words.at_end() { Default::default() } else { settings::transaction_modes(words)? };
            Ok(Ast::Begin(modes))
        }
        "commit" | "end" => Ok(Ast::Commit { chain: chain(words) }),
        _ => {
            if words.eat("to") {
                words.eat("savepoint");
                return Ok(Ast::RollbackToSavepoint(folded(words)?));
            }
            Ok(Ast::Rollback { chain: chain(words) })
        }
    }
}

fn chain(words: &mut Words) -> bool {
    if words.eat_all(&["and", "no", "chain"]) {
        return false;
    }
    words.eat_all(&["and", "chain"])
}

fn folded(words: &mut Words) -> Result<String> {
    Ok(crate::error::fold(&words.ident()?))
}

fn name_or_all(words: &mut Words) -> Result<Option<String>> {
    if words.eat("all") {
        return Ok(None);
    }
    folded(words).map(Some)
}

/// `DECLARE name [NO SCROLL ...] CURSOR [{WITH | WITHOUT} HOLD] FOR query`.
fn declare(tokens: &[TokenWithSpan], text: &SourceText) -> Result<Ast> {
    let mut words = super::words(tokens.to_vec(), text);
    words.expect("declare")?;
    let name = folded(&mut words)?;
    let at = words.location();
    let binary = words.eat("binary");
    if binary {
        return Err(text.at(SqlError::unsupported("binary cursors are not supported"), at));
    }
    while !words.eat("cursor") {
        let skipped = words.eat("insensitive") || words.eat("asensitive") || words.eat_all(&["no", "scroll"]);
        if !skipped {
            if words.is("scroll") {
                return Err(text.at(SqlError::unsupported("scrollable cursors are not supported"), at));
            }
            return words.unexpected("CURSOR");
        }
    }
    let at = words.location();
    let hold = words.eat_all(&["with", "hold"]);
    words.eat_all(&["without", "hold"]);
    words.expect("for")?;
    if words.is("subscribe") && hold {
        return Err(text.at(SqlError::unsupported("a subscription's cursor WITH HOLD is not supported"), at));
    }
    if words.eat("subscribe") {
        return subscribe(&mut words, Subscriber::Cursor(name));
    }
    let (query, _) = ddl::query(&tokens[words.parser.index()..], text)?;
    Ok(Ast::Declare { name, query, hold })
}

/// What follows VACUUM and ANALYZE: options, and tables with columns.
fn idle(words: &mut Words, tag: &'static str, notice: &'static str) -> Result<Ast> {
    if words.eat_token(&Token::LParen) {
        while !words.eat_token(&Token::RParen) {
            if words.at_end() {
                return words.unexpected("a closing parenthesis");
            }
            words.parser.advance_token();
        }
    }
    while ["full", "freeze", "verbose", "analyze"].iter().any(|option| words.eat(option)) {}
    let mut tables = Vec::new();
    while !words.at_end() {
        tables.push(words.name()?);
        if words.parser.peek_token_ref().token == Token::LParen {
            words.ident_list()?;
        }
        if !words.eat_token(&Token::Comma) {
            break;
        }
    }
    Ok(Ast::Idle { tag, tables, notice: Some(SqlError::notice(notice)) })
}

/// `REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH DATA]`.
fn refresh(words: &mut Words) -> Result<Ast> {
    words.expect("materialized")?;
    words.expect("view")?;
    words.eat("concurrently");
    let name = words.name()?;
    let at = words.location();
    if words.eat_all(&["with", "no", "data"]) {
        return Err(words.text.at(SqlError::unsupported("a materialized view always has its data"), at));
    }
    words.eat_all(&["with", "data"]);
    Ok(Ast::Refresh(name))
}

fn name_or_star(words: &mut Words) -> Result<()> {
    if words.eat_token(&Token::Mul) { Ok(()) } else { folded(words).map(|_| ()) }
}

fn fetch(words: &mut Words, move_only: bool) -> Result<Ast> {
    let at = words.location();
    for backward in ["prior", "backward", "last", "absolute", "relative"] {
        if words.is(backward) {
            let error = SqlError::new(SqlState::OBJECT_NOT_READY, "cursor can only scan forward");
            return Err(words.text.at(error.with_hint("Use FETCH n or FETCH ALL."), at));
        }
    }
    let forward = words.eat("forward");
    let count = if words.eat("all") {
        FetchCount::All
    } else if matches!(words.parser.peek_token_ref().token, Token::Number(..)) {
        FetchCount::Rows(words.run(|p| p.parse_literal_uint())?)
    } else {
        if !forward {
            let _ = words.eat("next") || words.eat("first");
        }
        FetchCount::Rows(1)
    };
    let _ = words.eat("from") || words.eat("in");
    Ok(Ast::Fetch { name: folded(words)?, count, move_only })
}

/// `PREPARE name [(types)] AS statement`; the statement is kept as text and parsed when it runs.
fn prepare(tokens: &[TokenWithSpan], text: &SourceText) -> Result<Ast> {
    let mut words = super::words(tokens.to_vec(), text);
    words.expect("prepare")?;
    let at = words.location();
    if words.is("transaction") && matches!(words.parser.peek_nth_token_ref(1).token, Token::SingleQuotedString(_)) {
        let error = SqlError::unsupported("PREPARE TRANSACTION is not supported");
        return Err(text.at(error.with_hint("A transaction ends in the session that it began in."), at));
    }
    let name = folded(&mut words)?;
    let mut types = Vec::new();
    if words.eat_token(&Token::LParen) {
        loop {
            types.push(words.data_type()?);
            if !words.eat_token(&Token::Comma) {
                break;
            }
        }
        words.expect_token(&Token::RParen)?;
    }
    words.expect("as")?;
    let rest = &tokens[words.parser.index()..];
    let (Some(first), Some(last)) = (rest.first(), rest.last()) else { return words.unexpected("a statement") };
    super::statement(rest.to_vec(), text)?;
    Ok(Ast::Prepare { name, types, statement: text.slice(first.span.start, last.span.end).to_string() })
}

fn execute(words: &mut Words) -> Result<Ast> {
    let name = folded(words)?;
    let mut arguments: Vec<Expr> = Vec::new();
    if words.eat_token(&Token::LParen) && !words.eat_token(&Token::RParen) {
        loop {
            arguments.push(words.run(|p| p.parse_expr())?);
            if !words.eat_token(&Token::Comma) {
                break;
            }
        }
        words.expect_token(&Token::RParen)?;
    }
    Ok(Ast::Execute { name, arguments })
}
