//! One plan expression to one DataFusion physical expression. The plan's expressions are typed and their casts explicit, so
//! nothing is coerced here, except that what a function or an operator returns in a type that no SQL column has (string
//! views, nanoseconds, unsigned integers, durations) is brought to the one that has it.

use crate::expr::literal::literal_scalar;
use crate::expr::special::{BehindWatermark, CutNow, FloatArithmetic, InRange, NowHandle};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::physical_expr::expressions::{self as physical, BinaryExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use eddyline_common::types::SqlType;
use eddyline_common::{Result, SqlError, SqlState};
use eddyline_planner::functions::BEHIND_WATERMARK;
use eddyline_planner::functions::checked::{self, divided, of_floats};
use eddyline_planner::functions::failed::{evaluation_error, is_row_error};
use eddyline_planner::functions::lazy::LazyLogic;
use eddyline_planner::plan::{BinaryOp, Expr};
use std::sync::{Arc, LazyLock};

type Physical = Arc<dyn PhysicalExpr>;

static CONFIG: LazyLock<Arc<ConfigOptions>> = LazyLock::new(|| Arc::new(ConfigOptions::default()));

/// Compiles `expr` over rows of `input`. Fails with 0A000 or 42883 on what cannot be run, never later at evaluation.
pub fn compile(expr: &Expr, input: &SchemaRef, now: &NowHandle) -> Result<Physical> {
    let compiler = Compiler { input, now };
    let compiled = compiler.compile(expr)?;
    compiled.data_type(input).map_err(evaluation_error)?;
    // Some functions exist only to be replaced during planning and fail whatever their rows.
    match compiled.evaluate(&RecordBatch::new_empty(input.clone())).map_err(evaluation_error) {
        Err(error) if !is_row_error(&error) => Err(error),
        _ => Ok(compiled),
    }
}

/// As `compile`, with the result in the Arrow type `ty`.
pub fn compile_as(expr: &Expr, ty: &DataType, input: &SchemaRef, now: &NowHandle) -> Result<Physical> {
    let compiled = compile(expr, input, now)?;
    cast_to(compiled, input, ty)
}

fn cast_to(expr: Physical, input: &SchemaRef, ty: &DataType) -> Result<Physical> {
    physical::cast(expr, input, ty.clone()).map_err(evaluation_error)
}

struct Compiler<'a> {
    input: &'a SchemaRef,
    now: &'a NowHandle,
}

