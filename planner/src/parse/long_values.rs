//! Long lists of literals in `INSERT INTO t VALUES (...), (...), ...`, as tools send them with megabytes of rows. A tree of them takes kilobytes for each value, so the rows
//! behind the first ones are taken out of the tokens before the grammar sees these, and become trees piece by piece when they are wanted. Only what is plainly such a
//! list is taken; all else is left to the grammar, errors too, and of what is too long for that it is told which row is no such list's. What the literals are worth, and
//! for what columns, is not known here.

use super::tokens::{MAX_TOKENS, find_top_level, is, is_word};
use crate::error::SourceText;
use datafusion::sql::sqlparser::ast::{Expr, Parens, UnaryOperator, Value, ValueWithSpan, Values};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};
use eddyline_common::{SqlError, SqlState};

/// Rows that become a tree at a time: enough that the cost of planning them is that of the rows. A list that has no more is not long.
pub const PIECE_ROWS: usize = 1_024;

/// Types that a list's texts are cast to; a list of more is left to the grammar.
const CASTS_MAX: usize = 32;

/// A literal, and where it stands.
#[derive(Debug)]
struct Cell {
    literal: Literal,
    /// Line and column.
    place: (u32, u32),
}

/// As it is written.
#[derive(Debug)]
enum Literal {
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
        let Rows { width, count, first_end, end } = Rows::of(tokens, list_start(tokens)?).ok()?;
        let is_whole = tokens.get(end).is_none_or(|next| is_word(&next.token, "on") || is_word(&next.token, "returning"));
        if count <= PIECE_ROWS || !is_whole {
            return None;
        }
        let casts = Casts::of(&tokens[first_end..end], text)?;
        let mut cells: Vec<Cell> = Vec::with_capacity((count - PIECE_ROWS) * width);
        let (mut is_negative, mut is_cast) = (false, false);
        for TokenWithSpan { token, span } in tokens.drain(first_end..end) {
            let literal = match token {
                Token::Minus => {
                    is_negative = true;
                    continue;
                }
                Token::DoubleColon => {
                    is_cast = true;
                    continue;
                }
                Token::Word(word) if std::mem::take(&mut is_cast) => {
                    if let (Some(Cell { literal, .. }), Some(cast)) = (cells.last_mut(), casts.find(&word.value)) {
                        literal.cast(cast);
                    }
                    continue;
                }
                Token::Number(digits, _) => Literal::Number { digits: digits.into(), is_negative: std::mem::take(&mut is_negative) },
                Token::SingleQuotedString(text) => Literal::Text(text.into()),
                word if is_word(&word, "null") => Literal::Null,
                word if is_word(&word, "true") || is_word(&word, "false") => Literal::Boolean(is_word(&word, "true")),
                _ => continue,
            };
            cells.push(Cell { literal, place: (short(span.start.line), short(span.start.column)) });
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

    fn expr(&self, Cell { literal, place: (line, column) }: &Cell) -> Expr {
        let start = Location::new((*line).into(), (*column).into());
        let value = |value: Value| Expr::Value(ValueWithSpan { value, span: Span::new(start, start) });
        let text = |text: &str| value(Value::SingleQuotedString(text.to_string()));
        match literal {
            Literal::Null => value(Value::Null),
            Literal::Boolean(is_true) => value(Value::Boolean(*is_true)),
            Literal::Number { digits, is_negative } => {
                let number = value(Value::Number(digits.to_string(), false));
                if *is_negative { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) } } else { number }
            }
            Literal::Text(written) => text(written),
            Literal::Cast { text: written, cast } => self.casts.cast(text(written), *cast),
        }
    }
}

impl Literal {
    /// Makes a text one with a cast.
    fn cast(&mut self, cast: u8) {
        if let Literal::Text(text) = self {
            *self = Literal::Cast { text: std::mem::take(text), cast };
        }
    }
}

/// A line or a column; a text has no more of them than it has bytes, which are 256 MiB at most.
fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What is wrong with a list of VALUES that is too long to be anything but one of literals; `None` if nothing is, or the statement is another one.
pub fn stray(tokens: &[TokenWithSpan], text: &SourceText) -> Option<SqlError> {
    let (at, error) = match Rows::of(tokens, list_start(tokens)?).err()? {
        Stray::Width(at) => (at, SqlError::new(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length")),
        Stray::Cell(at) => {
            let message = format!("VALUES of more than {MAX_TOKENS} words, numbers and signs may have literals only");
            let error = SqlError::unsupported(message)
                .with_detail("Literals are numbers, texts in quotes ('...', '...'::date), NULL, TRUE and FALSE.")
                .with_hint("Write fewer rows at a time, or use COPY.");
            (at, error)
        }
    };
    Some(tokens.get(at).map_or(error.clone(), |token| text.at(error, token.span.start)))
}

/// Where rows of literals, all as wide, stand among tokens.
struct Rows {
    width: usize,
    count: usize,
    /// Where the first `PIECE_ROWS` have ended, and all of them.
    first_end: usize,
    end: usize,
}

/// The token at which a list is no longer one of such rows: where the row begins that has another width, or what is no literal.
enum Stray {
    Width(usize),
    Cell(usize),
}

impl Rows {
    fn of(tokens: &[TokenWithSpan], start: usize) -> Result<Rows, Stray> {
        let (width, end) = row(tokens, start)?;
        let mut rows = Rows { width, count: 1, first_end: end, end };
        while is(tokens, rows.end, &Token::Comma) {
            let start = rows.end + 1;
            let (width, end) = row(tokens, start)?;
            if width != rows.width {
                return Err(Stray::Width(start));
            }
            (rows.end, rows.count) = (end, rows.count + 1);
            if rows.count == PIECE_ROWS {
                rows.first_end = end;
            }
        }
        Ok(rows)
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
fn row(tokens: &[TokenWithSpan], start: usize) -> Result<(usize, usize), Stray> {
    if !is(tokens, start, &Token::LParen) {
        return Err(Stray::Cell(start));
    }
    let (mut width, mut cell) = (1, start + 1);
    loop {
        let end = cell_end(tokens, cell).ok_or(Stray::Cell(cell))?;
        match tokens.get(end).map(|next| &next.token) {
            Some(Token::Comma) => (width, cell) = (width + 1, end + 1),
            Some(Token::RParen) => return Ok((width, end + 1)),
            _ => return Err(Stray::Cell(cell)),
        }
    }
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
        for (odd, state) in [("(1 + 1)", "0A000"), ("(now())", "0A000"), ("(1, 2)", "42601"), ("(DEFAULT)", "0A000")] {
            let sql = format!("INSERT INTO t VALUES (1){}, {odd}, (1)", ",(1)".repeat(600_000));
            let error = parse(&sql).unwrap_err();
            let at = sql.rfind(odd).unwrap() + if state == "0A000" { 2 } else { 1 };
            assert_eq!((error.state.0, error.position), (state, Some(at)), "{odd}");
        }
        let error = parse(&insert("INSERT INTO t VALUES", |i| if i == 2_000 { "(1 1)".into() } else { "(1)".into() }, "")).unwrap_err();
        assert!(error.position.is_some());
    }
}
