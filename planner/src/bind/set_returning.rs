//! Functions that return sets, in FROM and in select lists: `generate_series`, `unnest`, `string_to_table`, `generate_subscripts` and kin.
//! Each has a form that returns a list; the set is that list unnested. In FROM such a function is a subquery
//! `SELECT unnest(list) AS name`, which may name the relations before it. Any other function of values is one row there:
//! `SELECT f(...) AS name`.

use super::json_sets;
use super::rewrite::{arguments, call, cast, string_expr};
use crate::error::fold;
use crate::functions::{ENTRIES, REGEXP_MATCHES};
use crate::walk::sql;
use datafusion::sql::sqlparser::ast::*;

/// Functions whose result is a list here and a set in PostgreSQL.
const LISTS: &[&str] = &["generate_series", "generate_subscripts", "pg_partition_ancestors"];

/// Functions without arguments that are kept as system relations.
const RELATIONS: &[&str] = &["pg_get_keywords", "pg_timezone_names"];

/// Rewrites one SELECT: its FROM, then its items. `is_scalar` tells whether a function returns one value.
pub fn rewrite(select: &mut Select, is_scalar: &dyn Fn(&str) -> bool) {
    let named = json_sets::named_by_relation(&select.from);
    if !named.is_empty() {
        json_sets::by_column(select, &named);
    }
    for (index, table) in select.from.iter_mut().enumerate() {
        from_item(&mut table.relation, index > 0, is_scalar);
        table.joins.iter_mut().for_each(|join| from_item(&mut join.relation, true, is_scalar));
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            unnest_calls(expr);
        }
    }
    tell_apart(select);
}

/// The binder takes lists of one name for the same list, and a cast is not in a name but in that of `ENTRIES`, which goes around the lists with casts where there are others beside.
/// A list of lists is unnested by two calls around each other, with nothing between them.
fn tell_apart(select: &mut Select) {
    let calls_name = |e: &Expr, name: &str| matches!(e, Expr::Function(f) if bare_name(&f.name).as_deref() == Some(name));
    let is_set = |e: &Expr| calls_name(e, "unnest");
    let calls = |e: &Expr| {
        let mut count = 0;
        sql::expressions(e, |part| count += usize::from(is_set(part)));
        count
    };
    let exprs = select.projection.iter_mut().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    let exprs: Vec<&mut Expr> = exprs.collect();
    if exprs.iter().map(|e| calls(e)).sum::<usize>() < 2 {
        return;
    }
    for expr in exprs {
        sql::expressions_mut(expr, |part| {
            let is_cast = |e: &Expr| matches!(e, Expr::Cast { .. } | Expr::TypedString(_));
            if !is_set(part) || calls(part) > 1 || !sql::any(part, is_cast) {
                return;
            }
            let Expr::Function(function) = part else { return };
            let lists: Vec<Expr> = arguments(function).into_iter().cloned().collect();
            if let [list] = lists.as_slice()
                && !calls_name(list, ENTRIES)
            {
                *part = call("unnest", vec![call(ENTRIES, vec![list.clone()])]);
            }
        });
    }
}

/// `f` of a function by its bare or system-schema name.
fn bare_name(name: &ObjectName) -> Option<String> {
    let idents: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
    match idents.as_slice() {
        [name] => Some(name.clone()),
        [schema, name] if matches!(schema.as_str(), "pg_catalog" | "information_schema" | "public") => Some(name.clone()),
        _ => None,
    }
}

/// The list that a call stands for; `None` for any other function.
fn list_of(name: &str, args: &[Expr]) -> Option<Expr> {
    match (name, args) {
        ("unnest", [list]) => Some(list.clone()),
        ("regexp_matches", [_, _] | [_, _, _]) => Some(call(REGEXP_MATCHES, args.to_vec())),
        ("jsonb_path_query", [_, _]) => Some(call("eddyline_jsonb_elements", vec![call("jsonb_path_query_array", args.to_vec())])),
        ("string_to_table", [_, _] | [_, _, _]) => Some(call("string_to_array", args.to_vec())),
        ("regexp_split_to_table", [_, _] | [_, _, _]) => Some(call("regexp_split_to_array", args.to_vec())),
        _ if LISTS.contains(&name) => Some(call(name, args.to_vec())),
        _ => None,
    }
}

/// Puts `unnest` around calls in a select list. What is inside an `unnest` or a subquery already is not looked at.
fn unnest_calls(expr: &mut Expr) {
    match expr {
        Expr::Function(function) => {
            let name = bare_name(&function.name).unwrap_or_default();
            let args: Vec<Expr> = arguments(function).into_iter().cloned().collect();
            match list_of(&name, &args) {
                _ if name == "unnest" => {}
                _ if json_sets::is_set(&name) => *expr = json_sets::in_list(&name, &args).unwrap_or_else(|| expr.clone()),
                _ if name == "_pg_expandarray" && args.len() == 1 => *expr = expanded(args[0].clone()),
                Some(list) => *expr = call("unnest", vec![list]),
                None => unnest_in_arguments(function),
            }
        }
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } | Expr::Collate { expr: inner, .. } => unnest_calls(inner),
        Expr::CompoundFieldAccess { root, .. } => unnest_calls(root),
        Expr::BinaryOp { left, right, .. } => {
            unnest_calls(left);
            unnest_calls(right);
        }
        _ => {}
    }
}

