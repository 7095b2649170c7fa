//! `now()` and kin: a constant of the statement or of the cut, never the wall clock. And what is asked about the watermark that a row came under.

use super::shaped::shaped;
use super::{BEHIND_WATERMARK, NOW};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use eddyline_common::SqlType;
use std::sync::Arc;

/// `now()`, `current_timestamp`, `proctime()`: the statement's start in a batch query, folded by the
/// optimizer; the cut's time in a streaming plan.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Now {
    signature: Signature,
    aliases: Vec<String>,
}

impl Now {
    pub fn new() -> Self {
        let aliases = ["current_timestamp", "proctime", "transaction_timestamp", "statement_timestamp", "current_row_timestamp"];
        Now { signature: Signature::nullary(Volatility::Stable), aliases: aliases.map(String::from).to_vec() }
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        NOW
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(SqlType::TimestampTz.to_arrow())
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        Ok(match info.query_execution_start_time() {
            Some(start) => {
                let now = ScalarValue::TimestampMicrosecond(Some(start.timestamp_micros()), Some("+00:00".into()));
                ExprSimplifyResult::Simplified(Expr::Literal(now, None))
            }
            None => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(DataFusionError::Internal("now() is replaced by a constant before it runs".to_string()))
    }
}

/// A function of the clock as it was when a row came: it is among the row's columns. A rule may do with it what it may do with a column.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct OfArrival {
    name: String,
    returns: DataType,
    signature: Signature,
}

impl OfArrival {
    pub fn new(name: &str, returns: DataType) -> Self {
        OfArrival { name: name.to_string(), returns, signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for OfArrival {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(DataFusionError::Internal("when a row came is known when it runs".to_string()))
    }
}

/// Whether a time lies before the watermark that its row came under. The executor knows that watermark; a query that runs once has none, so nothing is
/// behind it. Volatile, as it is not the same for equal times.
pub fn behind_watermark() -> ScalarUDF {
    shaped(BEHIND_WATERMARK, Signature::any(1, Volatility::Volatile), answer, never)
}

fn answer(name: &'static str, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Boolean, true)))
}

fn never(_name: &'static str, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(false))))
}
