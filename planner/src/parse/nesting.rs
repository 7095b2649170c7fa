//! Parentheses that PostgreSQL's grammar does without and sqlparser's does not: around a join on the right of another one, as in `a JOIN b JOIN c ON x ON y`, and around an item of
//! ROLLUP, CUBE and GROUPING SETS that only begins with one, as in `ROLLUP ((k)::int)`. And a SELECT around what is compared by ANY and ALL and begins with a query in parentheses, as in
//! `ANY ((SELECT 1) UNION SELECT 2)`. Lists of grouping sets inside another one become calls, which `bind::grouping` reads. All have the places of the tokens that they stand before. It does
//! not know what is joined, grouped or compared.

use super::tokens::{continues_query, find_top_level, is, is_word};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Before which tokens something is missing.
type Missing = Vec<(usize, Piece)>;

/// In the order in which they stand before one token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Close,
    Open,
    /// `SELECT * FROM (`
    Query,
}

impl Piece {
    fn tokens(self) -> Vec<Token> {
        match self {
            Piece::Close => vec![Token::RParen],
            Piece::Open => vec![Token::LParen],
            Piece::Query => vec![Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM"), Token::LParen],
        }
    }
}

/// What lists of grouping sets inside another one are called, and a set without columns there.
pub const INNER_SETS: &str = "__grouping_sets";
pub const INNER_ROLLUP: &str = "__rollup";
pub const INNER_CUBE: &str = "__cube";
pub const NO_COLUMNS: &str = "__no_columns";

pub fn rewrite(tokens: &mut Vec<TokenWithSpan>) {
    name_inner(tokens);
    let mut missing = Missing::new();
    around_joins(tokens, &mut missing);
    around_items(tokens, &mut missing);
    around_compared(tokens, &mut missing);
    if missing.is_empty() {
        return;
    }
    missing.sort_unstable();
    let mut missing = missing.into_iter().peekable();
    for (i, token) in std::mem::take(tokens).into_iter().enumerate() {
        while let Some((_, piece)) = missing.next_if(|(at, _)| *at == i) {
            tokens.extend(piece.tokens().into_iter().map(|new| TokenWithSpan::new(new, token.span)));
        }
        tokens.push(token);
    }
}

/// A join whose ON or USING has not come yet.
struct Join {
    /// Where its right side begins.
    right: usize,
    /// Whether that is a join.
    nests: bool,
}

/// An ON or USING is the newest join's that has none, as a closing bracket is the newest opening one's.
fn around_joins(tokens: &[TokenWithSpan], missing: &mut Missing) {
    let (mut joins, mut around): (Vec<Join>, Vec<Vec<Join>>) = Default::default();
    for (i, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => around.push(std::mem::take(&mut joins)),
            Token::RParen => joins = around.pop().unwrap_or_default(),
            Token::Comma | Token::SemiColon => joins.clear(),
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::JOIN => {
                    joins.iter_mut().for_each(|join| join.nests = true);
                    if asks_for_condition(tokens, i) {
                        joins.push(Join { right: i + 1, nests: false });
                    }
                }
                Keyword::ON | Keyword::USING => {
                    if let Some(join) = joins.pop().filter(|join| join.nests) {
                        missing.extend([(join.right, Piece::Open), (i, Piece::Close)]);
                    }
                }
                Keyword::SELECT | Keyword::WHERE => joins.clear(),
                _ => {}
            },
            _ => {}
        }
    }
}

/// Whether the join at `i` is neither a CROSS JOIN nor a NATURAL one.
fn asks_for_condition(tokens: &[TokenWithSpan], i: usize) -> bool {
    let is_any = |token: &TokenWithSpan, words: &[&str]| words.iter().any(|word| is_word(&token.token, word));
    let before = tokens[..i].iter().rev().find(|token| !is_any(token, &["inner", "left", "right", "full", "outer"]));
    !before.is_some_and(|token| is_any(token, &["cross", "natural"]))
}

