//! Patterns of dates and times: Java's, as Flink writes them (`yyyy-MM-dd HH:mm:ss`), and PostgreSQL's
//! (`YYYY-MM-DD HH24:MI:SS`). Both become one list of pieces, which formats and parses.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use eddyline_common::{SqlError, SqlState};
use std::fmt::Write;

/// What Flink takes for a timestamp when no pattern is given.
pub const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    ShortYear,
    Month,
    ShortMonthName,
    MonthName,
    Day,
    DayOfYear,
    ShortDayName,
    DayName,
    Hour,
    HalfDayHour,
    Minute,
    Second,
    /// The first digits of the fraction.
    Fraction,
    HalfDay,
    DottedHalfDay,
    Quarter,
    /// Since midnight.
    SecondOfDay,
    Century,
    WeekYear,
    /// Of the year, as ISO 8601 counts them.
    Week,
    /// The first seven days of the year are the first.
    PlainWeek,
    WeekOfMonth,
    /// From Sunday, which is 1.
    DayOfWeek,
    /// From Monday, which is 1.
    IsoDayOfWeek,
    /// Days since 4714 BC.
    Julian,
}

/// The letters of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Upper,
    Lower,
    Title,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A field with the digits it is padded to.
    Field(Field, usize),
    /// A name in the letters that PostgreSQL's pattern shows, with the letters it is padded to.
    Name(Field, Case, usize),
}

#[derive(Clone, Debug)]
pub struct Pattern {
    pieces: Vec<Piece>,
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// What the Julian day is ahead of the days since the year 1.
const JULIAN_DAY_ZERO: i64 = 1_721_425;
/// Letters of the longest names of months and days.
const NAME_WIDTH: usize = 9;

/// PostgreSQL's fields with the digits or letters they are padded to, longer names first.
const POSTGRES: &[(&str, Field, usize)] = &[
    ("month", Field::MonthName, NAME_WIDTH),
    ("sssss", Field::SecondOfDay, 0),
    ("hh24", Field::Hour, 2),
    ("hh12", Field::HalfDayHour, 2),
    ("yyyy", Field::Year, 4),
    ("iyyy", Field::WeekYear, 4),
    ("ssss", Field::SecondOfDay, 0),
    ("a.m.", Field::DottedHalfDay, 0),
    ("p.m.", Field::DottedHalfDay, 0),
    ("day", Field::DayName, NAME_WIDTH),
    ("ddd", Field::DayOfYear, 3),
    ("mon", Field::ShortMonthName, 0),
    ("ff3", Field::Fraction, 3),
    ("ff6", Field::Fraction, 6),
    ("hh", Field::HalfDayHour, 2),
    ("mi", Field::Minute, 2),
    ("mm", Field::Month, 2),
    ("ms", Field::Fraction, 3),
    ("us", Field::Fraction, 6),
    ("ss", Field::Second, 2),
    ("dd", Field::Day, 2),
    ("dy", Field::ShortDayName, 0),
    ("yy", Field::ShortYear, 2),
    ("am", Field::HalfDay, 0),
    ("pm", Field::HalfDay, 0),
    ("iw", Field::Week, 2),
    ("id", Field::IsoDayOfWeek, 0),
    ("ww", Field::PlainWeek, 2),
    ("cc", Field::Century, 2),
    ("q", Field::Quarter, 0),
    ("d", Field::DayOfWeek, 0),
    ("w", Field::WeekOfMonth, 0),
    ("j", Field::Julian, 0),
];

/// Whether a pattern is written the way PostgreSQL does.
pub fn is_postgres(pattern: &str) -> bool {
    ["YYYY", "HH24", "HH12", "MI", "DD", "SS", "Mon", "Month"].iter().any(|field| pattern.contains(field))
}

impl Pattern {
    pub fn java(pattern: &str) -> Result<Pattern, SqlError> {
        let mut pieces = Vec::new();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            if c == '\'' {
                let (text, after) = quoted(&rest[1..], '\'');
                push_text(&mut pieces, if text.is_empty() { "'" } else { text });
                rest = after;
                continue;
            }
            let run = rest.len() - rest.trim_start_matches(c).len();
            if !c.is_ascii_alphabetic() {
                push_text(&mut pieces, &rest[..run]);
            } else {
                pieces.push(java_field(c, run).ok_or_else(|| unknown(pattern, &rest[..run]))?);
            }
            rest = &rest[run..];
        }
        Ok(Pattern { pieces })
    }

