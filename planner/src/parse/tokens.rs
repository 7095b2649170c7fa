//! Work on tokens before parsing: the bound on nesting, and the few spellings that sqlparser has no
//! grammar for. Tokens keep their spans, so error positions stay true; text is never rewritten.

use crate::error::{SourceText, too_deep};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use eddyline_common::{Result, SqlError, SqlState};

/// Brackets and CASE inside one another. PostgreSQL's own limit is its stack; nobody writes this by hand.
const MAX_BRACKETS: usize = 200;
/// Operators and keywords in a row, summed over the open brackets: the depth of the tree they may make.
/// Trees are dropped recursively on ordinary stacks, so they must stay shallow.
const MAX_CHAIN: usize = 2_000;
/// Joins and set operations in a row, each a level of the logical plan.
const MAX_RELATIONS: usize = 400;
/// Operators in a row that no comparison and no keyword is between. Planning asks at each level of their tree for the type of all beneath.
const MAX_OPERATORS: usize = 400;
/// What a name may have, in quotes or without.
const NAME_BYTES_MAX: usize = 1_024;
/// What the grammar takes at a time. With the plan that it becomes, a token takes up to 700 bytes.
pub const MAX_TOKENS: usize = 2_000_000;

/// Refuses what would take more memory than one statement should: it is in no bound of queries.
pub fn check_length(tokens: &[TokenWithSpan], text: &SourceText) -> Result<()> {
    let Some(beyond) = tokens.get(MAX_TOKENS) else { return Ok(()) };
    let hint = match is_word(&tokens[0].token, "insert") {
        true => "Write fewer rows at a time, or use COPY.",
        false => "Put the values into a table, and read them from there.",
    };
    let error = SqlError::new(SqlState::TOO_COMPLEX, "statement is too long")
        .with_detail(format!(
            "It may have {MAX_TOKENS} words, numbers and signs. Rows of VALUES do not count if all are literals and go into a table."
        ))
        .with_hint(hint);
    Err(text.at(error, beyond.span.start))
}

/// Refuses names that nobody could read, and that would be compared with all that there are.
pub fn check_names(tokens: &[TokenWithSpan], text: &SourceText) -> Result<()> {
    let is_long = |token: &&TokenWithSpan| matches!(&token.token, Token::Word(word) if word.value.len() > NAME_BYTES_MAX);
    match tokens.iter().find(is_long) {
        Some(long) => {
            let error = SqlError::new(SqlState::NAME_TOO_LONG, "name is too long");
            Err(text.at(error.with_detail(format!("It may have {NAME_BYTES_MAX} bytes.")), long.span.start))
        }
        None => Ok(()),
    }
}

/// Refuses what would build too deep a tree.
pub fn check_depth(tokens: &[TokenWithSpan], text: &SourceText) -> Result<()> {
    let mut levels = vec![Level::default()];
    let (mut total, mut prefixes) = (0, 0);
    for token in tokens {
        prefixes = if is_prefix(&token.token) { prefixes + 1 } else { 0 };
        let part = levels.last().filter(|level| level.is_case).and_then(|_| part_of_case(&token.token));
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(Level::default()),
            Token::RParen | Token::RBracket | Token::RBrace => total -= close(&mut levels),
            _ if part == Some(Keyword::END) => total -= levels.pop().map_or(0, |case| case.chain),
            _ if part.is_some() || token.token == Token::Comma => {
                let level = levels.last_mut().expect("one level stays");
                total -= level.chain;
                (level.chain, level.operators) = (0, 0);
            }
            // The end of a statement.
            Token::SemiColon if levels[1..].iter().all(|level| level.is_case) => (levels, total) = (vec![Level::default()], 0),
            other => {
                let level = levels.last_mut().expect("one level stays");
                total += level.take(other);
                if level.relations > MAX_RELATIONS {
                    return Err(text.at(too_deep(), token.span.start));
                }
                if level.operators > MAX_OPERATORS {
                    let hint = format!("Put parts of them into brackets: there may be {MAX_OPERATORS} in a row.");
                    return Err(text.at(too_deep().with_hint(hint), token.span.start));
                }
                if is_word(other, "case") {
                    levels.push(Level { is_case: true, ..Level::default() });
                }
            }
        }
        if levels.len() + prefixes > MAX_BRACKETS || total > MAX_CHAIN {
            return Err(text.at(too_deep(), token.span.start));
        }
    }
    Ok(())
}

/// What stands between two parts of a CASE, as a comma does between others, or ends it.
fn part_of_case(token: &Token) -> Option<Keyword> {
    let Token::Word(word) = token else { return None };
    let is_part = word.quote_style.is_none() && matches!(word.keyword, Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::END);
    is_part.then_some(word.keyword)
}

/// Ends the newest bracket, and in it what looked like a CASE and was a name; what they had.
fn close(levels: &mut Vec<Level>) -> usize {
    let open = levels.iter().rposition(|level| !level.is_case).unwrap_or(0).max(1);
    levels.drain(open..).map(|level| level.chain).sum()
}

/// What has come between two brackets, or the ends of a CASE, since the last comma or its last part.
#[derive(Clone, Copy, Default)]
struct Level {
    is_case: bool,
    chain: usize,
    /// These since the bracket.
    relations: usize,
    operators: usize,
}

impl Level {
    /// How many levels the token may put on the tree.
    fn take(&mut self, token: &Token) -> usize {
        if !deepens(token) {
            return 0;
        }
        self.chain += 1;
        match token {
            Token::Word(word) => {
                self.operators = 0;
                self.relations +=
                    usize::from(matches!(word.keyword, Keyword::JOIN | Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT));
            }
            Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => self.operators = 0,
            _ => self.operators += 1,
        }
        1
    }
}

