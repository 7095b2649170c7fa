//! Parentheses that PostgreSQL's grammar does without and sqlparser's does not: around a join on the right of another one, as in `a JOIN b JOIN c ON x ON y`, and around an item of
//! ROLLUP, CUBE and GROUPING SETS that only begins with one, as in `ROLLUP ((k)::int)`. They have the places of the tokens that they stand before. It does not know what is joined or grouped.

use super::tokens::{find_top_level, is, is_word};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Before which tokens parentheses are missing, and whether they open. Closing ones come first.
type Missing = Vec<(usize, bool)>;

pub fn rewrite(tokens: &mut Vec<TokenWithSpan>) {
    let mut missing = Missing::new();
    around_joins(tokens, &mut missing);
    around_items(tokens, &mut missing);
    if missing.is_empty() {
        return;
    }
    missing.sort_unstable();
    let mut missing = missing.into_iter().peekable();
    for (i, token) in std::mem::take(tokens).into_iter().enumerate() {
        while let Some((_, opens)) = missing.next_if(|(at, _)| *at == i) {
            let parenthesis = if opens { Token::LParen } else { Token::RParen };
            tokens.push(TokenWithSpan::new(parenthesis, token.span));
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
                        missing.extend([(join.right, true), (i, false)]);
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
                missing.extend([(start, true), (end, false)]);
            }
            if tokens[end].token == Token::RParen {
                break;
            }
            start = end + 1;
        }
    }
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
    fn an_item_may_begin_with_a_parenthesis() {
        for (written, read) in [
            ("ROLLUP ((a)::int, b)", "ROLLUP ((a)::INT, b)"),
            ("CUBE ((a), (b) + 1)", "CUBE (a, (b) + 1)"),
            ("GROUPING SETS ((a, b), (a) * 2, ())", "GROUPING SETS ((a, b), (a) * 2, ())"),
        ] {
            let query = |grouped: &str| format!("SELECT 1 FROM t GROUP BY {grouped}");
            let (written, read) = (shown(&query(written)), shown(&query(read)));
            assert_eq!(written, read);
        }
    }
}
