//! Integer arithmetic that fails instead of wrapping. DataFusion's `+`, `-` and `*` wrap, in constants too; after type
//! coercion they are replaced by these functions, which report 22003. A streaming plan turns them back into operators,
//! which the executor checks by itself. On the way calls of DataFusion's functions become calls of ours (`amended`).

use super::amended;
use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::compute::try_binary;
use datafusion::arrow::datatypes::{ArrowNativeTypeOp, DataType, Field, FieldRef, Int8Type, Int16Type, Int32Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use eddyline_common::{SqlError, SqlState};
use eddyline_walk::{Walk, WalkPlan};
use std::sync::{Arc, LazyLock};

/// Replaces the arithmetic of every expression of a coerced plan, and whatever else `more` replaces.
pub fn rewrite_plan(plan: LogicalPlan, more: &dyn Fn(Expr, &DFSchema) -> DfResult<Transformed<Expr>>) -> DfResult<LogicalPlan> {
    rewrite_expressions(plan, &|expr, schema| expr.up(|e| check(e, schema)?.transform_data(|e| more(e, schema))))
}

/// Rewrites every expression over the schema that it sees, names kept: nodes above refer to them.
pub fn rewrite_expressions(plan: LogicalPlan, rewrite: &dyn Fn(Expr, &DFSchema) -> DfResult<Transformed<Expr>>) -> DfResult<LogicalPlan> {
    let rewritten = plan.up_with_subqueries(|node| {
        let schema = schema_of_inputs(&node)?;
        let names = NamePreserver::new(&node);
        node.map_own(|expr| {
            let name = names.save(&expr);
            Ok(rewrite(expr, &schema)?.update_data(|e| name.restore(e)))
        })
    });
    rewritten.map(|t| t.data)
}

/// What the expressions of a node see.
pub fn schema_of_inputs(node: &LogicalPlan) -> DfResult<DFSchema> {
    let mut schema = merge_schema(&node.inputs());
    if let LogicalPlan::TableScan(scan) = node {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    Ok(schema)
}

/// Replaces the arithmetic of a coerced expression.
pub fn rewrite_expr(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    expr.up(|e| check(e, schema)).map(|t| t.data)
}

fn check(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let (left, op, right) = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => (left, op, right),
        Expr::Negative(inner) => return negated(inner, schema),
        Expr::ScalarFunction(call) => return Ok(amended_call(call)),
        other => return Ok(Transformed::no(other)),
    };
    let function = match op {
        Operator::Plus => Some(&ADD),
        Operator::Minus => Some(&SUBTRACT),
        Operator::Multiply => Some(&MULTIPLY),
        _ => None,
    };
    if let Some(function) = function
        && let (Ok(l), Ok(r)) = (left.get_type(schema), right.get_type(schema))
        && l == r
        && l.is_signed_integer()
    {
        return Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf((*function).clone(), vec![*left, *right]))));
    }
    Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })))
}

/// An integer is taken from zero, because DataFusion's negation wraps.
fn negated(inner: Box<Expr>, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let ty = inner.get_type(schema).unwrap_or(DataType::Null);
    if !ty.is_signed_integer() {
        return Ok(Transformed::no(Expr::Negative(inner)));
    }
    let zero = Expr::Literal(ScalarValue::new_zero(&ty)?, None);
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(SUBTRACT.clone(), vec![zero, *inner]))))
}

/// DataFusion's planner calls functions of its own where the registry has ours.
fn amended_call(call: ScalarFunction) -> Transformed<Expr> {
    match amended::in_place_of(&call.func) {
        Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args })),
        None => Transformed::no(Expr::ScalarFunction(call)),
    }
}

static ADD: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Checked::udf(Operator::Plus)));
static SUBTRACT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Checked::udf(Operator::Minus)));
static MULTIPLY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Checked::udf(Operator::Multiply)));

pub fn functions() -> Vec<ScalarUDF> {
    [Operator::Plus, Operator::Minus, Operator::Multiply].map(Checked::udf).into()
}

fn name_of(op: Operator) -> &'static str {
    match op {
        Operator::Plus => "checked_add",
        Operator::Minus => "checked_subtract",
        _ => "checked_multiply",
    }
}

/// The operator that a function of this name stands for.
pub fn operator(name: &str) -> Option<Operator> {
    [Operator::Plus, Operator::Minus, Operator::Multiply].into_iter().find(|op| name_of(*op) == name)
}

pub fn out_of_range(ty: &str) -> DataFusionError {
    DataFusionError::External(Box::new(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{ty} out of range"))))
}

/// `left op right` over two columns of one integer type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    op: Operator,
    signature: Signature,
}

impl Checked {
    fn udf(op: Operator) -> ScalarUDF {
        ScalarUDF::new_from_impl(Checked { op, signature: Signature::any(2, Volatility::Immutable) })
    }

    fn apply<T: ArrowPrimitiveType>(&self, left: &ArrayRef, right: &ArrayRef, ty: &str) -> DfResult<ArrayRef> {
        let (left, right) = (left.as_primitive::<T>(), right.as_primitive::<T>());
        let operate = match self.op {
            Operator::Plus => T::Native::add_checked,
            Operator::Minus => T::Native::sub_checked,
            _ => T::Native::mul_checked,
        };
        let result: PrimitiveArray<T> =
            try_binary(left, right, |l, r| operate(l, r).map_err(|_| ArrowError::ExternalError(Box::new(out_of_range(ty)))))?;
        Ok(Arc::new(result))
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        name_of(self.op)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), args.arg_fields[0].data_type().clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let (left, right) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
        // The optimiser asks what a condition is of a null that has no type.
        if [&left, &right].iter().any(|side| side.data_type().is_null()) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_type())?));
        }
        let result = match left.data_type() {
            DataType::Int8 => self.apply::<Int8Type>(&left, &right, "smallint"),
            DataType::Int16 => self.apply::<Int16Type>(&left, &right, "smallint"),
            DataType::Int32 => self.apply::<Int32Type>(&left, &right, "integer"),
            _ => self.apply::<Int64Type>(&left, &right, "bigint"),
        }?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}
