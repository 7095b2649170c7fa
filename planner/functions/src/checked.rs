//! Arithmetic that fails instead of wrapping, or of making infinities. DataFusion's `+`, `-` and `*` of integers wrap, in constants too; after type
//! coercion they are replaced by these functions, which report 22003, and so is the arithmetic of floats. A streaming plan turns those of integers back into operators,
//! which the executor checks by itself. On the way calls of DataFusion's functions become calls of ours (`amended`), and patterns of LIKE are
//! guarded (`like`).

use super::arguments::{columns, result};
use super::typed::type_of;
use super::{amended, like};
use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::compute::kernels::numeric::{add, div, mul, rem, sub};
use datafusion::arrow::compute::try_binary;
use datafusion::arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Field, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use eddyline_common::{SqlError, SqlState};
use eddyline_walk::{Walk, WalkPlan};
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

/// Replaces the arithmetic of every expression of a coerced plan, and whatever else `more` replaces.
pub fn rewrite_plan(plan: LogicalPlan, more: &dyn Fn(Expr, &DFSchema) -> DfResult<Transformed<Expr>>) -> DfResult<LogicalPlan> {
    rewrite_expressions(plan, &|expr, schema| expr.up(|e| check(e, schema)?.transform_data(|e| more(e, schema))))
}

/// Rewrites every expression over the schema that it sees, names kept.
pub fn rewrite_expressions(plan: LogicalPlan, rewrite: &dyn Fn(Expr, &DFSchema) -> DfResult<Transformed<Expr>>) -> DfResult<LogicalPlan> {
    let rewritten = plan.up_with_subqueries(|node| {
        let schema = schema_of_inputs(&node)?;
        rewrite_own(node, &|expr| rewrite(expr, &schema))
    });
    rewritten.map(|t| t.data)
}

/// Rewrites a node's own expressions, names kept: nodes above refer to them. In grouping sets it is what is in the sets that has names.
pub fn rewrite_own(node: LogicalPlan, rewrite: &dyn Fn(Expr) -> DfResult<Transformed<Expr>>) -> DfResult<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    let mut named = |expr: Expr| -> DfResult<Transformed<Expr>> {
        let name = names.save(&expr);
        Ok(rewrite(expr)?.update_data(|e| name.restore(e)))
    };
    node.map_own(|expr| match expr {
        sets @ Expr::GroupingSet(_) => sets.map_children(&mut named),
        other => named(other),
    })
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
    let guarded = like::guarded(expr, schema);
    if guarded.transformed {
        return Ok(guarded);
    }
    let (left, op, right) = match guarded.data {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => (left, op, right),
        Expr::Negative(inner) => return negated(inner, schema),
        Expr::ScalarFunction(call) => return Ok(amended_call(call)),
        other => return Ok(Transformed::no(other)),
    };
    let function = match op {
        Operator::Plus => Some(&ADD),
        Operator::Minus => Some(&SUBTRACT),
        Operator::Multiply => Some(&MULTIPLY),
        Operator::Divide => Some(&DIVIDE),
        Operator::Modulo => Some(&MODULO),
        _ => None,
    };
    let divides = matches!(op, Operator::Divide | Operator::Modulo);
    if let Some(function) = function
        && let (Ok(l), Ok(r)) = (operand_type(&left, schema), operand_type(&right, schema))
        && l == r
        && (l.is_floating() || !divides && l.is_signed_integer())
    {
        return Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf((*function).clone(), vec![*left, *right]))));
    }
    Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })))
}

/// Both sides of a call of these functions are of one type, and of a chain the right one is short.
fn operand_type(operand: &Expr, schema: &DFSchema) -> DfResult<DataType> {
    match operand {
        Expr::ScalarFunction(ScalarFunction { func, args }) if operator(func.name()).is_some() => {
            args.last().map_or(Ok(DataType::Null), |right| operand_type(right, schema))
        }
        other => type_of(other, schema),
    }
}

/// An integer is taken from zero, because DataFusion's negation wraps.
fn negated(inner: Box<Expr>, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let ty = type_of(&inner, schema).unwrap_or(DataType::Null);
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
static DIVIDE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Checked::udf(Operator::Divide)));
static MODULO: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Checked::udf(Operator::Modulo)));

