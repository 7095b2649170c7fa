//! Patterns of dates and times: Java's, as Flink writes them (`yyyy-MM-dd HH:mm:ss`), and PostgreSQL's
//! (`YYYY-MM-DD HH24:MI:SS`). Both become one list of pieces, which formats and parses; what stands in Java's brackets may be missing from
//! what is parsed. Letters of Java's that mean another thing in another locale or version are refused. `of_interval`: what an interval shows of one.

mod of_interval;

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use eddyline_common::{SqlError, SqlState};
use std::fmt::Write;

/// What Flink takes for a timestamp when no pattern is given.
pub const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    /// Of a year before the first the one that is counted back.
    YearOfEra,
    Era,
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
    /// From 1 to 24.
    HourFrom1,
    /// From 0 to 11.
    HalfDayHourFrom0,
    Minute,
    Second,
    /// The first digits of the fraction.
    Fraction,
    /// All of the fraction, as a number.
    Nanos,
    HalfDay,
    DottedHalfDay,
    Quarter,
    /// Since midnight.
    SecondOfDay,
    MillisecondOfDay,
    /// What a zone is ahead of Greenwich. It is read only.
    Offset,
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
    /// What a text may have or not, all of it.
    Optional(Vec<Piece>),
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
/// Brackets in brackets.
const DEPTH: usize = 16;
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

/// Whether a pattern is written the way PostgreSQL does. Java's may have `SS` in it too, behind seconds that are small.
pub fn is_postgres(pattern: &str) -> bool {
    let has = |fields: &[&str]| fields.iter().any(|field| pattern.contains(field));
    has(&["YYYY", "HH24", "HH12", "MI", "DD", "Mon", "Month"]) || has(&["SS"]) && !has(&["yy", "dd", "mm", "ss"])
}

impl Pattern {
    /// A pattern that times are shown by: they have no zone that it could name.
    pub fn java_shown(pattern: &str) -> Result<Pattern, SqlError> {
        let read = Pattern::java(pattern)?;
        if has_offset(&read.pieces) {
            let error =
                SqlError::new(SqlState::INVALID_PARAMETER, format!("the pattern \"{pattern}\" shows a zone, which the time has not"));
            return Err(error.with_hint("Write the offset in quotes, as in \"yyyy-MM-dd HH:mm:ss'Z'\"."));
        }
        Ok(read)
    }

    pub fn java(pattern: &str) -> Result<Pattern, SqlError> {
        let (mut pieces, mut outer) = (Vec::new(), Vec::new());
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            let run = rest.len() - rest.trim_start_matches(c).len();
            let mut taken = run;
            match c {
                '\'' => {
                    let (text, after) = java_quote(&rest[1..]).ok_or_else(|| not_closed(pattern))?;
                    push_text(&mut pieces, &text);
                    taken = rest.len() - after.len();
                }
                '[' if outer.len() < DEPTH => {
                    outer.push(std::mem::take(&mut pieces));
                    taken = 1;
                }
                ']' => {
                    close_bracket(&mut pieces, outer.pop().ok_or_else(|| unknown(pattern, "]"))?);
                    taken = 1;
                }
                '[' | '{' | '}' | '#' => return Err(unknown(pattern, &rest[..1])),
                c if c.is_ascii_alphabetic() => pieces.push(java_field(c, run).ok_or_else(|| not_java(pattern, &rest[..run]))?),
                _ => push_text(&mut pieces, &rest[..run]),
            }
            rest = &rest[taken..];
        }
        // The last brackets need not be closed.
        while let Some(around) = outer.pop() {
            close_bracket(&mut pieces, around);
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
        show(&self.pieces, at, out);
    }

    /// The time that a text shows; `None` if it does not follow the pattern. What the pattern lacks is the start of
    /// 1970.
    pub fn parse(&self, text: &str) -> Option<NaiveDateTime> {
        self.parse_with_offset(text).map(|(time, _)| time)
    }

    /// The same with the seconds that its zone is ahead of Greenwich, if the pattern has them.
    pub fn parse_with_offset(&self, text: &str) -> Option<(NaiveDateTime, Option<i32>)> {
        let mut read = Read { year: 1970, month: 1, day: 1, ..Read::default() };
        let rest = read_all(&self.pieces, &mut read, text)?;
        let offset = read.offset_seconds;
        if rest.is_empty() { read.time().map(|time| (time, offset)) } else { None }
    }
}

