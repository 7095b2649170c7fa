//! The grammar of CREATE in both accents. It decides nothing about types, names or options beyond their
//! spelling; `create` does.

use super::ast::{
    Ast, ColumnAst, ColumnValue, CommentAst, CreateRelation, CreateSink, CreateView, FormatAst, IncludeAst, PrimaryKeyAst, SinkFrom,
    WatermarkAst,
};
use super::tokens::{find_top_level, is_word};
use super::words::Words;
use crate::error::{SourceText, fold};
use crate::plan::Emit;
use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectName, Query};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use eddyline_common::{Result, SqlError, SqlState, options};
use std::collections::BTreeMap;

pub fn create(tokens: Vec<TokenWithSpan>, text: &SourceText) -> Result<Ast> {
    let mut words = super::words(tokens.clone(), text);
    words.expect("create")?;
    let replace_at = words.location();
    let replace = words.eat_all(&["or", "replace"]);
    let temporary = words.eat("temporary") || words.eat("temp");
    if replace && !["view", "materialized", "function"].iter().any(|what| words.is(what)) {
        let error = SqlError::unsupported("CREATE OR REPLACE is supported for views, materialized views and functions only");
        return Err(text.at(error.with_hint("DROP the object first."), replace_at));
    }
    if temporary && !words.is("table") && !words.is("view") {
        let error = SqlError::unsupported("only tables and views can be temporary");
        return Err(text.at(error.with_hint("Leave out TEMPORARY, and drop it in the end."), words.location()));
    }
    if words.eat("source") {
        return relation(words, true, false);
    }
    if words.eat("table") {
        return match super::table_as::place(&tokens) {
            Some(at) => super::table_as::create(&tokens, at, temporary, text),
            None => relation(words, false, temporary),
        };
    }
    if words.eat("view") {
        return view(words, &tokens, text, false, replace, temporary);
    }
    if words.eat_all(&["materialized", "view"]) {
        return view(words, &tokens, text, true, replace, false);
    }
    if words.eat("function") {
        return super::function::create(words, &tokens, replace);
    }
    if words.eat("sink") {
        return sink(words, &tokens, text);
    }
    if words.is("index") || words.is("unique") {
        return super::index::create(words);
    }
    if words.eat("schema") {
        return super::schema::create(words);
    }
    let at = words.location();
    let what = words.ident()?.value.to_uppercase();
    let error = SqlError::unsupported(format!("CREATE {what} is not supported"));
    let others = "What can be created: SOURCE, TABLE, VIEW, MATERIALIZED VIEW, INDEX, SINK, FUNCTION.";
    Err(text.at(error.with_hint(super::absent::in_place_of(&what).unwrap_or(others)), at))
}

/// `[IF NOT EXISTS] name`.
pub fn relation_name(words: &mut Words, source: bool, temporary: bool) -> Result<CreateRelation> {
    let if_not_exists = words.eat_all(&["if", "not", "exists"]);
    Ok(CreateRelation { if_not_exists, source, temporary, ..nothing_of(words.name()?) })
}

/// The definition of a relation of which nothing is said.
fn nothing_of(name: ObjectName) -> CreateRelation {
    CreateRelation {
        name,
        if_not_exists: false,
        source: false,
        columns: Vec::new(),
        primary_key: None,
        watermark: None,
        include: Vec::new(),
        options: Default::default(),
        format: None,
        append_only: false,
        temporary: false,
        comments: Vec::new(),
        like: None,
    }
}

/// `ADD [COLUMN] [IF NOT EXISTS] column, ...` of ALTER TABLE.
pub fn add_columns(words: &mut Words, table: ObjectName) -> Result<Ast> {
    let mut added = nothing_of(table);
    let mut if_not_exists = Vec::new();
    loop {
        let at = words.location();
        let adds = words.eat("add");
        let of_column = words.eat("column");
        let constrains = ["constraint", "primary", "unique", "foreign", "check", "exclude"].iter().any(|word| words.is(word));
        if !adds || !of_column && constrains {
            let error = SqlError::unsupported("ALTER TABLE adds columns, and nothing else beside them");
            return Err(words.text.at(error.with_hint("Keys are said in CREATE TABLE."), at));
        }
        if_not_exists.push(words.eat_all(&["if", "not", "exists"]));
        column(words, &mut added)?;
        if !words.eat_token(&Token::Comma) {
            break;
        }
    }
    if let Some(key) = &added.primary_key {
        let error = SqlError::unsupported("a primary key is not added to a table").with_hint("Keys are said in CREATE TABLE.");
        return Err(words.text.at(error, key.location));
    }
    Ok(Ast::AddColumns { added: Box::new(added), if_not_exists })
}

