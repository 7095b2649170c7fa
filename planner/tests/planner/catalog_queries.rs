//! The catalog queries of psql's `\d`, `\dt`, `\d name` get through the binder. That they run, and with which types, is tested in
//! the server, which runs the subqueries that DataFusion alone cannot plan.

use crate::support::TestCatalog;
use datafusion::arrow::array::StringArray;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use eddyline_planner::Planned;
use std::sync::Arc;

fn catalog() -> TestCatalog {
    use DataType::{Boolean, Int32, Int64, Utf8};
    let mut c = TestCatalog::new();
    let list = || DataType::List(Arc::new(Field::new("item", Utf8, true)));
    let numbers = || DataType::List(Arc::new(Field::new("item", DataType::Int16, true)));
    let oids = || DataType::List(Arc::new(Field::new("item", Int64, true)));
    c.add_system("pg_namespace", &[("oid", Int64), ("nspname", Utf8)]);
    c.add_system("pg_am", &[("oid", Int64), ("amname", Utf8)]);
    c.add_system(
        "pg_class",
        &[
            ("oid", Int64),
            ("relname", Utf8),
            ("relnamespace", Int64),
            ("relkind", Utf8),
            ("relowner", Int64),
            ("relam", Int64),
            ("relchecks", Int32),
            ("relhasindex", Boolean),
            ("relhasrules", Boolean),
            ("relhastriggers", Boolean),
            ("relrowsecurity", Boolean),
            ("relforcerowsecurity", Boolean),
            ("relispartition", Boolean),
            ("reltablespace", Int64),
            ("reloftype", Int64),
            ("relpersistence", Utf8),
            ("relreplident", Utf8),
            ("reltoastrelid", Int64),
            ("relpartbound", Utf8),
        ],
    );
    c.add_system(
        "pg_attribute",
        &[
            ("attrelid", Int64),
            ("attname", Utf8),
            ("atttypid", Int64),
            ("atttypmod", Int32),
            ("attnum", Int32),
            ("attnotnull", Boolean),
            ("atthasdef", Boolean),
            ("attcollation", Int64),
            ("attidentity", Utf8),
            ("attgenerated", Utf8),
            ("attisdropped", Boolean),
        ],
    );
    c.add_system("pg_attrdef", &[("adrelid", Int64), ("adnum", Int32), ("adbin", Utf8)]);
    c.add_system("pg_collation", &[("oid", Int64), ("collname", Utf8)]);
    c.add_system("pg_type", &[("oid", Int64), ("typcollation", Int64)]);
    c.add_system(
        "pg_policy",
        &[
            ("polname", Utf8),
            ("polpermissive", Boolean),
            ("polroles", oids()),
            ("polqual", Utf8),
            ("polrelid", Int64),
            ("polwithcheck", Utf8),
            ("polcmd", Utf8),
        ],
    );
    c.add_system("pg_roles", &[("oid", Int64), ("rolname", Utf8)]);
    c.add_system("pg_inherits", &[("inhparent", Int64), ("inhrelid", Int64), ("inhseqno", Int32), ("inhdetachpending", Boolean)]);
    c.add_system(
        "pg_statistic_ext",
        &[("oid", Int64), ("stxrelid", Int64), ("stxnamespace", Int64), ("stxname", Utf8), ("stxkind", list()), ("stxstattarget", Int32)],
    );
    c.add_system("pg_publication", &[("oid", Int64), ("pubname", Utf8), ("puballtables", Boolean)]);
    c.add_system("pg_publication_namespace", &[("pnpubid", Int64), ("pnnspid", Int64)]);
    c.add_system("pg_publication_rel", &[("prpubid", Int64), ("prrelid", Int64), ("prqual", Utf8), ("prattrs", numbers())]);
    c.add_system(
        "pg_trigger",
        &[("oid", Int64), ("tgname", Utf8), ("tgenabled", Utf8), ("tgisinternal", Boolean), ("tgparentid", Int64), ("tgrelid", Int64)],
    );
    for (name, arguments, returns) in [
        ("pg_get_userbyid", vec![Int64], Utf8),
        ("pg_table_is_visible", vec![Int64], Boolean),
        ("format_type", vec![Int64, Int32], Utf8),
        ("pg_get_expr", vec![Utf8, Int64], Utf8),
        ("pg_get_statisticsobjdef_columns", vec![Int64], Utf8),
        ("array_upper", vec![numbers(), Int64], Int32),
        ("pg_partition_ancestors", vec![Utf8], DataType::List(Arc::new(Field::new("item", Int64, true)))),
        ("pg_get_triggerdef", vec![Int64, Boolean], Utf8),
        ("pg_relation_is_publishable", vec![Utf8], Boolean),
        ("eddyline_regclass", vec![Utf8], Int64),
        ("eddyline_regclass_name", vec![Int64], Utf8),
        ("eddyline_regtype_name", vec![Int64], Utf8),
        ("eddyline_regnamespace_name", vec![Int64], Utf8),
    ] {
        let body = move |_: &[ColumnarValue]| Ok(ColumnarValue::Array(Arc::new(StringArray::from(Vec::<String>::new()))));
        c.functions.register_udf(Arc::new(create_udf(name, arguments, returns, Volatility::Stable, Arc::new(body)))).unwrap();
    }
    c
}