    pub fn postgres(pattern: &str) -> Result<Pattern, SqlError> {
        let mut pieces = Vec::new();
        let mut rest = pattern;
        // `FM` before a field: nothing is padded.
        let mut fill = true;
        while let Some(c) = rest.chars().next() {
            if c == '"' {
                let (text, after) = quoted(&rest[1..], '"');
                push_text(&mut pieces, text);
                rest = after;
                continue;
            }
            let lower = |n: usize| rest.get(..n).map(str::to_ascii_lowercase);
            if lower(2).as_deref() == Some("fm") {
                fill = false;
                rest = &rest[2..];
                continue;
            }
            match POSTGRES.iter().find(|(name, _, _)| lower(name.len()).as_deref() == Some(name)) {
                Some((name, field, width)) => {
                    pieces.push(postgres_piece(*field, *width, &rest[..name.len()], fill));
                    (rest, fill) = (&rest[name.len()..], true);
                }
                None if c.is_ascii_alphabetic() && c != 'T' => {
                    return Err(unknown(pattern, &rest[..c.len_utf8()]));
                }
                None => {
                    push_text(&mut pieces, &rest[..c.len_utf8()]);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        Ok(Pattern { pieces })
    }

    /// Appends the time as the pattern shows it.
    pub fn format(&self, at: NaiveDateTime, out: &mut String) {
        for piece in &self.pieces {
            let (field, width) = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Name(field, case, width) => {
                    let (name, width) = (name_of(*field, at).unwrap_or_default(), *width);
                    let name = match case {
                        Case::Upper => name.to_uppercase(),
                        Case::Lower => name.to_lowercase(),
                        Case::Title => name.to_string(),
                    };
                    write!(out, "{name:<width$}").expect("a string grows");
                    continue;
                }
                Piece::Field(field, width) => (*field, *width),
            };
            if let Some(name) = name_of(field, at) {
                out.push_str(name);
                continue;
            }
            let number = match field {
                Field::Fraction => i64::from(at.nanosecond() / 10u32.pow(9 - width.min(9) as u32)),
                Field::Year => i64::from(at.year()),
                Field::ShortYear => i64::from(at.year().rem_euclid(100)),
                Field::Month => i64::from(at.month()),
                Field::Day => i64::from(at.day()),
                Field::DayOfYear => i64::from(at.ordinal()),
                Field::Hour => i64::from(at.hour()),
                Field::HalfDayHour => i64::from(at.hour12().1),
                Field::Minute => i64::from(at.minute()),
                Field::Second => i64::from(at.second()),
                Field::Quarter => i64::from(at.month0() / 3 + 1),
                Field::SecondOfDay => i64::from(at.num_seconds_from_midnight()),
                Field::Century => i64::from((at.year() - 1).div_euclid(100) + 1),
                Field::WeekYear => i64::from(at.iso_week().year()),
                Field::Week => i64::from(at.iso_week().week()),
                Field::PlainWeek => i64::from(at.ordinal0() / 7 + 1),
                Field::WeekOfMonth => i64::from(at.day0() / 7 + 1),
                Field::DayOfWeek => i64::from(at.weekday().number_from_sunday()),
                Field::IsoDayOfWeek => i64::from(at.weekday().number_from_monday()),
                Field::Julian => i64::from(at.num_days_from_ce()) + JULIAN_DAY_ZERO,
                // Names are written above.
                _ => continue,
            };
            write!(out, "{number:0width$}").expect("a string grows");
        }
    }

    /// The time that a text shows; `None` if it does not follow the pattern. What the pattern lacks is the start of
    /// 1970.
    pub fn parse(&self, text: &str) -> Option<NaiveDateTime> {
        let mut read = Read { year: 1970, month: 1, day: 1, ordinal: None, hour: 0, minute: 0, second: 0, nanos: 0, afternoon: None };
        let mut rest = text;
        for (i, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(expected) => rest = rest.strip_prefix(expected.as_str())?,
                Piece::Field(field, width) => {
                    let adjacent = matches!(self.pieces.get(i + 1), Some(Piece::Field(..)));
                    rest = read.field(*field, *width, adjacent, rest)?;
                }
                Piece::Name(field, ..) => rest = read.name(*field, rest)?,
            }
        }
        if rest.is_empty() { read.time() } else { None }
    }
}

struct Read {
    year: i32,
    month: u32,
    day: u32,
    ordinal: Option<u32>,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    afternoon: Option<bool>,
}

impl Read {
    /// Takes a field off the front of a text and gives what is left.
    fn field<'a>(&mut self, field: Field, width: usize, adjacent: bool, text: &'a str) -> Option<&'a str> {
        if is_name(field) {
            return self.name(field, text);
        }
        let limit = match field {
            _ if adjacent && width > 0 => width,
            Field::Year | Field::WeekYear | Field::Fraction => 9,
            Field::SecondOfDay => 5,
            Field::Julian => 7,
            _ => width.max(2),
        };
        let digits = text.bytes().take(limit).take_while(u8::is_ascii_digit).count();
        let number: u32 = text[..digits].parse().ok()?;
        match field {
            Field::Year => self.year = number as i32,
            Field::ShortYear => self.year = 2000 + number as i32,
            Field::Month => self.month = number,
            Field::Day => self.day = number,
            Field::DayOfYear => self.ordinal = Some(number),
            Field::Hour | Field::HalfDayHour => self.hour = number,
            Field::Minute => self.minute = number,
            Field::Second => self.second = number,
            Field::SecondOfDay => (self.hour, self.minute, self.second) = (number / 3600, number / 60 % 60, number % 60),
            Field::Fraction => self.nanos = number * 10u32.pow(9 - digits as u32),
            _ => {}
        }
        Some(&text[digits..])
    }

    fn name<'a>(&mut self, field: Field, text: &'a str) -> Option<&'a str> {
        let starts = |name: &str| text.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name));
        let names: Vec<&str> = match field {
            Field::MonthName => MONTHS.to_vec(),
            Field::ShortMonthName => MONTHS.iter().map(|m| &m[..3]).collect(),
            Field::DayName => DAYS.to_vec(),
            Field::ShortDayName => DAYS.iter().map(|d| &d[..3]).collect(),
            Field::DottedHalfDay => vec!["A.M.", "P.M."],
            _ => vec!["AM", "PM"],
        };
        let at = names.iter().position(|name| starts(name))?;
        match field {
            Field::MonthName | Field::ShortMonthName => self.month = at as u32 + 1,
            Field::HalfDay | Field::DottedHalfDay => self.afternoon = Some(at == 1),
            _ => {}
        }
        Some(&text[names[at].len()..])
    }

    fn time(self) -> Option<NaiveDateTime> {
        let date = match self.ordinal {
            Some(ordinal) => NaiveDate::from_yo_opt(self.year, ordinal)?,
            None => NaiveDate::from_ymd_opt(self.year, self.month, self.day)?,
        };
        let hour = match self.afternoon {
            Some(afternoon) => self.hour % 12 + if afternoon { 12 } else { 0 },
            None => self.hour,
        };
        Some(date.and_time(NaiveTime::from_hms_nano_opt(hour, self.minute, self.second, self.nanos)?))
    }
}