/// Operators that stand before their operand: the parser goes down one level for each in a row, as for a bracket.
fn is_prefix(token: &Token) -> bool {
    matches!(token, Token::Minus | Token::Plus | Token::Tilde) || is_word(token, "not")
}

/// Tokens that may put another level on the tree without a bracket.
fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword && word.quote_style.is_none(),
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Period | Token::SemiColon | Token::Placeholder(_) => false,
        Token::EscapedStringLiteral(_) | Token::NationalStringLiteral(_) | Token::HexStringLiteral(_) | Token::EOF => false,
        _ => true,
    }
}

/// Rewrites, in place: `TABLE t` as an argument of a window function becomes `t`, and `t PARTITION BY a, b` as one of SESSION becomes
/// `t, __partition(a, b)`.
pub fn rewrite(tokens: &mut Vec<TokenWithSpan>) {
    let argument = |tokens: &[TokenWithSpan], i: usize| -> bool {
        let next_is_name = matches!(&tokens.get(i + 1).map(|t| &t.token), Some(Token::Word(_)));
        let after = match i.checked_sub(1).map(|p| &tokens[p].token) {
            Some(Token::RArrow) => true,
            Some(Token::LParen) => {
                i >= 2
                    && matches!(&tokens[i - 2].token, Token::Word(w)
                        if ["tumble", "hop", "cumulate", "session"].iter().any(|f| w.value.eq_ignore_ascii_case(f)))
            }
            _ => false,
        };
        next_is_name && after
    };
    let mut drop = Vec::new();
    for i in 0..tokens.len() {
        if let Token::Word(Word { keyword: Keyword::TABLE, quote_style: None, .. }) = &tokens[i].token
            && argument(tokens, i)
        {
            drop.push(i);
        }
    }
    if !drop.is_empty() {
        let mut index = 0;
        tokens.retain(|_| {
            index += 1;
            drop.binary_search(&(index - 1)).is_err()
        });
    }
    let mut from = 0;
    while let Some(at) = (from..tokens.len()).find(|i| is_word(&tokens[*i].token, "session") && is(tokens, i + 1, &Token::LParen)) {
        partition_argument(tokens, at + 2);
        from = at + 2;
    }
}

pub fn is(tokens: &[TokenWithSpan], at: usize, token: &Token) -> bool {
    tokens.get(at).is_some_and(|t| t.token == *token)
}

/// `PARTITION BY ...` among the arguments that begin at `start`. Its columns are those up to DESCRIPTOR or a named argument, or
/// else just one, or what is in parentheses.
fn partition_argument(tokens: &mut Vec<TokenWithSpan>, start: usize) {
    let end = find_top_level(tokens, start, |i| tokens[i].token == Token::RParen).unwrap_or(tokens.len());
    let partition = find_top_level(&tokens[..end], start, |i| {
        is_word(&tokens[i].token, "partition") && tokens.get(i + 1).is_some_and(|t| is_word(&t.token, "by"))
    });
    let Some(at) = partition else { return };
    let columns = at + 2;
    let commas: Vec<usize> = {
        let mut commas = Vec::new();
        let mut next = columns;
        while let Some(comma) = find_top_level(&tokens[..end], next, |i| tokens[i].token == Token::Comma) {
            commas.push(comma);
            next = comma + 1;
        }
        commas
    };
    let ends_list = |comma: &usize| is_word(&tokens[comma + 1].token, "descriptor") || is(tokens, comma + 2, &Token::RArrow);
    let close = commas.iter().copied().find(|comma| *comma + 1 < end && ends_list(comma)).or(commas.first().copied());
    let Some(close) = close else { return };
    let parenthesised = is(tokens, columns, &Token::LParen);
    let span = tokens[at].span;
    let token = |token: Token| TokenWithSpan { token, span };
    if !parenthesised {
        tokens.insert(close, token(Token::RParen));
        tokens.insert(columns, token(Token::LParen));
    }
    let name = Token::make_word(crate::bind::session::PARTITION, None);
    tokens.splice(at..at + 2, [token(Token::Comma), token(name)]);
}

/// The position of the first token at bracket depth 0 from `start` on that satisfies `found`.
pub fn find_top_level(tokens: &[TokenWithSpan], start: usize, mut found: impl FnMut(usize) -> bool) -> Option<usize> {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(start) {
        match &token.token {
            _ if depth == 0 && found(i) => return Some(i),
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Whether a query goes on with a token that begins with one in parentheses.
pub fn continues_query(token: &Token) -> bool {
    const OF_QUERY: [&str; 8] = ["union", "intersect", "except", "order", "limit", "offset", "fetch", "for"];
    OF_QUERY.iter().any(|word| is_word(token, word))
}

pub fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    fn is_refused(sql: &str) -> bool {
        crate::parse::parse(sql).is_err_and(|error| error.state == eddyline_common::SqlState::TOO_COMPLEX)
    }

    #[test]
    fn a_case_is_as_deep_as_what_is_inside_it() {
        let whens = |n: usize| format!("CASE {} ELSE 0 END", "WHEN a = 1 AND b THEN -a + 2 ".repeat(n));
        assert!(!is_refused(&format!("SELECT {}, {}", whens(1_500), whens(5_000))));
        let nested = |n: usize| format!("SELECT {}1{}", "CASE WHEN a THEN 0 ELSE ".repeat(n), " END".repeat(n));
        assert!(!is_refused(&nested(190)) && is_refused(&nested(201)));
        let chain = |n: usize| format!("SELECT CASE WHEN a THEN a = 1{} END", " OR a = 1".repeat(n));
        assert!(!is_refused(&chain(900)) && is_refused(&chain(1_100)));
        let names = "SELECT (SELECT 1 AS case), 2 AS case; ".repeat(1_000);
        assert!(!is_refused(&names));
    }
}
