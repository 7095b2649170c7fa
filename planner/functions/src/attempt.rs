//! Expressions that may fail, as functions that do not: a batch that fails is halved until the failing rows are found, as the executor
//! does with a view's rows (`expr/evaluate.rs`), copies for the same reason, so that a query can leave out the rows that the view rejected. The optimiser sees nothing of what is inside but the
//! columns, so that it neither moves it before a condition nor takes it apart. It does not know what is done with rows that fail.

use super::error::into_datafusion;
use super::failed::{evaluation_error, is_row_error};
use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, Result as DfResult};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use eddyline_common::change::take_rows;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What the functions are called, whatever they try.
pub const ATTEMPT: &str = "eddyline_attempt";

/// The expression's value, of the same type; a null for a row on which it fails.
pub fn value(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    let field = expr.to_field(schema)?.1;
    attempt(vec![expr], Gives::Value, field, schema)
}

/// A condition that is unknown for a row on which it fails.
pub fn condition(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    let field = Arc::new(Field::new(ATTEMPT, DataType::Boolean, true));
    attempt(vec![expr], Gives::Value, field, schema)
}

/// Whether a row is one on which none of the expressions fails.
pub fn succeed(exprs: Vec<Expr>, schema: &DFSchema) -> DfResult<Expr> {
    let field = Arc::new(Field::new(ATTEMPT, DataType::Boolean, false));
    attempt(exprs, Gives::Success, field, schema)
}

fn attempt(exprs: Vec<Expr>, gives: Gives, field: FieldRef, schema: &DFSchema) -> DfResult<Expr> {
    let columns: BTreeSet<usize> =
        exprs.iter().flat_map(|e| e.column_refs()).map(|column| schema.index_of_column(column)).collect::<DfResult<_>>()?;
    let fields: Vec<_> = columns.iter().map(|i| schema.qualified_field(*i)).collect();
    let args = fields.iter().map(|(qualifier, field)| Expr::Column(Column::from((*qualifier, *field)))).collect();
    let of = fields.iter().map(|(qualifier, field)| (qualifier.cloned(), (*field).clone())).collect();
    let function = Attempt::new(exprs, gives, field, &DFSchema::new_with_metadata(of, HashMap::new())?)?;
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(function)), args)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Gives {
    /// Of the one expression.
    Value,
    Success,
}

/// A function of the columns that its expressions read.
#[derive(Debug)]
struct Attempt {
    exprs: Vec<Expr>,
    gives: Gives,
    field: FieldRef,
    /// The columns; there may be nulls where the plan knows of none, as rows that failed are still among them.
    input: SchemaRef,
    compiled: Vec<Arc<dyn PhysicalExpr>>,
    signature: Signature,
}

/// What it is made of says what is compiled.
impl PartialEq for Attempt {
    fn eq(&self, other: &Self) -> bool {
        self.gives == other.gives && self.exprs == other.exprs && self.field == other.field && self.input == other.input
    }
}

impl Eq for Attempt {}

impl Hash for Attempt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.gives.hash(state);
        self.exprs.hash(state);
    }
}

impl Attempt {
    fn new(exprs: Vec<Expr>, gives: Gives, field: FieldRef, columns: &DFSchema) -> DfResult<Self> {
        let (properties, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let compiled = exprs.iter().map(|e| create_physical_expr(e, columns, &properties, &context)).collect::<DfResult<_>>()?;
        let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
        let input = Arc::new(Schema::new(columns.fields().iter().map(nullable).collect::<Vec<_>>()));
        let signature = Signature::any(input.fields().len(), Volatility::Immutable);
        Ok(Attempt { exprs, gives, field, input, compiled, signature })
    }

    /// The arguments as rows. The optimiser asks with nulls that have no type, too.
    fn rows(&self, args: &ScalarFunctionArgs) -> DfResult<RecordBatch> {
        let typed = |(arg, field): (&ColumnarValue, &FieldRef)| -> DfResult<ArrayRef> {
            let column = arg.to_array(args.number_rows)?;
            Ok(if column.data_type() == field.data_type() { column } else { cast(&column, field.data_type())? })
        };
        let columns = args.args.iter().zip(self.input.fields()).map(typed).collect::<DfResult<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(args.number_rows));
        Ok(RecordBatch::try_new_with_options(self.input.clone(), columns, &options)?)
    }

    /// What it gives for all rows, in pieces. `alone`: there is nothing of other rows in their buffers.
    fn pieces(&self, rows: &RecordBatch, alone: bool, pieces: &mut Vec<ArrayRef>) -> DfResult<()> {
        let (count, half) = (rows.num_rows(), rows.num_rows() / 2);
        match self.evaluate(rows).map_err(evaluation_error) {
            Ok(piece) => pieces.push(piece),
            Err(error) if !is_row_error(&error) => return Err(into_datafusion(error)),
            Err(_) if count == 0 || count == 1 && alone => pieces.push(self.failure(count)),
            Err(_) => {
                for piece in [0..half as u32, half as u32..count as u32] {
                    self.pieces(&take_rows(rows, &UInt32Array::from_iter_values(piece))?, true, pieces)?;
                }
            }
        }
        Ok(())
    }