fn is_name(field: Field) -> bool {
    use Field::*;
    matches!(field, MonthName | ShortMonthName | DayName | ShortDayName | HalfDay | DottedHalfDay)
}

/// What a field of names shows of a time.
fn name_of(field: Field, at: NaiveDateTime) -> Option<&'static str> {
    let month = MONTHS[at.month0() as usize];
    let day = DAYS[at.weekday().num_days_from_monday() as usize];
    let morning = at.hour() < 12;
    Some(match field {
        Field::MonthName => month,
        Field::ShortMonthName => &month[..3],
        Field::DayName => day,
        Field::ShortDayName => &day[..3],
        Field::HalfDay => ["PM", "AM"][usize::from(morning)],
        Field::DottedHalfDay => ["P.M.", "A.M."][usize::from(morning)],
        _ => return None,
    })
}

/// A field as PostgreSQL's pattern has it: names come in the letters it is written in.
fn postgres_piece(field: Field, width: usize, written: &str, fill: bool) -> Piece {
    let width = if fill || field == Field::Fraction { width } else { 0 };
    if !is_name(field) {
        return Piece::Field(field, width);
    }
    let mut letters = written.chars().filter(char::is_ascii_alphabetic).map(|c| c.is_ascii_uppercase());
    let case = match (letters.next(), letters.next()) {
        (Some(true), Some(true)) => Case::Upper,
        (Some(true), _) => Case::Title,
        _ => Case::Lower,
    };
    Piece::Name(field, case, width)
}