fn relation(mut words: Words, source: bool, temporary: bool) -> Result<Ast> {
    let mut create = relation_name(&mut words, source, temporary)?;
    if words.eat_token(&Token::LParen) && !words.eat_token(&Token::RParen) {
        loop {
            element(&mut words, &mut create)?;
            if !words.eat_token(&Token::Comma) {
                break;
            }
        }
        words.expect_token(&Token::RParen)?;
    }
    clauses(&mut words, &mut create)?;
    Ok(Ast::CreateRelation(Box::new(create)))
}

/// What follows the list of columns, up to the end.
pub fn clauses(words: &mut Words, create: &mut CreateRelation) -> Result<()> {
    while !words.at_end() {
        clause(words, create)?;
    }
    Ok(())
}

/// What may follow the list of columns, in any order.
fn clause(words: &mut Words, create: &mut CreateRelation) -> Result<()> {
    let at = words.location();
    if words.eat("include") {
        let what = words.ident()?;
        let alias = if words.eat("as") { Some(words.ident()?) } else { None };
        create.include.push(IncludeAst { what, alias });
    } else if words.eat("with") {
        for (key, value) in words.options()? {
            if create.options.insert(key.clone(), value).is_some() {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("option \"{key}\" is given twice"));
                return Err(words.text.at(error, at));
            }
        }
    } else if words.is("format") {
        create.format = Some(format(words, &mut create.options)?);
    } else if words.eat_all(&["append", "only"]) {
        create.append_only = true;
    } else if words.is("comment") {
        create.comments.extend(comment(words, None)?);
    } else if words.eat_all(&["partitioned", "by"]) {
        let names: Vec<String> = words.ident_list()?.into_iter().map(|i| i.value).collect();
        create.options.insert(options::PARTITION_BY.to_string(), names.join(";"));
    } else if create.like.is_none() && words.eat("like") {
        create.like = Some(super::like::like(words)?);
    } else if create.temporary && words.eat_all(&["on", "commit"]) {
        if !words.eat_all(&["preserve", "rows"]) {
            let error = SqlError::unsupported("ON COMMIT DROP and ON COMMIT DELETE ROWS are not supported");
            return Err(words.text.at(error.with_hint("A temporary table keeps its rows until it is dropped, or its session ends."), at));
        }
    } else if words.is("like") || words.is("on") {
        let what = words.ident()?.value.to_uppercase();
        return Err(words.text.at(SqlError::unsupported(format!("{what} is not supported in CREATE")), at));
    } else {
        return words.unexpected("WITH, INCLUDE, FORMAT, APPEND ONLY or the end of the statement");
    }
    Ok(())
}

/// `FORMAT format ENCODE encode [(option = value, ...)]`.
fn format(words: &mut Words, options: &mut BTreeMap<String, String>) -> Result<FormatAst> {
    words.expect("format")?;
    let format = words.ident()?.value;
    words.expect("encode")?;
    let encode = words.ident()?.value;
    if words.parser.peek_token_ref().token == Token::LParen {
        options.extend(words.options()?);
    }
    Ok(FormatAst { format, encode })
}

