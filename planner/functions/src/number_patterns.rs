//! PostgreSQL's patterns of numbers: `to_char(number, pattern)` and `to_number(text, pattern)`. It does not know a locale: the point is a point, groups are parted
//! by commas, and there is no sign of a currency.

use super::NUMBER_OF;
use super::native::{Arg, Memo, Native, map_text, text, texts};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type};
use eddyline_common::SqlError;
use std::iter::Peekable;
use std::str::Chars;

pub const FUNCTIONS: &[Native] = &[Native::total(NUMBER_OF, &[Arg::Text, Arg::Text], &[], text, number_of)];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    /// A digit, which is a blank or nothing where the number has none.
    Nine,
    Zero,
    Point,
    Group,
    /// `S`: the sign, before or behind the digits.
    Sign,
    /// `MI`: a minus or a blank.
    Minus,
    /// `PL`: a plus or a blank.
    Plus,
    /// `SG`: a plus or a minus.
    Either,
    /// `PR`: angle brackets around what is negative.
    Brackets,
    Currency,
    Text(char),
}

/// A pattern, read once.
pub struct NumberPattern {
    /// Blanks and zeros at the end fill up what the number has no digits for; not with `FM`.
    fills: bool,
    parts: Vec<Part>,
    /// Digits before the point, and behind it.
    before: usize,
    behind: usize,
}

/// Words of two letters.
const WORDS: [(&str, Part); 4] = [("MI", Part::Minus), ("PL", Part::Plus), ("SG", Part::Either), ("PR", Part::Brackets)];
const REFUSED: [&str; 4] = ["EEEE", "RN", "TH", "V"];

