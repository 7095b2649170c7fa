//! Option values: their kinds, canonical spellings and parsers. Knows no option by name.

use crate::error::{Result, SqlError, SqlState};

/// One option: `name` is canonical, `aliases` are further spellings, all in lower case.
pub struct OptionDef {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    pub required: bool,
}

impl OptionDef {
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        OptionDef { name, aliases: &[], kind, required: false }
    }

    pub const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub fn is_spelled(&self, lower: &str) -> bool {
        self.name == lower || self.aliases.contains(&lower)
    }
}

/// A canonical value with its other spellings.
pub type Choice = (&'static str, &'static [&'static str]);

pub enum Kind {
    Text,
    /// One character or its escape, blanks included.
    Character,
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    Duration,
    /// A duration, or `none`.
    DurationOrNone,
    /// A size such as `128MB` or `1GiB`.
    Bytes,
    /// A duration, and the column whose times it is about: `7 days on "ts"`.
    Retention,
    OneOf(&'static [Choice]),
    /// `partition:0,offset:42;partition:1,offset:300`
    SpecificOffsets,
}

impl Kind {
    pub fn keeps_blanks(&self) -> bool {
        matches!(self, Kind::Character)
    }

    /// The canonical form of a value; `key` is the option as the user spelled it, for errors.
    pub fn canonical(&self, key: &str, text: &str) -> Result<String> {
        match self {
            Kind::Text | Kind::Character => Ok(text.to_string()),
            Kind::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "t" | "on" | "yes" | "1" => Ok("true".to_string()),
                "false" | "f" | "off" | "no" | "0" => Ok("false".to_string()),
                _ => Err(invalid(key, text, "a boolean: true or false")),
            },
            Kind::Integer { min, max } => {
                let number = integer_option(key, text)?;
                if number < *min || number > *max {
                    let range =
                        if *max == i64::MAX { format!("an integer of at least {min}") } else { format!("an integer from {min} to {max}") };
                    return Err(invalid(key, text, &range));
                }
                Ok(number.to_string())
            }
            Kind::Duration => duration_option(key, text).map(|_| text.to_string()),
            Kind::Bytes => bytes_option(key, text).map(|_| text.to_string()),
            Kind::DurationOrNone if text.eq_ignore_ascii_case("none") => Ok("none".to_string()),
            Kind::DurationOrNone => duration_option(key, text).map(|_| text.to_string()),
            Kind::Retention => retention(key, text).map(|_| text.to_string()),
            Kind::OneOf(choices) => choose(choices, key, text),
            Kind::SpecificOffsets => specific_offsets(key, text).map(|_| text.to_string()),
        }
    }
}

fn choose(choices: &[Choice], key: &str, text: &str) -> Result<String> {
    let lower = text.to_ascii_lowercase();
    if let Some((name, _)) = choices.iter().find(|(name, others)| *name == lower || others.contains(&lower.as_str())) {
        return Ok(name.to_string());
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let error = invalid(key, text, &format!("one of {}", names.join(", ")));
    Err(match super::nearest(&lower, names) {
        Some(meant) => error.with_hint(format!("Perhaps you meant \"{meant}\".")),
        None => error,
    })
}

fn invalid(key: &str, text: &str, expected: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, format!("invalid value for option \"{key}\": \"{text}\""))
        .with_detail(format!("The option takes {expected}."))
}

pub fn integer_option(key: &str, text: &str) -> Result<i64> {
    text.replace('_', "").parse().map_err(|_| invalid(key, text, "an integer"))
}

pub fn duration_option(key: &str, text: &str) -> Result<i64> {
    micros_of_duration(text).ok_or_else(|| invalid(key, text, "a duration such as '500 ms', '5 s', '1min' or '2 hours'"))
}

pub fn bytes_option(key: &str, text: &str) -> Result<u64> {
    bytes_of_size(text).ok_or_else(|| invalid(key, text, "a size such as '64MB' or '1GiB'"))
}

/// `7 days`, `7 days on ts` or `7 days on "Ts"`: microseconds, and the column's name, folded.
pub fn retention(key: &str, text: &str) -> Result<(i64, Option<String>)> {
    let (duration, column) = match text.to_ascii_lowercase().find(" on ") {
        Some(at) => (&text[..at], Some(text[at + 4..].trim())),
        None => (text, None),
    };
    let unquoted = |name: &str| match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_lowercase(),
    };
    match micros_of_duration(duration).filter(|micros| *micros > 0) {
        Some(micros) if column != Some("") => Ok((micros, column.map(unquoted))),
        _ => Err(invalid(key, text, "a duration longer than nothing, such as '7 days', and a column behind it: '7 days' ON ts")),
    }
}

/// Bytes of a size; units are powers of 1024 in either spelling. `None` if it is none.
pub fn bytes_of_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Microseconds of a duration: numbers with units, one after the other (`1 hour 30 min`). A bare number
/// is milliseconds. `None` if it is none, is negative or does not fit.
pub fn micros_of_duration(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total: f64 = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = match rest[..letters].to_lowercase().as_str() {
            "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1.0,
            "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1e3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1e6,
            "m" | "min" | "mins" | "minute" | "minutes" => 60e6,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600e6,
            "d" | "day" | "days" => 86_400e6,
            "w" | "week" | "weeks" => 604_800e6,
            _ => return None,
        };
        total += number * unit;
        rest = rest[letters..].trim_start();
    }
    (total < i64::MAX as f64).then_some(total.round() as i64)
}

/// (partition, offset) pairs of `partition:0,offset:42;partition:1,offset:300`.
pub fn specific_offsets(key: &str, text: &str) -> Result<Vec<(i32, i64)>> {
    let malformed = || invalid(key, text, "offsets such as 'partition:0,offset:42;partition:1,offset:300'");
    let mut pairs = Vec::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (partition, offset) = part.split_once(',').ok_or_else(malformed)?;
        let field = |text: &str, name: &str| -> Option<i64> {
            let (key, value) = text.split_once(':')?;
            (key.trim().eq_ignore_ascii_case(name)).then(|| value.trim().parse().ok())?.filter(|n| *n >= 0)
        };
        let partition = field(partition, "partition").and_then(|p| i32::try_from(p).ok()).ok_or_else(malformed)?;
        let offset = field(offset, "offset").ok_or_else(malformed)?;
        if pairs.iter().any(|(p, _)| *p == partition) {
            return Err(invalid(key, text, "each partition once"));
        }
        pairs.push((partition, offset));
    }
    if pairs.is_empty() { Err(malformed()) } else { Ok(pairs) }
}
