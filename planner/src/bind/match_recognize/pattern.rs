//! Row patterns: from the parser's tree to the plan's, and what follows from a pattern's form alone.

use crate::error::fold;
use crate::plan::MatchPattern;
use datafusion::sql::sqlparser::ast::{MatchRecognizePattern as Ast, MatchRecognizeSymbol as Symbol, RepetitionQuantifier as Quantifier};
use eddyline_common::{Result, SqlError, SqlState};
use std::collections::BTreeSet;

/// Variables of a pattern when its repetitions are written out: more are no pattern that anybody writes.
const SIZE_MAX: u64 = 1_000;

/// The pattern, and the names of its variables by number.
pub fn pattern(ast: &Ast) -> Result<(MatchPattern, Vec<String>)> {
    let mut variables = Vec::new();
    let pattern = convert(ast, &mut variables)?;
    if size(&pattern) > SIZE_MAX {
        return Err(SqlError::unsupported(format!(
            "a row pattern of more than {SIZE_MAX} variables, repetitions written out, is not supported"
        ))
        .with_hint("Repeat less often, or without a bound and with a condition on COUNT."));
    }
    Ok((pattern, variables))
}

fn convert(ast: &Ast, variables: &mut Vec<String>) -> Result<MatchPattern> {
    match ast {
        Ast::Symbol(Symbol::Named(ident)) => {
            let name = fold(ident);
            let at = variables.iter().position(|v| *v == name).unwrap_or_else(|| {
                variables.push(name);
                variables.len() - 1
            });
            Ok(MatchPattern::Variable(at))
        }
        Ast::Symbol(Symbol::Start | Symbol::End) => {
            Err(refused("^ and $", "A stream has no last row; say in DEFINE what the first and last rows are."))
        }
        Ast::Exclude(_) => Err(refused("{- -}", "Choose the rows in the SELECT over it, by CLASSIFIER() AS c.")),
        Ast::Permute(_) => Err(refused("PERMUTE", "Write the orders as alternatives: (A B | B A).")),
        Ast::Concat(parts) => Ok(MatchPattern::Concat(parts.iter().map(|p| convert(p, variables)).collect::<Result<_>>()?)),
        Ast::Alternation(parts) => Ok(MatchPattern::Alternation(parts.iter().map(|p| convert(p, variables)).collect::<Result<_>>()?)),
        Ast::Group(inner) => convert(inner, variables),
        Ast::Repetition(inner, quantifier) => match (inner.as_ref(), quantifier) {
            // One that stands on another.
            (Ast::Repetition(inner, quantifier), Quantifier::AtMostOne) if !matches!(inner.as_ref(), Ast::Repetition(..)) => {
                repeat(convert(inner, variables)?, quantifier, true)
            }
            (Ast::Repetition(..), _) => Err(SqlError::new(SqlState::SYNTAX_ERROR, "a quantifier in a row pattern stands on another one")
                .with_hint("Put what is quantified twice into parentheses.")),
            _ => repeat(convert(inner, variables)?, quantifier, false),
        },
    }
}

fn refused(what: &str, hint: &str) -> SqlError {
    SqlError::unsupported(format!("{what} in a row pattern is not supported")).with_hint(hint)
}

fn repeat(pattern: MatchPattern, quantifier: &Quantifier, reluctant: bool) -> Result<MatchPattern> {
    let (min, max) = match quantifier {
        Quantifier::ZeroOrMore => (0, None),
        Quantifier::OneOrMore => (1, None),
        Quantifier::AtMostOne => (0, Some(1)),
        Quantifier::Exactly(n) => (*n, Some(*n)),
        Quantifier::AtLeast(n) => (*n, None),
        Quantifier::AtMost(n) => (0, Some(*n)),
        Quantifier::Range(n, m) => (*n, Some(*m)),
    };
    if max.is_some_and(|max| max < min || max == 0) {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("{quantifier} in a row pattern allows no number of rows"))
            .with_hint("The upper bound is at least 1, and not below the lower one."));
    }
    if max.is_none() && length(&pattern).0 == 0 {
        return Err(SqlError::unsupported("a row pattern that repeats without end what may be no row is not supported")
            .with_hint("Make what is repeated at least one row: (A+ B*)* instead of (A* B*)*."));
    }
    Ok(MatchPattern::Repeat { pattern: Box::new(pattern), min, max, reluctant })
}

/// Variables with repetitions written out.
fn size(pattern: &MatchPattern) -> u64 {
    match pattern {
        MatchPattern::Variable(_) => 1,
        MatchPattern::Concat(parts) | MatchPattern::Alternation(parts) => parts.iter().map(size).fold(0, u64::saturating_add),
        MatchPattern::Repeat { pattern, min, max, .. } => size(pattern).saturating_mul(u64::from(max.unwrap_or(*min)).max(1)),
    }
}

/// How many rows match, at least and at most.
pub fn length(pattern: &MatchPattern) -> (usize, Option<usize>) {
    match pattern {
        MatchPattern::Variable(_) => (1, Some(1)),
        MatchPattern::Concat(parts) => {
            parts.iter().map(length).fold((0, Some(0)), |(min, max), (a, b)| (min + a, max.zip(b).map(|(x, y)| x + y)))
        }
        MatchPattern::Alternation(parts) => {
            let lengths: Vec<_> = parts.iter().map(length).collect();
            let max = lengths.iter().map(|(_, max)| *max).collect::<Option<Vec<_>>>();
            (lengths.iter().map(|(min, _)| *min).min().unwrap_or(0), max.and_then(|all| all.into_iter().max()))
        }
        MatchPattern::Repeat { pattern, min, max, .. } => {
            let (least, most) = length(pattern);
            (least.saturating_mul(*min as usize), most.zip(*max).map(|(most, max)| most.saturating_mul(max as usize)))
        }
    }
}

