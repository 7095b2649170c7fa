//! The search for a match that begins at one row: the first one in the order of preference that the pattern says. It goes through the
//! pattern's steps and comes back to the last choice when a row does not fit. It knows rows by number only.

use super::program::Step;
use eddyline_common::{Result, SqlError, SqlState};

/// Rows that one search may try: above it, its pattern and conditions leave too many ways open.
const TRIES_MAX: u64 = 10_000_000;

/// Rows of a match, or of the beginning of one.
#[derive(Default)]
pub(super) struct Path {
    /// Each row with its variable.
    pub rows: Vec<u32>,
    pub variables: Vec<u16>,
    /// By variable.
    pub of: Vec<Vec<u32>>,
}

impl Path {
    pub(super) fn new(variables: usize) -> Self {
        Path { of: vec![Vec::new(); variables], ..Path::default() }
    }

    fn push(&mut self, row: u32, variable: usize) {
        self.rows.push(row);
        self.variables.push(variable as u16);
        self.of[variable].push(row);
    }

    fn truncate(&mut self, length: usize) {
        while self.rows.len() > length {
            self.rows.pop();
            if let Some(variable) = self.variables.pop() {
                self.of[variable as usize].pop();
            }
        }
    }
}

/// What a search comes to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The path is the match.
    Match,
    Nothing,
    /// Rows to come decide.
    Undecided,
    /// A condition cannot be evaluated.
    Failed(SqlError),
}

/// What is asked of rows.
pub(super) trait Rows {
    /// Whether the row may be part of a match that began at the start; `None` if it is not there yet.
    fn reachable(&self, row: u32) -> Option<bool>;

    /// Whether the path's last row is one of its variable; `None` if rows to come say so. A row's fault is `Outcome::Failed`'s error.
    fn fits(&mut self, path: &Path) -> Result<std::result::Result<Option<bool>, SqlError>>;
}

#[derive(Default)]
pub(super) struct Search {
    /// Where to go on, and with how many rows.
    choices: Vec<(usize, usize)>,
    /// Steps at rows that have led to nothing: used if a row fits whatever was before it.
    tried: Vec<u64>,
}

impl Search {
    /// `independent`: whether a row fits does not depend on the path.
    pub(super) fn run(&mut self, steps: &[Step], start: u32, independent: bool, path: &mut Path, rows: &mut dyn Rows) -> Result<Outcome> {
        path.truncate(0);
        self.choices.clear();
        self.tried.clear();
        let (mut at, mut tries) = (0, 0u64);
        loop {
            let follows = match steps[at] {
                Step::Match => return Ok(Outcome::Match),
                Step::Jump(to) => Some(to),
                Step::Either(first, second) => {
                    if independent && self.was_tried(at, path.rows.len(), steps.len()) {
                        None
                    } else {
                        self.choices.push((second, path.rows.len()));
                        Some(first)
                    }
                }
                Step::Row(variable) => {
                    tries += 1;
                    if tries > TRIES_MAX {
                        let error = SqlError::new(
                            SqlState::TOO_COMPLEX,
                            format!("a row pattern was tried in more than {TRIES_MAX} ways from one row on"),
                        );
                        return Ok(Outcome::Failed(error));
                    }
                    let row = start + path.rows.len() as u32;
                    match rows.reachable(row) {
                        None => return Ok(Outcome::Undecided),
                        Some(false) => None,
                        Some(true) => {
                            path.push(row, variable);
                            match rows.fits(path)? {
                                Err(error) => return Ok(Outcome::Failed(error)),
                                Ok(None) => return Ok(Outcome::Undecided),
                                Ok(Some(true)) => Some(at + 1),
                                Ok(Some(false)) => None,
                            }
                        }
                    }
                }
            };
            at = match (follows, self.choices.is_empty()) {
                (Some(next), _) => next,
                (None, true) => return Ok(Outcome::Nothing),
                (None, false) => {
                    let (next, length) = self.choices.pop().unwrap_or_default();
                    path.truncate(length);
                    next
                }
            };
        }
    }

    /// Notes a step at a distance from the start; true if it was there before.
    fn was_tried(&mut self, step: usize, distance: usize, steps: usize) -> bool {
        let bit = distance * steps + step;
        if self.tried.len() <= bit / 64 {
            self.tried.resize(bit / 64 + 1, 0);
        }
        let word = &mut self.tried[bit / 64];
        let was = *word & (1 << (bit % 64)) != 0;
        *word |= 1 << (bit % 64);
        was
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::program;
    use super::*;
    use eddyline_planner::plan::MatchPattern::{self, *};

    /// Rows are letters of a text; a variable fits its own letter, in upper case any.
    struct Text<'a>(&'a [u8], bool);

    impl Rows for Text<'_> {
        fn reachable(&self, row: u32) -> Option<bool> {
            if (row as usize) < self.0.len() { Some(true) } else { self.1.then_some(false) }
        }

        fn fits(&mut self, path: &Path) -> Result<std::result::Result<Option<bool>, SqlError>> {
            let letter = self.0[path.rows[path.rows.len() - 1] as usize];
            let variable = path.variables[path.variables.len() - 1];
            Ok(Ok(Some(letter == b'z' || letter == b'a' + variable as u8)))
        }
    }

    fn repeat(pattern: MatchPattern, min: u32, max: Option<u32>, reluctant: bool) -> MatchPattern {
        Repeat { pattern: Box::new(pattern), min, max, reluctant }
    }

    #[test]
    fn the_preferred_match_is_found() {
        let (a, b, c) = (|| Variable(0), || Variable(1), || Variable(2));
        let greedy = Concat(vec![a(), repeat(b(), 0, None, false), c()]);
        let reluctant = Concat(vec![a(), repeat(b(), 0, None, true), c()]);
        let bounded = Concat(vec![repeat(a(), 1, Some(2), false), b()]);
        let either = Concat(vec![Alternation(vec![a(), Concat(vec![a(), b()])]), c()]);
        let groups = Concat(vec![repeat(Concat(vec![a(), b()]), 2, None, false), c()]);
        let nested = Concat(vec![repeat(repeat(a(), 1, None, false), 1, None, false), c()]);
        for (pattern, text, ended, found) in [
            (&greedy, "abzbc", true, Some("abbbc")),
            (&reluctant, "abzbc", true, Some("abc")),
            (&greedy, "abb", false, None),
            (&greedy, "aba", false, Some("")),
            (&greedy, "azb", false, None),
            (&greedy, "azb", true, Some("ac")),
            (&bounded, "aab", false, Some("aab")),
            (&bounded, "aaab", false, Some("")),
            (&either, "abc", false, Some("abc")),
            (&groups, "ababc", false, Some("ababc")),
            (&groups, "abc", false, Some("")),
            (&nested, &"a".repeat(3_000), true, Some("")),
        ] {
            let mut path = Path::new(3);
            let outcome = Search::default().run(&program(pattern), 0, true, &mut path, &mut Text(text.as_bytes(), ended)).unwrap();
            let shown = match outcome {
                Outcome::Match => Some(path.variables.iter().map(|v| (b'a' + *v as u8) as char).collect::<String>()),
                Outcome::Nothing => Some(String::new()),
                Outcome::Undecided => None,
                Outcome::Failed(error) => panic!("{error:?}"),
            };
            assert_eq!(shown.as_deref(), found, "{pattern:?} in {text}");
        }
    }
}
