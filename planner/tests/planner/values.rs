//! What expressions are worth and of which type: literals, casts, time zones, and the functions of Flink's scripts.
//! Every one is run as a SELECT and planned as a materialized view.

use crate::support::TestCatalog;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use eddyline_planner::casts::PostgresCasts;
use eddyline_planner::functions::checked::rewrite_plan;
use eddyline_planner::{Planned, Settings, StateTableIds, parse, plan};
use std::sync::Arc;

const NULL: &str = "NULL";

/// `expression [type]` for each item of a select list, or the SQLSTATE.
async fn evaluate(expression: &str, zone: &str) -> String {
    let settings = Settings { time_zone: zone.to_string(), ..Settings::default() };
    let catalog = TestCatalog::new();
    let planned = |sql: String| {
        let parsed = parse(&sql)?.pop().expect("one statement");
        plan(&parsed, &catalog, &settings, &mut StateTableIds(1), &[])
    };
    let view = planned(format!("CREATE MATERIALIZED VIEW mv AS SELECT {expression} AS x FROM keyless"));
    let query = match planned(format!("SELECT {expression} AS x")) {
        Ok(Planned::Query(query)) => query,
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            assert_eq!(view.map(|_| ()).unwrap_err().state, error.state, "{expression}");
            return error.state.0.to_string();
        }
    };
    if let Err(error) = view {
        // A constant that cannot be computed may be found while planning.
        assert!(error.state.0.starts_with("22"), "no view of {expression}: {error}");
    }
    let ty = query.columns[0].ty.to_string();
    let context = SessionContext::new();
    context.add_analyzer_rule(Arc::new(PostgresCasts));
    let coerced = context.state().analyzer().execute_and_check(query.plan, context.state().config_options(), |_, _| {}).unwrap();
    let checked = rewrite_plan(coerced, &|e, _| Ok(datafusion::common::tree_node::Transformed::no(e))).unwrap();
    let batches = match context.execute_logical_plan(checked).await {
        Ok(frame) => frame.collect().await,
        Err(error) => Err(error),
    };
    let batches = match batches {
        Ok(batches) => batches,
        Err(error) => return error.strip_backtrace().lines().next().unwrap_or_default().to_string(),
    };
    let options = FormatOptions::default().with_null(NULL);
    let value = ArrayFormatter::try_new(batches[0].column(0), &options).unwrap().value(0).to_string();
    format!("{value} {ty}")
}