fn unnest_in_arguments(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    for arg in &mut list.args {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = arg {
            unnest_calls(e);
        }
    }
}

/// The relation under a constant series: it is what it is, and not rewritten again.
const SERIES: &str = "__series";

fn from_item(factor: &mut TableFactor, may_be_lateral: bool, is_scalar: &dyn Fn(&str) -> bool) {
    let (written, args, alias, ordinality) = match factor {
        TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => {
            (name.clone(), unnamed(&args.args), alias.clone(), *with_ordinality)
        }
        TableFactor::Function { name, args, alias, with_ordinality, .. } => (name.clone(), unnamed(args), alias.clone(), *with_ordinality),
        TableFactor::UNNEST { array_exprs, alias, with_offset: false, with_ordinality, .. } => {
            (ObjectName::from(vec![Ident::new("unnest")]), Some(array_exprs.clone()), alias.clone(), *with_ordinality)
        }
        TableFactor::NestedJoin { table_with_joins: join, .. } => {
            from_item(&mut join.relation, may_be_lateral, is_scalar);
            return join.joins.iter_mut().for_each(|join| from_item(&mut join.relation, true, is_scalar));
        }
        _ => return,
    };
    let (Some(name), Some(args)) = (bare_name(&written), args) else { return };
    let alias = alias.unwrap_or_else(|| TableAlias { explicit: false, name: Ident::new(&name), columns: vec![], at: None });
    if alias.name.value == SERIES {
        return;
    }
    if args.is_empty() && RELATIONS.contains(&name.as_str()) {
        *factor = system_relation(&name, alias);
        return;
    }
    if name == "aclexplode" {
        *factor = TableFactor::Derived { lateral: false, subquery: no_privileges(), alias: Some(alias), sample: None };
        return;
    }
    let lateral = may_be_lateral && args.iter().any(names_column);
    let subquery = match name.as_str() {
        "generate_series" if !ordinality && !args.iter().any(names_column) => Some(constant_series(args, &alias)),
        name if is_list(name) => items(name, args, &alias, ordinality).map(|items| select(items, vec![])),
        name if is_scalar(name) => Some(select(scalar_items(written, args, &alias, ordinality), vec![])),
        _ => None,
    };
    if let Some(subquery) = subquery {
        let mut alias = TableAlias { columns: if name == "unnest" { alias.columns } else { vec![] }, ..alias };
        if name == "unnest" {
            super::spread::mark(&mut alias);
        }
        let alias = Some(alias);
        *factor = TableFactor::Derived { lateral, subquery, alias, sample: None };
    }
}

fn unnamed(args: &[FunctionArg]) -> Option<Vec<Expr>> {
    args.iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
            _ => None,
        })
        .collect()
}

fn names_column(expr: &Expr) -> bool {
    sql::any(expr, |e| matches!(e, Expr::Identifier(_) | Expr::CompoundIdentifier(_)))
}

/// Whether `items` knows the function.
fn is_list(name: &str) -> bool {
    const OTHERS: [&str; 7] = [
        "unnest",
        "jsonb_path_query",
        "regexp_matches",
        "string_to_table",
        "regexp_split_to_table",
        "_pg_expandarray",
        "pg_options_to_table",
    ];
    LISTS.contains(&name) || OTHERS.contains(&name) || json_sets::is_set(name)
}

/// The columns of a call in FROM that is one value.
fn scalar_items(written: ObjectName, args: Vec<Expr>, alias: &TableAlias, ordinality: bool) -> Vec<SelectItem> {
    let mut value = call("", args);
    if let Expr::Function(function) = &mut value {
        function.name = written;
    }
    let named = |(i, (expr, default)): (usize, (Expr, Ident))| SelectItem::ExprWithAlias {
        expr,
        alias: alias.columns.get(i).map_or(default, |column| column.name.clone()),
    };
    let position = ordinality.then(|| (number(1), Ident::new("ordinality")));
    std::iter::once((value, alias.name.clone())).chain(position).enumerate().map(named).collect()
}

