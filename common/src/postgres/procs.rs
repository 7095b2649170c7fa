//! The functions that PostgreSQL's types are read and written by, and those of access methods, as its catalog has them: clients tell types apart
//! by them. They are oids and names; nothing here runs one.

use std::sync::LazyLock;

/// A row of `procs.txt`.
pub struct Proc {
    pub oid: u32,
    pub name: &'static str,
    /// Types by oid.
    pub returns: u32,
    pub volatility: &'static str,
    pub arguments: Vec<u32>,
}

static PROCS: LazyLock<Vec<Proc>> =
    LazyLock::new(|| include_str!("procs.txt").lines().filter(|line| !line.starts_with('#')).map(parse).collect());

fn parse(line: &'static str) -> Proc {
    let words: Vec<&'static str> = line.split(' ').collect();
    let oid = |word: &str| word.parse().expect("an oid in procs.txt");
    let [number, name, returns, volatility] = words[..4] else { panic!("a function's line has four words: {line}") };
    Proc { oid: oid(number), name, returns: oid(returns), volatility, arguments: words[4..].iter().map(|word| oid(word)).collect() }
}

/// In the order of their oids.
pub fn all() -> &'static [Proc] {
    &PROCS
}

/// As `regproc` shows it: no function is a dash.
pub fn name_of(oid: i64) -> Option<&'static str> {
    if oid == 0 {
        return Some("-");
    }
    let oid = u32::try_from(oid).ok()?;
    let at = PROCS.binary_search_by_key(&oid, |proc| proc.oid).ok()?;
    Some(PROCS[at].name)
}

/// The same the other way round.
pub fn oid_of(name: &str) -> Option<u32> {
    if name == "-" { Some(0) } else { PROCS.iter().find(|proc| proc.name == name).map(|proc| proc.oid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_oids_are_one_to_one() {
        assert!(PROCS.is_sorted_by(|a, b| a.oid < b.oid));
        for proc in all() {
            assert_eq!((name_of(proc.oid.into()), oid_of(proc.name)), (Some(proc.name), Some(proc.oid)));
        }
        assert_eq!((name_of(0), oid_of("-"), name_of(-1), oid_of("now")), (Some("-"), Some(0), None, None));
        assert_eq!((oid_of("array_in"), oid_of("array_recv")), (Some(750), Some(2400)));
    }
}