/// Appends a time as pieces show it.
fn show(pieces: &[Piece], at: NaiveDateTime, out: &mut String) {
    for piece in pieces {
        let (field, width) = match piece {
            Piece::Optional(pieces) => {
                show(pieces, at, out);
                continue;
            }
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
            Field::Nanos => i64::from(at.nanosecond()),
            Field::Year => i64::from(at.year()),
            Field::YearOfEra => i64::from(if at.year() > 0 { at.year() } else { 1 - at.year() }),
            Field::ShortYear => i64::from(at.year().rem_euclid(100)),
            Field::Month => i64::from(at.month()),
            Field::Day => i64::from(at.day()),
            Field::DayOfYear => i64::from(at.ordinal()),
            Field::Hour => i64::from(at.hour()),
            Field::HalfDayHour => i64::from(at.hour12().1),
            Field::HourFrom1 => i64::from(if at.hour() == 0 { 24 } else { at.hour() }),
            Field::HalfDayHourFrom0 => i64::from(at.hour() % 12),
            Field::Minute => i64::from(at.minute()),
            Field::Second => i64::from(at.second()),
            Field::Quarter => i64::from(at.month0() / 3 + 1),
            Field::SecondOfDay => i64::from(at.num_seconds_from_midnight()),
            Field::MillisecondOfDay => i64::from(at.num_seconds_from_midnight()) * 1_000 + i64::from(at.nanosecond() / 1_000_000),
            Field::Century => i64::from((at.year() - 1).div_euclid(100) + 1),
            Field::WeekYear => i64::from(at.iso_week().year()),
            Field::Week => i64::from(at.iso_week().week()),
            Field::PlainWeek => i64::from(at.ordinal0() / 7 + 1),
            Field::WeekOfMonth => i64::from(at.day0() / 7 + 1),
            Field::DayOfWeek => i64::from(at.weekday().number_from_sunday()),
            Field::IsoDayOfWeek => i64::from(at.weekday().number_from_monday()),
            Field::Julian => i64::from(at.num_days_from_ce()) + JULIAN_DAY_ZERO,
            // Names are written above, and a time has no zone.
            _ => continue,
        };
        write!(out, "{number:0width$}").expect("a string grows");
    }
}

/// Takes what pieces show off the front of a text and gives what is left.
fn read_all<'a>(pieces: &[Piece], read: &mut Read, text: &'a str) -> Option<&'a str> {
    let mut rest = text;
    for (i, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(expected) => rest = rest.strip_prefix(expected.as_str())?,
            Piece::Field(field, width) => {
                let adjacent = matches!(pieces.get(i + 1), Some(Piece::Field(..)));
                rest = read.field(*field, *width, adjacent, rest)?;
            }
            Piece::Name(field, ..) => rest = read.name(*field, rest)?,
            Piece::Optional(pieces) => {
                let mut further = read.clone();
                if let Some(after) = read_all(pieces, &mut further, rest) {
                    *read = further;
                    rest = after;
                }
            }
        }
    }
    Some(rest)
}

fn has_offset(pieces: &[Piece]) -> bool {
    pieces.iter().any(|piece| match piece {
        Piece::Field(field, _) => *field == Field::Offset,
        Piece::Optional(pieces) => has_offset(pieces),
        _ => false,
    })
}

#[derive(Clone, Default)]
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
    before_christ: bool,
    offset_seconds: Option<i32>,
}