const OPERATORS: [Operator; 5] = [Operator::Plus, Operator::Minus, Operator::Multiply, Operator::Divide, Operator::Modulo];

pub fn functions() -> Vec<ScalarUDF> {
    OPERATORS.map(Checked::udf).into()
}

fn name_of(op: Operator) -> &'static str {
    match op {
        Operator::Plus => "checked_add",
        Operator::Minus => "checked_subtract",
        Operator::Divide => "checked_divide",
        Operator::Modulo => "checked_modulo",
        _ => "checked_multiply",
    }
}

/// The operator that a function of this name stands for.
pub fn operator(name: &str) -> Option<Operator> {
    OPERATORS.into_iter().find(|op| name_of(*op) == name)
}

/// `left op right` over floats of one type. As in PostgreSQL, a divisor of zero is an error, and so is a result that is too large; one that is too small is zero.
pub fn of_floats(op: Operator, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let result = match op {
        Operator::Plus => add(left, right)?,
        Operator::Minus => sub(left, right)?,
        Operator::Multiply => mul(left, right)?,
        op => divided(op, left, right)?,
    };
    check_finite(left, right, &result)?;
    Ok(result)
}

/// `left / right` or `left % right` over floats of one type, which may be infinite.
pub fn divided(op: Operator, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    check_divisor(left, right)?;
    if op == Operator::Modulo { rem(left, right) } else { div(left, right) }
}

/// A result is too large if it is infinite and nothing is that it was computed of. Mostly none is, which is seen at once.
fn check_finite(left: &ArrayRef, right: &ArrayRef, result: &ArrayRef) -> Result<(), ArrowError> {
    macro_rules! any_overflow {
        ($ty:ty) => {{
            let (left, right, result) = (left.as_primitive::<$ty>(), right.as_primitive::<$ty>(), result.as_primitive::<$ty>());
            let overflows = |i: usize| result.value(i).is_infinite() && left.value(i).is_finite() && right.value(i).is_finite();
            result.values().iter().fold(false, |found, value| found | value.is_infinite())
                && (0..result.len()).any(|i| result.is_valid(i) && overflows(i))
        }};
    }
    let is_too_large = match result.data_type() {
        DataType::Float32 => any_overflow!(Float32Type),
        _ => any_overflow!(Float64Type),
    };
    match is_too_large {
        true => Err(ArrowError::ExternalError(Box::new(DataFusionError::External(Box::new(overflow()))))),
        false => Ok(()),
    }
}

/// Division of floats by zero is an error, unless the result is null or the dividend NaN, as in PostgreSQL.
fn check_divisor(left: &ArrayRef, right: &ArrayRef) -> Result<(), ArrowError> {
    macro_rules! any_zero {
        ($ty:ty) => {{
            let (left, right) = (left.as_primitive::<$ty>(), right.as_primitive::<$ty>());
            right.values().contains(&0.0)
                && (0..left.len()).any(|i| right.value(i) == 0.0 && right.is_valid(i) && left.is_valid(i) && !left.value(i).is_nan())
        }};
    }
    let zero = match right.data_type() {
        DataType::Float32 => any_zero!(Float32Type),
        _ => any_zero!(Float64Type),
    };
    if zero { Err(ArrowError::DivideByZero) } else { Ok(()) }
}

fn takes_two(name: &str) -> DataFusionError {
    DataFusionError::Plan(format!("function {name}() takes two arguments"))
}

/// What is said of floats that are too large together.
pub fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value out of range: overflow")
}

