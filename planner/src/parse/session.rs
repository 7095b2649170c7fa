//! The grammar of everything but CREATE, EXPLAIN, queries and table writes: DROP, ALTER, settings,
//! transactions, cursors, prepared statements, COPY, SHOW.

use super::ast::{Ast, ShowAst};
use super::ddl;
use super::words::Words;
use crate::error::{SourceText, suggest};
use crate::statement::{CopyFormat, FetchCount, ObjectKind};
use datafusion::sql::sqlparser::ast::{Expr, ObjectName};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use eddyline_common::{Result, SqlError, SqlState};

/// The first words of statements, for suggestions.
const STATEMENTS: &[&str] = &[
    "abort",
    "alter",
    "begin",
    "close",
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
    "release",
    "reset",
    "rollback",
    "savepoint",
    "select",
    "set",
    "show",
    "start",
    "update",
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
        return copy(&tokens, text);
    }
    let at = tokens[0].span.start;
    let mut words = super::words(tokens, text);
    if !STATEMENTS.contains(&first) {
        return unknown(first, words);
    }
    words.parser.advance_token();
    let ast = match first {
        "drop" => drop(&mut words)?,
        "alter" => alter(&mut words)?,
        "show" => show(&mut words)?,
        "describe" | "desc" => Ast::Show(ShowAst::Columns(words.name()?)),
        "set" => set(&mut words)?,
        "reset" => reset(&mut words)?,
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => transaction(first, &mut words)?,
        "fetch" | "move" => fetch(&mut words, first == "move")?,
        "close" => Ast::Close(name_or_all(&mut words)?),
        "execute" => execute(&mut words)?,
        "deallocate" => {
            words.eat("prepare");
            Ast::Deallocate(name_or_all(&mut words)?)
        }
        "discard" => {
            words.ident()?;
            Ast::Discard
        }
        "flush" => Ast::Flush,
        _ => return Err(text.at(SqlError::unsupported(format!("{} is not supported", first.to_uppercase())), at)),
    };
    words.expect_end()?;
    Ok(ast)
}

fn unknown(first: &str, words: Words) -> Result<Ast> {
    let at = words.location();
    let known = [
        "truncate",
        "grant",
        "revoke",
        "comment",
        "vacuum",
        "analyze",
        "listen",
        "notify",
        "unlisten",
        "lock",
        "merge",
        "call",
        "do",
        "refresh",
        "reindex",
        "cluster",
        "use",
        "load",
        "import",
        "subscribe",
    ];
    let error = if known.contains(&first) {
        SqlError::unsupported(format!("{} is not supported", first.to_uppercase()))
    } else {
        let shown = words.parser.peek_token_ref().token.to_string();
        let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{shown}\""));
        suggest(error, first, STATEMENTS.iter().copied())
    };
    Err(words.text.at(error, at))
}

fn object_kind(words: &mut Words) -> Result<ObjectKind> {
    if words.eat("source") {
        Ok(ObjectKind::Source)
    } else if words.eat("table") {
        Ok(ObjectKind::Table)
    } else if words.eat("view") {
        Ok(ObjectKind::View)
    } else if words.eat_all(&["materialized", "view"]) {
        Ok(ObjectKind::MaterializedView)
    } else {
        words.unexpected("SOURCE, TABLE, VIEW or MATERIALIZED VIEW")
    }
}

fn drop(words: &mut Words) -> Result<Ast> {
    let _ = words.eat("temporary");
    let kind = object_kind(words)?;
    let if_exists = words.eat_all(&["if", "exists"]);
    let mut names = vec![words.name()?];
    while words.eat_token(&Token::Comma) {
        names.push(words.name()?);
    }
    let cascade = words.eat("cascade");
    words.eat("restrict");
    Ok(Ast::Drop { kind, names, if_exists, cascade })
}

fn alter(words: &mut Words) -> Result<Ast> {
    let at = words.location();
    let kind = object_kind(words)?;
    let name = words.name()?;
    if matches!(kind, ObjectKind::Source | ObjectKind::Table) && words.eat_all(&["advance", "watermark", "to"]) {
        let to = words.run(|p| p.parse_expr())?;
        return Ok(Ast::AdvanceWatermark { name, to });
    }
    let error = SqlError::unsupported("ALTER is supported for ADVANCE WATERMARK TO only");
    Err(words.text.at(error.with_hint("DROP the object and CREATE it anew."), at))
}

