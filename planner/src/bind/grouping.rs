//! What GROUP BY says beyond its expressions: positions inside ROLLUP and kin, lists of grouping sets inside one another, casts that change nothing, and the columns of a table whose primary key
//! is grouped by. The latter have one value in each group, so they are grouped by as well where they are named. And Flink's `GROUP_ID()`.

use super::columns::{Known, Named, factors, own_name};
use super::rewrite::{Broken, arguments, broken};
use super::{aggregates, level, names, subqueries};
use crate::catalog::{Catalog, Relation, RelationKind};
use crate::error::fold;
use crate::parse::nesting::{INNER_CUBE, INNER_ROLLUP, INNER_SETS, NO_COLUMNS};
use crate::types;
use crate::walk::sql;
use datafusion::sql::sqlparser::ast::*;
use eddyline_common::{Result, SqlError, SqlState};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Expressions of which each set has some.
type Sets = Vec<Vec<Expr>>;

/// As many as PostgreSQL takes.
const SETS_MAX: usize = 4_096;
/// Of a ROLLUP that is written out, whose sets together have the square of its parts.
const ROLLUP_MAX: usize = 256;
const CUBE_MAX: usize = SETS_MAX.ilog2() as usize;

/// Rewrites one SELECT; ORDER BY is that of the query that it is.
pub fn rewrite(select: &mut Select, order: &mut [OrderByExpr], known: &Known) -> ControlFlow<Broken> {
    let GroupByExpr::Expressions(exprs, modifiers) = &mut select.group_by else { return ControlFlow::Continue(()) };
    if exprs.is_empty() || !modifiers.is_empty() {
        return ControlFlow::Continue(());
    }
    let tables = typed(&select.from, known);
    let mut is_simple = true;
    for expr in exprs.iter_mut() {
        let span = expr.span();
        if let Expr::GroupingSets(sets) = expr {
            match flattened(std::mem::take(sets)) {
                Ok(flat) => *sets = flat,
                Err(error) => return broken(error, span),
            }
        }
        if let Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) = expr {
            is_simple = false;
            for grouped in sets.iter_mut().flatten() {
                if let Some(item) = at_position(grouped, &select.projection) {
                    *grouped = item.clone();
                }
                uncast(grouped, &tables);
            }
        }
        uncast(expr, &tables);
        match written_out(expr) {
            Ok(Some(sets)) => *expr = Expr::GroupingSets(sets),
            Ok(None) => {}
            Err(error) => return broken(error, span),
        }
    }
    uncast_arguments(select, order, &tables);
    if is_simple {
        let named = dependent(select, order, known);
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            exprs.extend(named);
        }
    }
    ControlFlow::Continue(())
}

/// The user's relations of a FROM, whose columns have known types.
fn typed(from: &[TableWithJoins], known: &Known) -> Vec<(Table, Arc<Relation>)> {
    let factors = factors(from);
    let typed = factors.iter().filter_map(|factor| match factor {
        TableFactor::Table { name, args: None, .. } => Some((Table::of(factor, &factors, known)?, known.relation(name)?)),
        _ => None,
    });
    typed.collect()
}

/// A cast of a column to the type that it has is the column, as in PostgreSQL.
fn uncast(expr: &mut Expr, tables: &[(Table, Arc<Relation>)]) {
    let Expr::Cast { kind, expr: inner, data_type, array: false, format: None } = plain(expr) else { return };
    let (column, ty) = (plain(inner), types::only(data_type).filter(|_| *kind != CastKind::TryCast));
    let has_type = |(table, relation): &(Table, Arc<Relation>)| {
        let at = table.column(column).and_then(|column| table.columns.iter().position(|known| known.name == column.name));
        at.and_then(|at| relation.visible.get(at)).is_some_and(|visible| Some(&visible.column.ty) == ty.as_ref())
    };
    if tables.iter().any(has_type) {
        *expr = column.clone();
    }
}

/// So are those that GROUPING asks about.
fn uncast_arguments(select: &mut Select, order: &mut [OrderByExpr], tables: &[(Table, Arc<Relation>)]) {
    let ask = |expr: &mut Expr| {
        let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return };
        if !["grouping", "grouping_id"].iter().any(|known| name.to_string().eq_ignore_ascii_case(known)) {
            return;
        }
        for argument in &mut list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument {
                uncast(argument, tables);
            }
        }
    };
    level::before(&mut select.projection, ask);
    level::before(&mut select.having, ask);
    order.iter_mut().for_each(|by| level::before(&mut by.expr, ask));
}

/// An expression without the parentheses around it.
fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => plain(inner),
        other => other,
    }
}

/// The sets of a ROLLUP or CUBE that has several expressions in one part, which the binder does not take, or an expression twice, of which it would make two columns of one name.
fn written_out(grouped: &Expr) -> Result<Option<Sets>> {
    let (Expr::Rollup(parts) | Expr::Cube(parts)) = grouped else { return Ok(None) };
    let all: Vec<&Expr> = parts.iter().flatten().collect();
    let repeats = || all.iter().enumerate().any(|(at, expr)| all[..at].contains(expr));
    if !(parts.iter().any(|part| part.len() > 1) || repeats()) {
        return Ok(None);
    }
    match grouped {
        Expr::Rollup(_) => of_rollup(parts).map(Some),
        _ => of_cube(parts).map(Some),
    }
}