/// One element of the parenthesised list: a column or a table constraint.
fn element(words: &mut Words, create: &mut CreateRelation) -> Result<()> {
    let at = words.location();
    if words.is("watermark") && words.is_at(1, "for") {
        words.eat_all(&["watermark", "for"]);
        let column = words.ident()?;
        words.expect("as")?;
        let expr = words.run(|p| p.parse_expr())?;
        if create.watermark.replace(WatermarkAst { column, expr }).is_some() {
            let error = SqlError::new(SqlState::INVALID_TABLE_DEFINITION, "multiple watermarks are not allowed");
            return Err(words.text.at(error, at));
        }
        return Ok(());
    }
    if words.is("constraint") && !matches!(words.parser.peek_nth_token_ref(2).token, Token::Comma | Token::RParen) {
        words.eat("constraint");
        words.ident()?;
    }
    if words.eat_all(&["primary", "key"]) {
        let columns = words.ident_list()?;
        let enforced = enforced(words);
        return primary_key(words, create, PrimaryKeyAst { columns, enforced, location: at });
    }
    if words.is("like") && matches!(words.parser.peek_nth_token_ref(1).token, Token::Word(_)) {
        if create.like.is_some() || !create.columns.is_empty() {
            let error = SqlError::unsupported("LIKE among the columns is supported once, before all of them");
            return Err(words.text.at(error.with_hint("Write out the other table's columns."), at));
        }
        words.eat("like");
        create.like = Some(super::like::columns(words)?);
        return Ok(());
    }
    for (first, second) in [("unique", None), ("foreign", Some("key")), ("check", None), ("exclude", None), ("like", None)] {
        let opens = matches!(words.parser.peek_nth_token_ref(1).token, Token::LParen);
        if words.is(first) && second.map_or(opens, |second| words.is_at(1, second)) {
            let error = SqlError::unsupported(format!("{} constraints are not supported", first.to_uppercase()));
            return Err(words.text.at(error.with_hint("PRIMARY KEY and NOT NULL are."), at));
        }
    }
    column(words, create)
}

/// `NOT ENFORCED` behind a key; ours are enforced unless it says so.
fn enforced(words: &mut Words) -> bool {
    if words.eat_all(&["not", "enforced"]) {
        return false;
    }
    words.eat("enforced");
    true
}

fn primary_key(words: &Words, create: &mut CreateRelation, key: PrimaryKeyAst) -> Result<()> {
    if create.primary_key.is_some() {
        let error = SqlError::new(SqlState::INVALID_TABLE_DEFINITION, "multiple primary keys are not allowed");
        return Err(words.text.at(error, key.location));
    }
    create.primary_key = Some(key);
    Ok(())
}

fn column(words: &mut Words, create: &mut CreateRelation) -> Result<()> {
    let at = words.location();
    let name = words.ident()?;
    check_column_name(words, &name, at)?;
    let mut column = ColumnAst { name, ty: None, precision: None, nullable: true, value: ColumnValue::Plain { default: None } };
    if words.eat("as") {
        column.value = ColumnValue::Computed(words.run(|p| p.parse_expr())?);
    } else if let Some(ty) = super::numbered::serial(words) {
        (column.ty, column.nullable) = (Some(ty), false);
        column.value = ColumnValue::Numbered { always: false, start: 1 };
    } else {
        let (ty, precision) = words.column_type()?;
        (column.ty, column.precision) = (Some(ty), precision);
    }
    while !matches!(words.parser.peek_token_ref().token, Token::Comma | Token::RParen | Token::EOF) {
        let at = words.location();
        let before = std::mem::replace(&mut column.value, ColumnValue::Plain { default: None });
        column_option(words, create, &mut column)?;
        if is_said(&before) && is_said(&column.value) {
            let message = format!("column \"{}\" is given its values twice", fold(&column.name));
            return Err(words.text.at(SqlError::new(SqlState::SYNTAX_ERROR, message), at));
        }
        if is_said(&before) {
            column.value = before;
        }
    }
    create.columns.push(column);
    Ok(())
}

fn is_said(value: &ColumnValue) -> bool {
    !matches!(value, ColumnValue::Plain { default: None })
}

/// Functions that are called without parentheses: a column of that name would never be meant by it.
const CALLED_BARE: [&str; 11] = [
    "user",
    "current_user",
    "session_user",
    "current_role",
    "current_catalog",
    "current_schema",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
];

fn check_column_name(words: &Words, name: &Ident, at: Location) -> Result<()> {
    if name.quote_style.is_some() || !CALLED_BARE.iter().any(|bare| name.value.eq_ignore_ascii_case(bare)) {
        return Ok(());
    }
    let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("\"{}\" is a function, and cannot name a column as it is", name.value));
    Err(words
        .text
        .at(error.with_hint(format!("Write it in double quotes, here and where it is read: \"{}\".", name.value.to_lowercase())), at))
}

