//! Small steps over sqlparser's `Parser` that its own grammar lacks: words that are no keywords of its,
//! names, types of both accents, options.

use crate::error::{END_OF_INPUT, SourceText, from_parser};
use crate::parse::tokens::is_word;
use crate::types;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use eddyline_common::options::RETENTION;
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use std::collections::BTreeMap;

/// A parser over one statement's tokens, with its text for positions.
pub struct Words<'a> {
    pub parser: Parser<'a>,
    pub text: &'a SourceText,
    /// `>` left over from a `>>` that closed two type brackets.
    pending_gt: usize,
}

impl<'a> Words<'a> {
    pub fn new(parser: Parser<'a>, text: &'a SourceText) -> Self {
        Words { parser, text, pending_gt: 0 }
    }

    /// Runs a step of sqlparser's grammar.
    pub fn run<T>(&mut self, step: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>) -> Result<T> {
        let text = self.text;
        step(&mut self.parser).map_err(|e| from_parser(e, text))
    }

    pub fn location(&self) -> Location {
        self.parser.peek_token_ref().span.start
    }

    pub fn is(&self, word: &str) -> bool {
        is_word(&self.parser.peek_token_ref().token, word)
    }

    pub fn is_at(&self, n: usize, word: &str) -> bool {
        is_word(&self.parser.peek_nth_token_ref(n).token, word)
    }

    pub fn eat(&mut self, word: &str) -> bool {
        let found = self.is(word);
        if found {
            self.parser.advance_token();
        }
        found
    }

    /// All the words in order, or nothing.
    pub fn eat_all(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(n, word)| self.is_at(n, word));
        if found {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }

    pub fn expect(&mut self, word: &str) -> Result<()> {
        if self.eat(word) { Ok(()) } else { self.unexpected(&word.to_uppercase()) }
    }

