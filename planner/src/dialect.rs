//! The tokens and precedences of Eddyline SQL: PostgreSQL's, plus back-quoted names and `FOR SYSTEM_TIME`
//! (parsed here so that it can be refused or planned, never dropped). It knows no statements.

use datafusion::sql::sqlparser::ast::{Expr, TableFactor, UnaryOperator};
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use std::any::TypeId;

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// The operator that a token in front of a number is, and which ones take the number from it: `~ 5 + 1` is of 6, and `- 2 ^ 2` of -2.
fn sign(token: &Token) -> Option<(UnaryOperator, Precedence)> {
    let op = match token {
        Token::Minus => return Some((UnaryOperator::Minus, Precedence::Caret)),
        Token::AtSign => UnaryOperator::PGAbs,
        Token::PGSquareRoot => UnaryOperator::PGSquareRoot,
        Token::PGCubeRoot => UnaryOperator::PGCubeRoot,
        Token::Tilde => UnaryOperator::BitwiseNot,
        _ => return None,
    };
    Some((op, Precedence::PgOther))
}

/// `x [NOT] IN ((SELECT ...), ...)`, which sqlparser would take for a query in parentheses.
fn within_list(parser: &mut Parser, expr: &Expr) -> Option<Result<Expr, ParserError>> {
    let is_at = |at: usize, word: &str| crate::parse::is_word(&parser.peek_nth_token_ref(at).token, word);
    let opens = |at: usize| parser.peek_nth_token_ref(at).token == Token::LParen;
    let negated = is_at(0, "not");
    let list = 1 + usize::from(negated);
    if !is_at(list - 1, "in") || !opens(list) || !opens(list + 1) {
        return None;
    }
    (0..=list).for_each(|_| parser.advance_token());
    if !goes_on(parser) {
        (0..=list).for_each(|_| parser.prev_token());
        return None;
    }
    let list = parser.parse_comma_separated(Parser::parse_expr);
    Some(list.and_then(|list| {
        parser.expect_token(&Token::RParen)?;
        Ok(Expr::InList { expr: Box::new(expr.clone()), list, negated })
    }))
}

/// Whether what the parenthesis here begins is neither all that there is, nor the first query of several.
fn goes_on(parser: &mut Parser) -> bool {
    let (mut read, mut depth) = (0, 0usize);
    loop {
        match parser.peek_token_ref().token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::EOF => break,
            _ => {}
        }
        parser.advance_token();
        read += 1;
        if depth == 0 {
            break;
        }
    }
    let next = &parser.peek_token_ref().token;
    let goes_on = *next != Token::RParen && !crate::parse::continues_query(next);
    (0..read).for_each(|_| parser.prev_token());
    goes_on
}

/// `VALUES` in parentheses, as a query that reads it: sqlparser knows those that begin with SELECT or WITH.
fn values(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let is_list = crate::parse::is_word(&parser.peek_token_ref().token, "values") && parser.peek_nth_token_ref(1).token == Token::LParen;
    if !is_list || parser.get_current_token().token != Token::LParen {
        return None;
    }
    Some(parser.parse_query().map(|subquery| {
        let list = TableFactor::Derived { lateral: false, subquery, alias: None, sample: None };
        Expr::Subquery(Box::new(crate::parse::select_all_from(list)))
    }))
}

#[derive(Debug, Default, Clone, Copy)]
pub struct EddylineDialect;

/// Answers `true` for each switch that PostgreSQL's dialect turns on.
macro_rules! like_postgres {
    ($($switch:ident),* $(,)?) => { $(fn $switch(&self) -> bool { POSTGRES.$switch() })* };
}

impl Dialect for EddylineDialect {
    /// sqlparser asks by type in places; to it we are PostgreSQL.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    /// A back-quote starts a name here, so it is not part of an operator.
    fn is_custom_operator_part(&self, ch: char) -> bool {
        ch != '`' && POSTGRES.is_custom_operator_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        POSTGRES.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    /// `current_schema` and `current_role` are calls without parentheses, as `current_user` is. Types in casts have a grammar of their own, and `VALUES` may be a value.
    /// Operators in front of a number bind as tightly as PostgreSQL's.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let own = crate::parse::cast::prefix(parser).or_else(|| values(parser));
        if own.is_some() {
            return own;
        }
        if let Some((op, precedence)) = sign(&parser.peek_token_ref().token) {
            parser.advance_token();
            let operand = parser.parse_subexpr(self.prec_value(precedence));
            return Some(operand.map(|expr| Expr::UnaryOp { op, expr: Box::new(expr) }));
        }
        const NAMES: [&str; 2] = ["current_schema", "current_role"];
        let is_more = matches!(parser.peek_nth_token_ref(1).token, Token::LParen | Token::Period);
        let name = NAMES.into_iter().find(|name| crate::parse::is_word(&parser.peek_token_ref().token, name)).filter(|_| !is_more)?;
        parser.advance_token();
        Some(Ok(crate::bind::call(name, vec![])))
    }

    /// `x IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]`, which of a null is false. And `x [NOT] IN` a list that begins with a parenthesis.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        let within = within_list(parser, expr);
        if within.is_some() {
            return within;
        }
        let is = |at: usize, word: &str| crate::parse::is_word(&parser.peek_nth_token_ref(at).token, word);
        let negated = is(1, "not");
        let json = 1 + usize::from(negated);
        if !is(0, "is") || !is(json, "json") {
            return None;
        }
        let kind = ["value", "scalar", "array", "object"].into_iter().find(|kind| is(json + 1, kind));
        for _ in 0..=json + usize::from(kind.is_some()) {
            parser.advance_token();
        }
        let holds = Box::new(crate::bind::call(&format!("eddyline_is_json_{}", kind.unwrap_or("value")), vec![expr.clone()]));
        Some(Ok(if negated { Expr::IsNotTrue(holds) } else { Expr::IsTrue(holds) }))
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    // Not `supports_named_fn_args_with_expr_name`: each argument would be parsed as a name first and then again, so that every call within a call takes twice as
    // long. Names of arguments are identifiers.
    like_postgres!(
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_listen_notify,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_geometric_types,
        supports_set_names,
        supports_alter_column_type_using,
        supports_notnull_operator,
        supports_interval_options,
        supports_insert_table_alias,
        supports_create_table_like_parenthesized,
        supports_select_wildcard_with_alias,
        supports_comma_separated_trim,
        supports_xml_expressions,
    );
}