pub fn out_of_range(ty: &str) -> DataFusionError {
    DataFusionError::External(Box::new(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{ty} out of range"))))
}

/// `left op right` over two columns of one type, of integers or floats.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    op: Operator,
    signature: Signature,
}

impl Checked {
    fn udf(op: Operator) -> ScalarUDF {
        ScalarUDF::new_from_impl(Checked { op, signature: Signature::user_defined(Volatility::Immutable) })
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

    /// That of a chain at once: each of its calls would copy the name of all beneath.
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let [left, right] = args else { return Err(takes_two(self.name())) };
        let (mut name, mut left, mut rights) = (format!("{}(", self.name()), left, vec![right]);
        while let Expr::ScalarFunction(call) = left
            && operator(call.func.name()).is_some()
            && let [deeper, right] = call.args.as_slice()
        {
            write!(name, "{}(", call.func.name())?;
            rights.push(right);
            left = deeper;
        }
        write!(name, "{}", left.schema_name())?;
        for right in rights.iter().rev() {
            write!(name, ",{})", right.schema_name())?;
        }
        Ok(name)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Both sides are of one type already, but where the optimiser asks what a condition is of columns that are null: those have no type there, and what is computed
    /// of them has another one than otherwise.
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let [left, right] = types else { return Err(takes_two(self.name())) };
        let divides = matches!(self.op, Operator::Divide | Operator::Modulo);
        let fits = |ty: &&DataType| ty.is_floating() || !divides && ty.is_signed_integer();
        let widest = [left, right].into_iter().filter(fits).max_by_key(|ty| (ty.is_floating(), ty.primitive_width()));
        let ty = widest.cloned().unwrap_or(if divides { DataType::Float64 } else { DataType::Int64 });
        Ok(vec![ty.clone(), ty])
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), args.arg_fields[0].data_type().clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let given = columns(&args)?;
        let (left, right) = (&given[0], &given[1]);
        let computed = match left.data_type() {
            DataType::Int8 => self.apply::<Int8Type>(left, right, "smallint"),
            DataType::Int16 => self.apply::<Int16Type>(left, right, "smallint"),
            DataType::Int32 => self.apply::<Int32Type>(left, right, "integer"),
            DataType::Float32 | DataType::Float64 => Ok(of_floats(self.op, left, right)?),
            _ => self.apply::<Int64Type>(left, right, "bigint"),
        }?;
        result(computed, &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};

    #[test]
    fn both_sides_are_one_type() {
        use DataType::*;
        for (given, ty) in
            [([Int32, Int32], Int32), ([Int16, Int64], Int64), ([Null, Int16], Int16), ([Float64, Int32], Float64), ([Null, Null], Int64)]
        {
            assert_eq!(ADD.coerce_types(&given).unwrap(), [ty.clone(), ty], "{given:?}");
        }
        for (given, ty) in
            [([Float64, Float64], Float64), ([Float32, Float32], Float32), ([Float64, Int32], Float64), ([Null, Null], Float64)]
        {
            assert_eq!(DIVIDE.coerce_types(&given).unwrap(), [ty.clone(), ty], "{given:?}");
        }
        assert!(ADD.coerce_types(&[Int32]).is_err());
    }

    #[test]
    fn a_chain_is_named_as_its_calls_are() {
        let deep = ADD.call(vec![SUBTRACT.call(vec![lit(1i64), col("a")]), MULTIPLY.call(vec![col("b"), lit(2i64)])]);
        let name = DIVIDE.call(vec![deep, col("c")]).schema_name().to_string();
        assert_eq!(name, "checked_divide(checked_add(checked_subtract(Int64(1),a),checked_multiply(b,Int64(2))),c)");
    }

    #[test]
    fn floats_do_not_become_infinite() {
        let floats = |values: &[f64]| -> ArrayRef { Arc::new(PrimitiveArray::<Float64Type>::from(values.to_vec())) };
        for (op, left, right) in [
            (Operator::Plus, 1e308, 1e308),
            (Operator::Minus, -1e308, 1e308),
            (Operator::Multiply, 1e200, -1e200),
            (Operator::Divide, 1e308, 0.01),
            (Operator::Divide, 1.0, 0.0),
        ] {
            assert!(of_floats(op, &floats(&[1.0, left]), &floats(&[1.0, right])).is_err(), "{left} {op} {right}");
        }
        let infinite = of_floats(Operator::Multiply, &floats(&[f64::INFINITY, 1e-300]), &floats(&[2.0, 1e-300])).unwrap();
        assert_eq!(infinite.as_primitive::<Float64Type>().values(), &[f64::INFINITY, 0.0]);
    }
}
