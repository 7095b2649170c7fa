//! The grammar of SHOW, SET and RESET, in the spellings of psql, drivers and Flink. What a setting means is the
//! session's matter.

use super::ast::{Ast, ShowAst};
use super::session::object_kind;
use super::words::Words;
use crate::error::fold;
use crate::statement::{ObjectKind, TransactionModes};
use datafusion::sql::sqlparser::tokenizer::Token;
use eddyline_common::{Result, SqlError, SqlState};

/// What Flink's scripts call the one database that there is, and what it is in.
pub const CATALOG: &str = "default_catalog";
pub const DATABASE: &str = "default_database";

pub fn show(words: &mut Words) -> Result<Ast> {
    let show = if words.eat("sources") {
        ShowAst::Objects(ObjectKind::Source)
    } else if words.eat("tables") {
        ShowAst::Objects(ObjectKind::Table)
    } else if words.eat("views") {
        ShowAst::Objects(ObjectKind::View)
    } else if words.eat_all(&["materialized", "views"]) {
        ShowAst::Objects(ObjectKind::MaterializedView)
    } else if words.eat("functions") {
        ShowAst::Objects(ObjectKind::Function)
    } else if words.eat("indexes") {
        ShowAst::Objects(ObjectKind::Index)
    } else if words.eat("sinks") {
        ShowAst::Objects(ObjectKind::Sink)
    } else if words.eat("jobs") {
        ShowAst::Jobs
    } else if words.eat("columns") {
        let _ = words.eat("from") || words.eat("in");
        ShowAst::Columns(words.name()?)
    } else if let Some(name) = name_of_flink(words) {
        name
    } else if words.eat_all(&["create", "function"]) {
        ShowAst::CreateFunction(words.name()?)
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

/// Flink's catalogs, databases and modules, of which there is one each.
fn name_of_flink(words: &mut Words) -> Option<ShowAst> {
    const NAMES: [(&[&str], &str, &str); 5] = [
        (&["catalogs"], "catalog name", CATALOG),
        (&["databases"], "database name", DATABASE),
        (&["modules"], "module name", "core"),
        (&["current", "catalog"], "current catalog name", CATALOG),
        (&["current", "database"], "current database name", DATABASE),
    ];
    let (_, column, value) = NAMES.into_iter().find(|(spelling, ..)| words.eat_all(spelling))?;
    Some(ShowAst::Name { column, value })
}

/// `USE [CATALOG] name`, after USE: there is nothing else to use.
pub fn use_name(words: &mut Words) -> Result<Ast> {
    let of_catalog = words.eat("catalog");
    let at = words.location();
    let name = words.name()?;
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let known = match of_catalog {
        true => parts == [CATALOG],
        false => parts == [DATABASE] || parts == [CATALOG, DATABASE],
    };
    if known {
        return Ok(Ast::Idle { tag: "USE", tables: Vec::new(), notice: None });
    }
    let what = if of_catalog { "catalog" } else { "database" };
    let error = SqlError::new(SqlState::INVALID_CATALOG_NAME, format!("{what} \"{name}\" does not exist"));
    Err(words.text.at(error.with_hint(format!("There is {CATALOG} with {DATABASE} alone; leave USE out.")), at))
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

pub fn set(words: &mut Words) -> Result<Ast> {
    let local = words.eat("local");
    if !local && words.is("session") && !matches!(words.parser.peek_nth_token_ref(1).token, Token::Eq) && !words.is_at(1, "to") {
        words.eat("session");
        if words.eat_all(&["characteristics", "as", "transaction"]) {
            return Ok(Ast::SetTransaction { modes: transaction_modes(words)?, of_session: true });
        }
        if words.eat("authorization") {
            return Ok(Ast::Set { name: "session_authorization".to_string(), value: setting_value(words)?, local });
        }
    }
    if words.eat("transaction") {
        return Ok(Ast::SetTransaction { modes: transaction_modes(words)?, of_session: false });
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
    if words.is("constraints") && !matches!(words.parser.peek_nth_token_ref(1).token, Token::Eq) && !words.is_at(1, "to") {
        return constraints(words);
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

/// `CONSTRAINTS ALL {DEFERRED | IMMEDIATE}` is about those that can be deferred, of which there are none.
fn constraints(words: &mut Words) -> Result<Ast> {
    words.eat("constraints");
    let at = words.location();
    if !words.eat("all") {
        let error = SqlError::unsupported(format!("constraint \"{}\" cannot be deferred", words.name()?));
        return Err(words.text.at(error.with_hint("Constraints hold after each statement."), at));
    }
    if !words.eat("deferred") && !words.eat("immediate") {
        return words.unexpected("DEFERRED or IMMEDIATE");
    }
    Ok(Ast::Idle { tag: "SET CONSTRAINTS", tables: Vec::new(), notice: None })
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

/// One mode of a transaction or several, up to the statement's end.
pub fn transaction_modes(words: &mut Words) -> Result<TransactionModes> {
    let mut modes = TransactionModes::default();
    loop {
        if words.eat_all(&["isolation", "level"]) {
            modes.isolation = Some(isolation_level(words)?);
        } else if words.eat_all(&["read", "only"]) {
            modes.read_only = Some(true);
        } else if words.eat_all(&["read", "write"]) {
            modes.read_only = Some(false);
        } else if !words.eat("deferrable") && !words.eat_all(&["not", "deferrable"]) {
            return words.unexpected("a transaction mode");
        }
        words.eat_token(&Token::Comma);
        if words.at_end() {
            return Ok(modes);
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

pub fn reset(words: &mut Words) -> Result<Ast> {
    let name = if words.eat_all(&["time", "zone"]) {
        "timezone".to_string()
    } else if words.eat_all(&["session", "authorization"]) {
        "session_authorization".to_string()
    } else {
        setting_name(words)?
    };
    Ok(Ast::Set { name, value: None, local: false })
}
