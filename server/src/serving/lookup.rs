//! Look-ups: some columns of those rows of one table or view that have given values in the columns of its key or of an index. DataFusion takes far longer to plan one
//! than it takes to find the rows, so a bound plan that is plainly one is run as it is. Whatever else goes the long way, also where it comes to the same. It does not
//! know what a transaction has written.

use super::relation::{Bindings, RelationSource};
use crate::coordinator::ReadSnapshot;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{Alias, Cast, InList, ScalarFunction};
use datafusion::logical_expr::logical_plan::{FetchType, SkipType};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, TableScan};
use eddyline_common::{Epoch, Result};
use eddyline_planner::Relation;
use eddyline_storage::view::{Found, Secondary, View, ViewKey};
use std::sync::Arc;

/// Keys that are still looked up one by one; above it a scan is no slower.
const KEYS_MAX: usize = 1000;
/// Rows that an index finds for a look-up that is run as it is; more of them come batch by batch.
const FOUND_MAX: usize = 4096;

/// How rows are found by values: by the key of their view, or by one of its indexes.
#[derive(Clone)]
pub struct Access {
    /// `None`: by the key.
    index: Option<Arc<Secondary>>,
    /// One array per column.
    keys: Vec<ArrayRef>,
}

impl Access {
    /// By the key if all its columns must have one of some values, else by the index that tells most; `None` if there is none.
    pub fn of(view: &View, values_of: impl Fn(usize) -> Option<Vec<ScalarValue>>) -> Option<Access> {
        let keys_in = |columns: &[usize]| keys_of(columns.iter().map(|column| values_of(*column)).collect::<Option<_>>()?);
        if let ViewKey::Keyed(key) = view.key()
            && let Some(keys) = keys_in(key)
        {
            return Some(Access { index: None, keys });
        }
        let indexes = view.indexes();
        let usable = indexes.iter().filter_map(|index| Some((index, keys_in(index.columns())?)));
        let (index, keys) = usable.max_by_key(|(index, _)| index.columns().len())?;
        Some(Access { index: Some(index.clone()), keys })
    }

    /// How many are looked for.
    pub fn num_keys(&self) -> usize {
        self.keys.first().map_or(0, |keys| keys.len())
    }

    /// The rows, whole.
    pub fn rows(&self, view: &View, epoch: Epoch) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        match &self.index {
            None => Ok(Box::new(std::iter::once(view.lookup(epoch, &self.keys)))),
            Some(index) => Ok(Box::new(view.find(epoch, index, &self.keys)?)),
        }
    }

    /// For EXPLAIN.
    pub fn describe(&self, relation: &Relation) -> String {
        let keys = match self.num_keys() {
            1 => "1 key".to_string(),
            keys => format!("{keys} keys"),
        };
        let name = &relation.name;
        let Some(index) = &self.index else { return format!("look-up in {name} by its key, {keys}") };
        let columns: Vec<&str> = index.columns().iter().map(|column| relation.columns[*column].name.as_str()).collect();
        format!("look-up in {name} by index {} ({}), {keys}", index.name(), columns.join(", "))
    }
}

pub struct Lookup {
    view: Arc<View>,
    snapshot: Arc<ReadSnapshot>,
    relation: Arc<Relation>,
    access: Access,
    /// What the index finds.
    found: Option<Found>,
    /// A bound of what there is to do.
    rows_max: usize,
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
        let values_of = |column: usize| {
            let (_, values) = shape.conditions.iter().find(|(conditioned, _)| *conditioned == column)?;
            as_keys(values, view.schema().field(column).data_type())
        };
        let access = Access::of(view, values_of)?;
        // Each condition must be one of those that rows are found by.
        if access.keys.len() != shape.conditions.len() {
            return None;
        }
        let found = access.index.as_ref().map(|index| view.find(snapshot.epoch, index, &access.keys)).transpose().ok()?;
        let found_max = found.as_ref().map_or(Some(access.num_keys()), |found| found.at_most(FOUND_MAX))?;
        if shape.limit.is_some_and(|limit| limit < found_max) || shape.is_sorted && found_max > 1 {
            return None;
        }
        let (view, snapshot, relation) = (view.clone(), snapshot.clone(), relation.clone());
        let rows_max = found_max.max(access.num_keys());
        Some(Lookup { view, snapshot, relation, access, found, rows_max, columns: shape.columns })
    }

    pub fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// For EXPLAIN ANALYZE.
    pub fn describe(&self) -> String {
        self.access.describe(&self.relation)
    }

    pub fn rows(self) -> Result<RecordBatch> {
        self.snapshot.check()?;
        let rows = match self.found {
            None => self.view.lookup(self.snapshot.epoch, &self.access.keys)?,
            Some(found) => concat_batches(self.view.schema(), &found.collect::<Result<Vec<_>>>()?)?,
        };
        Ok(rows.project(&self.columns)?)
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
    use arrow::datatypes::{Field, Schema};

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
    fn the_key_goes_before_indexes_and_of_these_what_tells_more() {
        let fields = ["id", "a", "b"].map(|name| Field::new(name, DataType::Int64, true));
        let view = View::new(Arc::new(Schema::new(fields.to_vec())), ViewKey::Keyed(vec![0]), 1, None).unwrap();
        view.add_index("both", &[2, 1]).unwrap();
        view.add_index("a", &[1]).unwrap();
        let chosen = |known: &[usize]| {
            let access = Access::of(&view, |column| known.contains(&column).then(|| integers(&[column as i64])))?;
            Some((access.index.map(|index| index.name().to_string()), access.keys.len()))
        };
        assert_eq!(chosen(&[0, 1, 2]), Some((None, 1)));
        assert_eq!(chosen(&[1, 2]), Some((Some("both".into()), 2)));
        assert_eq!(chosen(&[1]), Some((Some("a".into()), 1)));
        assert_eq!(chosen(&[2]), None, "a part of an index finds nothing");
        view.drop_index("both");
        assert_eq!(chosen(&[1, 2]), Some((Some("a".into()), 1)));
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
