//! Group windows, `GROUP BY TUMBLE(ts, size)`, and their auxiliaries, `TUMBLE_START(ts, size)` and kin, which name columns of the window that is grouped by: it has the same function and the
//! same arguments. It does not know how rows come into windows.

use super::rewrite::{Broken, arguments, broken, call};
use super::session::PARTITION;
use super::window::{GROUP_WINDOW_COLUMNS, GROUP_WINDOW_PREFIX, descriptor, relation_of};
use super::{intervals, level};
use crate::error::fold;
use crate::walk::sql;
use datafusion::sql::sqlparser::ast::*;
use datafusion::sql::sqlparser::tokenizer::Span;
use eddyline_common::{Result, SqlError, SqlState};
use std::ops::ControlFlow;

/// The functions that are windows.
const WINDOWS: [&str; 4] = ["tumble", "hop", "cumulate", "session"];

/// The window that an auxiliary's name is of, and which of the window's columns it is.
pub fn column(name: &str) -> Option<(&str, usize)> {
    let (window, part) = name.split_once('_').filter(|(window, _)| WINDOWS.contains(window))?;
    let at = match part {
        "start" => 0,
        "end" => 1,
        "rowtime" | "proctime" => 2,
        _ => return None,
    };
    Some((window, at))
}

/// The name of a call of a window function.
fn name_of(function: &Function) -> Option<String> {
    let [part] = function.name.0.as_slice() else { return None };
    part.as_ident().map(fold).filter(|name| WINDOWS.contains(&name.as_str()))
}

/// The window that a SELECT groups by.
pub fn of_select(select: &Select) -> Option<&Function> {
    let GroupByExpr::Expressions(exprs, _) = &select.group_by else { return None };
    exprs.iter().find_map(|expr| match expr {
        Expr::Function(function) => name_of(function).map(|_| function),
        _ => None,
    })
}

/// Refuses auxiliaries of windows that are not grouped by, in a SELECT and in the ORDER BY of the query that it is. `around` are the windows of the queries around.
pub fn check(
    select: &mut Select,
    order: &mut [OrderByExpr],
    around: &[Option<Function>],
    is_users: impl Fn(&Function) -> bool,
) -> ControlFlow<Broken> {
    let own = of_select(select).cloned();
    let windows: Vec<&Function> = around.iter().flatten().chain(&own).collect();
    let mut found = None;
    let mut look = |expr: &mut Expr| {
        if let Expr::Function(function) = &*expr
            && found.is_none()
            && !is_users(function)
        {
            found = refused(function, &windows);
        }
    };
    level::before(&mut select.projection, &mut look);
    level::before(&mut select.selection, &mut look);
    level::before(&mut select.having, &mut look);
    level::before(&mut select.qualify, &mut look);
    order.iter_mut().for_each(|by| level::before(&mut by.expr, &mut look));
    match found {
        Some((error, span)) => broken(error, span),
        None => ControlFlow::Continue(()),
    }
}

/// Why a call names no column of these windows, if it should.
fn refused(function: &Function, windows: &[&Function]) -> Option<(SqlError, Span)> {
    let name = function.name.to_string().to_lowercase();
    let called = name.to_uppercase();
    let args = arguments(function).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let error = if name_of(function).is_some() {
        SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("{called}() is a window of FROM or GROUP BY, not a value"))
            .with_hint(format!("Write {called}_START({args}) or {called}_END({args}), and GROUP BY {called}({args})."))
    } else {
        let (window, _) = column(&name)?;
        if windows.iter().any(|grouped| is_same(grouped, window, function)) {
            return None;
        }
        let error = SqlError::new(SqlState::GROUPING_ERROR, format!("{called}() must have the window that is grouped by"));
        let error = match windows.last() {
            Some(grouped) => error.with_detail(format!("That is {grouped}.")),
            None => error.with_detail("There is no window in GROUP BY."),
        };
        error.with_hint(format!("Write GROUP BY {}({args}), or give {called}() the arguments of the window there.", window.to_uppercase()))
    };
    Some((error, function.name.span()))
}

/// Whether an auxiliary of `window` has the arguments of the window that is grouped by.
fn is_same(grouped: &Function, window: &str, auxiliary: &Function) -> bool {
    let (grouped_by, given) = (arguments(grouped), arguments(auxiliary));
    name_of(grouped).as_deref() == Some(window)
        && grouped_by.len() == given.len()
        && grouped_by.into_iter().zip(given).all(|(one, other)| is_same_argument(one, other))
}

/// Columns are equal by their names, with the table's or without, and intervals by their lengths.
fn is_same_argument(one: &Expr, other: &Expr) -> bool {
    if let (Some(column), Some(named)) = (descriptor(one), descriptor(other)) {
        let tables = relation_of(one).zip(relation_of(other));
        return fold(column) == fold(named) && tables.is_none_or(|(table, named)| fold(table) == fold(named));
    }
    match (intervals::length(one), intervals::length(other)) {
        (Some(length), Some(given)) => length == given,
        _ => one.to_string() == other.to_string(),
    }
}

