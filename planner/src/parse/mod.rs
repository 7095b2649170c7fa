//! SQL text to statements. A text is tokenised once, its nesting bounded, and cut at semicolons; each
//! statement is then parsed on its own, with positions that count from the start of the whole text.

mod absent;
mod asof;
pub mod ast;
mod brackets;
pub(crate) mod cast;
mod copy;
mod copy_format;
mod ddl;
mod escapes;
mod function;
pub mod hints;
mod index;
mod json;
mod like;
mod long_values;
pub mod match_recognize;
pub(crate) mod nesting;
mod numbered;
mod partition;
mod schema;
mod secrets;
mod session;
mod set;
mod settings;
mod signs;
pub mod spellings;
mod subscribe;
mod table_as;
mod tokens;
mod words;

use crate::dialect::EddylineDialect;
use crate::error::{END_OF_INPUT, SourceText, from_parser, too_deep};
use crate::lower::TtlHint;
use ast::{Ast, InsertClauses};
use datafusion::sql::sqlparser::ast::{
    Ident, Insert, ObjectName, Query, SelectItem, SetExpr, Spanned, Statement, TableAlias, TableFactor, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use eddyline_common::{Result, SqlError, SqlState};
use hints::OptionsHint;
pub(crate) use long_values::LongValues;
pub use secrets::{hide_secrets, without_secrets};
pub use set::SetPiece;
use std::sync::Arc;
pub(crate) use tokens::{continues_query, is_word};
use words::Words;

static DIALECT: EddylineDialect = EddylineDialect;

/// How deep sqlparser itself may recurse. The bound on tokens is the tighter one in practice.
const PARSER_DEPTH: usize = 400;

/// Stack that parsing and planning may use. Both recurse over trees whose depth `tokens` bounds.
const STACK_BYTES: usize = 32 << 20;

/// One statement.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Its own text, without the semicolon.
    pub sql: String,
    pub ast: Ast,
    /// The text it came in, for positions.
    pub text: SourceText,
    /// What its hints say of the state of its inputs.
    pub ttl_hints: Vec<TtlHint>,
    /// What its hints say of the sources that it reads.
    pub option_hints: Vec<OptionsHint>,
    /// Rows of its VALUES that are not in `ast`.
    pub(crate) long_values: Option<Arc<LongValues>>,
}

impl Parsed {
    fn without_hints(sql: String, ast: Ast, text: SourceText) -> Parsed {
        Parsed { sql, ast, text, ttl_hints: vec![], option_hints: vec![], long_values: None }
    }

    /// The statement with all its rows in `ast`, which takes kilobytes for each value: an error if it is too long for that.
    pub(crate) fn whole(&self, long: &LongValues) -> Result<Parsed> {
        let statement = parse_text(&self.text, false)?.into_iter().nth(long.statement);
        statement.ok_or_else(|| SqlError::internal("a statement is not in its text"))
    }
}

/// Runs `work` on a stack that is large enough for every tree that passes the nesting bound.
pub(crate) fn with_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_BYTES / 2, STACK_BYTES, work)
}

/// Parses a text of any number of statements. An empty text gives one empty statement.
pub fn parse(sql: &str) -> Result<Vec<Parsed>> {
    parse_text(&SourceText::new(sql), true)
}

/// `apart`: long lists of values do not become trees.
fn parse_text(text: &SourceText, apart: bool) -> Result<Vec<Parsed>> {
    with_stack(|| {
        let (tokens, mut hints) = tokenize(text.as_str(), text)?;
        tokens::check_depth(&tokens, text)?;
        let mut statements = Vec::new();
        let mut parts = parts(tokens).into_iter();
        while let Some(part) = parts.next() {
            match set::begin(&part) {
                Some(first) => statements.push(set::statement_set(part, first, &mut parts, text)?),
                None => {
                    let number = apart.then_some(statements.len());
                    statements.push(parse_statement(part, text, &mut hints, number)?);
                }
            }
        }
        if let Some(hint) = hints.first() {
            return Err(hint.misplaced(text));
        }
        if statements.is_empty() {
            statements.push(Parsed::without_hints(String::new(), Ast::Empty, text.clone()));
        }
        Ok(statements)
    })
}

