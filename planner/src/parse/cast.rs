//! CAST and TRY_CAST to the types that sqlparser's grammar lacks: Flink's rows and maps, and arrays of them.

use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, CastKind, DataType, Expr, StructBracketKind, StructField};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// The cast that begins here, if one does.
pub fn prefix(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let kind = match &parser.peek_token_ref().token {
        Token::Word(word) if word.quote_style.is_none() && word.keyword == Keyword::CAST => CastKind::Cast,
        Token::Word(word) if word.quote_style.is_none() && word.keyword == Keyword::TRY_CAST => CastKind::TryCast,
        _ => return None,
    };
    (parser.peek_nth_token_ref(1).token == Token::LParen).then(|| cast(parser, kind))
}

fn cast(parser: &mut Parser, kind: CastKind) -> Result<Expr, ParserError> {
    parser.advance_token();
    parser.expect_token(&Token::LParen)?;
    let expr = Box::new(parser.parse_expr()?);
    parser.expect_keyword_is(Keyword::AS)?;
    let data_type = Types { parser: &mut *parser, closed: 0 }.data_type()?;
    let array = parser.parse_keyword(Keyword::ARRAY);
    let format = parser.parse_optional_cast_format()?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Cast { kind, expr, data_type, array, format })
}

struct Types<'p, 'a> {
    parser: &'p mut Parser<'a>,
    /// `>` left over from a `>>` that closed two brackets.
    closed: usize,
}

impl Types<'_, '_> {
    fn data_type(&mut self) -> Result<DataType, ParserError> {
        let angle = self.parser.peek_nth_token_ref(1).token == Token::Lt;
        let paren = self.parser.peek_nth_token_ref(1).token == Token::LParen;
        let is = |word: &str| super::is_word(&self.parser.peek_token_ref().token, word);
        let (is_row, is_map, is_array) = (is("row") && (angle || paren), is("map") && angle, is("array") && angle);
        if !(is_row || is_map || is_array) {
            return self.parser.parse_data_type();
        }
        self.parser.advance_token();
        self.parser.advance_token();
        let mut ty = if is_row {
            let fields = self.fields()?;
            match paren {
                true => self.parser.expect_token(&Token::RParen).map(drop)?,
                false => self.close()?,
            }
            DataType::Struct(fields, StructBracketKind::AngleBrackets)
        } else if is_map {
            let key = Box::new(self.data_type()?);
            self.parser.expect_token(&Token::Comma)?;
            let value = Box::new(self.data_type()?);
            self.close()?;
            DataType::Map(key, value)
        } else {
            let item = Box::new(self.data_type()?);
            self.close()?;
            DataType::Array(ArrayElemTypeDef::AngleBracket(item))
        };
        while self.closed == 0 && self.parser.consume_token(&Token::LBracket) {
            self.parser.expect_token(&Token::RBracket)?;
            ty = DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(ty), None));
        }
        Ok(ty)
    }

    fn fields(&mut self) -> Result<Vec<StructField>, ParserError> {
        let mut fields = Vec::new();
        loop {
            let field_name = Some(self.parser.parse_identifier()?);
            let field_type = self.data_type()?;
            // Fields of a row are nullable here.
            let _ = self.parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) || self.parser.parse_keyword(Keyword::NULL);
            if self.parser.parse_keyword(Keyword::COMMENT) {
                self.parser.parse_literal_string()?;
            }
            fields.push(StructField { field_name, field_type, options: None });
            if self.closed > 0 || !self.parser.consume_token(&Token::Comma) {
                return Ok(fields);
            }
        }
    }

    fn close(&mut self) -> Result<(), ParserError> {
        if self.closed > 0 {
            self.closed -= 1;
            return Ok(());
        }
        let more = match &self.parser.peek_token_ref().token {
            Token::ShiftRight => 1,
            Token::CustomBinaryOperator(op) if op.bytes().all(|b| b == b'>') => op.len() - 1,
            _ => return self.parser.expect_token(&Token::Gt).map(drop),
        };
        self.parser.advance_token();
        self.closed += more;
        Ok(())
    }
}