async fn check(zone: &str, cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (expression, expected) in cases {
        let actual = evaluate(expression, zone).await;
        if !(actual == *expected || expected.strip_suffix('*').is_some_and(|e| actual.contains(e))) {
            wrong.push(format!("{expression}\n  is       {actual}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn literals_have_the_types_of_postgres() {
    check(
        "UTC",
        &[
            ("1", "1 integer"),
            ("-1", "-1 integer"),
            ("2147483647", "2147483647 integer"),
            ("-2147483648", "-2147483648 integer"),
            ("2147483648", "2147483648 bigint"),
            ("9223372036854775807", "9223372036854775807 bigint"),
            ("9223372036854775808", "9223372036854775808 numeric(19,0)"),
            ("1.50", "1.50 numeric(3,2)"),
            ("1e3", "1000 numeric(4,0)"),
            ("1 + 2147483647", "integer out of range*"),
            ("-2147483647 - 2", "integer out of range*"),
            ("65536 * 65536", "integer out of range*"),
            ("1 + 9223372036854775807", "bigint out of range*"),
            ("1 + 2147483648", "2147483649 bigint"),
            ("7 / 2", "3 integer"),
            ("CAST(5 AS BIGINT)", "5 bigint"),
        ],
    )
    .await;
}

#[tokio::test]
async fn casts_show_values_as_postgres_does() {
    check(
        "UTC",
        &[
            ("CAST(TIMESTAMP '2024-01-02 03:04:05.5' AS TEXT)", "2024-01-02 03:04:05.5 text"),
            ("CAST(DATE '2024-01-02' AS TEXT)", "2024-01-02 text"),
            ("CAST(CAST('1e20' AS DOUBLE PRECISION) AS TEXT)", "1e+20 text"),
            ("CAST(CAST('inf' AS DOUBLE PRECISION) AS TEXT)", "Infinity text"),
            ("CAST(1.50 AS TEXT)", "1.50 text"),
            ("CAST(true AS TEXT)", "true text"),
            ("TRY_CAST('x' AS INT)", "NULL integer"),
            ("CAST('{\"a\":1}' AS JSONB)", "{\"a\":1} jsonb"),
            ("CAST('{' AS JSONB)", "22P02"),
            ("CAST('99999999999' AS INT)", "22003"),
            ("TRY_CAST('{' AS JSONB)", "NULL jsonb"),
        ],
    )
    .await;
}

#[tokio::test]
async fn casts_follow_the_time_zone() {
    check(
        "Europe/Berlin",
        &[
            ("CAST(TIMESTAMPTZ '2024-07-01 12:00:00+00' AS TIMESTAMP)", "2024-07-01T14:00:00 timestamp without time zone"),
            ("CAST(TIMESTAMPTZ '2024-07-01 23:00:00+00' AS DATE)", "2024-07-02 date"),
            ("CAST(TIMESTAMPTZ '2024-07-01 12:00:00+00' AS TEXT)", "2024-07-01 14:00:00+02 text"),
            ("CAST(TIMESTAMP '2024-07-01 12:00:00' AS TIMESTAMPTZ)", "2024-07-01T10:00:00Z timestamp with time zone"),
            ("CAST(DATE '2024-01-01' AS TIMESTAMPTZ)", "2023-12-31T23:00:00Z timestamp with time zone"),
            ("CAST('2024-01-01 00:00:00' AS TIMESTAMPTZ)", "2023-12-31T23:00:00Z timestamp with time zone"),
            ("CAST('2024-01-01 00:00:00+05' AS TIMESTAMPTZ)", "2023-12-31T19:00:00Z timestamp with time zone"),
            ("TIMESTAMPTZ '2024-01-01 00:00:00' = TIMESTAMP '2024-01-01 00:00:00'", "true boolean"),
            ("EXTRACT(HOUR FROM TIMESTAMPTZ '2024-07-01 12:00:00+00')", "14 integer"),
            ("TIMESTAMP '2024-07-01 12:00:00' AT TIME ZONE 'America/New_York'", "2024-07-01T16:00:00Z timestamp with time zone"),
            ("FROM_UNIXTIME(0)", "1970-01-01 01:00:00 text"),
            ("UNIX_TIMESTAMP('1970-01-01 01:00:00')", "0 bigint"),
        ],
    )
    .await;
}

#[tokio::test]
async fn functions_of_flinks_scripts() {
    check(
        "UTC",
        &[
            ("TO_TIMESTAMP_LTZ(1704067200, 0)", "2024-01-01T00:00:00Z timestamp with time zone"),
            ("TO_TIMESTAMP_LTZ(1704067200123, 3)", "2024-01-01T00:00:00.123Z timestamp with time zone"),
            ("TO_TIMESTAMP('2024-01-02 03:04:05')", "2024-01-02T03:04:05 timestamp without time zone"),
            ("TO_TIMESTAMP('02.01.2024', 'dd.MM.yyyy')", "2024-01-02T00:00:00 timestamp without time zone"),
            ("TO_DATE('2024-01-02')", "2024-01-02 date"),
            ("UNIX_TIMESTAMP('2024-01-01 00:00', 'yyyy-MM-dd HH:mm')", "1704067200 bigint"),
            ("FROM_UNIXTIME(44)", "1970-01-01 00:00:44 text"),
            ("FROM_UNIXTIME(44, 'HH:mm:ss')", "00:00:44 text"),
            ("DATE_FORMAT(TIMESTAMP '2024-01-02 03:04:05', 'yyyy-MM-dd HH:mm')", "2024-01-02 03:04 text"),
            ("TO_CHAR(TIMESTAMP '2024-01-02 03:04:05', 'YYYY/MM/DD HH24:MI')", "2024/01/02 03:04 text"),
            ("REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 2)", "bar text"),
            ("REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)')", "foothebar text"),
            ("REGEXP_EXTRACT('x', 'y')", "NULL text"),
            ("REGEXP_EXTRACT('x', '(')", "2201B"),
            ("SPLIT_INDEX('a,b,c', ',', 1)", "b text"),
            ("SPLIT_INDEX('a,b,c', ',', 5)", "NULL text"),
            ("SPLIT_INDEX('a,b,c', 44, 2)", "c text"),
            ("HOUR(TIMESTAMP '1994-09-27 13:14:15')", "13 bigint"),
            ("DAYOFWEEK(DATE '1994-09-27')", "3 bigint"),
            ("TIMESTAMPDIFF(DAY, TIMESTAMP '2003-01-02 10:00:00', TIMESTAMP '2003-01-03 10:00:00')", "1 integer"),
            ("TIMESTAMPDIFF(MONTH, TIMESTAMP '2024-01-31 00:00:00', TIMESTAMP '2024-02-29 00:00:00')", "0 integer"),
            ("TIMESTAMPADD(WEEK, 1, DATE '2003-01-02')", "2003-01-09 date"),
            ("TIMESTAMPADD(MONTH, 1, TIMESTAMP '2024-01-31 00:00:00')", "2024-02-29T00:00:00 timestamp without time zone"),
            ("IF(5 > 3, 5, 3)", "5 integer"),
            ("MOD(7, 3)", "1 integer"),
            ("CEIL(TIMESTAMP '2024-01-02 03:04:05' TO DAY)", "2024-01-03T00:00:00 timestamp without time zone"),
            ("FLOOR(TIMESTAMP '2024-01-02 03:04:05' TO DAY)", "2024-01-02T00:00:00 timestamp without time zone"),
            ("FLOOR(DATE '2024-02-15' TO MONTH)", "2024-02-01 date"),
            ("CEIL(1.5)", "2 numeric(2,0)"),
            ("JSON_VALUE('{\"a\": {\"b\": [1, true]}}', '$.a.b[1]')", "true text"),
            ("JSON_VALUE('{\"a\": 100}', '$.a' RETURNING INT)", "100 integer"),
            ("JSON_VALUE('{\"a\": {}}', '$.a')", "NULL text"),
            ("JSON_VALUE('no json', '$.a')", "NULL text"),
            ("JSON_QUERY('{\"a\": {\"b\": 1}}', '$.a')", "{\"b\":1} text"),
            ("JSON_QUERY('{\"a\": 1}', '$.a')", "NULL text"),
            ("JSON_QUERY('{}', '$' WITH CONDITIONAL ARRAY WRAPPER)", "[{}] text"),
            ("JSON_QUERY('[1, 2]', '$' WITH CONDITIONAL WRAPPER)", "[1,2] text"),
            ("JSON_QUERY('[1, 2]', '$' WITH UNCONDITIONAL ARRAY WRAPPER)", "[[1,2]] text"),
            ("JSON_QUERY('[1, 2]', '$' WITH WRAPPER)", "[[1,2]] text"),
            ("JSON_QUERY('1', '$' WITH CONDITIONAL ARRAY WRAPPER)", "[1] text"),
            ("JSON_QUERY('1', '$' WITHOUT ARRAY WRAPPER EMPTY ARRAY ON ERROR)", "[] text"),
            ("JSON_QUERY('{\"a\": null}', 'lax $.a' WITH WRAPPER EMPTY OBJECT ON EMPTY)", "{} text"),
            ("JSON_QUERY('{}', 'strict $.a' WITH ARRAY WRAPPER NULL ON EMPTY EMPTY ARRAY ON ERROR)", "[] text"),
            ("CAST('{\"a\": [1, \"x\"]}' AS JSONB) -> 'a' -> 0", "1 jsonb"),
            ("CAST('{\"a\": [1, \"x\"]}' AS JSONB) -> 'a' ->> -1", "x text"),
            ("CAST('{\"a\": [1, \"x\"]}' AS JSONB) #>> '{a,1}'", "x text"),
            ("'abc' ~ '^a.c$'", "true boolean"),
            ("REGEXP_REPLACE('abc', 'b', 'x')", "axc text"),
            ("CASE WHEN 1 > 2 THEN 'x' ELSE 'y' END", "y text"),
            ("CURRENT_WATERMARK(now())", "0A000"),
        ],
    )
    .await;
}

#[test]
fn hints_and_clauses_that_cannot_be_followed_are_refused() {
    let catalog = TestCatalog::new();
    for sql in ["SELECT * FROM bid /*+ LOOKUP('table' = 'bid') */", "SELECT /*+ STATE_TTL('bid' = '1d') */ auction FROM bid"] {
        assert_eq!(catalog.error(sql).state.0, "0A000", "{sql}");
    }
    for wrong in ["EMPTY ARRAY ON EMPTY", "NULL ON EMPTY NULL ON EMPTY", "DEFAULT ON ERROR", "ON EMPTY", "NULL ON EMPTY RETURNING INT"] {
        let sql = format!("SELECT JSON_VALUE(b, '$.a' {wrong}) FROM keyless");
        assert_eq!(catalog.error(&sql).state.0, "42601", "{sql}");
    }
    assert!(catalog.plan("SELECT /* a comment */ auction /*+ BROADCAST(bid) */ FROM bid").is_ok());
}