/// The tokens between semicolons, without parts that have none. They may be megabytes, and are not copied.
fn parts(mut tokens: Vec<TokenWithSpan>) -> Vec<Vec<TokenWithSpan>> {
    let mut parts = Vec::new();
    while let Some(end) = tokens.iter().rposition(|t| t.token == Token::SemiColon) {
        parts.push(tokens.split_off(end + 1));
        tokens.pop();
    }
    parts.push(tokens);
    parts.retain(|part| !part.is_empty());
    parts.reverse();
    parts
}

/// Parses a text that is one query: a stored view's.
pub fn parse_query(sql: &str) -> Result<Box<Query>> {
    match parse(sql)?.pop() {
        Some(Parsed { ast: Ast::Query(query), .. }) => Ok(query),
        _ => Err(SqlError::internal(format!("not a query: {sql}"))),
    }
}

fn tokenize(sql: &str, text: &SourceText) -> Result<(Vec<TokenWithSpan>, Vec<hints::Hint>)> {
    if let Some(at) = brackets::too_many_at(sql) {
        return Err(too_deep().with_position(sql[..at].chars().count() + 1));
    }
    let mut tokens = Tokenizer::new(&DIALECT, sql).tokenize_with_location().map_err(|e| {
        let message = crate::error::lower_first(&e.message);
        let nul = escapes::nul_at(e.location, text);
        nul.unwrap_or_else(|| text.at(SqlError::new(SqlState::SYNTAX_ERROR, message), e.location))
    })?;
    tokens::check_names(&tokens, text)?;
    let hints = hints::read(&tokens, text)?;
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
    signs::rewrite(&mut tokens);
    tokens::rewrite(&mut tokens);
    spellings::rewrite(&mut tokens);
    nesting::rewrite(&mut tokens);
    asof::rewrite(&mut tokens);
    json::rewrite(&mut tokens);
    match_recognize::rewrite(&mut tokens, text)?;
    Ok((tokens, hints))
}

/// `number`: of the statement in its text, if its long lists are to stay apart.
fn parse_statement(
    mut tokens: Vec<TokenWithSpan>,
    text: &SourceText,
    hints: &mut Vec<hints::Hint>,
    number: Option<usize>,
) -> Result<Parsed> {
    let (first, last) = (tokens[0].span.start, tokens[tokens.len() - 1].span.end);
    let sql = text.slice(first, last).to_string();
    let long_values = number.and_then(|number| LongValues::take(&mut tokens, number, text)).map(Arc::new);
    tokens::check_length(&tokens, text).map_err(|too_long| long_values::stray(&tokens, text).unwrap_or(too_long))?;
    let ast = statement(tokens, text).map_err(|error| if error.message == END_OF_INPUT { text.at(error, last) } else { error })?;
    let hints = hints::between(hints, first, last)?;
    Ok(Parsed { sql, ast, text: text.clone(), ttl_hints: hints.ttl, option_hints: hints.options, long_values })
}

pub(crate) fn words<'a>(tokens: Vec<TokenWithSpan>, text: &'a SourceText) -> Words<'a> {
    let parser = Parser::new(&DIALECT).with_recursion_limit(PARSER_DEPTH).with_tokens_with_locations(tokens);
    Words::new(parser, text)
}