    fn evaluate(&self, rows: &RecordBatch) -> DfResult<ArrayRef> {
        let mut value: ArrayRef = Arc::new(BooleanArray::from(vec![true; rows.num_rows()]));
        for expr in &self.compiled {
            let of_rows = expr.evaluate(rows)?.into_array(rows.num_rows())?;
            if self.gives == Gives::Value {
                value = of_rows;
            }
        }
        Ok(if value.data_type() == self.field.data_type() { value } else { cast(&value, self.field.data_type())? })
    }

    fn failure(&self, rows: usize) -> ArrayRef {
        match self.gives {
            Gives::Value => new_null_array(self.field.data_type(), rows),
            Gives::Success => Arc::new(BooleanArray::from(vec![false; rows])),
        }
    }
}

impl ScalarUDFImpl for Attempt {
    fn name(&self) -> &str {
        ATTEMPT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(self.field.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let mut pieces = Vec::new();
        self.pieces(&self.rows(&args)?, false, &mut pieces)?;
        Ok(ColumnarValue::Array(match pieces.as_slice() {
            [whole] => whole.clone(),
            _ => concat(&pieces.iter().map(|piece| piece.as_ref()).collect::<Vec<_>>())?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{AsArray, BinaryArray, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::common::config::ConfigOptions;
    use datafusion::logical_expr::expr::Cast;
    use datafusion::logical_expr::{col, lit};

    fn run(expr: Expr, columns: &[(&str, Vec<Option<i64>>)]) -> ArrayRef {
        let Expr::ScalarFunction(call) = expr else { panic!("a call") };
        let arg_fields: Vec<FieldRef> = columns.iter().map(|(name, _)| Arc::new(Field::new(*name, DataType::Int64, true))).collect();
        let return_field =
            call.func.return_field_from_args(ReturnFieldArgs { arg_fields: &arg_fields, scalar_arguments: &[None] }).unwrap();
        let rows = columns[0].1.len();
        let args = ScalarFunctionArgs {
            args: columns.iter().map(|(_, values)| ColumnarValue::Array(Arc::new(Int64Array::from(values.clone())))).collect(),
            arg_fields,
            number_rows: rows,
            return_field,
            config_options: Arc::new(ConfigOptions::default()),
        };
        call.func.invoke_with_args(args).unwrap().into_array(rows).unwrap()
    }

    fn schema() -> DFSchema {
        let fields = ["a", "b"].map(|name| Field::new(name, DataType::Int64, true));
        DFSchema::try_from(Schema::new(fields.to_vec())).unwrap()
    }

    #[test]
    fn rows_that_fail_are_told_from_those_that_do_not() {
        let divided = || lit(60i64) / col("b");
        let b: Vec<Option<i64>> = (0..1000).map(|i| if i % 3 == 0 { None } else { Some(i % 4) }).collect();
        let quotient = |b: &Option<i64>| b.filter(|b| *b != 0).map(|b| 60 / b);
        let value = run(value(divided(), &schema()).unwrap(), &[("b", b.clone())]);
        assert_eq!(value.as_primitive::<Int64Type>(), &Int64Array::from_iter(b.iter().map(quotient)));
        let succeed = run(succeed(vec![lit(1i64) + col("b"), divided()], &schema()).unwrap(), &[("b", b.clone())]);
        assert_eq!(succeed.as_boolean(), &BooleanArray::from_iter(b.iter().map(|b| Some(*b != Some(0)))));
    }

    #[test]
    fn a_condition_that_fails_is_unknown() {
        let condition = condition((col("a") / col("b")).gt(lit(2i64)), &schema()).unwrap();
        let found = run(condition, &[("a", vec![Some(9), Some(9), Some(9), None]), ("b", vec![Some(0), Some(1), Some(9), Some(0)])]);
        assert_eq!(found.as_boolean(), &BooleanArray::from(vec![None, Some(true), Some(false), None]));
    }

    /// Arrow looks at all bytes that a slice shares with others.
    #[test]
    fn a_row_does_not_fail_for_what_is_beside_it() {
        let columns = DFSchema::try_from(Schema::new(vec![Field::new("b", DataType::Binary, true)])).unwrap();
        let text = Expr::Cast(Cast::new(Box::new(col("b")), DataType::Utf8));
        let function = Attempt::new(vec![text], Gives::Value, Arc::new(Field::new("t", DataType::Utf8, true)), &columns).unwrap();
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(b"\xff".as_slice()), Some(b"a".as_slice()), None]));
        let rows = RecordBatch::try_new(function.input.clone(), vec![bytes]).unwrap();
        let texts = |rows: &RecordBatch| {
            let mut pieces = Vec::new();
            function.pieces(rows, false, &mut pieces).unwrap();
            let of = |piece: &ArrayRef| piece.as_string::<i32>().iter().map(|text| text.map(str::to_string)).collect::<Vec<_>>();
            pieces.iter().flat_map(of).collect::<Vec<_>>()
        };
        assert_eq!(texts(&rows), [None, Some("a".to_string()), None]);
        assert_eq!(texts(&rows.slice(1, 1)), [Some("a".to_string())]);
    }
}