impl Read {
    /// Takes a field off the front of a text and gives what is left.
    fn field<'a>(&mut self, field: Field, width: usize, adjacent: bool, text: &'a str) -> Option<&'a str> {
        if is_name(field) {
            return self.name(field, text);
        }
        if field == Field::Offset {
            let (seconds, rest) = offset(text)?;
            self.offset_seconds = Some(seconds);
            return Some(rest);
        }
        let limit = match field {
            _ if adjacent && width > 0 => width,
            Field::Year | Field::YearOfEra | Field::WeekYear | Field::Fraction | Field::Nanos => 9,
            Field::SecondOfDay => 5,
            Field::MillisecondOfDay => 8,
            Field::Julian => 7,
            _ => width.max(2),
        };
        let digits = text.bytes().take(limit).take_while(u8::is_ascii_digit).count();
        let number: u32 = text[..digits].parse().ok()?;
        match field {
            Field::Year | Field::YearOfEra => self.year = number as i32,
            Field::ShortYear => self.year = 2000 + number as i32,
            Field::Month => self.month = number,
            Field::Day => self.day = number,
            Field::DayOfYear => self.ordinal = Some(number),
            Field::Hour | Field::HalfDayHour | Field::HalfDayHourFrom0 => self.hour = number,
            Field::HourFrom1 => self.hour = number % 24,
            Field::Minute => self.minute = number,
            Field::Second => self.second = number,
            Field::SecondOfDay => (self.hour, self.minute, self.second) = (number / 3600, number / 60 % 60, number % 60),
            Field::MillisecondOfDay => {
                (self.hour, self.minute, self.second) = (number / 3_600_000, number / 60_000 % 60, number / 1_000 % 60);
                self.nanos = number % 1_000 * 1_000_000;
            }
            Field::Fraction => self.nanos = number * 10u32.pow(9 - digits as u32),
            Field::Nanos => self.nanos = number,
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
            Field::Era => vec!["AD", "BC"],
            _ => vec!["AM", "PM"],
        };
        let at = names.iter().position(|name| starts(name))?;
        match field {
            Field::MonthName | Field::ShortMonthName => self.month = at as u32 + 1,
            Field::HalfDay | Field::DottedHalfDay => self.afternoon = Some(at == 1),
            Field::Era => self.before_christ = at == 1,
            _ => {}
        }
        Some(&text[names[at].len()..])
    }

    fn time(self) -> Option<NaiveDateTime> {
        let year = if self.before_christ { 1 - self.year } else { self.year };
        let date = match self.ordinal {
            Some(ordinal) => NaiveDate::from_yo_opt(year, ordinal)?,
            None => NaiveDate::from_ymd_opt(year, self.month, self.day)?,
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
    matches!(field, MonthName | ShortMonthName | DayName | ShortDayName | HalfDay | DottedHalfDay | Era)
}

/// Takes the offset of a zone off the front of a text: `Z`, or hours and perhaps minutes behind a sign. In seconds, with what is left.
fn offset(text: &str) -> Option<(i32, &str)> {
    let two = |text: &str| text.get(..2).filter(|t| t.bytes().all(|b| b.is_ascii_digit())).and_then(|t| t.parse::<i32>().ok());
    if let Some(rest) = text.strip_prefix(['Z', 'z']) {
        return Some((0, rest));
    }
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let hours = two(rest)?;
    let rest = &rest[2..];
    let behind = rest.strip_prefix(':').unwrap_or(rest);
    let (minutes, rest) = match two(behind) {
        Some(minutes) => (minutes, &behind[2..]),
        None => (0, rest),
    };
    (hours <= 18 && minutes < 60).then_some((sign * (hours * 3_600 + minutes * 60), rest))
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
        Field::Era => ["BC", "AD"][usize::from(at.year() > 0)],
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
        ('y', _) => Field::YearOfEra,
        ('u', _) => Field::Year,
        ('G', 1..=3) => Field::Era,
        ('M' | 'L', 1 | 2) => Field::Month,
        ('M' | 'L', 3) => Field::ShortMonthName,
        ('M' | 'L', _) => Field::MonthName,
        ('d', _) => Field::Day,
        ('D', _) => Field::DayOfYear,
        ('E', 1..=3) => Field::ShortDayName,
        ('E', _) => Field::DayName,
        ('H', _) => Field::Hour,
        ('h', _) => Field::HalfDayHour,
        ('k', _) => Field::HourFrom1,
        ('K', _) => Field::HalfDayHourFrom0,
        ('m', _) => Field::Minute,
        ('s', _) => Field::Second,
        ('S', 1..=9) => Field::Fraction,
        ('n', _) => Field::Nanos,
        ('A', _) => Field::MillisecondOfDay,
        ('X' | 'x' | 'Z', 1..=3) => Field::Offset,
        ('a', _) => Field::HalfDay,
        ('Q' | 'q', _) => Field::Quarter,
        _ => return None,
    };
    Some(Piece::Field(field, run))
}