fn java_field(letter: char, run: usize) -> Option<Piece> {
    let field = match (letter, run) {
        ('y' | 'u', 2) => Field::ShortYear,
        ('y' | 'u', _) => Field::Year,
        ('M' | 'L', 1 | 2) => Field::Month,
        ('M' | 'L', 3) => Field::ShortMonthName,
        ('M' | 'L', _) => Field::MonthName,
        ('d', _) => Field::Day,
        ('D', _) => Field::DayOfYear,
        ('E', 1..=3) => Field::ShortDayName,
        ('E', _) => Field::DayName,
        ('H', _) => Field::Hour,
        ('h', _) => Field::HalfDayHour,
        ('m', _) => Field::Minute,
        ('s', _) => Field::Second,
        ('S', _) => Field::Fraction,
        ('a', _) => Field::HalfDay,
        ('Q' | 'q', _) => Field::Quarter,
        _ => return None,
    };
    Some(Piece::Field(field, run))
}

/// The text up to a closing quote, and what follows.
fn quoted(text: &str, quote: char) -> (&str, &str) {
    text.split_once(quote).unwrap_or((text, ""))
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_string())),
    }
}

fn unknown(pattern: &str, field: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, format!("the pattern \"{pattern}\" has the unknown field \"{field}\""))
        .with_hint("Flink's patterns read yyyy-MM-dd HH:mm:ss, PostgreSQL's YYYY-MM-DD HH24:MI:SS.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_format_and_parse() {
        let at = NaiveDate::from_ymd_opt(2024, 3, 5).unwrap().and_hms_micro_opt(14, 7, 9, 123_456).unwrap();
        for (pattern, shown) in [
            ("yyyy-MM-dd HH:mm:ss", "2024-03-05 14:07:09"),
            ("yyyyMMdd'T'HHmmss.SSS", "20240305T140709.123"),
            ("d/M/yy h:mm a", "5/3/24 2:07 PM"),
            ("EEE, dd MMM yyyy", "Tue, 05 Mar 2024"),
            ("EEEE MMMM D", "Tuesday March 65"),
        ] {
            let mut out = String::new();
            Pattern::java(pattern).unwrap().format(at, &mut out);
            assert_eq!(out, shown);
        }
        let mut out = String::new();
        Pattern::postgres("YYYY-MM-DD HH24:MI:SS.US").unwrap().format(at, &mut out);
        assert_eq!(out, "2024-03-05 14:07:09.123456");
        assert_eq!(Pattern::postgres("YYYY-MM-DD HH24:MI:SS.US").unwrap().parse(&out), Some(at));
        for (pattern, shown) in [
            ("Day|DAY|day|FMDay", "Tuesday  |TUESDAY  |tuesday  |Tuesday"),
            ("MON Mon mon FMMONTH", "MAR Mar mar MARCH"),
            ("SSSS Q D ID DDD WW W IW IYYY J", "50829 1 3 2 065 10 1 10 2024 2460375"),
            ("FMDD.FMMM. HH:MI am PM P.M.", "5.3. 02:07 pm PM P.M."),
        ] {
            let mut out = String::new();
            Pattern::postgres(pattern).unwrap().format(at, &mut out);
            assert_eq!(out, shown);
        }
        assert_eq!(
            Pattern::java("dd.MM.yyyy").unwrap().parse("05.03.2024").map(|t| t.to_string()),
            Some("2024-03-05 00:00:00".to_string())
        );
        assert_eq!(Pattern::java("yyyyMMdd").unwrap().parse("20240305").map(|t| t.date()), Some(at.date()));
        assert_eq!(Pattern::java(DEFAULT).unwrap().parse("2024-03-05"), None);
        assert_eq!(Pattern::java(DEFAULT).unwrap().parse("2024-13-05 00:00:00"), None);
        assert_eq!(Pattern::java("yyyy-XX").unwrap_err().state, SqlState::INVALID_PARAMETER);
    }
}
