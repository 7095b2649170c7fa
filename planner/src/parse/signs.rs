//! Signs behind operators: `x>-1` compares with a negative number, as in PostgreSQL, where an operator of several characters ends in `+` or `-` only if it has one of
//! `` ~ ! @ # % ^ & | ` ? `` too. It knows nothing of what operators mean.

use super::DIALECT;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

const WITH_A_SIGN: [char; 10] = ['~', '!', '@', '#', '%', '^', '&', '|', '`', '?'];

/// Takes the signs off such operators, in place.
pub fn rewrite(tokens: &mut Vec<TokenWithSpan>) {
    if tokens.iter().all(|token| parts(&token.token).is_none()) {
        return;
    }
    for token in std::mem::take(tokens) {
        match parts(&token.token) {
            Some((operator, signs)) => {
                let at = |offset: usize| Location::new(token.span.start.line, token.span.start.column + offset as u64);
                tokens.push(TokenWithSpan::new(operator, Span::new(token.span.start, at(signs.0))));
                let sign =
                    |(offset, sign): (usize, Token)| TokenWithSpan::new(sign, Span::new(at(signs.0 + offset), at(signs.0 + offset + 1)));
                tokens.extend(signs.1.into_iter().enumerate().map(sign));
            }
            None => tokens.push(token),
        }
    }
}

/// The operator without its signs, and these with where they begin in it.
fn parts(token: &Token) -> Option<(Token, (usize, Vec<Token>))> {
    let Token::CustomBinaryOperator(text) = token else { return None };
    let begin = text.trim_end_matches(['+', '-']).len();
    if begin == 0 || begin == text.len() || text.contains(WITH_A_SIGN) {
        return None;
    }
    let (operator, signs) = text.split_at(begin);
    let [operator] = <[Token; 1]>::try_from(Tokenizer::new(&DIALECT, operator).tokenize().ok()?).ok()?;
    let signs = signs.chars().map(|sign| if sign == '-' { Token::Minus } else { Token::Plus });
    Some((operator, (begin, signs.collect())))
}

#[cfg(test)]
mod tests {
    fn shown(condition: &str) -> String {
        crate::parse::parse_query(&format!("SELECT {condition}")).expect("it parses").to_string()
    }

    #[test]
    fn a_sign_belongs_to_what_is_behind_it() {
        for (written, read) in [
            ("a>-1", "a > -1"),
            ("a>=-b", "a >= -b"),
            ("a<>+1", "a <> +1"),
            ("a<=-1 AND b<-1", "a <= -1 AND b < -1"),
            ("a<<-1", "a << -1"),
            ("a->-1", "a -> -1"),
        ] {
            assert_eq!(shown(written), format!("SELECT {read}"), "{written}");
        }
    }
}