fn column_option(words: &mut Words, create: &mut CreateRelation, column: &mut ColumnAst) -> Result<()> {
    let at = words.location();
    if words.eat_all(&["not", "null"]) {
        column.nullable = false;
    } else if words.eat("null") {
        column.nullable = true;
    } else if words.eat_all(&["primary", "key"]) {
        let enforced = enforced(words);
        primary_key(words, create, PrimaryKeyAst { columns: vec![column.name.clone()], enforced, location: at })?;
    } else if words.eat("default") {
        column.value = ColumnValue::Plain { default: Some(default_expr(words)?) };
    } else if words.eat("metadata") {
        let key = if words.eat("from") { Some(words.string()?) } else { None };
        words.eat("virtual");
        column.value = ColumnValue::Metadata { key };
    } else if words.eat("as") {
        column.value = ColumnValue::Computed(words.run(|p| p.parse_expr())?);
    } else if let Some(value) = super::numbered::identity(words)? {
        column.nullable = false;
        column.value = value;
    } else if words.eat_all(&["generated", "always", "as"]) {
        words.expect_token(&Token::LParen)?;
        column.value = ColumnValue::Computed(words.run(|p| p.parse_expr())?);
        words.expect_token(&Token::RParen)?;
        let _ = words.eat("stored") || words.eat("virtual");
    } else if words.is("comment") {
        create.comments.extend(comment(words, Some(&column.name))?);
    } else if words.eat("collate") {
        collation(words)?;
    } else if words.eat("constraint") {
        words.ident()?;
    } else if ["unique", "references", "check", "generated"].iter().any(|w| words.is(w)) {
        let what = words.ident()?.value.to_uppercase();
        let error = SqlError::unsupported(format!("{what} is not supported on a column"));
        return Err(words.text.at(error.with_hint("PRIMARY KEY, NOT NULL and DEFAULT are."), at));
    } else {
        return words.unexpected("a column option, a comma or a closing parenthesis");
    }
    Ok(())
}

/// `COMMENT 'text'`, if it is there.
fn comment(words: &mut Words, column: Option<&Ident>) -> Result<Option<CommentAst>> {
    if !words.eat("comment") {
        return Ok(None);
    }
    Ok(Some(CommentAst { column: column.cloned(), text: words.string()? }))
}

/// Collations by which texts are ordered as they are here: by their bytes.
const COLLATIONS: [&str; 6] = ["c", "posix", "default", "c.utf-8", "c.utf8", "ucs_basic"];

fn collation(words: &mut Words) -> Result<()> {
    let at = words.location();
    let name = words.name()?;
    let last = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase());
    if last.is_some_and(|name| COLLATIONS.contains(&name.as_str())) {
        return Ok(());
    }
    let error = SqlError::unsupported(format!("collation {name} is not supported"));
    Err(words.text.at(error.with_hint("Texts are ordered by their bytes, as by \"C\"; leave COLLATE out."), at))
}

/// An expression that stops before `NOT NULL`.
fn default_expr(words: &mut Words) -> Result<Expr> {
    let precedence = super::DIALECT.prec_value(Precedence::Eq);
    words.run(|p| p.parse_subexpr(precedence))
}

/// `(name [COMMENT 'text'], ...)` of a view, if it is there.
fn view_columns(words: &mut Words, comments: &mut Vec<CommentAst>) -> Result<Vec<Ident>> {
    let mut columns = Vec::new();
    if words.eat_token(&Token::LParen) {
        loop {
            let at = words.location();
            let column = words.ident()?;
            check_column_name(words, &column, at)?;
            comments.extend(comment(words, Some(&column))?);
            columns.push(column);
            if !words.eat_token(&Token::Comma) {
                break;
            }
        }
        words.expect_token(&Token::RParen)?;
    }
    Ok(columns)
}

fn view(mut words: Words, tokens: &[TokenWithSpan], text: &SourceText, materialized: bool, replace: bool, temporary: bool) -> Result<Ast> {
    let if_not_exists = words.eat_all(&["if", "not", "exists"]);
    let name = words.name()?;
    let mut comments = Vec::new();
    let columns = view_columns(&mut words, &mut comments)?;
    comments.extend(comment(&mut words, None)?);
    let mut options = if words.eat("with") { words.options()? } else { Default::default() };
    words.expect("as")?;
    let start = words.parser.index();
    let end = query_end(tokens, start);
    let (query, query_text) = query(&tokens[start..end], text)?;
    let mut rest = super::words(tokens[end..].to_vec(), text);
    let emit = emit(&mut rest)?;
    let at = rest.location();
    if rest.eat_all(&["with", "no", "data"]) {
        return Err(text.at(SqlError::unsupported("WITH NO DATA is not supported").with_hint("A view fills in the background."), at));
    }
    rest.eat_all(&["with", "data"]);
    if rest.eat("with") {
        options.extend(rest.options()?);
    }
    rest.expect_end()?;
    if !materialized && (emit.is_some() || !options.is_empty()) {
        let error = SqlError::new(SqlState::SYNTAX_ERROR, "EMIT and WITH belong to materialized views");
        return Err(text.at(error.with_hint("Write CREATE MATERIALIZED VIEW."), at));
    }
    let create = CreateView { name, if_not_exists, replace, materialized, temporary, columns, comments, query, query_text, emit, options };
    Ok(Ast::CreateView(Box::new(create)))
}

