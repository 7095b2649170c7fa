//! Long lists of literals in `INSERT INTO t VALUES (...), (...), ...`, as tools send them with megabytes of rows. A tree of them takes kilobytes for each value, so the rows
//! behind the first ones are taken out of the tokens before the grammar sees these, and become trees piece by piece when they are wanted. Only what is plainly such a
//! list is taken; all else is left to the grammar, errors too. What the literals are worth, and for what columns, is not known here.

use super::tokens::{find_top_level, is, is_word};
use crate::error::SourceText;
use datafusion::sql::sqlparser::ast::{Expr, Parens, UnaryOperator, Value, Values};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Rows that become a tree at a time: enough that the cost of planning them is that of the rows. A list that has no more is not long.
pub const PIECE_ROWS: usize = 1_024;

/// Types that a list's texts are cast to; a list of more is left to the grammar.
const CASTS_MAX: usize = 32;

/// A literal as it is written.
#[derive(Debug)]
enum Cell {
    Null,
    Boolean(bool),
    Number {
        digits: Box<str>,
        is_negative: bool,
    },
    Text(Box<str>),
    /// A text with the cast that stands here in `casts`.
    Cast {
        text: Box<str>,
        cast: u8,
    },
}

/// The rows of a list behind its first `PIECE_ROWS`, which are as wide as these.
#[derive(Debug)]
pub struct LongValues {
    /// The number of the statement in its text.
    pub statement: usize,
    width: usize,
    cells: Vec<Cell>,
    casts: Casts,
}

/// `'...'::word` by the word, each as the grammar has it.
#[derive(Debug, Default)]
struct Casts(Vec<(String, Expr)>);

impl Casts {
    /// Those in a list; `None` if one of them is none that the grammar knows, or they are too many.
    fn of(list: &[TokenWithSpan], text: &SourceText) -> Option<Casts> {
        let mut casts = Casts::default();
        for tokens in list.windows(3) {
            let (Token::DoubleColon, Token::Word(ty)) = (&tokens[1].token, &tokens[2].token) else { continue };
            if casts.find(&ty.value).is_some() {
                continue;
            }
            let mut words = super::words(tokens.to_vec(), text);
            let cast = words.run(|parser| parser.parse_expr()).ok()?;
            words.expect_end().ok()?;
            if casts.0.len() == CASTS_MAX || !matches!(cast, Expr::Cast { .. }) {
                return None;
            }
            casts.0.push((ty.value.clone(), cast));
        }
        Some(casts)
    }

    fn find(&self, word: &str) -> Option<u8> {
        self.0.iter().position(|(known, _)| known == word).and_then(|at| u8::try_from(at).ok())
    }

    fn cast(&self, literal: Expr, at: u8) -> Expr {
        let mut cast = self.0[usize::from(at)].1.clone();
        if let Expr::Cast { expr, .. } = &mut cast {
            **expr = literal;
        }
        cast
    }
}

impl LongValues {
    /// Takes them out of a statement's tokens; `None`, and the tokens are as they were, if there is no such list.
    pub fn take(tokens: &mut Vec<TokenWithSpan>, statement: usize, text: &SourceText) -> Option<LongValues> {
        let (width, mut end) = row(tokens, list_start(tokens)?)?;
        let (mut rows, mut first_end) = (1, end);
        while is(tokens, end, &Token::Comma) {
            let (cells, next) = row(tokens, end + 1)?;
            if cells != width {
                return None;
            }
            (end, rows) = (next, rows + 1);
            if rows == PIECE_ROWS {
                first_end = end;
            }
        }
        let is_whole = tokens.get(end).is_none_or(|next| is_word(&next.token, "on") || is_word(&next.token, "returning"));
        if rows <= PIECE_ROWS || !is_whole {
            return None;
        }
        let casts = Casts::of(&tokens[first_end..end], text)?;
        let mut cells = Vec::with_capacity((rows - PIECE_ROWS) * width);
        let (mut is_negative, mut is_cast) = (false, false);
        for TokenWithSpan { token, .. } in tokens.drain(first_end..end) {
            match token {
                Token::Minus => is_negative = true,
                Token::Number(digits, _) => {
                    cells.push(Cell::Number { digits: digits.into(), is_negative: std::mem::take(&mut is_negative) });
                }
                Token::SingleQuotedString(text) => cells.push(Cell::Text(text.into())),
                Token::DoubleColon => is_cast = true,
                Token::Word(word) if std::mem::take(&mut is_cast) => {
                    if let (Some(Cell::Text(text)), Some(cast)) = (cells.pop(), casts.find(&word.value)) {
                        cells.push(Cell::Cast { text, cast });
                    }
                }
                word if is_word(&word, "null") => cells.push(Cell::Null),
                word if is_word(&word, "true") || is_word(&word, "false") => cells.push(Cell::Boolean(is_word(&word, "true"))),
                _ => {}
            }
        }
        tokens.shrink_to_fit();
        Some(LongValues { statement, width, cells, casts })
    }

    /// The rows as lists that the grammar could have made, one after the other.
    pub fn pieces(&self) -> impl Iterator<Item = Values> {
        self.cells.chunks(self.width * PIECE_ROWS).map(move |piece| {
            let rows = piece.chunks(self.width).map(|row| Parens::with_empty_span(row.iter().map(|cell| self.expr(cell)).collect()));
            Values { explicit_row: false, value_keyword: false, rows: rows.collect() }
        })
    }

