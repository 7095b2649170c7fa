//! Patterns of paths: `*` any characters but `/`, `**` any directories, `?` one character, `[a-z]` one of them, `{a,b}`
//! one of these. Hidden files, whose name begins with `.` or `_`, fit no pattern that does not spell that out; a folder `_a=1`, of
//! a column whose name begins so, is none.

use eddyline_common::{Result, SqlError, SqlState};

#[derive(Clone, Debug)]
pub struct Glob {
    /// Without braces: one of these.
    alternatives: Vec<Vec<char>>,
}

/// What braces may expand to.
const ALTERNATIVES_MAX: usize = 1_000;

impl Glob {
    pub fn new(pattern: &str) -> Result<Glob> {
        let alternatives = expand(pattern.trim_start_matches('/'), 0)
            .filter(|all| all.len() <= ALTERNATIVES_MAX)
            .ok_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER, format!("\"{pattern}\" is not a pattern of paths")))?;
        Ok(Glob { alternatives: alternatives.into_iter().map(|a| a.chars().collect()).collect() })
    }

    /// Any file in any directory.
    pub fn all() -> Glob {
        Glob { alternatives: vec!["**".chars().collect()] }
    }

    pub fn is_one(text: &str) -> bool {
        text.contains(['*', '?', '[', '{'])
    }

    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        self.alternatives.iter().any(|pattern| fits(pattern, &path, true))
    }
}

/// The pattern without braces.
fn expand(pattern: &str, depth: usize) -> Option<Vec<String>> {
    let Some(open) = pattern.find('{') else { return Some(vec![pattern.to_string()]) };
    let close = open + pattern[open..].find('}')?;
    let inner = &pattern[open + 1..close];
    if inner.contains('{') || depth > 8 {
        return None;
    }
    let mut all = Vec::new();
    for choice in inner.split(',') {
        all.extend(expand(&format!("{}{choice}{}", &pattern[..open], &pattern[close + 1..]), depth + 1)?);
        if all.len() > ALTERNATIVES_MAX {
            return None;
        }
    }
    Some(all)
}

/// `starts`: the path is at the start of a name.
fn fits(pattern: &[char], path: &[char], starts: bool) -> bool {
    let hidden = starts && is_hidden(path);
    match pattern {
        [] => path.is_empty(),
        ['*', '*', '/', rest @ ..] if starts => {
            let next = path.iter().position(|c| *c == '/').filter(|_| !hidden);
            fits(rest, path, true) || next.is_some_and(|at| fits(pattern, &path[at + 1..], true))
        }
        ['*', '*'] if starts => !hidden && path.iter().position(|c| *c == '/').is_none_or(|at| fits(pattern, &path[at + 1..], true)),
        ['*', rest @ ..] => {
            !hidden && (fits(rest, path, false) || path.first().is_some_and(|c| *c != '/') && fits(pattern, &path[1..], false))
        }
        ['?', rest @ ..] => !hidden && path.first().is_some_and(|c| *c != '/') && fits(rest, &path[1..], false),
        ['[', rest @ ..] => match (rest.iter().position(|c| *c == ']'), path.first()) {
            (Some(close), Some(first)) => !hidden && is_in(&rest[..close], *first) && fits(&rest[close + 1..], &path[1..], false),
            _ => false,
        },
        [literal, rest @ ..] => path.first() == Some(literal) && fits(rest, &path[1..], *literal == '/'),
    }
}

/// Whether the name that a path begins with is a hidden one.
fn is_hidden(path: &[char]) -> bool {
    let is_of_column = || path.iter().position(|c| *c == '/').is_some_and(|end| path[..end].contains(&'='));
    match path.first() {
        Some('.') => true,
        Some('_') => !is_of_column(),
        _ => false,
    }
}

fn is_in(set: &[char], c: char) -> bool {
    let (negated, mut set) = match set {
        ['!' | '^', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    loop {
        match set {
            [from, '-', to, rest @ ..] => {
                found |= (*from..=*to).contains(&c);
                set = rest;
            }
            [one, rest @ ..] => {
                found |= *one == c;
                set = rest;
            }
            [] => return found != negated && c != '/',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, fitting, other) in [
            ("*.csv", &["a.csv", "x y.csv"][..], &["a.json", "d/a.csv", ".a.csv", "_a.csv"][..]),
            ("**/*.csv", &["a.csv", "d/a.csv", "d/e/a.csv"], &["d/.a.csv", "_tmp/a.csv", "a.csvx"]),
            ("day=*/part-?.json", &["day=1/part-0.json"], &["day=1/part-10.json", "day=1/x/part-0.json"]),
            ("[a-c]{1,2}.x", &["a1.x", "c2.x"], &["d1.x", "a3.x", "b.x"]),
            ("[!a]", &["b"], &["a", "/"]),
            (".hidden", &[".hidden"], &["hidden"]),
            ("**", &["a", "d/e/a", "_day=1/_hour=2/a"], &[".a", "d/_success", "_d/a", "_day=1/_a", "_a=1", ".d=1/a"]),
            ("**/*.csv", &["_day=1/a.csv"], &["_day=1/_a.csv"]),
            ("*/a", &["_day=1/a"], &["_day/a"]),
        ] {
            let glob = Glob::new(pattern).unwrap();
            fitting.iter().for_each(|path| assert!(glob.matches(path), "{pattern} {path}"));
            other.iter().for_each(|path| assert!(!glob.matches(path), "{pattern} {path}"));
        }
        assert!(Glob::new("{a").is_err());
    }
}