/// `EMIT ON WINDOW CLOSE`, `EMIT CHANGES`, or nothing.
fn emit(words: &mut Words) -> Result<Option<Emit>> {
    if !words.eat("emit") {
        return Ok(None);
    }
    if words.eat_all(&["on", "window", "close"]) {
        Ok(Some(Emit::OnClose))
    } else if words.eat("changes") {
        Ok(Some(Emit::Changes))
    } else {
        words.unexpected("ON WINDOW CLOSE or CHANGES")
    }
}

/// `[IF NOT EXISTS] name [INTO table] {FROM relation | AS query [EMIT ...]} [WITH (...)] [FORMAT ... ENCODE ...]`
fn sink(mut words: Words, tokens: &[TokenWithSpan], text: &SourceText) -> Result<Ast> {
    let if_not_exists = words.eat_all(&["if", "not", "exists"]);
    let name = words.name()?;
    let into = if words.eat("into") { Some(words.name()?) } else { None };
    let (from, mut rest) = if words.eat("from") {
        (SinkFrom::Relation(words.name()?), words)
    } else {
        if !words.eat("as") {
            return words.unexpected("FROM or AS");
        }
        let start = words.parser.index();
        let end = query_end(tokens, start);
        let (query, _) = query(&tokens[start..end], text)?;
        (SinkFrom::Query(query), super::words(tokens[end..].to_vec(), text))
    };
    let emit = emit(&mut rest)?;
    let mut options = if rest.eat("with") { rest.options()? } else { Default::default() };
    let format = if rest.is("format") { Some(format(&mut rest, &mut options)?) } else { None };
    rest.expect_end()?;
    Ok(Ast::CreateSink(Box::new(CreateSink { name, if_not_exists, into, from, emit, options, format })))
}

/// The tokens of an INSERT without its EMIT clause, and the clause.
pub fn without_emit(mut tokens: Vec<TokenWithSpan>, text: &SourceText) -> Result<(Vec<TokenWithSpan>, Option<Emit>)> {
    let end = query_end(&tokens, 1);
    let is_emit = tokens.get(end).is_some_and(|t| is_word(&t.token, "emit"));
    if !is_emit {
        return Ok((tokens, None));
    }
    let mut rest = super::words(tokens.split_off(end), text);
    let emit = emit(&mut rest)?;
    rest.expect_end()?;
    Ok((tokens, emit))
}

/// Where the query of a CREATE VIEW or CREATE TABLE AS ends: before `EMIT ON|CHANGES` or a closing `WITH (`, which the query's
/// own grammar would take for an alias and a table hint.
pub fn query_end(tokens: &[TokenWithSpan], start: usize) -> usize {
    let word = |i: usize, w: &str| tokens.get(i).is_some_and(|t| is_word(&t.token, w));
    find_top_level(tokens, start, |i| {
        let emit = word(i, "emit") && ((word(i + 1, "on") && word(i + 2, "window")) || word(i + 1, "changes"));
        let options =
            word(i, "with") && (tokens.get(i + 1).is_some_and(|t| t.token == Token::LParen) || word(i + 1, "no") || word(i + 1, "data"));
        i > start && (emit || options)
    })
    .unwrap_or(tokens.len())
}

/// A query on its own, with its text.
pub fn query(tokens: &[TokenWithSpan], text: &SourceText) -> Result<(Box<Query>, String)> {
    let mut words = super::words(tokens.to_vec(), text);
    let query = words.run(|p| p.parse_query())?;
    words.expect_end()?;
    let query_text = match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => text.slice(first.span.start, last.span.end).to_string(),
        _ => String::new(),
    };
    Ok((query, query_text))
}