impl NumberPattern {
    pub fn new(pattern: &str) -> Result<Self, SqlError> {
        let (mut fills, mut parts) = (true, Vec::new());
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let starts = |word: &str| rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
            if let Some(word) = REFUSED.into_iter().find(|word| starts(word)) {
                let error = SqlError::unsupported(format!("\"{word}\" in the pattern of a number is not supported"));
                return Err(error.with_hint("Patterns have 9, 0, a point or D, a comma or G, S, MI, PL, SG, PR, L, FM and text."));
            }
            let word = WORDS.into_iter().find(|(word, _)| starts(word));
            let length = if starts("FM") || word.is_some() { 2 } else { first.len_utf8() };
            match (first, word) {
                _ if starts("FM") => fills = false,
                (_, Some((_, part))) => parts.push(part),
                ('9', _) => parts.push(Part::Nine),
                ('0', _) => parts.push(Part::Zero),
                ('.' | 'd' | 'D', _) => parts.push(Part::Point),
                (',' | 'g' | 'G', _) => parts.push(Part::Group),
                ('s' | 'S', _) => parts.push(Part::Sign),
                ('l' | 'L', _) => parts.push(Part::Currency),
                ('"', _) => {
                    let quoted = rest[1..].split('"').next().unwrap_or_default();
                    parts.extend(quoted.chars().map(Part::Text));
                    rest = rest.get(quoted.len() + 2..).unwrap_or_default();
                    continue;
                }
                (other, _) => parts.push(Part::Text(other)),
            }
            rest = &rest[length..];
        }
        let point = parts.iter().position(|part| *part == Part::Point).unwrap_or(parts.len());
        let digits = |parts: &[Part]| parts.iter().filter(|part| part.is_digit()).count();
        Ok(NumberPattern { fills, before: digits(&parts[..point]), behind: digits(&parts[point..]), parts })
    }

    /// Digits behind the point.
    pub fn scale(&self) -> usize {
        self.behind
    }

    /// Writes a number that is given by the digits before its point, without zeros in front, and by as many behind it as the pattern has, or all that count.
    fn write(&self, negative: bool, whole: &str, fraction: &str, out: &mut String) {
        let too_large = whole.len() > self.before || (self.before == 0 && self.behind > 0);
        let hashes = |count: usize| "#".repeat(count);
        let whole: String = if too_large { hashes(self.before) } else { whole.to_string() };
        let fraction: String = if too_large { hashes(self.behind) } else { fraction.to_string() };
        let negative = negative && whole.chars().chain(fraction.chars()).any(|digit| digit != '0');
        let kept = self.kept(&fraction);
        let first = self.before - whole.len();
        let start = self.first_digit(first, kept);
        let mut sign = self.leading_sign(negative);
        let blank = if self.fills { " " } else { "" };
        let (mut at, mut behind, mut begun) = (0, 0, false);
        for (place, part) in self.parts.iter().enumerate() {
            match part {
                Part::Nine | Part::Zero if at < self.before => {
                    if at >= start {
                        out.push_str(sign.take().unwrap_or_default());
                        out.push_str(if at < first { "0" } else { &whole[at - first..at - first + 1] });
                        begun = true;
                    } else {
                        out.push_str(blank);
                    }
                    at += 1;
                }
                Part::Nine | Part::Zero => {
                    out.push_str(if behind < kept { &fraction[behind..behind + 1] } else { "" });
                    behind += 1;
                }
                Part::Point => {
                    out.push_str(sign.take().unwrap_or_default());
                    out.push_str(if !fraction.is_empty() || too_large { "." } else { "" });
                }
                Part::Group => out.push_str(if begun { "," } else { blank }),
                Part::Sign if place < self.digits_from() => {}
                Part::Sign | Part::Either => out.push(if negative { '-' } else { '+' }),
                Part::Minus => out.push_str(if negative { "-" } else { blank }),
                Part::Plus => out.push_str(if negative { blank } else { "+" }),
                Part::Brackets => out.push_str(if negative { ">" } else { blank }),
                Part::Currency => out.push(' '),
                Part::Text(text) => out.push(*text),
            }
        }
    }

    /// How many digits behind the point are written.
    fn kept(&self, fraction: &str) -> usize {
        if self.fills {
            return fraction.len();
        }
        let digits = self.parts.iter().filter(|part| part.is_digit()).skip(self.before);
        let asked = digits.enumerate().filter(|(_, part)| **part == Part::Zero).last().map_or(0, |(at, _)| at + 1);
        asked.min(fraction.len()).max(fraction.trim_end_matches('0').len())
    }

    /// The place before the point from which on digits are written: that of the number's own first one, or of a zero that is asked for. Something is written of a zero.
    fn first_digit(&self, own: usize, kept: usize) -> usize {
        let zero = self.parts.iter().filter(|part| part.is_digit()).take(self.before).position(|part| *part == Part::Zero);
        let start = zero.map_or(own, |zero| zero.min(own));
        if start == self.before && self.before > 0 && kept == 0 { start - 1 } else { start }
    }

    /// Where the digits begin among the parts.
    fn digits_from(&self) -> usize {
        self.parts.iter().position(|part| part.is_digit() || *part == Part::Point).unwrap_or(self.parts.len())
    }

    /// What stands right in front of the first digit, if no other part of the pattern says so.
    fn leading_sign(&self, negative: bool) -> Option<&'static str> {
        let has = |wanted: Part| self.parts.contains(&wanted);
        let positive = if self.fills { " " } else { "" };
        if has(Part::Brackets) {
            return Some(if negative { "<" } else { positive });
        }
        if let Some(place) = self.parts.iter().position(|part| *part == Part::Sign) {
            return (place < self.digits_from()).then_some(if negative { "-" } else { "+" });
        }
        let is_said = has(Part::Minus) || has(Part::Either);
        (!is_said).then_some(if negative { "-" } else { positive })
    }

    /// The number in a text, spelled as a cast reads it.
    fn read(&self, text: &str, out: &mut String) {
        let mut rest = text.trim_start().chars().peekable();
        let (mut digits, mut negative) = (String::new(), false);
        for part in &self.parts {
            let may_be_signed = digits.is_empty() || matches!(part, Part::Sign | Part::Minus | Part::Plus | Part::Either | Part::Brackets);
            if may_be_signed && !matches!(part, Part::Text(_) | Part::Currency) {
                while rest.next_if(|c| matches!(c, ' ' | '+')).is_some() {}
                negative |= rest.next_if(|c| matches!(c, '-' | '<')).is_some();
            }
            match part {
                Part::Nine | Part::Zero => digits.extend(rest.next_if(char::is_ascii_digit)),
                Part::Point if !digits.contains('.') => digits.extend(rest.next_if_eq(&'.')),
                Part::Group => skip(&mut rest, |c| c == ','),
                Part::Currency => skip(&mut rest, |c| !c.is_ascii_digit() && !matches!(c, '-' | '+' | '.')),
                Part::Text(_) => skip(&mut rest, |c| !c.is_ascii_digit()),
                _ => {}
            }
        }
        out.push_str(if negative { "-" } else { "" });
        out.push_str(&digits);
    }
}

impl Part {
    fn is_digit(self) -> bool {
        matches!(self, Part::Nine | Part::Zero)
    }
}

fn skip(rest: &mut Peekable<Chars<'_>>, what: fn(char) -> bool) {
    rest.next_if(|c| what(*c));
}

