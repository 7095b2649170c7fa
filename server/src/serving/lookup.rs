//! Look-ups: some columns of those rows of one table or view that have given keys. DataFusion takes far longer to plan one than it takes to find the rows, so a bound
//! plan that is plainly one is run as it is. Whatever else goes the long way, also where it comes to the same. It does not know what a transaction has written.

use super::relation::{Bindings, RelationSource};
use crate::coordinator::ReadSnapshot;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{Alias, Cast, InList, ScalarFunction};
use datafusion::logical_expr::logical_plan::{FetchType, SkipType};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, TableScan};
use eddyline_common::Result;
use eddyline_storage::view::{View, ViewKey};
use std::sync::Arc;

/// Keys that are still looked up one by one; above it a scan is no slower.
const KEYS_MAX: usize = 1000;

pub struct Lookup {
    view: Arc<View>,
    snapshot: Arc<ReadSnapshot>,
    /// One array per key column.
    keys: Vec<ArrayRef>,
    /// Of the view, those that are asked for.
    columns: Vec<usize>,
}

impl Lookup {
    /// `None` if the plan is something else.
    pub fn of(plan: &LogicalPlan, bindings: &Bindings) -> Option<Lookup> {
        let shape = Shape::of(plan)?;
        let relation = shape.scan.source.downcast_ref::<RelationSource>()?.relation();
        if bindings.overlays.contains_key(&relation.id) {
            return None;
        }
        let snapshot = bindings.snapshot.as_ref()?;
        let view = snapshot.views.get(&relation.id)?;
        let ViewKey::Keyed(key) = view.key() else { return None };
        if key.len() != shape.conditions.len() {
            return None;
        }
        let values_of = |column: &usize| {
            let (_, values) = shape.conditions.iter().find(|(conditioned, _)| conditioned == column)?;
            as_keys(values, view.schema().field(*column).data_type())
        };
        let keys = keys_of(key.iter().map(values_of).collect::<Option<_>>()?)?;
        let num_keys = keys[0].len();
        if shape.limit.is_some_and(|limit| limit < num_keys) || shape.is_sorted && num_keys > 1 {
            return None;
        }
        Some(Lookup { view: view.clone(), snapshot: snapshot.clone(), keys, columns: shape.columns })
    }

    /// How many are looked for.
    pub fn num_keys(&self) -> usize {
        self.keys[0].len()
    }

    pub fn rows(&self) -> Result<RecordBatch> {
        self.snapshot.check()?;
        Ok(self.view.lookup(self.snapshot.epoch, &self.keys)?.project(&self.columns)?)
    }
}

/// The keys that key columns with these values make, one array per column, where not more than one of them has several; `None` if there are too many.
pub fn keys_of(values: Vec<Vec<ScalarValue>>) -> Option<Vec<ArrayRef>> {
    let lists = values.iter().filter(|v| v.len() > 1).count();
    let rows = values.iter().map(Vec::len).max()?;
    if lists > 1 || rows > KEYS_MAX {
        return None;
    }
    let column = |values: Vec<ScalarValue>| match values.as_slice() {
        [one] => one.to_array_of_size(rows).ok(),
        _ => ScalarValue::iter_to_array(values).ok(),
    };
    values.into_iter().map(column).collect()
}

/// A scan under conditions on its columns.
struct Shape<'a> {
    scan: &'a TableScan,
    /// What is shown, as columns of the scan.
    columns: Vec<usize>,
    /// Columns of the scan, with the values that each must be one of.
    conditions: Vec<(usize, Vec<ScalarValue>)>,
    limit: Option<usize>,
    is_sorted: bool,
}

impl<'a> Shape<'a> {
    fn of(plan: &'a LogicalPlan) -> Option<Shape<'a>> {
        match plan {
            LogicalPlan::TableScan(scan) if scan.projection.is_none() && scan.filters.is_empty() && scan.fetch.is_none() => {
                let columns = (0..scan.projected_schema.fields().len()).collect();
                Some(Shape { scan, columns, conditions: Vec::new(), limit: None, is_sorted: false })
            }
            LogicalPlan::SubqueryAlias(alias) => Shape::of(&alias.input),
            LogicalPlan::Projection(projection) => {
                let input = Shape::of(&projection.input)?;
                let shown = |e: &Expr| Some(input.columns[column_of(e, projection.input.schema())?]);
                let columns = projection.expr.iter().map(shown).collect::<Option<_>>()?;
                Some(Shape { columns, ..input })
            }
            LogicalPlan::Filter(filter) => {
                let mut input = Shape::of(&filter.input).filter(|input| input.limit.is_none())?;
                for condition in split_conjunction(&filter.predicate) {
                    let (column, values) = equality(condition)?;
                    let place = filter.input.schema().maybe_index_of_column(column)?;
                    input.conditions.push((input.columns[place], values));
                }
                Some(input)
            }
            LogicalPlan::Sort(sort) if sort.expr.iter().all(|by| matches!(by.expr, Expr::Column(_))) => {
                Shape::of(&sort.input).map(|input| Shape { is_sorted: true, ..input })
            }
            LogicalPlan::Limit(limit) => {
                let (Ok(SkipType::Literal(0)), Ok(FetchType::Literal(Some(rows)))) = (limit.get_skip_type(), limit.get_fetch_type()) else {
                    return None;
                };
                Shape::of(&limit.input).filter(|input| input.limit.is_none()).map(|input| Shape { limit: Some(rows), ..input })
            }
            _ => None,
        }
    }
}

fn column_of(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Alias(Alias { expr, .. }) => column_of(expr, schema),
        _ => None,
    }
}