/// Sends a statement to its grammar by its first words.
fn statement(tokens: Vec<TokenWithSpan>, text: &SourceText) -> Result<Ast> {
    let first = match &tokens[0].token {
        Token::Word(w) if w.quote_style.is_none() => w.value.to_lowercase(),
        Token::LParen => "(".to_string(),
        _ => String::new(),
    };
    match first.as_str() {
        "create" => ddl::create(tokens, text),
        "explain" => explain(tokens, text),
        "(" | "select" | "with" | "values" | "table" => standard(tokens, text),
        "insert" => {
            let (tokens, emit) = ddl::without_emit(tokens, text)?;
            let (tokens, overriding) = numbered::without_overriding(tokens, text)?;
            let (tokens, partition) = partition::without_partition(tokens, text)?;
            match standard(tokens, text)? {
                Ast::Insert(mut insert, _) => {
                    insert.partitioned = partition;
                    Ok(Ast::Insert(insert, InsertClauses { emit, overriding }))
                }
                other => Ok(other),
            }
        }
        "update" | "delete" => standard(tokens, text),
        // Flink's older spelling.
        "execute" if is_at(&tokens, 1, "insert") && is_at(&tokens, 2, "into") => statement(tokens[1..].to_vec(), text),
        _ => session::statement(&first, tokens, text),
    }
}

fn is_at(tokens: &[TokenWithSpan], at: usize, word: &str) -> bool {
    tokens.get(at).is_some_and(|token| is_word(&token.token, word))
}

/// Queries and table writes, in sqlparser's own grammar.
fn standard(tokens: Vec<TokenWithSpan>, text: &SourceText) -> Result<Ast> {
    let mut words = words(tokens, text);
    let statement = words.run(|p| p.parse_statement())?;
    words.expect_end()?;
    match statement {
        Statement::Query(query) => query_or_write(query, text),
        Statement::Insert(insert) => plain_insert(insert, text),
        Statement::Update(update) => Ok(Ast::Update(Box::new(update))),
        Statement::Delete(delete) => Ok(Ast::Delete(Box::new(delete))),
        other => Err(from_parser(ParserError::ParserError(format!("statement \"{other}\" is not supported")), text)),
    }
}

/// What PostgreSQL's SELECT may do beside reading, and does not do here.
fn check_reads(query: &Query, text: &SourceText) -> Result<()> {
    if let SetExpr::Select(select) = query.body.as_ref()
        && let Some(into) = &select.into
    {
        let error =
            SqlError::unsupported("SELECT INTO is not supported").with_hint("Create the table, then INSERT INTO it with the query.");
        return Err(text.at(error, into.name.span().start));
    }
    let mut ctes = query.with.iter().flat_map(|with| &with.cte_tables);
    let write = |body: &SetExpr| matches!(body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_));
    if let Some(cte) = ctes.find(|cte| write(cte.query.body.as_ref())) {
        let error = SqlError::unsupported("INSERT, UPDATE and DELETE in a WITH clause are not supported");
        return Err(
            text.at(error.with_hint("Make it a statement of its own, in one transaction with the query."), cte.alias.name.span.start)
        );
    }
    Ok(())
}

/// A query, or the INSERT that a WITH stands before: its own query has the WITH then.
fn query_or_write(mut query: Box<Query>, text: &SourceText) -> Result<Ast> {
    check_reads(&query, text)?;
    if !matches!(query.body.as_ref(), SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_)) {
        return Ok(Ast::Query(query));
    }
    let Some(with) = query.with.take() else { return Err(SqlError::unsupported("a write in parentheses is not supported")) };
    let body = *query.body;
    let SetExpr::Insert(Statement::Insert(mut insert)) = body else {
        let error = SqlError::unsupported("WITH in front of UPDATE or DELETE is not supported");
        return Err(text.at(error.with_hint("Write the query as a subquery in FROM, USING or WHERE."), with.with_token.0.span.start));
    };
    match &mut insert.source {
        Some(source) if source.with.is_none() => source.with = Some(with),
        Some(source) => {
            let mut inner = parse_query("SELECT 1")?;
            inner.with = Some(with);
            std::mem::swap(source, &mut inner);
            *source.body = SetExpr::Query(inner);
        }
        None => {}
    }
    plain_insert(insert, text)
}