/// What was in brackets becomes one piece of what is around them.
fn close_bracket(pieces: &mut Vec<Piece>, around: Vec<Piece>) {
    let inner = std::mem::replace(pieces, around);
    pieces.push(Piece::Optional(inner));
}

/// The text up to a closing quote, in which two stand for one, and what follows. Two at once are one too.
fn java_quote(behind: &str) -> Option<(String, &str)> {
    if let Some(after) = behind.strip_prefix('\'') {
        return Some(("'".to_string(), after));
    }
    let (mut text, mut rest) = (String::new(), behind);
    loop {
        let (part, after) = rest.split_once('\'')?;
        text.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                text.push('\'');
                rest = more;
            }
            None => return Some((text, after)),
        }
    }
}

fn not_closed(pattern: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, format!("a quote in the pattern \"{pattern}\" is not closed"))
        .with_hint("Two single quotes stand for one.")
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

/// What is wrong with a field of a pattern of Java's.
fn not_java(pattern: &str, field: &str) -> SqlError {
    if !field.starts_with(['Y', 'w', 'W', 'e', 'c', 'F']) {
        return unknown(pattern, field);
    }
    let message = format!("the field \"{field}\" of the pattern \"{pattern}\" means another thing in every locale");
    SqlError::new(SqlState::INVALID_PARAMETER, message)
        .with_hint("Weeks of ISO 8601 are TO_CHAR(ts, 'IYYY-IW-ID') and EXTRACT(WEEK FROM ts). A year is yyyy.")
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
            ("k K A n G", "14 2 50829123 123456000 AD"),
            ("h 'o''clock' ''a''[ yyyy]", "2 o'clock 'PM' 2024"),
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
        for bad in ["yyyy]", "{yyyy}", "yyyy-bb", "YYYYww", "e", "F", "yyyy 'x"] {
            assert_eq!(Pattern::java(bad).unwrap_err().state, SqlState::INVALID_PARAMETER, "{bad}");
        }
        assert_eq!(Pattern::java_shown("yyyy XXX").unwrap_err().state, SqlState::INVALID_PARAMETER);
    }

    #[test]
    fn fields_of_java_are_read() {
        let read = |pattern: &str, text: &str| Pattern::java(pattern).unwrap().parse_with_offset(text).map(|(t, o)| (t.to_string(), o));
        for (pattern, text, time, offset) in [
            ("yyyy-MM-dd'T'HH:mm:ss.SSSX", "2024-03-05T14:07:09.123Z", "2024-03-05 14:07:09.123", Some(0)),
            ("yyyy-MM-dd HH:mm:ssXXX", "2024-03-05 14:07:09+05:30", "2024-03-05 14:07:09", Some(19_800)),
            ("yyyy-MM-dd HH:mm:ss x", "2024-03-05 14:07:09 -08", "2024-03-05 14:07:09", Some(-28_800)),
            ("y G kk:mm", "44 BC 24:10", "-0043-01-01 00:10:00", None),
            ("yyyy-MM-dd[ HH:mm[:ss]][X]", "2024-03-05", "2024-03-05 00:00:00", None),
            ("yyyy-MM-dd[ HH:mm[:ss]][X]", "2024-03-05 14:07Z", "2024-03-05 14:07:00", Some(0)),
            ("yyyy-MM-dd HH:mm:ss[.SSS]", "2024-03-05 14:07:09.5", "2024-03-05 14:07:09.500", None),
            ("yyyy K a", "2024 0 PM", "2024-01-01 12:00:00", None),
            ("yyyy A", "2024 50829123", "2024-01-01 14:07:09.123", None),
        ] {
            assert_eq!(read(pattern, text), Some((time.to_string(), offset)), "{pattern}");
        }
        assert_eq!(read("yyyyX", "2024+1"), None);
        assert_eq!(read("yyyy[-MM]", "2024-"), None);
        assert!(!is_postgres("yyyy-MM-dd HH:mm:ss.SSS") && is_postgres("HH:mi:SS") && is_postgres("YYYY-MM-DD HH24:MI:SS.MS"));
    }
}