fn show(words: &mut Words) -> Result<Ast> {
    let show = if words.eat("sources") {
        ShowAst::Objects(ObjectKind::Source)
    } else if words.eat("tables") {
        ShowAst::Objects(ObjectKind::Table)
    } else if words.eat("views") {
        ShowAst::Objects(ObjectKind::View)
    } else if words.eat_all(&["materialized", "views"]) {
        ShowAst::Objects(ObjectKind::MaterializedView)
    } else if words.eat("jobs") {
        ShowAst::Jobs
    } else if words.eat("columns") {
        let _ = words.eat("from") || words.eat("in");
        ShowAst::Columns(words.name()?)
    } else if words.eat("create") {
        object_kind(words)?;
        ShowAst::Create(words.name()?)
    } else if words.eat("all") {
        ShowAst::All
    } else if words.eat_all(&["time", "zone"]) {
        ShowAst::Setting("timezone".to_string())
    } else if words.eat_all(&["transaction", "isolation", "level"]) {
        ShowAst::Setting("transaction_isolation".to_string())
    } else if words.eat_all(&["session", "authorization"]) {
        ShowAst::Setting("session_authorization".to_string())
    } else {
        ShowAst::Setting(setting_name(words)?)
    };
    Ok(Ast::Show(show))
}

/// `a`, `a.b`, or Flink's `'a.b'`.
fn setting_name(words: &mut Words) -> Result<String> {
    if matches!(words.parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
        return words.string();
    }
    let mut name = words.ident()?.value;
    while words.eat_token(&Token::Period) {
        name.push('.');
        name.push_str(&words.ident()?.value);
    }
    Ok(name.to_lowercase())
}

fn set(words: &mut Words) -> Result<Ast> {
    let local = words.eat("local");
    if !local && words.is("session") && !matches!(words.parser.peek_nth_token_ref(1).token, Token::Eq) && !words.is_at(1, "to") {
        words.eat("session");
        if words.eat_all(&["characteristics", "as", "transaction"]) {
            return transaction_setting(words, "default_transaction", false);
        }
        if words.eat("authorization") {
            return Ok(Ast::Set { name: "session_authorization".to_string(), value: setting_value(words)?, local });
        }
    }
    if words.eat("transaction") {
        return transaction_setting(words, "transaction", true);
    }
    if words.eat_all(&["time", "zone"]) {
        let value = setting_value(words)?.filter(|v| !v.eq_ignore_ascii_case("local"));
        return Ok(Ast::Set { name: "timezone".to_string(), value, local });
    }
    if words.is("names") && !matches!(words.parser.peek_nth_token_ref(1).token, Token::Eq) {
        words.eat("names");
        return Ok(Ast::Set { name: "client_encoding".to_string(), value: setting_value(words)?, local });
    }
    if words.is("role") && !matches!(words.parser.peek_nth_token_ref(1).token, Token::Eq) {
        words.eat("role");
        return Ok(Ast::Set { name: "role".to_string(), value: setting_value(words)?, local });
    }
    if words.at_end() {
        return Ok(Ast::Show(ShowAst::All));
    }
    let name = setting_name(words)?;
    if !words.eat_token(&Token::Eq) && !words.eat("to") {
        return words.unexpected("= or TO");
    }
    Ok(Ast::Set { name, value: setting_value(words)?, local })
}

/// One value or several with commas, joined; `None` for DEFAULT.
fn setting_value(words: &mut Words) -> Result<Option<String>> {
    if words.eat("default") {
        return Ok(None);
    }
    words.eat("interval");
    let mut value = words.option_value()?;
    while words.eat_token(&Token::Comma) {
        value.push_str(", ");
        value.push_str(&words.option_value()?);
    }
    while !words.at_end() && matches!(words.parser.peek_token_ref().token, Token::Word(_)) {
        words.parser.advance_token();
    }
    Ok(Some(value))
}

/// The modes of SET TRANSACTION, as the setting that the last of them changes.
fn transaction_setting(words: &mut Words, prefix: &str, local: bool) -> Result<Ast> {
    loop {
        let set;
        if words.eat_all(&["isolation", "level"]) {
            set = (format!("{prefix}_isolation"), isolation_level(words)?);
        } else if words.eat_all(&["read", "only"]) {
            set = (format!("{prefix}_read_only"), "on".to_string());
        } else if words.eat_all(&["read", "write"]) {
            set = (format!("{prefix}_read_only"), "off".to_string());
        } else if words.eat("deferrable") || words.eat_all(&["not", "deferrable"]) {
            set = (format!("{prefix}_deferrable"), "off".to_string());
        } else {
            return words.unexpected("a transaction mode");
        }
        words.eat_token(&Token::Comma);
        if words.at_end() {
            return Ok(Ast::Set { name: set.0, value: Some(set.1), local });
        }
    }
}

fn isolation_level(words: &mut Words) -> Result<String> {
    for level in [&["read", "uncommitted"][..], &["read", "committed"], &["repeatable", "read"], &["serializable"]] {
        if words.eat_all(level) {
            return Ok(level.join(" "));
        }
    }
    words.unexpected("an isolation level")
}