/// `to_char` of a column of numbers.
pub fn to_char(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let patterns = texts(&args[1]);
    let mut pattern = Memo::new();
    if args[0].data_type().is_floating() {
        // As many digits as every number of the type has.
        let most: usize = if args[0].data_type() == &DataType::Float32 { 6 } else { 15 };
        let values = cast(&args[0], &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        return map_text(args, |row, out| {
            let (pattern, value) = (pattern.get(patterns.value(row), NumberPattern::new)?, values.value(row));
            if !value.is_finite() {
                return Err(SqlError::unsupported("to_char() of a number that is not finite is not supported"));
            }
            let behind = pattern.behind.min(most.saturating_sub(format!("{:.0}", value.abs()).len()));
            let digits = format!("{:.behind$}", value.abs());
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits.as_str(), ""));
            pattern.write(value < 0.0, whole.trim_start_matches('0'), fraction, out);
            Ok(true)
        });
    }
    let values = match args[0].data_type() {
        DataType::Decimal128(..) => args[0].clone(),
        _ => cast(&args[0], &DataType::Decimal128(38, 0))?,
    };
    let scale = if let DataType::Decimal128(_, scale) = values.data_type() { (*scale).max(0) as usize } else { 0 };
    let values = values.as_primitive::<Decimal128Type>();
    map_text(args, |row, out| {
        let (pattern, value) = (pattern.get(patterns.value(row), NumberPattern::new)?, values.value(row));
        let (whole, fraction) = digits(value.unsigned_abs(), scale, pattern.behind);
        pattern.write(value < 0, &whole, &fraction, out);
        Ok(true)
    })
}

/// The digits of a decimal around its point, rounded to so many behind it.
fn digits(value: u128, scale: usize, behind: usize) -> (String, String) {
    let (value, kept) = match scale.checked_sub(behind) {
        Some(dropped) => {
            let unit = 10u128.pow(dropped as u32);
            (value / unit + u128::from(value % unit >= unit.div_ceil(2)), behind)
        }
        None => (value, scale),
    };
    let all = format!("{value:0>width$}", width = kept + 1);
    let (whole, fraction) = all.split_at(all.len() - kept);
    (whole.trim_start_matches('0').to_string(), format!("{fraction:0<behind$}"))
}

/// The text of a number that a pattern shows.
fn number_of(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let mut pattern = Memo::new();
    map_text(args, |row, out| {
        let pattern: &NumberPattern = pattern.get(patterns.value(row), NumberPattern::new)?;
        pattern.read(values.value(row), out);
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL 15 shows.
    #[test]
    fn numbers_are_shown_as_in_postgres() {
        for (hundredths, pattern, expected) in [
            (123_450, "9,999.99", " 1,234.50"),
            (-123_450, "9999.9", "-1234.5"),
            (1_200, "9,999", "    12"),
            (-1_200, "0999.9", "-0012.0"),
            (0, "9999", "    0"),
            (0, "9.99", "  .00"),
            (50, "0.99", " 0.50"),
            (0, "FM9.99", "0."),
            (10, "FM9.99", ".1"),
            (150, "FM999.00", "1.50"),
            (123_456, "99", " ##"),
            (1_200, "S9999", "  +12"),
            (-1_200, "9999S", "  12-"),
            (-1_200, "MI9999", "-  12"),
            (1_200, "9999MI", "  12 "),
            (-1_200, "9999PR", "  <12>"),
            (1_200, "SG9999", "+  12"),
            (1_200, "FML99", " 12"),
            (1_200, "99\" of all\"", " 12 of all"),
        ] {
            let pattern_of = NumberPattern::new(pattern).unwrap();
            let (whole, fraction) = digits(i128::unsigned_abs(hundredths), 2, pattern_of.behind);
            let mut out = String::new();
            pattern_of.write(hundredths < 0, &whole, &fraction, &mut out);
            assert_eq!(out, expected, "{hundredths} as {pattern}");
        }
        assert_eq!(digits(995, 3, 2), ("1".to_string(), "00".to_string()));
        assert!(NumberPattern::new("9.9EEEE").is_err());
    }

    #[test]
    fn numbers_are_read_as_in_postgres() {
        for (text, pattern, expected) in [
            ("12,454.8-", "99G999D9S", "-12454.8"),
            ("-1,234.56", "9,999.99", "-1234.56"),
            ("123", "9,999", "123"),
            ("12345", "999", "123"),
            ("$1,234", "L9,999", "1234"),
            ("<12>", "99PR", "-12"),
        ] {
            let mut out = String::new();
            NumberPattern::new(pattern).unwrap().read(text, &mut out);
            assert_eq!(out, expected, "{text} by {pattern}");
        }
    }
}