fn of_rollup(parts: &[Vec<Expr>]) -> Result<Sets> {
    if parts.len() > ROLLUP_MAX {
        return Err(SqlError::new(SqlState::TOO_COMPLEX, format!("ROLLUP is limited to {ROLLUP_MAX} elements")));
    }
    Ok((0..=parts.len()).rev().map(|n| parts[..n].concat()).collect())
}

fn of_cube(parts: &[Vec<Expr>]) -> Result<Sets> {
    if parts.len() > CUBE_MAX {
        return Err(SqlError::new(SqlState::TOO_COMPLEX, format!("CUBE is limited to {CUBE_MAX} elements")));
    }
    let with = |bits: usize| -> Vec<Expr> {
        let kept = parts.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
        kept.flat_map(|(_, part)| part.clone()).collect()
    };
    Ok((0..1usize << parts.len()).rev().map(with).collect())
}

/// The sets of a list and of those inside it.
fn flattened(listed: Sets) -> Result<Sets> {
    let mut sets = Sets::with_capacity(listed.len());
    for set in listed {
        match inner(&set)? {
            Some(inner) => sets.extend(inner),
            None => sets.push(set),
        }
        if sets.len() > SETS_MAX {
            return Err(SqlError::new(SqlState::TOO_COMPLEX, format!("too many grouping sets present (maximum {SETS_MAX})")));
        }
    }
    Ok(sets)
}

/// The sets of a list inside another one, which the parser has made a call of.
fn inner(set: &[Expr]) -> Result<Option<Sets>> {
    let [Expr::Function(function)] = set else { return Ok(None) };
    let part = |written: &Expr| match written {
        Expr::Tuple(part) => part.clone(),
        Expr::Nested(part) => vec![part.as_ref().clone()],
        part => vec![part.clone()],
    };
    let parts: Sets = arguments(function).into_iter().map(part).collect();
    Ok(Some(match function.name.to_string().as_str() {
        INNER_SETS => flattened(parts)?,
        INNER_ROLLUP => of_rollup(&parts)?,
        INNER_CUBE => of_cube(&parts)?,
        NO_COLUMNS => vec![vec![]],
        _ => return Ok(None),
    }))
}

/// HAVING without GROUP BY makes one group of all rows. The binder looks for an aggregate, so there is one.
pub fn one_group(select: &mut Select, catalog: &dyn Catalog) {
    if select.having.is_none() || select.group_by != GroupByExpr::Expressions(vec![], vec![]) {
        return;
    }
    let mut has_any = false;
    let mut look = |expr: &mut Expr| has_any |= matches!(&*expr, Expr::Function(function) if aggregates::is_aggregate(function, catalog));
    level::before(&mut select.projection, &mut look);
    level::before(&mut select.having, &mut look);
    if let Some(having) = select.having.take_if(|_| !has_any) {
        let (having, always) = (Expr::Nested(Box::new(having)), subqueries::count_of_rows(BinaryOperator::GtEq));
        select.having = Some(Expr::BinaryOp { left: Box::new(having), op: BinaryOperator::And, right: Box::new(always) });
    }
}

/// `GROUP_ID()` numbers equal grouping sets: where each is there once it is 0.
pub fn group_id(select: &mut Select) -> ControlFlow<Broken> {
    let is_call = |e: &Expr| match e {
        Expr::Function(f) => f.name.to_string().eq_ignore_ascii_case("group_id") && arguments(f).is_empty(),
        _ => false,
    };
    if !sql::any(&select.projection, is_call) && !sql::any(&select.having, is_call) {
        return ControlFlow::Continue(());
    }
    if may_repeat(&select.group_by) {
        return broken(SqlError::unsupported("GROUP_ID() of equal grouping sets is not supported"), select.span());
    }
    let settle = |e: &mut Expr| {
        if is_call(e) {
            *e = Expr::Value(Value::Number("0".to_string(), true).with_empty_span());
        }
    };
    sql::expressions_mut(&mut select.projection, settle);
    sql::expressions_mut(&mut select.having, settle);
    ControlFlow::Continue(())
}

/// Whether a grouping set may be there more than once.
fn may_repeat(group_by: &GroupByExpr) -> bool {
    let GroupByExpr::Expressions(exprs, _) = group_by else { return true };
    let mut of_sets = exprs.iter().filter_map(|expr| match expr {
        Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => Some(sets),
        _ => None,
    });
    let Some(sets) = of_sets.next() else { return false };
    let written = |set: &Vec<Expr>| {
        let mut parts: Vec<String> = set.iter().map(|expr| expr.to_string().to_lowercase()).collect();
        parts.sort();
        parts
    };
    of_sets.next().is_some() || sets.iter().map(written).collect::<HashSet<_>>().len() < sets.len()
}

