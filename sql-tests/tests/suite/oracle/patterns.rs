//! Cases of MATCH_RECOGNIZE over a table that only grows, against `matches`.

use super::case::{Case, Scenario};
use super::matches::Pattern::{self, Alt, Rep, Seq, Var};
use super::matches::{Match, Matching, Skip, bigint, int, sum, ts_of};
use super::tables::{Domain, Kind, SECOND, TableSpec};
use super::versions::Helper;
use datafusion::common::ScalarValue;

fn tables() -> Vec<TableSpec> {
    let columns = vec![("k", Domain::Below(3)), ("i", Domain::BigInt), ("g", Domain::Text), ("ts", Domain::EventTime)];
    vec![TableSpec { name: "e", kind: Kind::AppendOnly, columns, watermark: Some((3, 5 * SECOND)) }]
}

pub fn scenario() -> Scenario {
    let mut cases: Vec<Case> = CASES
        .iter()
        .map(|(sql, of)| {
            let from = format!("e MATCH_RECOGNIZE ({sql})");
            Case::new(of.name, format!("SELECT * FROM {from} AS m"))
                .helper(Helper::Matches(of), format!("SELECT * FROM {}_matches", of.name))
        })
        .collect();
    let (sql, of) = &CASES[1];
    cases.push(
        Case::new(
            "windows_of_matches",
            format!(
                "WITH m AS (SELECT * FROM e MATCH_RECOGNIZE ({sql}) AS x) SELECT window_start, COUNT(*) AS n, SUM(c) AS s FROM TABLE(TUMBLE(TABLE m, DESCRIPTOR(t), INTERVAL '10' SECOND)) GROUP BY window_start, window_end"
            ),
        )
        .helper(
            Helper::Matches(of),
            format!("SELECT window_start, COUNT(*), SUM(c) FROM TABLE(TUMBLE(TABLE {}_matches, DESCRIPTOR(t), INTERVAL '10' SECOND)) GROUP BY window_start, window_end", of.name),
        ),
    );
    cases.push(Case::new("all_of_matches", "SELECT k, COUNT(*) AS n FROM falling GROUP BY k").over(&["falling"]));
    Scenario { name: "patterns", tables: tables(), cases, epochs: 22, changes: 12, checkpoints: 0.3, kills: 0.2, backfills: 0.0 }
}

fn less(a: Option<i64>, b: Option<i64>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a < b)
}

fn many(pattern: Pattern) -> Pattern {
    Rep(Box::new(pattern), 1, usize::MAX, true)
}

fn key(m: &Match) -> ScalarValue {
    m.now()[0].clone()
}

fn closed(_: &Match) -> bool {
    false
}

const FALLING: Matching = Matching {
    name: "falling",
    partitioned: true,
    pattern: || Seq(vec![Var('S'), many(Var('D')), Var('U')]),
    condition: |v, m| {
        Ok(Some(match v {
            'D' => match m.last('D', 1) {
                Some(before) => less(m.i(), int(before)) || (int(before).is_none() && less(m.i(), m.last('S', 0).and_then(int))),
                None => less(m.i(), m.last('S', 0).and_then(int)),
            },
            'U' => less(m.last('D', 0).and_then(int), m.i()),
            _ => true,
        }))
    },
    within_seconds: None,
    skip: Skip::PastLast,
    all_rows: false,
    open: closed,
    columns: "k BIGINT, a TIMESTAMP, b TIMESTAMP, c TIMESTAMP, n BIGINT",
    output: |m| vec![key(m), ts_of(m.last('S', 0)), ts_of(m.last('D', 0)), ts_of(m.last('U', 0)), bigint(Some(m.count('D')))],
};

