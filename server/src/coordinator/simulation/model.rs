//! What the tables and views of a simulation must hold. Every write leaves a marker, a row with its number that is never
//! deleted, in both tables; so the markers that a reader sees say which writes it saw, and everything else follows from them.

use super::feed::{Ends, PARTITIONS, record};
use std::collections::{BTreeMap, BTreeSet};

/// The tables, each of (id, k, v).
pub const TABLES: [&str; 2] = ["t", "u"];

/// Rows that writes replace have ids from here on, one for each slot; markers have smaller ones.
pub const SLOTS_FROM: i64 = 1_000_000;
pub const SLOTS: usize = 6;

/// Keys of the rows.
pub const KEYS: usize = 4;

/// Views that come and go, each after those it reads, with its query and options.
pub const VIEWS: [(&str, &str, &str); 12] = [
    ("by_k", "SELECT k, count(*) AS n, sum(v)::bigint AS s FROM t GROUP BY k", ""),
    ("maxes", "SELECT k, max(v) AS m FROM u GROUP BY k", ""),
    ("pairs", "SELECT t.id AS a, u.id AS b, u.v FROM t JOIN u ON t.k = u.k WHERE t.id >= 1000000 AND u.id >= 1000000", ""),
    ("total", "SELECT count(*) AS keys, sum(n)::bigint AS n FROM by_k", ""),
    ("diamond", "SELECT b.k, b.n, m.m FROM by_k AS b JOIN maxes AS m ON b.k = m.k", ""),
    (SHARES, "SELECT id, 1000 / (v % 40) AS share FROM t WHERE id >= 1000000", ""),
    (FED, "SELECT p, o, v FROM s", ""),
    ("fed_sums", "SELECT k, count(*) AS n, sum(v)::bigint AS s FROM s GROUP BY k", ""),
    ("fed_total", "SELECT count(*) AS keys, sum(n)::bigint AS n FROM fed_sums", ""),
    ("fed_kept", "SELECT k, max(n) AS m FROM fed_sums GROUP BY k", "state_ttl = '1000 h'"),
    ("fed_join", "SELECT t.id AS a, fed.p, fed.o FROM t JOIN fed ON t.id = fed.o", ""),
    ("fed_few", "SELECT p, count(*) AS n FROM s WHERE v % 5 = 0 GROUP BY p", ""),
];

/// The view that has every record of the source, by which the others over it are judged.
pub const FED: &str = "fed";

/// Whether a view reads the source, directly or not.
pub fn is_fed(view: &str) -> bool {
    view.starts_with(FED)
}

/// The view that rejects some rows, or stops at one.
pub const SHARES: &str = "shares";

/// Whether a row with this `v` fails there.
fn fails(v: i64) -> bool {
    v % 40 == 0
}

/// What a view reads besides tables.
pub fn inputs_of(view: &str) -> &'static [&'static str] {
    match view {
        "total" => &["by_k"],
        "diamond" => &["by_k", "maxes"],
        "fed_total" | "fed_kept" => &["fed_sums"],
        "fed_join" => &[FED],
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

    /// Whether there was a row that fails, at which a view may have stopped.
    pub fn has_failing(&self) -> bool {
        self.writes.values().any(|write| !write.deletes && write.slot.is_some_and(|(_, _, v)| fails(v)))
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

/// How many records of each partition there are in `fed`. Panics if one is missing in between.
pub fn fed_ends(fed: &Rows) -> Ends {
    let mut ends = Ends::default();
    for row in fed {
        let end = &mut ends[row[0] as usize];
        assert!(row[1] == *end && row[2] == record(row[0], row[1]).1, "{row:?} after {end} records");
        *end += 1;
    }
    ends
}

/// What a view over the source holds, given how many records of it there are, and a table.
pub fn fed_view(name: &str, ends: Ends, t: &Rows) -> Rows {
    let records = (0..).zip(ends).flat_map(|(p, end)| (0..end).map(move |o| (p, o, record(p, o)))).collect::<Vec<_>>();
    let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (_, _, (k, v)) in &records {
        let (n, s) = sums.entry(*k).or_default();
        (*n, *s) = (*n + 1, *s + v);
    }
    match name {
        FED => records.iter().map(|(p, o, (_, v))| vec![*p, *o, *v]).collect(),
        "fed_sums" => sums.iter().map(|(k, (n, s))| vec![*k, *n, *s]).collect(),
        "fed_total" if sums.is_empty() => Rows::from([vec![0, -1]]),
        "fed_total" => Rows::from([vec![sums.len() as i64, sums.values().map(|(n, _)| n).sum()]]),
        "fed_kept" => sums.iter().map(|(k, (n, _))| vec![*k, *n]).collect(),
        "fed_few" => {
            let few = |p: i64| records.iter().filter(|r| r.0 == p && r.2.1 % 5 == 0).count() as i64;
            (0..PARTITIONS as i64).map(|p| vec![p, few(p)]).filter(|row| row[1] > 0).collect()
        }
        "fed_join" => {
            let ids: BTreeSet<i64> = t.iter().map(|row| row[0]).collect();
            records.iter().filter(|r| ids.contains(&r.1)).map(|(p, o, _)| vec![*o, *p, *o]).collect()
        }
        _ => panic!("no view {name}"),
    }
}

/// What a view over tables holds.
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
        SHARES => slots(t).iter().filter(|row| !fails(row[2])).map(|row| vec![row[0], 1000 / (row[2] % 40)]).collect(),
        "pairs" => {
            let (t, u) = (slots(t), slots(u));
            t.iter().flat_map(|a| u.iter().filter(|b| a[1] == b[1]).map(|b| vec![a[0], b[0], b[2]])).collect()
        }
        _ => panic!("no view {name}"),
    }
}

/// How many rows of `t` the view of shares rejects, if it goes on.
pub fn rejected(t: &Rows) -> usize {
    t.iter().filter(|row| row[0] >= SLOTS_FROM && fails(row[2])).count()
}
