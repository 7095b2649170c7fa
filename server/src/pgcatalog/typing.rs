//! Which of a query's columns have a type that only system relations have (`name`, `oid`, `"char"`, arrays of them), or that is a text inside (jsonb, uuid). Such
//! a type is a mark on a field (`eddyline_common::postgres::types`), for arrays of jsonb and uuid on that of their items; DataFusion loses it in places or keeps it where
//! PostgreSQL would not, so it is followed here from the scans to the result. It knows the rules of PostgreSQL for
//! CASE, COALESCE, aggregates and arrays, and nothing of Arrow's types but lists.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::logical_expr::expr::{AggregateFunction, Case, Cast, ScalarFunction, TryCast, WindowFunction};
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan};
use eddyline_common::types::TYPE_METADATA_KEY;
use std::sync::Arc;

type Mark = Option<String>;

/// The plan's columns, each marked as PostgreSQL would type it.
pub fn schema(plan: &LogicalPlan) -> SchemaRef {
    let fields = plan.schema().fields().iter().zip(marks(plan)).map(|(field, mark)| match (field.data_type(), items(mark.as_deref())) {
        (DataType::List(item), Some(mark)) => {
            let list = DataType::List(Arc::new(marked(item, Some(mark.to_string()))));
            marked(field, None).with_data_type(list)
        }
        _ => marked(field, mark),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn marked(field: &Field, mark: Mark) -> Field {
    let mut metadata = field.metadata().clone();
    match mark {
        Some(mark) => metadata.insert(TYPE_METADATA_KEY.to_string(), mark),
        None => metadata.remove(TYPE_METADATA_KEY),
    };
    field.clone().with_metadata(metadata)
}

/// What is said of the items of an array, if it is said of these.
fn items(mark: Option<&str>) -> Option<&str> {
    mark?.strip_suffix("[]").filter(|item| matches!(*item, "json" | "uuid"))
}

fn of_field(field: &Field) -> Mark {
    match (field.metadata().get(TYPE_METADATA_KEY), field.data_type()) {
        (None, DataType::List(item)) => array_of(item.metadata().get(TYPE_METADATA_KEY).map(String::as_str)),
        (mark, _) => mark.cloned(),
    }
}

fn of_schema(schema: &DFSchema) -> Vec<Mark> {
    schema.fields().iter().map(|f| of_field(f)).collect()
}

fn marks(plan: &LogicalPlan) -> Vec<Mark> {
    let marks = match plan {
        LogicalPlan::Projection(p) => each(&p.expr, &p.input),
        LogicalPlan::Aggregate(a) => [each(&a.group_expr, &a.input), each(&a.aggr_expr, &a.input)].concat(),
        LogicalPlan::Window(w) => [marks(&w.input), each(&w.window_expr, &w.input)].concat(),
        LogicalPlan::Filter(f) => marks(&f.input),
        LogicalPlan::Sort(s) => marks(&s.input),
        LogicalPlan::Limit(l) => marks(&l.input),
        LogicalPlan::SubqueryAlias(s) => marks(&s.input),
        LogicalPlan::Subquery(s) => marks(&s.subquery),
        LogicalPlan::Distinct(Distinct::All(input)) => marks(input),
        LogicalPlan::Distinct(Distinct::On(on)) => each(&on.select_expr, &on.input),
        LogicalPlan::Union(u) => u.inputs.iter().map(|input| marks(input)).reduce(agreed).unwrap_or_default(),
        // Its columns are those of its first term.
        LogicalPlan::RecursiveQuery(r) => marks(&r.static_term),
        LogicalPlan::Join(j) => match j.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => marks(&j.left),
            JoinType::RightSemi | JoinType::RightAnti => marks(&j.right),
            _ => [marks(&j.left), marks(&j.right)].concat(),
        },
        LogicalPlan::Unnest(u) => {
            let input = marks(&u.input);
            let opened = |at: usize| u.list_type_columns.iter().any(|(column, _)| *column == at);
            let of = |at: &usize| if opened(*at) { element(input[*at].as_deref()) } else { input[*at].clone() };
            u.dependency_indices.iter().map(of).collect()
        }
        LogicalPlan::Values(v) => match v.values.first() {
            Some(row) => row.iter().map(|e| mark(e, &DFSchema::empty(), &[])).collect(),
            None => Vec::new(),
        },
        other => of_schema(other.schema()),
    };
    // Grouping sets and marker joins have columns that no expression of theirs stands for.
    if marks.len() == plan.schema().fields().len() { marks } else { of_schema(plan.schema()) }
}

/// The columns of a union: the first input's types, but a `"char"` gives way to text.
fn agreed(left: Vec<Mark>, right: Vec<Mark>) -> Vec<Mark> {
    left.into_iter().zip(right).map(|(l, r)| if l == r || l.as_deref() != Some("char") { l } else { None }).collect()
}

fn each(exprs: &[Expr], input: &LogicalPlan) -> Vec<Mark> {
    let known = marks(input);
    exprs.iter().map(|e| mark(e, input.schema(), &known)).collect()
}

fn mark(expr: &Expr, schema: &DFSchema, known: &[Mark]) -> Mark {
    let of = |e: &Expr| mark(e, schema, known);
    let column = |c: &Column| schema.index_of_column(c).ok().and_then(|at| known.get(at).cloned().flatten());
    match expr {
        Expr::Alias(alias) => of(&alias.expr),
        Expr::Column(c) => column(c),
        Expr::OuterReferenceColumn(field, _) => of_field(field),
        Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) => of_field(field),
        Expr::ScalarSubquery(subquery) => marks(&subquery.subquery).into_iter().next().flatten(),
        Expr::Unnest(unnest) => element(of(&unnest.expr).as_deref()),
        Expr::Case(Case { when_then_expr, else_expr, .. }) => {
            common(else_expr.as_deref().into_iter().chain(when_then_expr.iter().map(|(_, then)| then.as_ref())), &of)
        }
        Expr::ScalarFunction(call) => of_call(call, &of).unwrap_or_else(|| of_output(expr, schema)),
        Expr::AggregateFunction(AggregateFunction { func, params }) => of_aggregate(func.name(), params.args.first().and_then(of)),
        Expr::WindowFunction(window) => of_window(window, &of),
        _ => of_output(expr, schema),
    }
}

fn of_output(expr: &Expr, schema: &DFSchema) -> Mark {
    expr.to_field(schema).ok().and_then(|(_, field)| of_field(&field))
}

/// The type of branches, as of a union; literals and nulls go along with the others.
fn common<'a>(branches: impl Iterator<Item = &'a Expr>, of: &dyn Fn(&Expr) -> Mark) -> Mark {
    branches.filter(|e| !is_literal(e)).map(|e| vec![of(e)]).reduce(agreed)?.pop()?
}