    fn expr(&self, cell: &Cell) -> Expr {
        let literal = |value: Value| Expr::Value(value.with_empty_span());
        let text = |text: &str| literal(Value::SingleQuotedString(text.to_string()));
        match cell {
            Cell::Null => literal(Value::Null),
            Cell::Boolean(value) => literal(Value::Boolean(*value)),
            Cell::Number { digits, is_negative } => {
                let number = literal(Value::Number(digits.to_string(), false));
                if *is_negative { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) } } else { number }
            }
            Cell::Text(written) => text(written),
            Cell::Cast { text: written, cast } => self.casts.cast(text(written), *cast),
        }
    }
}

/// Where the first row begins after `INSERT INTO name [AS alias] [(columns)] VALUES`.
fn list_start(tokens: &[TokenWithSpan]) -> Option<usize> {
    let word = |at: usize, word: &str| tokens.get(at).is_some_and(|t| is_word(&t.token, word));
    if !word(0, "insert") || !word(1, "into") {
        return None;
    }
    let mut at = 3;
    while is(tokens, at, &Token::Period) {
        at += 2;
    }
    if word(at, "as") {
        at += 2;
    }
    if is(tokens, at, &Token::LParen) {
        at = find_top_level(tokens, at + 1, |i| tokens[i].token == Token::RParen)? + 1;
    }
    word(at, "values").then_some(at + 1)
}

/// How many literals the row has that begins here, and where it has ended.
fn row(tokens: &[TokenWithSpan], start: usize) -> Option<(usize, usize)> {
    if !is(tokens, start, &Token::LParen) {
        return None;
    }
    let (mut width, mut at) = (1, cell_end(tokens, start + 1)?);
    while is(tokens, at, &Token::Comma) {
        (width, at) = (width + 1, cell_end(tokens, at + 1)?);
    }
    is(tokens, at, &Token::RParen).then_some((width, at + 1))
}

fn cell_end(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    match &tokens.get(at)?.token {
        Token::Minus => matches!(tokens.get(at + 1)?.token, Token::Number(_, false)).then_some(at + 2),
        Token::SingleQuotedString(_) if is(tokens, at + 1, &Token::DoubleColon) => {
            matches!(&tokens.get(at + 2)?.token, Token::Word(ty) if ty.quote_style.is_none()).then_some(at + 3)
        }
        Token::Number(_, false) | Token::SingleQuotedString(_) => Some(at + 1),
        word => ["null", "true", "false"].iter().any(|literal| is_word(word, literal)).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use crate::parse::ast::Ast;
    use crate::parse::{Parsed, parse};
    use datafusion::sql::sqlparser::ast::{SetExpr, Values};

    const ROWS: usize = 2_500;

    fn insert(head: &str, row: impl Fn(usize) -> String, tail: &str) -> String {
        let rows: Vec<String> = (0..ROWS).map(row).collect();
        format!("SELECT 1; {head} {} {tail}; SELECT 2", rows.join(", "))
    }

    fn values(parsed: &Parsed) -> &Values {
        let Ast::Insert(insert, _) = &parsed.ast else { panic!("not an INSERT: {parsed:?}") };
        match insert.source.as_ref().map(|query| query.body.as_ref()) {
            Some(SetExpr::Values(values)) => values,
            other => panic!("not VALUES: {other:?}"),
        }
    }

    /// A long list in pieces is the list, and the statement whole again is as the grammar has it.
    #[test]
    fn pieces_are_the_list() {
        for head in ["INSERT INTO t VALUES", "insert into public.t as x (a, \"B\", c, d, e) values"] {
            let row = |i: usize| {
                let (flag, day) = (["NULL", "true", "False"][i % 3], ["'2024-01-01'::DATE", "'12'::text", "'{}'::jsonb", "NULL"][i % 4]);
                format!("({i}, -1.5e{}, 'it''s {i}', {flag}, {day})", i % 3)
            };
            for tail in ["", "ON CONFLICT DO NOTHING RETURNING a", "RETURNING *"] {
                let parsed = parse(&insert(head, row, tail)).unwrap();
                let [_, parsed, last] = parsed.as_slice() else { panic!("three statements") };
                assert_eq!(last.sql, "SELECT 2");
                let long = parsed.long_values.as_ref().expect("it is long");
                let mut rows = values(parsed).rows.clone();
                assert_eq!(rows.len(), super::PIECE_ROWS);
                rows.extend(long.pieces().flat_map(|piece| piece.rows));
                let whole = parsed.whole(long).unwrap();
                assert!(whole.long_values.is_none());
                assert_eq!(whole.sql, parsed.sql);
                assert_eq!(values(&whole).rows, rows);
            }
        }
    }

    /// What is not a list of literals, all as wide, goes to the grammar as it is.
    #[test]
    fn others_are_left_whole() {
        for (odd, tail) in [
            ("(1 + 1)", ""),
            ("(DEFAULT)", ""),
            ("($1)", ""),
            ("(now())", ""),
            ("('1'::numeric(10, 2))", ""),
            ("(1::bigint)", ""),
            ("(1, 2)", ""),
            ("(1)", "ORDER BY 1"),
            ("(1)", "UNION ALL SELECT 1"),
        ] {
            let row = |i: usize| if i == 2_000 { odd.to_string() } else { "(1)".to_string() };
            let parsed = parse(&insert("INSERT INTO t VALUES", row, tail)).unwrap();
            assert!(parsed[1].long_values.is_none(), "{odd} {tail}");
        }
        let long = format!("SELECT 1 IN (1{})", ", 1".repeat(1_000_000));
        assert_eq!(parse(&long).unwrap_err().state.0, "54001", "what the grammar takes is bounded");
        let error = parse(&insert("INSERT INTO t VALUES", |i| if i == 2_000 { "(1 1)".into() } else { "(1)".into() }, "")).unwrap_err();
        assert!(error.position.is_some());
    }
}