/// The item that a number in GROUP BY means, or in DISTINCT ON.
pub fn at_position<'a>(expr: &Expr, items: &'a [SelectItem]) -> Option<&'a Expr> {
    let Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) = expr else { return None };
    match items.get(number.parse::<usize>().ok()?.checked_sub(1)?)? {
        SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. } => Some(item),
        _ => None,
    }
}

/// The columns that are named outside of aggregates and follow from a key that is grouped by.
fn dependent(select: &Select, order: &[OrderByExpr], known: &Known) -> Vec<Expr> {
    let GroupByExpr::Expressions(exprs, _) = &select.group_by else { return vec![] };
    let grouped: Vec<&Expr> = exprs.iter().map(|expr| at_position(expr, &select.projection).unwrap_or(expr)).collect();
    let factors = factors(&select.from);
    let mut found = Vec::new();
    for factor in &factors {
        let Some(key) = key_of(factor, known) else { continue };
        let Some(table) = Table::of(factor, &factors, known) else { continue };
        let is_grouped = |column: &str| grouped.iter().any(|expr| table.column(expr).is_some_and(|c| c.name == column));
        if key.iter().all(|column| is_grouped(column)) {
            let named = table.named_in(select, order, known.catalog);
            found.extend(named.into_iter().filter(|column| !is_grouped(&column.name)).map(|column| column.value));
        }
    }
    found
}

/// The columns of a table's primary key.
fn key_of(factor: &TableFactor, known: &Known) -> Option<Vec<String>> {
    let TableFactor::Table { name, args: None, version: None, alias, .. } = factor else { return None };
    if alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
        return None;
    }
    let relation = known.relation(name)?;
    let has_key = matches!(relation.kind, RelationKind::Table { .. } | RelationKind::KeyedSource { .. }) && !relation.key.is_empty();
    has_key.then(|| relation.key.iter().map(|at| relation.columns[*at].name.clone()).collect())
}

/// A relation of FROM.
struct Table {
    own: String,
    columns: Vec<Named>,
    /// The names of the other relations' columns, if they are known.
    others: Option<HashSet<String>>,
}

impl Table {
    fn of(factor: &TableFactor, factors: &[&TableFactor], known: &Known) -> Option<Table> {
        let others = factors.iter().filter(|other| !std::ptr::eq(**other, factor)).map(|other| known.of_factor(other));
        let others: Option<Vec<_>> = others.collect();
        Some(Table {
            own: fold(&own_name(factor)?),
            columns: known.of_factor(factor)?,
            others: others.map(|others| others.into_iter().flatten().map(|column| column.name).collect()),
        })
    }

    /// The column that an expression is.
    fn column(&self, expr: &Expr) -> Option<&Named> {
        let name = match expr {
            Expr::Identifier(name) if self.others.as_ref().is_some_and(|others| !others.contains(&fold(name))) => name,
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [.., relation, name] if fold(relation) == self.own => name,
                _ => return None,
            },
            _ => return None,
        };
        self.columns.iter().find(|column| column.name == fold(name))
    }

    /// The columns that are named outside of aggregates, each once.
    fn named_in(&self, select: &Select, order: &[OrderByExpr], catalog: &dyn Catalog) -> Vec<Named> {
        let is_output = |expr: &Expr| match expr {
            Expr::Identifier(ident) => select.projection.iter().any(|item| names::of_item(item) == Some(fold(ident))),
            _ => false,
        };
        let mut columns = Outside { table: self, catalog, depth: 0, named: Vec::new() };
        for item in &select.projection {
            match item {
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _)
                    if name.0.last().and_then(|part| part.as_ident()).is_some_and(|name| fold(name) == self.own) =>
                {
                    self.columns.iter().for_each(|column| columns.note(column));
                }
                SelectItem::Wildcard(_) => self.columns.iter().for_each(|column| columns.note(column)),
                other => {
                    let _ = sql::visit(other, &mut columns);
                }
            }
        }
        let _ = sql::visit(&select.having, &mut columns);
        for by in order.iter().filter(|by| !is_output(&by.expr)) {
            let _ = sql::visit(&by.expr, &mut columns);
        }
        columns.named.into_iter().cloned().collect()
    }
}

/// Collects the columns of a table that are not inside an aggregate or a subquery.
struct Outside<'a> {
    table: &'a Table,
    catalog: &'a dyn Catalog,
    /// Aggregates and subqueries around the present place.
    depth: usize,
    named: Vec<&'a Named>,
}

impl<'a> Outside<'a> {
    fn note(&mut self, column: &'a Named) {
        if !self.named.iter().any(|named| named.name == column.name) {
            self.named.push(column);
        }
    }

    fn is_aggregate(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Function(function) if aggregates::is_aggregate(function, self.catalog))
    }
}

impl Visitor for Outside<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth += usize::from(self.is_aggregate(expr));
        let table = self.table;
        if self.depth == 0
            && let Some(column) = table.column(expr)
        {
            self.note(column);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth -= usize::from(self.is_aggregate(expr));
        ControlFlow::Continue(())
    }
}
