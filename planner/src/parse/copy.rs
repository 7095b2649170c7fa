//! The grammar of COPY, but for its options.

use super::ast::Ast;
use super::copy_format::copy_format;
use super::ddl;
use super::subscribe::subscribe;
use super::tokens::is_word;
use super::words::Words;
use crate::error::SourceText;
use crate::statement::Subscriber;
use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use eddyline_common::{Result, SqlError};

/// `COPY table [(columns)] FROM STDIN ...` and `COPY table | (query) TO STDOUT ...`.
pub fn copy(tokens: &[TokenWithSpan], text: &SourceText) -> Result<Ast> {
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
        let inner = &tokens[start + 1..start + close];
        let mut rest = super::words(tokens[start + close + 1..].to_vec(), text);
        let mut options = || {
            rest.expect("to")?;
            client(&mut rest, "stdout", text)?;
            copy_format(&mut rest, false)
        };
        if inner.first().is_some_and(|t| is_word(&t.token, "subscribe")) {
            let mut inner = super::words(inner[1..].to_vec(), text);
            return subscribe(&mut inner, Subscriber::Copy(options()?));
        }
        let (query, _) = ddl::query(inner, text)?;
        return Ok(Ast::CopyTo { query, format: options()? });
    }
    let table = words.name()?;
    let columns = if words.parser.peek_token_ref().token == Token::LParen { words.ident_list()? } else { Vec::new() };
    if words.eat("from") {
        client(&mut words, "stdin", text)?;
        return Ok(Ast::CopyFrom { table, columns, format: copy_format(&mut words, true)? });
    }
    words.expect("to")?;
    client(&mut words, "stdout", text)?;
    let format = copy_format(&mut words, false)?;
    let list = if columns.is_empty() { "*".to_string() } else { columns.iter().map(|c| c.to_string()).collect::<Vec<_>>().join(", ") };
    let query = table_query(&table, &list).map_err(|e| text.at(e, at))?;
    Ok(Ast::CopyTo { query, format })
}

/// The client's end, which is the only one: files and programs are not the server's to read and run.
fn client(words: &mut Words, name: &str, text: &SourceText) -> Result<()> {
    if matches!(words.parser.peek_token_ref().token, Token::SingleQuotedString(_)) || words.is("program") {
        let error = SqlError::unsupported("COPY of files and programs of the server is not supported")
            .with_hint(format!("Write {}: psql's \\copy does so with files of its own.", name.to_uppercase()));
        return Err(text.at(error, words.location()));
    }
    words.expect(name)
}

/// `SELECT list FROM table`, out of names that were parsed before.
fn table_query(table: &ObjectName, list: &str) -> Result<Box<datafusion::sql::sqlparser::ast::Query>> {
    super::parse_query(&format!("SELECT {list} FROM {table}"))
}