/// `column = constant`, `column IN (constants)` or `column = ANY (constants)`.
fn equality(condition: &Expr) -> Option<(&Column, Vec<ScalarValue>)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), value) | (value, Expr::Column(column)) => Some((column, vec![constant(value)?])),
            _ => None,
        },
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            Some((column, list.iter().map(constant).collect::<Option<_>>()?))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "array_has" => {
            let [list, Expr::Column(column)] = args.as_slice() else { return None };
            Some((column, items(list)?))
        }
        _ => None,
    }
}

/// A literal. One of an integer is a cast of what the text can hold.
fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(Cast { expr, field }) => {
            let Expr::Literal(value, _) = expr.as_ref() else { return None };
            let is_integer = value.data_type().is_integer() && field.data_type().is_integer();
            value.cast_to(field.data_type()).ok().filter(|cast| is_integer && !cast.is_null())
        }
        _ => None,
    }
}

fn items(list: &Expr) -> Option<Vec<ScalarValue>> {
    match list {
        Expr::Literal(ScalarValue::List(list), _) => {
            let items = list.is_valid(0).then(|| list.value(0))?;
            (0..items.len()).map(|i| ScalarValue::try_from_array(&items, i).ok()).collect()
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "make_array" => args.iter().map(constant).collect(),
        _ => None,
    }
}

/// The values as ones of a key column, nulls left out, which equal nothing; `None` if a comparison with them is not plainly one of such keys.
fn as_keys(values: &[ScalarValue], ty: &DataType) -> Option<Vec<ScalarValue>> {
    let is_exact = |from: &DataType| from == ty && !ty.is_floating() && !ty.is_nested() || from.is_integer() && ty.is_integer();
    let mut keys = Vec::with_capacity(values.len());
    for value in values.iter().filter(|value| !value.is_null()) {
        if !is_exact(&value.data_type()) {
            return None;
        }
        // An integer that the column cannot hold equals none of its values.
        let key = value.cast_to(ty).ok().filter(|key| !key.is_null())?;
        keys.push(key);
    }
    (!keys.is_empty()).then_some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(values: &[i64]) -> Vec<ScalarValue> {
        values.iter().map(|v| ScalarValue::Int64(Some(*v))).collect()
    }

    #[test]
    fn one_column_of_a_key_may_have_several_values() {
        let keys = keys_of(vec![integers(&[7]), integers(&[1, 2, 3])]).expect("three keys");
        assert_eq!(keys.iter().map(|k| k.len()).collect::<Vec<_>>(), [3, 3]);
        assert!(keys_of(vec![integers(&[1, 2]), integers(&[1, 2])]).is_none(), "a product of lists");
        assert!(keys_of(vec![integers(&vec![1; KEYS_MAX + 1])]).is_none(), "a scan is no slower");
    }

    #[test]
    fn only_what_compares_as_it_is_stored_is_a_key() {
        let small = |value| vec![ScalarValue::Int16(Some(value))];
        assert_eq!(as_keys(&integers(&[3]), &DataType::Int16), Some(small(3)));
        assert_eq!(as_keys(&integers(&[70_000]), &DataType::Int16), None, "out of the column's range");
        assert_eq!(as_keys(&[ScalarValue::Float64(Some(0.0))], &DataType::Float64), None, "two zeros are equal");
        assert_eq!(as_keys(&[ScalarValue::from("3")], &DataType::Int64), None);
        assert_eq!(as_keys(&[ScalarValue::Int64(None)], &DataType::Int64), None, "nothing equals null");
        let with_null = [ScalarValue::Int64(None), ScalarValue::Int64(Some(1))];
        assert_eq!(as_keys(&with_null, &DataType::Int64), Some(integers(&[1])));
    }
}
