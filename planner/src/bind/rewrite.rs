//! Rewrites a parsed query before binding: Flink's and PostgreSQL's
//! spellings into functions that exist, and the catalog queries of Postgres clients into what DataFusion can
//! plan. It refuses what the binder would silently drop (`FOR SYSTEM_TIME`).

use super::columns::Known;
use super::ctes::Ctes;
use super::session::PARTITION;
use super::window::{GROUP_WINDOW_PREFIX, table_read};
use super::{
    aggregates, any, arrival, as_of, asof, catalog_queries, chains, commas, constants, distinct, distinct_on, group_windows, grouping,
    intervals, json, keys, literals, match_recognize, merged, named_windows, names, of_groups, overlaps, overridden, recursive, rows,
    set_returning, slices, spellings, subqueries, unknown,
};
use crate::catalog::{Catalog, SqlFunction};
use crate::error::{SourceText, fold, nearest, suggest};
use crate::types;
use crate::walk::sql::{self, Tree};
use datafusion::sql::sqlparser::ast::*;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};
use eddyline_common::{Result, SqlError, SqlState};
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Names that the binder treats as functions though no registry holds them.
const SPECIAL_FUNCTIONS: &[&str] =
    &["unnest", "unnest_outer", "grouping", "array", "map", "descriptor", "tumble", "hop", "cumulate", "session", PARTITION];

/// What the rewriter learns on its way.
#[derive(Default)]
pub struct Found {
    /// Relations named in FROM, by schema and folded name, without the names of common table expressions.
    pub relations: BTreeSet<(Option<String>, String)>,
    /// What relations are called in the query's FROMs.
    pub called: BTreeSet<String>,
    /// Where common table expressions are named in FROM.
    pub ctes: Vec<Location>,
    /// Users' functions that are called.
    pub functions: BTreeSet<String>,
    /// Whether a subquery names an aggregate of a query around it.
    pub of_groups: bool,
}

/// Rewrites a query (or any other tree with queries in it) in place.
pub fn rewrite(tree: &mut impl Tree, catalog: &dyn Catalog, zone: &str, text: Option<&SourceText>) -> Result<Found> {
    let mut rewriter =
        Rewriter { catalog, zone, ctes: Ctes::default(), scopes: Vec::new(), windows: Vec::new(), matching: 0, found: Found::default() };
    match sql::visit_mut(tree, &mut rewriter) {
        ControlFlow::Continue(()) => Ok(rewriter.found),
        ControlFlow::Break(broken) => Err(match text {
            Some(text) => text.at(broken.0, broken.1),
            None => broken.0,
        }),
    }
}

struct Rewriter<'a> {
    catalog: &'a dyn Catalog,
    /// The session's time zone.
    zone: &'a str,
    ctes: Ctes,
    /// What the selects around the present place call the relations in their FROM, the innermost last.
    scopes: Vec<HashMap<String, bool>>,
    /// The windows that these group by.
    windows: Vec<Option<Function>>,
    /// Clauses of MATCH_RECOGNIZE around the present place.
    matching: usize,
    found: Found,
}

pub(super) type Broken = Box<(SqlError, Location)>;

pub(super) fn broken<T>(error: SqlError, span: Span) -> ControlFlow<Broken, T> {
    ControlFlow::Break(Box::new((error, span.start)))
}