fn reset(words: &mut Words) -> Result<Ast> {
    let name = if words.eat_all(&["time", "zone"]) {
        "timezone".to_string()
    } else if words.eat_all(&["session", "authorization"]) {
        "session_authorization".to_string()
    } else {
        setting_name(words)?
    };
    Ok(Ast::Set { name, value: None, local: false })
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
            let mut read_only = false;
            while !words.at_end() {
                if words.eat_all(&["isolation", "level"]) {
                    isolation_level(words)?;
                } else if words.eat_all(&["read", "only"]) {
                    read_only = true;
                } else if words.eat_all(&["read", "write"]) {
                    read_only = false;
                } else if !words.eat("deferrable") && !words.eat_all(&["not", "deferrable"]) {
                    return words.unexpected("a transaction mode");
                }
                words.eat_token(&Token::Comma);
            }
            Ok(Ast::Begin { read_only })
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

/// `DECLARE name [NO SCROLL ...] CURSOR [WITH HOLD] FOR query`.
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
    let _ = words.eat_all(&["with", "hold"]) || words.eat_all(&["without", "hold"]);
    words.expect("for")?;
    let (query, _) = ddl::query(&tokens[words.parser.index()..], text)?;
    Ok(Ast::Declare { name, query })
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
    let at = words.location();
    if words.is("statement") && words.is_at(1, "set") {
        let error = SqlError::unsupported("EXECUTE STATEMENT SET is not supported");
        return Err(words.text.at(error.with_hint("Create a materialized view for each query."), at));
    }
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

/// `COPY table [(columns)] FROM STDIN ...` and `COPY table | (query) TO STDOUT ...`.
fn copy(tokens: &[TokenWithSpan], text: &SourceText) -> Result<Ast> {
    let mut words = super::words(tokens.to_vec(), text);
    words.expect("copy")?;
    let at = words.location();
    if words.parser.peek_token_ref().token == Token::LParen {
        let start = words.parser.index();
        let mut depth = 0usize;
        let close = tokens[start..].iter().position(|t| {
            match t.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let Some(close) = close else { return words.unexpected("a closing parenthesis") };
        let (query, _) = ddl::query(&tokens[start + 1..start + close], text)?;
        let mut rest = super::words(tokens[start + close + 1..].to_vec(), text);
        rest.expect("to")?;
        rest.expect("stdout")?;
        return Ok(Ast::CopyTo { query, format: copy_options(&mut rest)? });
    }
    let table = words.name()?;
    let columns = if words.parser.peek_token_ref().token == Token::LParen { words.ident_list()? } else { Vec::new() };
    if words.eat("from") {
        words.expect("stdin")?;
        return Ok(Ast::CopyFrom { table, columns, format: copy_options(&mut words)? });
    }
    words.expect("to")?;
    words.expect("stdout")?;
    let format = copy_options(&mut words)?;
    let list = if columns.is_empty() { "*".to_string() } else { columns.iter().map(|c| c.to_string()).collect::<Vec<_>>().join(", ") };
    let query = table_query(&table, &list).map_err(|e| text.at(e, at))?;
    Ok(Ast::CopyTo { query, format })
}

/// `SELECT list FROM table`, out of names that were parsed before.
fn table_query(table: &ObjectName, list: &str) -> Result<Box<datafusion::sql::sqlparser::ast::Query>> {
    super::parse_query(&format!("SELECT {list} FROM {table}"))
}

/// `[WITH] (FORMAT csv, HEADER)`, or the older `[WITH] CSV HEADER`.
fn copy_options(words: &mut Words) -> Result<CopyFormat> {
    words.eat("with");
    let (mut csv, mut header) = (false, false);
    let parens = words.eat_token(&Token::LParen);
    while !words.at_end() && words.parser.peek_token_ref().token != Token::RParen {
        let at = words.location();
        let option = words.ident()?.value.to_lowercase();
        match option.as_str() {
            "format" => match words.option_value()?.to_lowercase().as_str() {
                "csv" => csv = true,
                "text" => {}
                other => {
                    let error = SqlError::unsupported(format!("COPY format \"{other}\" is not supported"));
                    return Err(words.text.at(error.with_hint("The formats are text and csv."), at));
                }
            },
            "csv" => csv = true,
            "header" => {
                header = true;
                if parens && !matches!(words.parser.peek_token_ref().token, Token::Comma | Token::RParen) {
                    header = !matches!(words.option_value()?.to_lowercase().as_str(), "off" | "false" | "0");
                }
            }
            other => {
                let error = SqlError::unsupported(format!("COPY option \"{other}\" is not supported"));
                return Err(words.text.at(error.with_hint("The options are FORMAT and HEADER."), at));
            }
        }
        words.eat_token(&Token::Comma);
    }
    if parens {
        words.expect_token(&Token::RParen)?;
    }
    words.expect_end()?;
    Ok(if csv { CopyFormat::Csv { header } } else { CopyFormat::Text })
}