/// What follows `MATCH_RECOGNIZE (`, and what it means.
static CASES: &[(&str, Matching)] = &[
    (
        "PARTITION BY k ORDER BY ts, i, g MEASURES S.ts AS a, LAST(D.ts) AS b, LAST(U.ts) AS c, COUNT(D.*) AS n ONE ROW PER MATCH \
         AFTER MATCH SKIP PAST LAST ROW PATTERN (S D+ U) \
         DEFINE D AS D.i < LAST(D.i, 1) OR (LAST(D.i, 1) IS NULL AND D.i < S.i), U AS U.i > LAST(D.i)",
        FALLING,
    ),
    (
        "PARTITION BY k ORDER BY ts, i, g MEASURES MATCH_ROWTIME() AS t, COUNT(*) AS c, SUM(B.i) AS s, MIN(B.i) AS m, LAST(B.i, 1) AS l \
         AFTER MATCH SKIP TO NEXT ROW PATTERN (A B+) WITHIN INTERVAL '12' SECOND DEFINE B AS B.i < PREV(B.i)",
        Matching {
            name: "prev_next_row",
            partitioned: true,
            pattern: || Seq(vec![Var('A'), many(Var('B'))]),
            condition: |v, m| Ok(Some(v == 'A' || less(m.i(), m.near(-1).ok().flatten().and_then(int)))),
            within_seconds: Some(12),
            skip: Skip::Next,
            all_rows: false,
            open: closed,
            columns: "k BIGINT, t TIMESTAMP, c BIGINT, s BIGINT, m BIGINT, l BIGINT",
            output: |m| {
                let b = m.ints('B');
                vec![
                    key(m),
                    ts_of(Some(m.now())),
                    bigint(Some(m.count('*'))),
                    bigint(sum(&b)),
                    bigint(b.iter().min().copied()),
                    bigint(m.last('B', 1).and_then(int)),
                ]
            },
        },
    ),
    (
        "PARTITION BY k ORDER BY ts, i, g MEASURES A.i AS a, C.i AS c, FIRST(B.i, 1) AS b PATTERN (A B*? C) WITHIN INTERVAL '15' SECOND \
         DEFINE A AS A.i > 0, C AS C.i > A.i",
        Matching {
            name: "reluctant",
            partitioned: true,
            pattern: || Seq(vec![Var('A'), Rep(Box::new(Var('B')), 0, usize::MAX, false), Var('C')]),
            condition: |v, m| {
                Ok(Some(match v {
                    'A' => less(Some(0), m.i()),
                    'C' => less(m.last('A', 0).and_then(int), m.i()),
                    _ => true,
                }))
            },
            within_seconds: Some(15),
            skip: Skip::PastLast,
            all_rows: false,
            open: closed,
            columns: "k BIGINT, a BIGINT, c BIGINT, b BIGINT",
            output: |m| {
                let of = |v| bigint(m.last(v, 0).and_then(int));
                vec![key(m), of('A'), of('C'), bigint(m.first('B', 1).and_then(int))]
            },
        },
    ),
    (
        "PARTITION BY k ORDER BY ts, i, g MEASURES COUNT(A.*) AS a, COUNT(B.i) AS b, LAST(i) AS l, MATCH_NUMBER() AS n AFTER MATCH SKIP TO LAST B \
         PATTERN ((A | B){2,3} C?) WITHIN INTERVAL '20' SECOND DEFINE A AS A.i > 3, B AS B.i < 5, C AS C.i = 0 OR C.i > 10",
        Matching {
            name: "alternatives",
            partitioned: true,
            pattern: || Seq(vec![Rep(Box::new(Alt(vec![Var('A'), Var('B')])), 2, 3, true), Rep(Box::new(Var('C')), 0, 1, true)]),
            condition: |v, m| {
                Ok(Some(match v {
                    'A' => less(Some(3), m.i()),
                    'B' => less(m.i(), Some(5)),
                    _ => m.i() == Some(0) || less(Some(10), m.i()),
                }))
            },
            within_seconds: Some(20),
            skip: Skip::Last('B'),
            all_rows: false,
            open: closed,
            columns: "k BIGINT, a BIGINT, b BIGINT, l BIGINT, n BIGINT",
            output: |m| {
                let (a, b) = (m.count('A'), m.ints('B').len() as i64);
                vec![key(m), bigint(Some(a)), bigint(Some(b)), bigint(m.i()), bigint(Some(m.number))]
            },
        },
    ),
    (
        "PARTITION BY k ORDER BY ts, i, g MEASURES CLASSIFIER() AS v, SUM(UP.i) AS s, FINAL LAST(UP.i) AS f, A.i AS a, MATCH_NUMBER() AS n ALL ROWS PER MATCH \
         AFTER MATCH SKIP TO FIRST UP PATTERN (A UP{1,4}) WITHIN INTERVAL '30' SECOND DEFINE UP AS UP.i >= PREV(UP.i)",
        Matching {
            name: "every_row",
            partitioned: true,
            pattern: || Seq(vec![Var('A'), Rep(Box::new(Var('U')), 1, 4, true)]),
            condition: |v, m| {
                Ok(Some(v == 'A' || m.near(-1).ok().flatten().and_then(int).zip(m.i()).is_some_and(|(before, now)| before <= now)))
            },
            within_seconds: Some(30),
            skip: Skip::First('U'),
            all_rows: true,
            open: closed,
            columns: "k BIGINT, ts TIMESTAMP, i BIGINT, g TEXT, v TEXT, s BIGINT, f BIGINT, a BIGINT, n BIGINT",
            output: |m| {
                let whole = m.whole_match();
                let called = if m.classifier() == ScalarValue::from("U") { ScalarValue::from("UP") } else { m.classifier() };
                let row = m.now().clone();
                vec![
                    row[0].clone(),
                    row[3].clone(),
                    row[1].clone(),
                    row[2].clone(),
                    called,
                    bigint(sum(&m.ints('U'))),
                    bigint(whole.last('U', 0).and_then(int)),
                    bigint(m.last('A', 0).and_then(int)),
                    bigint(Some(m.number)),
                ]
            },
        },
    ),
    (
        "PARTITION BY k ORDER BY ts, i, g MEASURES A.i AS a, B.i AS b, NEXT(B.i) AS n PATTERN (A B) WITHIN INTERVAL '9' SECOND \
         DEFINE A AS NEXT(A.i, 2) IS NULL OR NEXT(A.i) <= A.i",
        Matching {
            name: "ahead",
            partitioned: true,
            pattern: || Seq(vec![Var('A'), Var('B')]),
            condition: |v, m| {
                if v == 'B' {
                    return Ok(Some(true));
                }
                let (Ok(two), Ok(one)) = (m.near(2), m.near(1)) else { return Ok(None) };
                let falls = one.and_then(int).zip(m.i()).is_some_and(|(next, now)| next <= now);
                Ok(Some(two.and_then(int).is_none() || falls))
            },
            within_seconds: Some(9),
            skip: Skip::PastLast,
            all_rows: false,
            open: |m| m.near(1).is_err(),
            columns: "k BIGINT, a BIGINT, b BIGINT, n BIGINT",
            output: |m| {
                let of = |v| bigint(m.last(v, 0).and_then(int));
                vec![key(m), of('A'), of('B'), bigint(m.near(1).ok().flatten().and_then(int))]
            },
        },
    ),
    (
        "PARTITION BY k ORDER BY ts, i, g MEASURES FIRST(A.i) AS a, SUM(A.i) AS s, MAX(A.i) AS x PATTERN (A+ B) WITHIN INTERVAL '40' SECOND \
         DEFINE A AS SUM(A.i) < 20 AND COUNT(A.i) < 5, B AS B.i > MIN(A.i) AND B.i IS NOT NULL",
        Matching {
            name: "sums",
            partitioned: true,
            pattern: || Seq(vec![many(Var('A')), Var('B')]),
            condition: |v, m| {
                Ok(Some(match v {
                    'A' => less(sum(&m.ints('A')), Some(20)) && m.ints('A').len() < 5,
                    _ => less(m.ints('A').iter().min().copied(), m.i()),
                }))
            },
            within_seconds: Some(40),
            skip: Skip::PastLast,
            all_rows: false,
            open: closed,
            columns: "k BIGINT, a BIGINT, s BIGINT, x BIGINT",
            output: |m| {
                let a = m.ints('A');
                vec![key(m), bigint(m.first('A', 0).and_then(int)), bigint(sum(&a)), bigint(a.iter().max().copied())]
            },
        },
    ),
    (
        "ORDER BY ts, i, g MEASURES A.ts AS a, MATCH_ROWTIME() AS t, A.k AS k PATTERN (A B C) DEFINE B AS B.k = A.k, C AS C.k = PREV(C.k)",
        Matching {
            name: "three",
            partitioned: false,
            pattern: || Seq(vec![Var('A'), Var('B'), Var('C')]),
            condition: |v, m| {
                Ok(Some(match v {
                    'A' => true,
                    'B' => m.last('A', 0).is_some_and(|a| a[0] == m.now()[0]),
                    _ => m.near(-1).ok().flatten().is_some_and(|before| before[0] == m.now()[0]),
                }))
            },
            within_seconds: None,
            skip: Skip::PastLast,
            all_rows: false,
            open: closed,
            columns: "a TIMESTAMP, t TIMESTAMP, k BIGINT",
            output: |m| vec![ts_of(m.last('A', 0)), ts_of(Some(m.now())), key(m)],
        },
    ),
    (
        "PARTITION BY k ORDER BY ts, i, g MEASURES A.i AS a, PREV(A.i, 3) AS p PATTERN (A) DEFINE A AS 60 / (A.i - PREV(A.i, 2)) > 4",
        Matching {
            name: "failing",
            partitioned: true,
            pattern: || Var('A'),
            condition: |_, m| match m.i().zip(m.near(-2).ok().flatten().and_then(int)) {
                Some((a, b)) if a == b => Err("division by zero"),
                Some((a, b)) => Ok(Some(60 / (a - b) > 4)),
                None => Ok(Some(false)),
            },
            within_seconds: None,
            skip: Skip::PastLast,
            all_rows: false,
            open: closed,
            columns: "k BIGINT, a BIGINT, p BIGINT",
            output: |m| vec![key(m), bigint(m.i()), bigint(m.near(-3).ok().flatten().and_then(int))],
        },
    ),
    (
        "PARTITION BY k ORDER BY ts, i, g MEASURES COUNT(*) AS n, LAST(B.i) AS b AFTER MATCH SKIP TO NEXT ROW PATTERN ((A B)+ C??) WITHIN INTERVAL '25' SECOND \
         DEFINE A AS MOD(A.i, 2) = 0, B AS B.i > FIRST(A.i)",
        Matching {
            name: "groups_of_rows",
            partitioned: true,
            pattern: || Seq(vec![many(Seq(vec![Var('A'), Var('B')])), Rep(Box::new(Var('C')), 0, 1, false)]),
            condition: |v, m| {
                Ok(Some(match v {
                    'A' => m.i().is_some_and(|i| i % 2 == 0),
                    'B' => less(m.first('A', 0).and_then(int), m.i()),
                    _ => true,
                }))
            },
            within_seconds: Some(25),
            skip: Skip::Next,
            all_rows: false,
            open: closed,
            columns: "k BIGINT, n BIGINT, b BIGINT",
            output: |m| vec![key(m), bigint(Some(m.count('*'))), bigint(m.last('B', 0).and_then(int))],
        },
    ),
];