/// Whether a match may end in rows that are as many as possible: then it is not known to be whole until another row has come.
pub fn ends_greedily(pattern: &MatchPattern) -> bool {
    match pattern {
        MatchPattern::Variable(_) => false,
        MatchPattern::Alternation(parts) => parts.iter().any(ends_greedily),
        MatchPattern::Concat(parts) => {
            let after = parts.iter().rev().take_while(|p| length(p).0 == 0).count();
            parts.iter().rev().take(after + 1).any(ends_greedily)
        }
        MatchPattern::Repeat { pattern, min, max, reluctant } => (!reluctant && *max != Some(*min)) || ends_greedily(pattern),
    }
}

/// The variables that a match may begin with.
pub fn first_variables(pattern: &MatchPattern) -> BTreeSet<usize> {
    match pattern {
        MatchPattern::Variable(variable) => BTreeSet::from([*variable]),
        MatchPattern::Alternation(parts) => parts.iter().flat_map(first_variables).collect(),
        MatchPattern::Concat(parts) => {
            let before = parts.iter().take_while(|p| length(p).0 == 0).count();
            parts.iter().take(before + 1).flat_map(first_variables).collect()
        }
        MatchPattern::Repeat { pattern, .. } => first_variables(pattern),
    }
}

/// The least number of rows in front of a variable's first one.
pub fn rows_before(pattern: &MatchPattern, variable: usize) -> Option<usize> {
    match pattern {
        MatchPattern::Variable(own) => (*own == variable).then_some(0),
        MatchPattern::Alternation(parts) => parts.iter().filter_map(|p| rows_before(p, variable)).min(),
        MatchPattern::Concat(parts) => {
            let mut passed = 0;
            let mut found: Option<usize> = None;
            for part in parts {
                if let Some(before) = rows_before(part, variable) {
                    found = Some(found.map_or(passed + before, |f| f.min(passed + before)));
                }
                passed += length(part).0;
            }
            found
        }
        MatchPattern::Repeat { pattern, .. } => rows_before(pattern, variable),
    }
}

/// A pattern as it is written.
pub fn text(pattern: &MatchPattern, variables: &[String]) -> String {
    let list = |parts: &[MatchPattern], by: &str| parts.iter().map(|p| text(p, variables)).collect::<Vec<_>>().join(by);
    match pattern {
        MatchPattern::Variable(variable) => variables.get(*variable).cloned().unwrap_or_default(),
        MatchPattern::Concat(parts) => list(parts, " "),
        MatchPattern::Alternation(parts) => format!("({})", list(parts, " | ")),
        MatchPattern::Repeat { pattern, min, max, reluctant } => {
            let inner = match pattern.as_ref() {
                single @ (MatchPattern::Variable(_) | MatchPattern::Alternation(_)) => text(single, variables),
                other => format!("({})", text(other, variables)),
            };
            let quantifier = match (min, max) {
                (0, None) => "*".to_string(),
                (1, None) => "+".to_string(),
                (0, Some(1)) => "?".to_string(),
                (min, None) => format!("{{{min},}}"),
                (min, Some(max)) if min == max => format!("{{{min}}}"),
                (min, Some(max)) => format!("{{{min},{max}}}"),
            };
            format!("{inner}{quantifier}{}", if *reluctant { "?" } else { "" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse_query;
    use datafusion::sql::sqlparser::ast::{SetExpr, TableFactor};

    fn parsed(text: &str) -> Result<(MatchPattern, Vec<String>)> {
        let query = parse_query(&format!(
            "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts PATTERN ({text}) WITHIN INTERVAL '1' HOUR DEFINE z AS true)"
        ))?;
        let SetExpr::Select(select) = query.body.as_ref() else { panic!() };
        let TableFactor::MatchRecognize { pattern: ast, .. } = &select.from[0].relation else { panic!("no clause") };
        pattern(ast)
    }

    #[test]
    fn patterns_are_read_as_they_are_written() {
        for (written, shown) in [
            ("A B+ C*? D?", "a b+ c*? d?"),
            ("A+?|B??|C*", "(a+? | b?? | c*)"),
            ("(A B){2,3}? C{4}D{,5} E{6,}?", "(a b){2,3}? c{4} d{0,5} e{6,}?"),
            ("(A+)? (A | B)*?C", "(a+)? (a | b)*? c"),
        ] {
            let (pattern, variables) = parsed(written).unwrap_or_else(|e| panic!("{written}: {e:?}"));
            assert_eq!(text(&pattern, &variables), shown);
        }
        for refused in ["A+*", "A+??", "(A?)+", "A{3,2}", "A{0}", "^ A", "PERMUTE(A, B)", "(A{100}){100}"] {
            assert!(parsed(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_follows_from_a_pattern() {
        let of = |written: &str| parsed(written).unwrap().0;
        assert_eq!(length(&of("A B{2,3} (C | D E)")), (4, Some(6)));
        assert_eq!(length(&of("A B*")), (1, None));
        for (written, greedy) in
            [("A B+", true), ("A B+?", false), ("A B* C?", true), ("A (B C+)", true), ("A+ B", false), ("A B{2}", false)]
        {
            assert_eq!(ends_greedily(&of(written)), greedy, "{written}");
        }
        assert_eq!(first_variables(&of("A? B C")), BTreeSet::from([0, 1]));
        assert_eq!(rows_before(&of("A B* C"), 2), Some(1));
        assert_eq!(rows_before(&of("(A | B C) C"), 2), Some(1));
    }
}