fn passes(sql: &str) -> Vec<String> {
    let planned = catalog().plan(sql).unwrap_or_else(|e| panic!("{sql}\n{e}"));
    let Planned::Query(query) = planned else { panic!("not a query") };
    query.columns.iter().map(|c| c.name.clone()).collect()
}

#[test]
fn lists_of_relations() {
    let names = passes(
        r#"SELECT n.nspname as "Schema", c.relname as "Name",
  CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' END as "Type",
  pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE c.relkind IN ('r','p','v','m','S','f','')
      AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema'
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 1,2"#,
    );
    assert_eq!(names, ["Schema", "Name", "Type", "Owner"]);
}

#[test]
fn one_relation() {
    passes(
        "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relname OPERATOR(pg_catalog.~) '^(orders)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3",
    );
    let names = passes(
        "SELECT c.relchecks, c.relkind, false AS relhasoids, c.relispartition, '', c.reltablespace,
           CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END, c.relpersistence, am.amname
         FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid)
         LEFT JOIN pg_catalog.pg_am am ON (c.relam = am.oid) WHERE c.oid = '16385'",
    );
    assert_eq!(names[4], "?column?");
    let names = passes(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
           (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
            WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),
           a.attnotnull,
           (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t
            WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation,
           a.attidentity, a.attgenerated
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = '16385' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    );
    assert_eq!(names[..3], ["attname", "format_type", "pg_get_expr"]);
}

#[test]
fn what_hangs_on_a_relation() {
    passes(
        "SELECT pol.polname, pol.polpermissive,
           CASE WHEN pol.polroles = '{0}' THEN NULL ELSE pg_catalog.array_to_string(array(select rolname from pg_catalog.pg_roles where oid = any (pol.polroles) order by 1),',') END,
           pg_catalog.pg_get_expr(pol.polqual, pol.polrelid),
           CASE pol.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' END AS cmd
         FROM pg_catalog.pg_policy pol WHERE pol.polrelid = '16385' ORDER BY 1",
    );
    passes(
        "SELECT oid, stxrelid::pg_catalog.regclass, stxnamespace::pg_catalog.regnamespace::pg_catalog.text AS nsp, stxname,
           pg_catalog.pg_get_statisticsobjdef_columns(oid) AS columns, 'd' = any(stxkind) AS ndist_enabled, stxstattarget
         FROM pg_catalog.pg_statistic_ext WHERE stxrelid = '16385' ORDER BY nsp, stxname",
    );
    passes(
        "SELECT pubname, NULL, NULL FROM pg_catalog.pg_publication p
           JOIN pg_catalog.pg_publication_namespace pn ON p.oid = pn.pnpubid JOIN pg_catalog.pg_class pc ON pc.relnamespace = pn.pnnspid
         WHERE pc.oid ='16385' and pg_catalog.pg_relation_is_publishable('16385')
         UNION
         SELECT pubname, pg_get_expr(pr.prqual, c.oid),
           (CASE WHEN pr.prattrs IS NOT NULL THEN
             (SELECT string_agg(attname, ', ') FROM pg_catalog.generate_series(0, pg_catalog.array_upper(pr.prattrs::pg_catalog.int2[], 1)) s, pg_catalog.pg_attribute
              WHERE attrelid = pr.prrelid AND attnum = prattrs[s]) ELSE NULL END)
         FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel pr ON p.oid = pr.prpubid
           JOIN pg_catalog.pg_class c ON c.oid = pr.prrelid
         WHERE pr.prrelid = '16385'
         UNION
         SELECT pubname, NULL, NULL FROM pg_catalog.pg_publication p
         WHERE p.puballtables AND pg_catalog.pg_relation_is_publishable('16385') ORDER BY 1",
    );
    passes(
        "SELECT t.tgname, pg_catalog.pg_get_triggerdef(t.oid, true), t.tgenabled, t.tgisinternal,
           CASE WHEN t.tgparentid != 0 THEN
             (SELECT u.tgrelid::pg_catalog.regclass FROM pg_catalog.pg_trigger AS u,
                pg_catalog.pg_partition_ancestors(t.tgrelid) WITH ORDINALITY AS a(relid, depth)
              WHERE u.tgname = t.tgname AND u.tgrelid = a.relid AND u.tgparentid = 0 ORDER BY a.depth LIMIT 1) END AS parent
         FROM pg_catalog.pg_trigger t
         WHERE t.tgrelid = '16385' AND (NOT t.tgisinternal OR (t.tgisinternal AND t.tgenabled = 'D')) ORDER BY 1",
    );
    passes(
        "SELECT c.oid::pg_catalog.regclass, c.relkind, inhdetachpending, pg_catalog.pg_get_expr(c.relpartbound, c.oid)
         FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i WHERE c.oid = i.inhrelid AND i.inhparent = '16385'
         ORDER BY pg_catalog.pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT', c.oid::pg_catalog.regclass::pg_catalog.text",
    );
    passes("SELECT oid FROM pg_class WHERE oid = 'orders'::regclass");
}