impl Compiler<'_> {
    fn compile(&self, expr: &Expr) -> Result<Physical> {
        match expr {
            Expr::Column(index) => {
                let field =
                    self.input.fields().get(*index).ok_or_else(|| SqlError::internal(format!("an expression reads column {index}")))?;
                Ok(Arc::new(physical::Column::new(field.name(), *index)))
            }
            Expr::Literal(literal) => Ok(physical::lit(literal_scalar(literal)?)),
            Expr::CutNow => Ok(Arc::new(CutNow(self.now.clone()))),
            Expr::Binary { op, left, right } => self.binary(*op, self.compile(left)?, self.compile(right)?),
            Expr::Not(inner) => physical::not(self.compile(inner)?).map_err(evaluation_error),
            Expr::Negate(inner) => self.negate(self.compile(inner)?),
            Expr::IsNull(inner) => physical::is_null(self.compile(inner)?).map_err(evaluation_error),
            Expr::IsNotNull(inner) => physical::is_not_null(self.compile(inner)?).map_err(evaluation_error),
            Expr::IsBool { expr, value, negated } => {
                let op = if *negated { Operator::IsDistinctFrom } else { Operator::IsNotDistinctFrom };
                Ok(Arc::new(BinaryExpr::new(self.compile(expr)?, op, physical::lit(ScalarValue::Boolean(*value)))))
            }
            Expr::Case { branches, otherwise } => {
                let branches = branches.iter().map(|(w, t)| Ok((self.compile(w)?, self.compile(t)?))).collect::<Result<Vec<_>>>()?;
                let otherwise = otherwise.as_ref().map(|e| self.compile(e)).transpose()?;
                self.case(branches, otherwise)
            }
            Expr::Cast { expr, ty, try_cast } => {
                let (inner, ty) = (self.compile(expr)?, ty.to_arrow());
                if *try_cast {
                    physical::try_cast(inner, self.input, ty).map_err(evaluation_error)
                } else {
                    cast_to(inner, self.input, &ty)
                }
            }
            Expr::Like { expr, pattern, negated, case_insensitive } => {
                physical::like(*negated, *case_insensitive, self.compile(expr)?, self.compile(pattern)?, self.input)
                    .map_err(evaluation_error)
            }
            Expr::InList { expr, list, negated } => {
                let list = list.iter().map(|e| self.compile(e)).collect::<Result<Vec<_>>>()?;
                physical::in_list(self.compile(expr)?, list, negated, self.input).map_err(evaluation_error)
            }
            Expr::Call { name, args, returns } => {
                let args = args.iter().map(|a| self.compile(a)).collect::<Result<Vec<_>>>()?;
                let call = self.call(name, args)?;
                cast_to(call, self.input, &returns.to_arrow())
            }
        }
    }

    fn type_of(&self, expr: &Physical) -> Result<DataType> {
        expr.data_type(self.input).map_err(evaluation_error)
    }

    /// Brings a result to the Arrow type of its SQL type.
    fn normalise(&self, expr: Physical) -> Result<Physical> {
        let ty = self.type_of(&expr)?;
        let sql = SqlType::from_arrow(&ty).ok_or_else(|| SqlError::unsupported(format!("values of type {ty} are not supported")))?;
        cast_to(expr, self.input, &sql.to_arrow())
    }

    fn binary(&self, op: BinaryOp, left: Physical, right: Physical) -> Result<Physical> {
        let op = operator(op);
        match op {
            Operator::And | Operator::Or => Ok(Arc::new(LazyLogic::new(left, op, right))),
            // Views of earlier servers have infinities that came of `+`, `-` and `*`, and take rows back that have them: so these stay what they were.
            Operator::Divide | Operator::Modulo if self.type_of(&left)?.is_floating() && self.type_of(&right)?.is_floating() => {
                Ok(Arc::new(FloatArithmetic::new(left, op, right, divided)))
            }
            _ => match InRange::type_name(&self.type_of(&left)?) {
                Some(ty) if op.is_numerical_operators() => self.normalise(Arc::new(InRange::new(left, op, right, ty))),
                _ => self.normalise(Arc::new(BinaryExpr::new(left, op, right).with_fail_on_overflow(true))),
            },
        }
    }

    /// Integers are subtracted from zero, because DataFusion's negation wraps.
    fn negate(&self, inner: Physical) -> Result<Physical> {
        let ty = self.type_of(&inner)?;
        if ty.is_integer() {
            let zero = physical::lit(ScalarValue::new_zero(&ty).map_err(evaluation_error)?);
            return Ok(Arc::new(BinaryExpr::new(zero, Operator::Minus, inner).with_fail_on_overflow(true)));
        }
        physical::negative(inner, self.input).map_err(evaluation_error)
    }

    fn case(&self, branches: Vec<(Physical, Physical)>, otherwise: Option<Physical>) -> Result<Physical> {
        physical::case(None, branches, otherwise).map_err(evaluation_error)
    }

    fn call(&self, name: &str, args: Vec<Physical>) -> Result<Physical> {
        if let (Some(op), [left, right]) = (checked::operator(name), args.as_slice()) {
            return Ok(Arc::new(FloatArithmetic::new(left.clone(), op, right.clone(), of_floats)));
        }
        match (name, args.as_slice()) {
            ("coalesce" | "nvl" | "ifnull", [_, ..]) => self.coalesce(args),
            (BEHIND_WATERMARK, [time]) if matches!(self.type_of(time)?, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                Ok(Arc::new(BehindWatermark::new(time.clone(), self.now.clone())))
            }
            ("nvl2", [test, then, otherwise]) => {
                let test = physical::is_not_null(test.clone()).map_err(evaluation_error)?;
                self.case(vec![(test, then.clone())], Some(otherwise.clone()))
            }
            _ => self.function(name, args),
        }
    }

    /// The first argument that is not null; later ones are evaluated only for rows that need them.
    fn coalesce(&self, mut args: Vec<Physical>) -> Result<Physical> {
        let last = args.pop().expect("coalesce has an argument");
        if args.is_empty() {
            return Ok(last);
        }
        let branches = args
            .into_iter()
            .map(|arg| Ok((physical::is_not_null(arg.clone()).map_err(evaluation_error)?, arg)))
            .collect::<Result<Vec<_>>>()?;
        self.case(branches, Some(last))
    }

    fn function(&self, name: &str, args: Vec<Physical>) -> Result<Physical> {
        let unknown = || SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name} does not exist"));
        let function = super::functions::scalar(name).ok_or_else(unknown)?;
        let fields =
            args.iter().map(|a| a.return_field(self.input)).collect::<Result<Vec<_>, DataFusionError>>().map_err(evaluation_error)?;
        let wanted = fields_with_udf(&fields, function.as_ref()).map_err(evaluation_error)?;
        let args =
            args.into_iter().zip(&wanted).map(|(arg, field)| cast_to(arg, self.input, field.data_type())).collect::<Result<Vec<_>>>()?;
        let call = ScalarFunctionExpr::try_new(function, args, self.input, CONFIG.clone()).map_err(evaluation_error)?;
        self.normalise(Arc::new(call))
    }
}

fn operator(op: BinaryOp) -> Operator {
    match op {
        BinaryOp::Eq => Operator::Eq,
        BinaryOp::NotEq => Operator::NotEq,
        BinaryOp::Lt => Operator::Lt,
        BinaryOp::LtEq => Operator::LtEq,
        BinaryOp::Gt => Operator::Gt,
        BinaryOp::GtEq => Operator::GtEq,
        BinaryOp::Plus => Operator::Plus,
        BinaryOp::Minus => Operator::Minus,
        BinaryOp::Multiply => Operator::Multiply,
        BinaryOp::Divide => Operator::Divide,
        BinaryOp::Modulo => Operator::Modulo,
        BinaryOp::And => Operator::And,
        BinaryOp::Or => Operator::Or,
        BinaryOp::IsDistinctFrom => Operator::IsDistinctFrom,
        BinaryOp::IsNotDistinctFrom => Operator::IsNotDistinctFrom,
        BinaryOp::Concat => Operator::StringConcat,
        BinaryOp::RegexMatch => Operator::RegexMatch,
        BinaryOp::RegexIMatch => Operator::RegexIMatch,
        BinaryOp::RegexNotMatch => Operator::RegexNotMatch,
        BinaryOp::RegexNotIMatch => Operator::RegexNotIMatch,
        BinaryOp::BitAnd => Operator::BitwiseAnd,
        BinaryOp::BitOr => Operator::BitwiseOr,
        BinaryOp::BitXor => Operator::BitwiseXor,
        BinaryOp::ShiftLeft => Operator::BitwiseShiftLeft,
        BinaryOp::ShiftRight => Operator::BitwiseShiftRight,
    }
}