/// `GROUP BY TUMBLE(ts, size), ...` over a table becomes grouping by the window columns of a window
/// function over it; `TUMBLE_START(...)` and kin become those columns wherever they stand.
pub fn rewrite(select: &mut Select) -> ControlFlow<Broken> {
    let GroupByExpr::Expressions(exprs, _) = &mut select.group_by else { return ControlFlow::Continue(()) };
    let is_window = |e: &Expr| match e {
        Expr::Function(f) => name_of(f).map(|name| (name, f.clone())),
        _ => None,
    };
    let windows: Vec<(usize, String, Function)> =
        exprs.iter().enumerate().filter_map(|(i, e)| is_window(e).map(|(name, f)| (i, name, f))).collect();
    let (at, name, function) = match windows.as_slice() {
        [] => return ControlFlow::Continue(()),
        [one] => one,
        [_, (_, _, second), ..] => return broken(SqlError::unsupported("only one window can be grouped by"), second.name.span()),
    };
    let span = function.name.span();
    let args = arguments(function);
    let Some(time) = args.first().and_then(|e| descriptor(e)) else {
        let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("{}() in GROUP BY takes a time column first", name.to_uppercase()));
        return broken(error.with_hint("Write GROUP BY TUMBLE(ts, INTERVAL '1' HOUR)."), span);
    };
    let Some(TableWithJoins { relation, joins }) = select.from.first() else {
        return broken(SqlError::unsupported("a group window needs a table in FROM"), span);
    };
    let is_join = select.from.len() > 1 || !joins.is_empty();
    let keys = match name.as_str() {
        "session" => match session_keys(exprs, *at, &select.projection, is_join) {
            Ok(keys) => Some(call(PARTITION, keys)),
            Err(error) => return broken(error, span),
        },
        _ => None,
    };
    // Sessions are those of the rows that WHERE leaves, within each group.
    let (data, alias) = match is_join || keys.is_some() && select.selection.is_some() {
        true => {
            let alias = if is_join { None } else { window_input(relation).1 };
            let mut rows = crate::parse::select_all_from(relation.clone());
            if let SetExpr::Select(inner) = rows.body.as_mut() {
                inner.from = select.from.clone();
                inner.selection = select.selection.take();
            }
            (Expr::Subquery(Box::new(rows)), alias)
        }
        false => window_input(relation),
    };
    // Of a join's sides several may have a column of this name.
    let time = if is_join { args[0].clone() } else { Expr::Identifier(time.clone()) };
    let mut window_args = vec![data, time];
    window_args.extend(args[1..].iter().map(|e| (*e).clone()));
    window_args.extend(keys);
    let relation = TableFactor::TableFunction { expr: call(&format!("{GROUP_WINDOW_PREFIX}{name}"), window_args), alias };
    select.from = vec![TableWithJoins { relation, joins: vec![] }];
    let with_time = uses_window_time(select);
    let GroupByExpr::Expressions(exprs, _) = &mut select.group_by else { return ControlFlow::Continue(()) };
    let columns = if with_time { 3 } else { 2 };
    exprs.splice(*at..=*at, GROUP_WINDOW_COLUMNS[..columns].iter().map(|c| Expr::Identifier(Ident::new(*c))));
    ControlFlow::Continue(())
}

/// What else a session is grouped by, as the columns of its input: without the names of tables, unless it is a join.
fn session_keys(group: &[Expr], at: usize, items: &[SelectItem], is_join: bool) -> Result<Vec<Expr>> {
    let others = group.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, e)| e);
    let key = |e: &Expr| {
        let mut key = match e {
            Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_) => {
                let error = SqlError::unsupported("SESSION with GROUPING SETS, ROLLUP or CUBE is not supported");
                return Err(error.with_hint("Use the table function SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap)."));
            }
            Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => {
                let item = number.parse::<usize>().ok().and_then(|n| items.get(n.checked_sub(1)?));
                match item {
                    Some(SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. }) => e.clone(),
                    _ => e.clone(),
                }
            }
            other => other.clone(),
        };
        sql::expressions_mut(&mut key, |part| {
            if let Expr::CompoundIdentifier(parts) = part
                && !is_join
                && let Some(last) = parts.pop()
            {
                *part = Expr::Identifier(last);
            }
        });
        Ok(key)
    };
    others.map(key).collect()
}

/// The table factor as a window function's first argument, and the alias it was known by.
fn window_input(factor: &TableFactor) -> (Expr, Option<TableAlias>) {
    match factor {
        TableFactor::Table { name, alias, args: None, version: None, .. } => {
            let idents: Vec<Ident> = name.0.iter().filter_map(|p| p.as_ident().cloned()).collect();
            let own = idents.last().cloned();
            let alias = alias.clone().or_else(|| own.map(|name| TableAlias { explicit: false, name, columns: vec![], at: None }));
            (if idents.len() == 1 { Expr::Identifier(idents[0].clone()) } else { Expr::CompoundIdentifier(idents) }, alias)
        }
        TableFactor::Derived { subquery, alias, .. } => (Expr::Subquery(subquery.clone()), alias.clone()),
        other => {
            let select = crate::parse::select_all_from(other.clone());
            (Expr::Subquery(Box::new(select)), None)
        }
    }
}

fn uses_window_time(select: &Select) -> bool {
    sql::any(select, |e| matches!(e, Expr::Function(f) if column(&f.name.to_string().to_lowercase()).is_some_and(|(_, at)| at == 2)))
}