    pub fn eat_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.eat_token(token) { Ok(()) } else { self.unexpected(&token.to_string()) }
    }

    pub fn at_end(&self) -> bool {
        matches!(self.parser.peek_token_ref().token, Token::EOF)
    }

    pub fn expect_end(&mut self) -> Result<()> {
        if self.at_end() { Ok(()) } else { self.unexpected("the end of the statement") }
    }

    pub fn unexpected<T>(&mut self, expected: &str) -> Result<T> {
        let found = self.parser.peek_token();
        let error = match found.token {
            Token::EOF => SqlError::new(SqlState::SYNTAX_ERROR, END_OF_INPUT),
            other => SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{other}\"")),
        };
        Err(self.text.at(error.with_detail(format!("Expected {expected}.")), found.span.start))
    }

    pub fn ident(&mut self) -> Result<Ident> {
        self.run(|p| p.parse_identifier())
    }

    pub fn name(&mut self) -> Result<ObjectName> {
        self.run(|p| p.parse_object_name(false))
    }

    pub fn ident_list(&mut self) -> Result<Vec<Ident>> {
        self.expect_token(&Token::LParen)?;
        let mut idents = vec![self.ident()?];
        while self.eat_token(&Token::Comma) {
            idents.push(self.ident()?);
        }
        self.expect_token(&Token::RParen)?;
        Ok(idents)
    }

    /// What stands between quotes or dollars.
    pub fn string(&mut self) -> Result<String> {
        if let Token::DollarQuotedString(text) = &self.parser.peek_token_ref().token {
            let text = text.value.clone();
            self.parser.advance_token();
            return Ok(text);
        }
        self.run(|p| p.parse_literal_string())
    }

    /// A type of either accent, with `[]` behind it or not.
    pub fn data_type(&mut self) -> Result<SqlType> {
        Ok(self.column_type()?.0)
    }

    /// The same with the digits behind the second that it is written with, if it is one of times and they are fewer than there are.
    pub fn column_type(&mut self) -> Result<(SqlType, Option<u8>)> {
        let (mut ty, mut precision) = self.data_type_item()?;
        loop {
            if self.pending_gt > 0 {
                return Ok((ty, precision));
            }
            if self.eat_token(&Token::LBracket) {
                if matches!(self.parser.peek_token_ref().token, Token::Number(..)) {
                    self.parser.advance_token();
                }
                self.expect_token(&Token::RBracket)?;
            } else if !self.eat("array") {
                return Ok((ty, precision));
            }
            (ty, precision) = (SqlType::Array(Box::new(ty.unlimited())), None);
        }
    }

    fn data_type_item(&mut self) -> Result<(SqlType, Option<u8>)> {
        let start = self.location();
        let mut ident = match self.parser.peek_token_ref().token {
            Token::Word(_) => self.ident()?,
            _ => return self.unexpected("a type"),
        };
        while self.eat_token(&Token::Period) {
            ident = self.ident()?;
        }
        let mut name = ident.value.to_lowercase();
        match name.as_str() {
            "array" => {
                self.open()?;
                let item = self.data_type()?;
                self.close()?;
                return Ok((SqlType::Array(Box::new(item.unlimited())), None));
            }
            "map" => {
                self.open()?;
                let key = self.data_type()?;
                self.expect_token(&Token::Comma)?;
                let value = self.data_type()?;
                self.close()?;
                return Ok((SqlType::Map(Box::new(key.unlimited()), Box::new(value.unlimited())), None));
            }
            "row" | "struct" => return Ok((self.row_type()?, None)),
            "double" => {
                self.eat("precision");
            }
            "character" | "char" if self.eat("varying") => name = "character varying".to_string(),
            _ => {}
        }
        let mut modifiers = Vec::new();
        if self.eat_token(&Token::LParen) {
            loop {
                modifiers.push(self.run(|p| p.parse_literal_uint())?);
                if !self.eat_token(&Token::Comma) {
                    break;
                }
            }
            self.expect_token(&Token::RParen)?;
        }
        let zoned = if self.eat_all(&["with", "time", "zone"]) || self.eat_all(&["with", "local", "time", "zone"]) {
            true
        } else {
            self.eat_all(&["without", "time", "zone"]);
            false
        };
        let ty = match (name.as_str(), zoned) {
            ("timestamp", true) => Ok(SqlType::TimestampTz),
            (_, true) => Err(SqlError::unsupported(format!("type \"{name} with time zone\" is not supported"))),
            _ => types::named(&name, &modifiers),
        };
        let ty = ty.map_err(|e| self.text.at(e, start))?;
        let precision = types::precision_of(&ty, &modifiers);
        Ok((ty, precision))
    }

    fn row_type(&mut self) -> Result<SqlType> {
        let parens = self.eat_token(&Token::LParen);
        if !parens {
            self.open()?;
        }
        let mut fields = Vec::new();
        loop {
            let name = self.ident()?;
            self.eat_token(&Token::Colon);
            let ty = self.data_type()?;
            if self.eat_all(&["not", "null"]) || self.eat("null") {
                // Fields of a row are nullable here.
            }
            if self.eat("comment") {
                // Comments are kept of columns only.
                self.string()?;
            }
            fields.push((crate::error::fold(&name), ty.unlimited()));
            // A `>` that is left over closes this row before the comma comes.
            if self.pending_gt > 0 || !self.eat_token(&Token::Comma) {
                break;
            }
        }
        if parens {
            self.expect_token(&Token::RParen)?;
        } else {
            self.close()?;
        }
        Ok(SqlType::Struct(fields))
    }

    fn open(&mut self) -> Result<()> {
        self.expect_token(&Token::Lt)
    }

    fn close(&mut self) -> Result<()> {
        if self.pending_gt > 0 {
            self.pending_gt -= 1;
            return Ok(());
        }
        if self.eat_token(&Token::ShiftRight) {
            self.pending_gt += 1;
            return Ok(());
        }
        if let Token::CustomBinaryOperator(op) = &self.parser.peek_token_ref().token
            && op.bytes().all(|b| b == b'>')
        {
            self.pending_gt += op.len() - 1;
            self.parser.advance_token();
            return Ok(());
        }
        self.expect_token(&Token::Gt)
    }

    /// `( key = value, ... )`; keys are quoted or dotted, values strings, numbers or words.
    pub fn options(&mut self) -> Result<BTreeMap<String, String>> {
        self.expect_token(&Token::LParen)?;
        let mut options = BTreeMap::new();
        if self.eat_token(&Token::RParen) {
            return Ok(options);
        }
        loop {
            let start = self.location();
            let key = self.option_key()?;
            self.expect_token(&Token::Eq)?;
            let mut value = self.option_value()?;
            if key.eq_ignore_ascii_case(RETENTION) && self.eat("on") {
                let column = crate::error::fold(&self.ident()?).replace('"', "\"\"");
                value.push_str(&format!(" on \"{column}\""));
            }
            if options.insert(key.clone(), value).is_some() {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("option \"{key}\" is given twice"));
                return Err(self.text.at(error, start));
            }
            if !self.eat_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(options)
    }

    /// `( key, ... )`.
    pub fn option_keys(&mut self) -> Result<Vec<String>> {
        self.expect_token(&Token::LParen)?;
        let mut keys = vec![self.option_key()?];
        while self.eat_token(&Token::Comma) {
            keys.push(self.option_key()?);
        }
        self.expect_token(&Token::RParen)?;
        Ok(keys)
    }

    fn option_key(&mut self) -> Result<String> {
        if matches!(self.parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
            return self.string();
        }
        let mut key = self.ident()?.value;
        loop {
            let joint = match self.parser.peek_token_ref().token {
                Token::Period => ".",
                Token::Minus => "-",
                _ => return Ok(key),
            };
            self.parser.advance_token();
            key.push_str(joint);
            key.push_str(&self.ident()?.value);
        }
    }

    /// A string, number or word, as text. Numbers may carry a sign; a unit behind a number is its own word.
    pub fn option_value(&mut self) -> Result<String> {
        let token = self.parser.next_token();
        Ok(match token.token {
            Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => s,
            Token::Number(n, _) => n,
            Token::Word(w) => w.value,
            Token::Minus => format!("-{}", self.run(|p| p.parse_literal_uint())?),
            _ => {
                self.parser.prev_token();
                return self.unexpected("a value");
            }
        })
    }
}