fn around_items(tokens: &[TokenWithSpan], missing: &mut Missing) {
    for (i, token) in tokens.iter().enumerate() {
        let is_sets = is_word(&token.token, "sets") && i.checked_sub(1).is_some_and(|before| is_word(&tokens[before].token, "grouping"));
        let is_list = is_sets || is_word(&token.token, "rollup") || is_word(&token.token, "cube");
        if !is_list || !is(tokens, i + 1, &Token::LParen) {
            continue;
        }
        let mut start = i + 2;
        while let Some(end) = find_top_level(tokens, start, |at| matches!(tokens[at].token, Token::Comma | Token::RParen)) {
            let opens = is(tokens, start, &Token::LParen);
            let close = find_top_level(tokens, start + 1, |at| tokens[at].token == Token::RParen).filter(|_| opens);
            if close.is_some_and(|close| close + 1 < end) {
                missing.extend([(start, Piece::Open), (end, Piece::Close)]);
            }
            if tokens[end].token == Token::RParen {
                break;
            }
            start = end + 1;
        }
    }
}

/// What a bracket that is open holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Sets,
    InnerSets,
    Other,
}

fn name_inner(tokens: &mut Vec<TokenWithSpan>) {
    if !tokens.iter().any(|token| is_word(&token.token, "sets")) {
        return;
    }
    let read = std::mem::take(tokens);
    let word = |at: usize, word: &str| read.get(at).is_some_and(|token| is_word(&token.token, word));
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(token) = read.get(at) {
        let around = open.last().copied().unwrap_or(Open::Other);
        let begins = around != Open::Other && matches!(read[at - 1].token, Token::LParen | Token::Comma);
        let is_sets = word(at, "grouping") && word(at + 1, "sets") && is(&read, at + 2, &Token::LParen);
        let is_call = begins && is(&read, at + 1, &Token::LParen);
        let name = match &token.token {
            _ if begins && is_sets => Some(INNER_SETS),
            _ if is_call && word(at, "rollup") => Some(INNER_ROLLUP),
            _ if is_call && word(at, "cube") => Some(INNER_CUBE),
            Token::LParen if begins && around == Open::InnerSets && is(&read, at + 1, &Token::RParen) => Some(NO_COLUMNS),
            _ => None,
        };
        tokens.extend(name.map(|name| TokenWithSpan::new(Token::make_word(name, None), token.span)));
        let end = at + if is_sets { 3 } else { 1 };
        let replaced = match name {
            Some(INNER_SETS) => 2,
            Some(INNER_ROLLUP | INNER_CUBE) => 1,
            _ => 0,
        };
        tokens.extend_from_slice(&read[at + replaced..end]);
        match &token.token {
            _ if is_sets => open.push(if begins { Open::InnerSets } else { Open::Sets }),
            Token::LParen | Token::LBracket => open.push(Open::Other),
            Token::RParen | Token::RBracket => {
                open.pop();
            }
            _ => {}
        }
        at = end;
    }
}

fn around_compared(tokens: &[TokenWithSpan], missing: &mut Missing) {
    for (i, token) in tokens.iter().enumerate() {
        let is_compared = ["any", "some", "all"].iter().any(|word| is_word(&token.token, word)) && i > 0 && compares(&tokens[i - 1].token);
        if !is_compared || !is(tokens, i + 1, &Token::LParen) || !is(tokens, i + 2, &Token::LParen) {
            continue;
        }
        if let Some((first, end)) = compound(tokens, i + 1) {
            missing.extend([(first, Piece::Query), (end, Piece::Close)]);
        }
    }
}

/// A query that begins with one in parentheses and goes on, in these at `open`: where that begins, and where it ends. There may be more around it.
fn compound(tokens: &[TokenWithSpan], open: usize) -> Option<(usize, usize)> {
    let close = |open: usize| find_top_level(tokens, open + 1, |at| tokens[at].token == Token::RParen);
    let (mut first, mut end) = (open + 1, close(open)?);
    loop {
        let inner = close(first).filter(|_| is(tokens, first, &Token::LParen))?;
        if inner + 1 < end {
            return continues_query(&tokens[inner + 1].token).then_some((first, end));
        }
        (first, end) = (first + 1, inner);
    }
}

