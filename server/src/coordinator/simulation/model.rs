//! What the tables and views of a simulation must hold. Every write leaves a marker, a row with its number that is never
//! deleted, in both tables; so the markers that a reader sees say which writes it saw, and everything else follows from them.

use std::collections::{BTreeMap, BTreeSet};

/// The tables, each of (id, k, v).
pub const TABLES: [&str; 2] = ["t", "u"];

/// Rows that writes replace have ids from here on, one for each slot; markers have smaller ones.
pub const SLOTS_FROM: i64 = 1_000_000;
pub const SLOTS: usize = 6;

/// Keys of the rows.
pub const KEYS: usize = 4;

/// Views that come and go, each after those it reads.
pub const VIEWS: [(&str, &str); 5] = [
    ("by_k", "SELECT k, count(*) AS n, sum(v)::bigint AS s FROM t GROUP BY k"),
    ("maxes", "SELECT k, max(v) AS m FROM u GROUP BY k"),
    ("pairs", "SELECT t.id AS a, u.id AS b, u.v FROM t JOIN u ON t.k = u.k WHERE t.id >= 1000000 AND u.id >= 1000000"),
    ("total", "SELECT count(*) AS keys, sum(n)::bigint AS n FROM by_k"),
    ("diamond", "SELECT b.k, b.n, m.m FROM by_k AS b JOIN maxes AS m ON b.k = m.k"),
];

/// What a view reads besides tables.
pub fn inputs_of(view: &str) -> &'static [&'static str] {
    match view {
        "total" => &["by_k"],
        "diamond" => &["by_k", "maxes"],
        _ => &[],
    }
}

pub type Row = Vec<i64>;
pub type Rows = BTreeSet<Row>;

/// One transaction, by its number.
#[derive(Clone, Debug)]
pub struct Write {
    pub number: i64,
    /// Of the marker.
    pub k: i64,
    /// The slot that is replaced in both tables, and its new k and v.
    pub slot: Option<(usize, i64, i64)>,
    /// Deletes the slot's row instead.
    pub deletes: bool,
}

/// All writes there were.
#[derive(Default)]
pub struct Model {
    writes: BTreeMap<i64, Write>,
    acknowledged: BTreeSet<i64>,
    /// Under way; nobody knows what becomes of them.
    pending: BTreeSet<i64>,
}

impl Model {
    /// A new write, whose slot no other one under way touches.
    pub fn begin(&mut self, random: &mut dyn FnMut(usize) -> usize) -> Write {
        let number = self.writes.len() as i64 + 1;
        let slot = random(SLOTS);
        let taken = self.pending.iter().any(|n| self.writes[n].slot.is_some_and(|(other, ..)| other == slot));
        let slot = (!taken).then(|| (slot, random(KEYS) as i64, random(100) as i64));
        let write = Write { number, k: random(KEYS) as i64, slot, deletes: random(4) == 0 };
        self.writes.insert(number, write.clone());
        self.pending.insert(number);
        write
    }

    pub fn acknowledge(&mut self, number: i64) {
        self.pending.remove(&number);
        self.acknowledged.insert(number);
    }

    /// It is not done, and never will be.
    pub fn refuse(&mut self, number: i64) {
        self.pending.remove(&number);
    }

    pub fn acknowledged(&self) -> BTreeSet<i64> {
        self.acknowledged.clone()
    }

    /// The slot's row before a write, in the order of the writes; `k` and `v`.
    pub fn slot_before(&self, slot: usize) -> Option<(i64, i64)> {
        self.slot(&self.acknowledged, slot)
    }

    fn slot(&self, seen: &BTreeSet<i64>, slot: usize) -> Option<(i64, i64)> {
        let last = seen.iter().rev().find_map(|n| self.writes[n].slot.filter(|(s, ..)| *s == slot).map(|found| (n, found)));
        last.filter(|(n, _)| !self.writes[n].deletes).map(|(_, (_, k, v))| (k, v))
    }

    /// The writes of which a table's rows have the markers. Panics if there is one that nobody made, or that was lost.
    pub fn seen(&self, rows: &Rows) -> BTreeSet<i64> {
        let seen: BTreeSet<i64> = rows.iter().map(|row| row[0]).filter(|id| *id < SLOTS_FROM).collect();
        let known = |n: &&i64| self.acknowledged.contains(n) || self.pending.contains(n);
        assert!(seen.iter().all(|n| known(&n)), "there are writes that were lost before: {seen:?}");
        seen
    }

    /// What a table holds after some of the writes; both hold the same, but for `v`.
    pub fn table(&self, name: &str, seen: &BTreeSet<i64>) -> Rows {
        let more = if name == "t" { 0 } else { 1000 };
        let marker = |n: &i64| vec![*n, self.writes[n].k, n + more];
        let slot = |s: usize| self.slot(seen, s).map(|(k, v)| vec![SLOTS_FROM + s as i64, k, v + more]);
        seen.iter().map(marker).chain((0..SLOTS).filter_map(slot)).collect()
    }

    /// After a restart: what was under way is in, or never will be.
    pub fn restarted(&mut self, seen: &BTreeSet<i64>) {
        assert!(self.acknowledged.is_subset(seen), "acknowledged writes are lost: {:?}", &self.acknowledged - seen);
        self.acknowledged = seen.clone();
        self.pending.clear();
    }
}

/// What a view holds, given the tables.
pub fn view(name: &str, t: &Rows, u: &Rows) -> Rows {
    let mut by_k: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for row in t {
        let (n, s) = by_k.entry(row[1]).or_default();
        (*n, *s) = (*n + 1, *s + row[2]);
    }
    let mut maxes: BTreeMap<i64, i64> = BTreeMap::new();
    for row in u {
        maxes.entry(row[1]).and_modify(|m| *m = row[2].max(*m)).or_insert(row[2]);
    }
    let slots = |rows: &Rows| rows.iter().filter(|row| row[0] >= SLOTS_FROM).cloned().collect::<Vec<_>>();
    match name {
        "by_k" => by_k.iter().map(|(k, (n, s))| vec![*k, *n, *s]).collect(),
        "maxes" => maxes.iter().map(|(k, m)| vec![*k, *m]).collect(),
        // A sum of nothing is null, which reads as -1 here.
        "total" if by_k.is_empty() => Rows::from([vec![0, -1]]),
        "total" => Rows::from([vec![by_k.len() as i64, by_k.values().map(|(n, _)| n).sum()]]),
        "diamond" => by_k.iter().filter_map(|(k, (n, _))| Some(vec![*k, *n, *maxes.get(k)?])).collect(),
        "pairs" => {
            let (t, u) = (slots(t), slots(u));
            t.iter().flat_map(|a| u.iter().filter(|b| a[1] == b[1]).map(|b| vec![a[0], b[0], b[2]])).collect()
        }
        _ => panic!("no view {name}"),
    }
}