impl VisitorMut for Rewriter<'_> {
    type Break = Broken;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Broken> {
        if let SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) = query.body.as_ref() {
            let error = SqlError::unsupported("INSERT, UPDATE and DELETE in the place of a query are not supported");
            return broken(error.with_hint("Make it a statement of its own."), query.span());
        }
        catalog_queries::rewrite_query(query);
        limit_of_fetch(query)?;
        recursive::widen(query);
        literals::keep_in_query(query);
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            names::keep_outside(&mut cte.alias, &cte.query, self.catalog);
        }
        let columns = Known::new(self.catalog, &self.ctes).of_ctes(query);
        for (cte, columns) in query.with.iter_mut().flat_map(|with| &mut with.cte_tables).zip(&columns) {
            names::name_rest(&mut cte.alias, columns.as_deref().unwrap_or_default());
        }
        self.ctes.enter(query, columns);
        if let Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) = &query.order_by {
            order.iter().try_for_each(|by| not_constant(&by.expr))?;
        }
        if let SetExpr::Select(select) = query.body.as_mut() {
            let order: &mut [OrderByExpr] = match &mut query.order_by {
                Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) => {
                    keep_first(order);
                    order.as_mut_slice()
                }
                _ => &mut [],
            };
            named_windows::resolve(select, order)?;
            distinct::rewrite(select, order)?;
            self.check_windows(select, order)?;
            self.rewrite_names(select, order)?;
            distinct_on::name_first(select, &mut query.order_by);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Broken> {
        self.ctes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Broken> {
        for table in &select.from {
            not_sampled(&table.relation)?;
            table.joins.iter().try_for_each(|join| not_sampled(&join.relation))?;
        }
        named_windows::resolve(select, &mut [])?;
        self.check_windows(select, &mut [])?;
        self.rewrite_names(select, &mut [])?;
        let scope = names::in_from(&select.from);
        self.found.called.extend(scope.keys().cloned());
        names::alias_outer(select, &scope, &self.scopes);
        self.scopes.push(scope);
        as_of::mark_joins(select);
        asof::mark_joins(select);
        let known = Known::new(self.catalog, &self.ctes);
        json::whole_rows(select, &known, self.zone);
        let starred = known.of_wildcards(select);
        names::alias_items(select, &starred);
        names::qualify_wildcards(select);
        grouping::group_id(select)?;
        subqueries::rewrite(select);
        catalog_queries::rewrite_select(select);
        set_returning::rewrite(select, &|name| self.is_scalar(name));
        commas::rewrite(&mut select.from);
        literals::keep_in_select(select);
        self.windows.push(group_windows::of_select(select).cloned());
        group_windows::rewrite(select)
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Broken> {
        grouping::one_group(select, self.catalog);
        self.found.of_groups |= of_groups::mark(select, &self.scopes, &Known::new(self.catalog, &self.ctes));
        self.scopes.pop();
        self.windows.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Broken> {
        literals::bare_in_expr(expr);
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<Broken> {
        self.reads(name);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Broken> {
        not_sampled(factor)?;
        if let Some(name) = table_read(factor) {
            self.reads(&name);
            self.found.called.extend(name.0.last().and_then(|part| part.as_ident()).map(fold));
        }
        match factor {
            TableFactor::Table { version: Some(_), name, .. } => broken(
                SqlError::unsupported("FOR SYSTEM_TIME AS OF is supported on the right of [LEFT] JOIN ... ON only")
                    .with_hint("Write [LEFT] JOIN t FOR SYSTEM_TIME AS OF o.ts ON o.k = t.k."),
                name.span(),
            ),
            TableFactor::TableFunction { expr: Expr::Function(function), .. } => self.check_table_function(function),
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                strip_system_schema(name);
                ControlFlow::Continue(())
            }
            TableFactor::Table { name, alias: Some(alias), .. } if !alias.columns.is_empty() => {
                let columns = Known::new(self.catalog, &self.ctes).of_relation(name);
                names::name_rest(alias, &columns.unwrap_or_default());
                ControlFlow::Continue(())
            }
            TableFactor::Derived { subquery, alias: Some(alias), .. } => {
                names::keep_outside(alias, subquery, self.catalog);
                if !alias.columns.is_empty() {
                    let columns = Known::new(self.catalog, &self.ctes).of_query(subquery);
                    names::name_rest(alias, &columns.unwrap_or_default());
                }
                ControlFlow::Continue(())
            }
            TableFactor::MatchRecognize { table, .. } => {
                match_recognize::restore_subquery(table);
                self.matching += 1;
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Broken> {
        if matches!(factor, TableFactor::MatchRecognize { .. }) {
            self.matching -= 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Broken> {
        chains::shorten(expr);
        distinct_before_and(expr);
        any::take_query(expr);
        let known = Known::new(self.catalog, &self.ctes);
        let width = |query: &Query| known.of_query(query).map(|columns| columns.len());
        if let Some(test) = rows::in_query(expr, width)? {
            *expr = test;
        }
        if let Some(compared) = rows::with_query(expr, width)? {
            *expr = compared;
        }
        if let Some(compared) = rows::replacement(expr).or_else(|| overlaps::replacement(expr)).or_else(|| arrival::replacement(expr)) {
            *expr = compared;
        }
        intervals::take_sign(expr);
        slices::rewrite(expr);
        catalog_queries::rewrite_expr(expr);
        if let Expr::Interval(interval) = expr
            && let Err(error) = intervals::rewrite(interval)
        {
            return broken(error, interval.value.span());
        }
        if let Expr::Function(function) = expr {
            strip_system_schema(&mut function.name);
            aggregates::count_of_rows(function);
            aggregates::count_of_values(function);
            if let Some(user) = self.user_function(function) {
                type_literals(function, &user);
                self.found.functions.insert(user.name.clone());
                return ControlFlow::Continue(());
            }
        }
        if let Expr::CompoundIdentifier(parts) = expr
            && self.matching == 0
        {
            self.qualify_outer(parts);
        }
        // The binder looks for what an ARRAY[...] names in the innermost query only.
        if let Expr::Array(array) = expr
            && self.scopes.len() > 1
            && !array.elem.is_empty()
        {
            *expr = call("make_array", std::mem::take(&mut array.elem));
        }
        if let Some(replacement) = spellings::replacement(expr, self.zone) {
            *expr = replacement;
        }
        if let Some((error, span)) = constants::refused(expr) {
            return broken(error, span);
        }
        literals::rewrite(expr);
        any::mark(expr);
        if let Expr::Function(function) = expr
            && let Some(name) = self.unknown(function)
        {
            if fold(name) == "current_watermark" {
                return broken(lone_watermark(), name.span);
            }
            *expr = unknown::marked(function, name, self.nearest_function(&fold(name)).as_deref());
        }
        ControlFlow::Continue(())
    }
}

impl Rewriter<'_> {
    /// A relation of this name is read, unless it is a common table expression's.
    fn reads(&mut self, name: &ObjectName) {
        let idents: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
        let Some((table, schema)) = idents.split_last() else { return };
        if schema.is_empty() && self.ctes.have(table) {
            self.found.ctes.extend(overridden::place_of(name));
        } else {
            self.found.relations.insert((schema.last().cloned(), table.clone()));
        }
    }

    /// What names in a SELECT mean, and in the ORDER BY of the query that it is. A SELECT that has been rewritten stays as it is.
    fn rewrite_names(&self, select: &mut Select, order: &mut [OrderByExpr]) -> ControlFlow<Broken> {
        let known = Known::new(self.catalog, &self.ctes);
        merged::rewrite(select, order, &known);
        grouping::rewrite(select, order, &known)?;
        names::keep_apart(select, order, self.catalog);
        keys::tell_apart(select, order);
        aggregates::tell_apart(select, order, self.catalog);
        order.iter_mut().for_each(|by| subqueries::as_value(&mut by.expr));
        ControlFlow::Continue(())
    }

    /// What names a window in a SELECT names the one that it is grouped by.
    fn check_windows(&self, select: &mut Select, order: &mut [OrderByExpr]) -> ControlFlow<Broken> {
        group_windows::check(select, order, &self.windows, |function| self.user_function(function).is_some())
    }

    /// Whether there is a function of values of this name; a range is also a table of DataFusion's.
    fn is_scalar(&self, name: &str) -> bool {
        name != "range" && (self.catalog.user_function(name).is_some() || self.catalog.functions().udf(name).is_ok())
    }

    fn user_function(&self, function: &Function) -> Option<Arc<SqlFunction>> {
        let [part] = function.name.0.as_slice() else { return None };
        self.catalog.user_function(&fold(part.as_ident()?))
    }

    /// `a.b` in a subquery is the column `b` of a relation `a` outside before it is a field of a column `a` inside, which is what the
    /// binder looks for first. With the schema in front it can only be the former.
    fn qualify_outer(&self, parts: &mut Vec<Ident>) {
        let Some((own, outer)) = self.scopes.split_last() else { return };
        if let [relation, _] = parts.as_slice()
            && let name = fold(relation)
            && !own.contains_key(&name)
            && outer.iter().rev().find_map(|scope| scope.get(&name)) == Some(&true)
        {
            parts.insert(0, Ident::new("public"));
        }
    }

    /// The name of a function that there is not.
    fn unknown<'f>(&self, function: &'f Function) -> Option<&'f Ident> {
        let [part] = function.name.0.as_slice() else { return None };
        let ident = part.as_ident()?;
        let name = fold(ident);
        let f = self.catalog.functions();
        if f.udf(&name).is_ok() || f.udaf(&name).is_ok() || f.udwf(&name).is_ok() || f.higher_order_function(&name).is_ok() {
            return None;
        }
        if self.matching > 0 && match_recognize::is_function(&name) {
            return None;
        }
        let plain = name.strip_prefix(GROUP_WINDOW_PREFIX).unwrap_or(&name);
        (!SPECIAL_FUNCTIONS.contains(&plain)).then_some(ident)
    }

    /// The nearest name of a function that there is.
    fn nearest_function(&self, name: &str) -> Option<String> {
        let f = self.catalog.functions();
        let users = self.catalog.user_functions().into_iter().map(|f| f.name.clone());
        let known: BTreeSet<String> = f.udfs().into_iter().chain(f.udafs()).chain(f.udwfs()).chain(users).collect();
        nearest(name, known.iter().map(String::as_str)).map(String::from)
    }

    /// A function in FROM is given a table, which has no type.
    fn check_table_function(&self, function: &mut Function) -> ControlFlow<Broken> {
        strip_system_schema(&mut function.name);
        if self.user_function(function).is_some() {
            return ControlFlow::Continue(());
        }
        let Some(ident) = self.unknown(function) else { return ControlFlow::Continue(()) };
        let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {}() does not exist", fold(ident)));
        let error = suggest(error, &fold(ident), self.nearest_function(&fold(ident)).as_deref());
        broken(error, ident.span)
    }
}

/// The binder would take all rows. Calls in FROM become subqueries before they are visited, so this is asked twice.
fn not_sampled(factor: &TableFactor) -> ControlFlow<Broken> {
    match factor {
        TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => broken(sampled(), factor.span()),
        _ => ControlFlow::Continue(()),
    }
}

/// The refusal of TABLESAMPLE.
pub fn sampled() -> SqlError {
    SqlError::unsupported("TABLESAMPLE is not supported")
        .with_hint("Write a condition that a part of the rows meets, as in WHERE id % 10 = 0.")
}

fn lone_watermark() -> SqlError {
    SqlError::unsupported("CURRENT_WATERMARK is supported only where it tells which rows came behind it")
        .with_detail("Of a source's past the watermark itself is not kept, only which rows were behind it.")
        .with_hint("Write (CURRENT_WATERMARK(ts) IS NULL OR ts > CURRENT_WATERMARK(ts)), or ts <= CURRENT_WATERMARK(ts), with a column ts.")
}

/// `FETCH FIRST n ROWS ONLY` is LIMIT n.
fn limit_of_fetch(query: &mut Query) -> ControlFlow<Broken> {
    let Some(Fetch { with_ties, percent, quantity }) = query.fetch.take() else { return ControlFlow::Continue(()) };
    let quantity = quantity.unwrap_or_else(|| Expr::Value(Value::Number("1".to_string(), false).with_empty_span()));
    if with_ties || percent {
        return broken(SqlError::unsupported("FETCH with PERCENT or WITH TIES is not supported"), quantity.span());
    }
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) if limit.is_none() => *limit = Some(quantity),
        Some(_) => return broken(SqlError::new(SqlState::SYNTAX_ERROR, "multiple LIMIT clauses not allowed"), quantity.span()),
        None => query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(quantity), offset: None, limit_by: vec![] }),
    }
    ControlFlow::Continue(())
}

/// A number is a position, and no other constant sorts anything.
fn not_constant(by: &Expr) -> ControlFlow<Broken> {
    match by {
        Expr::Nested(inner) => not_constant(inner),
        Expr::Value(value) if !matches!(value.value, Value::Number(..) | Value::Placeholder(_)) => {
            broken(SqlError::new(SqlState::SYNTAX_ERROR, "non-integer constant in ORDER BY"), by.span())
        }
        _ => ControlFlow::Continue(()),
    }
}

/// What a query is sorted by already adds nothing, and DataFusion compares the list of DISTINCT ON with the order item by item.
fn keep_first(order: &mut Vec<OrderByExpr>) {
    let mut seen: Vec<Expr> = Vec::with_capacity(order.len());
    order.retain(|by| {
        let is_new = !seen.contains(&by.expr);
        seen.push(by.expr.clone());
        is_new
    });
}

/// The parser takes all that follows `IS [NOT] DISTINCT FROM` as its operand. AND and OR bind less: what stands to the left of
/// the first of them is the operand (one in parentheses is an `Expr::Nested`).
fn distinct_before_and(expr: &mut Expr) {
    let (left, right, negated) = match expr {
        Expr::IsDistinctFrom(left, right) => (left, right, false),
        Expr::IsNotDistinctFrom(left, right) => (left, right, true),
        _ => return,
    };
    let loose = |e: &Expr| matches!(e, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. });
    if !loose(right) {
        return;
    }
    let nothing = || Expr::Value(Value::Null.with_empty_span());
    let (left, mut whole) = (std::mem::replace(left.as_mut(), nothing()), std::mem::replace(right.as_mut(), nothing()));
    let mut operand = &mut whole;
    while loose(operand)
        && let Expr::BinaryOp { left: next, .. } = operand
    {
        operand = next;
    }
    let (left, right) = (Box::new(left), Box::new(std::mem::replace(operand, nothing())));
    *operand = if negated { Expr::IsNotDistinctFrom(left, right) } else { Expr::IsDistinctFrom(left, right) };
    *expr = whole;
}

/// Text literals take the types of a function's arguments, as untyped literals do.
fn type_literals(function: &mut Function, user: &SqlFunction) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    for (given, argument) in list.args.iter_mut().zip(&user.arguments) {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = given
            && let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. }) = value
            && let Some(ty) = types::to_ast(&argument.ty)
        {
            *value = cast(value.clone(), ty);
        }
    }
}

/// `pg_catalog.f(...)` is `f(...)`.
fn strip_system_schema(name: &mut ObjectName) {
    if let [schema, _] = name.0.as_slice()
        && schema.as_ident().is_some_and(|s| matches!(fold(s).as_str(), "pg_catalog" | "information_schema" | "public"))
    {
        name.0.remove(0);
    }
}

pub fn string_expr(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_string()).with_empty_span())
}

/// The positional arguments of a call.
pub fn arguments(function: &Function) -> Vec<&Expr> {
    match &function.args {
        FunctionArguments::List(list) => list
            .args
            .iter()
            .filter_map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

pub fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

pub fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, format: None, array: false }
}