/// An INSERT that adds rows and does nothing else; the planner would take any other for one.
fn plain_insert(insert: Insert, text: &SourceText) -> Result<Ast> {
    let refused = if insert.overwrite {
        SqlError::unsupported("INSERT OVERWRITE is not supported").with_hint(
            "Write DELETE FROM the table before INSERT INTO it, or keep the rows in a view and use CREATE OR REPLACE MATERIALIZED VIEW.",
        )
    } else if insert.or.is_some() || insert.ignore || insert.replace_into {
        SqlError::unsupported("INSERT OR ... is not supported").with_hint("Write INSERT INTO ... ON CONFLICT.")
    } else {
        return Ok(Ast::Insert(Box::new(insert), InsertClauses::default()));
    };
    Err(text.at(refused, insert.insert_token.0.span.start))
}

/// `EXPLAIN [ANALYZE] [VERBOSE] [(option [value], ...)] statement`.
fn explain(tokens: Vec<TokenWithSpan>, text: &SourceText) -> Result<Ast> {
    let mut words = words(tokens, text);
    words.expect("explain")?;
    let (mut analyze, mut streaming, mut json) = (false, false, false);
    if words.parser.peek_token_ref().token == Token::LParen && !words.is_at(1, "select") && !words.is_at(1, "with") {
        words.parser.advance_token();
        loop {
            let option = words.ident()?;
            let at = option.span.start;
            let value = match &words.parser.peek_token_ref().token {
                Token::Comma | Token::RParen => "on".to_string(),
                _ => words.option_value()?.to_lowercase(),
            };
            let on = !matches!(value.as_str(), "off" | "false" | "0");
            match option.value.to_lowercase().as_str() {
                "analyze" => analyze = on,
                "streaming" => streaming = on,
                "verbose" | "costs" | "buffers" | "timing" | "summary" | "settings" | "wal" => {}
                "format" if matches!(value.as_str(), "text" | "json") => json = value == "json",
                "format" => {
                    let error = SqlError::unsupported(format!("EXPLAIN in the format {value} is not supported"));
                    return Err(text.at(error.with_hint("Plans are shown as TEXT and as JSON."), at));
                }
                other => {
                    let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("unrecognized EXPLAIN option \"{other}\""));
                    return Err(text.at(error.with_hint("The options are ANALYZE, STREAMING, VERBOSE and FORMAT."), at));
                }
            }
            if !words.eat_token(&Token::Comma) {
                break;
            }
        }
        words.expect_token(&Token::RParen)?;
    }
    analyze |= words.eat("analyze");
    words.eat("verbose");
    if !words.eat_all(&["plan", "for"]) {
        explain_details(&mut words);
    }
    if words.eat_all(&["materialized", "view"]) || words.eat("sink") || words.eat("job") {
        let name = words.name()?;
        words.expect_end()?;
        return Ok(Ast::ExplainJob { name, analyze });
    }
    let mut rest = Vec::new();
    while !words.at_end() {
        rest.push(words.parser.next_token());
    }
    if rest.is_empty() {
        return words.unexpected("a statement");
    }
    Ok(Ast::Explain { analyze, streaming, json, statement: Box::new(statement(rest, text)?) })
}

/// What Flink's EXPLAIN shows besides: it is there in any case, or there is no such thing here.
fn explain_details(words: &mut Words) {
    const DETAILS: [&str; 4] = ["estimated_cost", "changelog_mode", "json_execution_plan", "plan_advice"];
    while DETAILS.iter().any(|detail| words.eat(detail)) {
        words.eat_token(&Token::Comma);
    }
}

/// `SELECT * FROM factor`.
pub(crate) fn select_all_from(factor: TableFactor) -> Query {
    let mut query = parse_query("SELECT * FROM t").expect("a constant query parses");
    if let SetExpr::Select(select) = query.body.as_mut() {
        // Its star stands in no statement, so it has no place.
        select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        select.from[0].relation = factor;
    }
    *query
}

/// A relation by its name, as it stands in FROM.
pub(crate) fn table_factor(name: &ObjectName, alias: Option<&Ident>) -> TableFactor {
    TableFactor::Table {
        name: name.clone(),
        alias: alias.map(|name| TableAlias { explicit: true, name: name.clone(), columns: vec![], at: None }),
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}