/// An integer that is written as such has a cast around it.
fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) => true,
        Expr::Cast(Cast { expr, field }) => {
            field.data_type().is_integer() && of_field(field).is_none() && matches!(expr.as_ref(), Expr::Literal(..))
        }
        _ => false,
    }
}

/// Functions that hand on what they are given; `None` for all others.
fn of_call(call: &ScalarFunction, of: &dyn Fn(&Expr) -> Mark) -> Option<Mark> {
    let first = || call.args.first().and_then(of);
    match call.func.name() {
        "coalesce" | "greatest" | "least" => Some(common(call.args.iter(), of)),
        "nullif"
        | "array_remove"
        | "array_append"
        | "array_cat"
        | "array_concat"
        | "array_slice"
        | "eddyline_array_of_rows"
        | "eddyline_entries"
        | "eddyline_or_null" => Some(first()),
        "make_array" => Some(array_of(common(call.args.iter(), of).as_deref())),
        "array_element" => Some(element(first().as_deref())),
        _ => None,
    }
}

fn of_aggregate(name: &str, argument: Mark) -> Mark {
    match (name, argument?.as_str()) {
        ("array_agg", item) => array_of(Some(item)),
        ("min" | "max", kept @ ("oid" | "json" | "uuid" | "xid")) => Some(kept.to_string()),
        ("first_value" | "last_value", kept) => Some(kept.to_string()),
        _ => None,
    }
}

fn of_window(window: &WindowFunction, of: &dyn Fn(&Expr) -> Mark) -> Mark {
    let handed_on = matches!(window.fun.name(), "lag" | "lead" | "first_value" | "last_value" | "nth_value");
    let argument = window.params.args.first().and_then(of);
    if handed_on { argument } else { of_aggregate(window.fun.name(), argument) }
}

/// An array of such items.
fn array_of(item: Option<&str>) -> Mark {
    item.filter(|item| matches!(*item, "name" | "oid" | "char" | "json" | "uuid")).map(|item| format!("{item}[]"))
}

/// An array's item.
fn element(list: Option<&str>) -> Mark {
    match list? {
        "oidvector" => Some("oid".to_string()),
        list => list.strip_suffix("[]").map(String::from),
    }
}