fn compares(token: &Token) -> bool {
    matches!(token, Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq)
}

#[cfg(test)]
mod tests {
    fn shown(query: &str) -> String {
        crate::parse::parse_query(query).expect("it parses").to_string()
    }

    #[test]
    fn a_condition_is_of_the_newest_join_without_one() {
        for (written, read) in [
            ("a JOIN b JOIN c ON x ON y", "a JOIN (b JOIN c ON x) ON y"),
            ("a LEFT JOIN b JOIN c USING (k) USING (k)", "a LEFT JOIN (b JOIN c USING(k)) USING(k)"),
            ("a JOIN b JOIN c JOIN d ON x ON y ON z", "a JOIN (b JOIN (c JOIN d ON x) ON y) ON z"),
            ("a JOIN b JOIN c ON x JOIN d ON y ON z", "a JOIN (b JOIN c ON x JOIN d ON y) ON z"),
            ("a JOIN b CROSS JOIN c ON x", "a JOIN (b CROSS JOIN c) ON x"),
            ("a NATURAL LEFT JOIN b JOIN c ON x", "a NATURAL LEFT JOIN b JOIN c ON x"),
            ("a JOIN b ON x JOIN c ON y", "a JOIN b ON x JOIN c ON y"),
            ("a JOIN (SELECT 1 FROM b JOIN c ON x) AS d ON y", "a JOIN (SELECT 1 FROM b JOIN c ON x) AS d ON y"),
        ] {
            assert_eq!(shown(&format!("SELECT 1 FROM {written}")), format!("SELECT 1 FROM {read}"), "{written}");
        }
    }

    #[test]
    fn what_is_compared_may_begin_with_a_query_in_parentheses() {
        for (written, read) in [
            ("a = ANY ((SELECT 1) UNION (SELECT 2))", "a = ANY (SELECT * FROM ((SELECT 1) UNION (SELECT 2)))"),
            ("a = ANY (((SELECT 1) LIMIT 1))", "a = ANY ((SELECT * FROM ((SELECT 1) LIMIT 1)))"),
            ("a = ANY ((b || c) || d)", "a = ANY ((b || c) || d)"),
            ("a = ANY ((SELECT b)::INT[])", "a = ANY ((SELECT b)::INT[])"),
            ("a > SOME (VALUES (1), (2))", "a > SOME (SELECT * FROM (VALUES (1), (2)))"),
            ("a > ALL ((VALUES (1), (2)))", "a > ALL ((SELECT * FROM (VALUES (1), (2))))"),
        ] {
            let query = |condition: &str| shown(&format!("SELECT {condition}"));
            assert_eq!(query(written), query(read), "{written}");
        }
    }

    #[test]
    fn an_item_may_begin_with_a_parenthesis() {
        for (written, read) in [
            ("ROLLUP ((a)::int, b)", "ROLLUP ((a)::INT, b)"),
            ("CUBE ((a), (b) + 1)", "CUBE (a, (b) + 1)"),
            ("GROUPING SETS ((a, b), (a) * 2, ())", "GROUPING SETS ((a, b), (a) * 2, ())"),
            ("GROUPING SETS (rollup (a, (b, c)), CUBE (b), (a))", "GROUPING SETS (__rollup(a, (b, c)), __cube(b), (a))"),
            ("GROUPING SETS ((), GROUPING SETS ((a), ()))", "GROUPING SETS ((), __grouping_sets((a), __no_columns()))"),
        ] {
            let query = |grouped: &str| format!("SELECT 1 FROM t GROUP BY {grouped}");
            let (written, read) = (shown(&query(written)), shown(&query(read)));
            assert_eq!(written, read);
        }
    }
}