/// The columns of a call in FROM: each a list unnested beside the others, under its name from the alias.
fn items(name: &str, args: Vec<Expr>, alias: &TableAlias, ordinality: bool) -> Option<Vec<SelectItem>> {
    if name == "pg_options_to_table" {
        return options(args.into_iter().next()?, alias);
    }
    if json_sets::is_set(name) {
        return json_sets::in_from(name, &args, alias, ordinality, positions);
    }
    let (mut lists, mut names) = match name {
        "_pg_expandarray" => {
            let list = args.into_iter().next()?;
            (vec![list.clone(), positions(&list)], vec![Ident::new("x"), Ident::new("n")])
        }
        "unnest" => {
            let names = vec![alias.name.clone(); args.len()];
            (args.into_iter().map(|list| call(ENTRIES, vec![list])).collect(), names)
        }
        _ => (vec![list_of(name, &args)?], vec![alias.name.clone()]),
    };
    if ordinality {
        lists.push(positions(lists.first()?));
        names.push(Ident::new("ordinality"));
    }
    for (name, given) in names.iter_mut().zip(&alias.columns) {
        *name = given.name.clone();
    }
    Some(lists.into_iter().zip(names).map(|(list, alias)| SelectItem::ExprWithAlias { expr: call("unnest", vec![list]), alias }).collect())
}

/// A list of `name=value` as two columns.
fn options(list: Expr, alias: &TableAlias) -> Option<Vec<SelectItem>> {
    let option = || call("unnest", vec![list.clone()]);
    let after = Expr::BinaryOp {
        left: Box::new(call("strpos", vec![option(), string_expr("=")])),
        op: BinaryOperator::Plus,
        right: Box::new(number(1)),
    };
    let name = call("split_part", vec![option(), string_expr("="), number(1)]);
    let value = call("substr", vec![option(), after]);
    let named = |(i, (expr, default)): (usize, (Expr, &str))| SelectItem::ExprWithAlias {
        expr,
        alias: alias.columns.get(i).map_or_else(|| Ident::new(default), |c| c.name.clone()),
    };
    Some([(name, "option_name"), (value, "option_value")].into_iter().enumerate().map(named).collect())
}

/// The list `1, 2, ...` as long as another one.
fn positions(list: &Expr) -> Expr {
    let length = cast(call("array_length", vec![list.clone()]), DataType::BigInt(None));
    call("generate_series", vec![number(1), call("coalesce", vec![length, number(0)])])
}

/// An array's items with their positions, as records.
fn expanded(array: Expr) -> Expr {
    let position = cast(call("unnest", vec![positions(&array)]), DataType::Integer(None));
    call("named_struct", vec![string_expr("x"), call("unnest", vec![array]), string_expr("n"), position])
}

/// A series between constants is a relation of DataFusion, which makes its rows as they are read.
fn constant_series(args: Vec<Expr>, alias: &TableAlias) -> Box<Query> {
    let small = |e: &Expr| match e {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => digits.parse::<i32>().is_ok(),
        Expr::UnaryOp { expr, .. } => matches!(expr.as_ref(), Expr::Value(v) if v.to_string().parse::<i32>().is_ok()),
        _ => false,
    };
    let value = Expr::Identifier(Ident::new("value"));
    let value = if args.iter().all(small) { cast(value, DataType::Integer(None)) } else { value };
    let name = alias.columns.first().map_or_else(|| alias.name.clone(), |c| c.name.clone());
    let args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    let mut series = table(
        ObjectName::from(vec![Ident::new("generate_series")]),
        TableAlias { explicit: true, name: Ident::new(SERIES), columns: vec![], at: None },
    );
    if let TableFactor::Table { args: slot, .. } = &mut series {
        *slot = Some(TableFunctionArgs { args, settings: None });
    }
    select(vec![SelectItem::ExprWithAlias { expr: value, alias: name }], vec![TableWithJoins { relation: series, joins: vec![] }])
}

fn system_relation(name: &str, alias: TableAlias) -> TableFactor {
    table(ObjectName::from(vec![Ident::new("pg_catalog"), Ident::new(name)]), alias)
}

fn table(name: ObjectName, alias: TableAlias) -> TableFactor {
    let mut factor = match crate::parse::parse_query("SELECT * FROM t").expect("a constant query parses").body.as_mut() {
        SetExpr::Select(select) => select.from.remove(0).relation,
        _ => unreachable!("the constant query is a SELECT"),
    };
    if let TableFactor::Table { name: slot, alias: alias_slot, .. } = &mut factor {
        *slot = name;
        *alias_slot = Some(alias);
    }
    factor
}

/// The privileges in an `aclitem[]`, of which there is none.
fn no_privileges() -> Box<Query> {
    let none = "SELECT 0::oid AS grantor, 0::oid AS grantee, ''::text AS privilege_type, false AS is_grantable WHERE false";
    crate::parse::parse_query(none).expect("a constant query parses")
}

fn select(items: Vec<SelectItem>, from: Vec<TableWithJoins>) -> Box<Query> {
    let mut query = crate::parse::parse_query("SELECT 1").expect("a constant query parses");
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items;
        select.from = from;
    }
    query
}

/// A bigint, as it stands (`literals`).
fn number(value: u32) -> Expr {
    Expr::Value(Value::Number(value.to_string(), true).with_empty_span())
}
