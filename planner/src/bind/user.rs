//! A user's function as the binder sees it: a signature. It is never run: its calls are replaced by its expression right
//! after they are bound.

use crate::catalog::SqlFunction;
use crate::error::into_datafusion;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct UserFunction {
    pub definition: Arc<SqlFunction>,
    signature: Signature,
}

impl UserFunction {
    pub fn udf(definition: Arc<SqlFunction>) -> ScalarUDF {
        let signature = match definition.arguments.len() {
            0 => Signature::nullary(Volatility::Immutable),
            _ => Signature::user_defined(Volatility::Immutable),
        };
        ScalarUDF::new_from_impl(UserFunction { definition, signature })
    }
}

/// PostgreSQL's implicit casts. What a text literal means is settled before.
fn takes(argument: &SqlType, given: &SqlType) -> bool {
    use SqlType::*;
    let rank = |ty: &SqlType| match ty {
        SmallInt => Some(0),
        Integer => Some(1),
        BigInt => Some(2),
        Decimal { .. } => Some(3),
        Real => Some(4),
        Double => Some(5),
        _ => None,
    };
    match (given, argument) {
        (Null, _) => true,
        (given, argument) if given == argument => true,
        (Date, Timestamp | TimestampTz) | (Timestamp, TimestampTz) => true,
        (given, argument) => matches!((rank(given), rank(argument)), (Some(given), Some(argument)) if given <= argument),
    }
}

impl ScalarUDFImpl for UserFunction {
    fn name(&self) -> &str {
        &self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let arguments = &self.definition.arguments;
        let given: Vec<Option<SqlType>> = given.iter().map(SqlType::from_arrow).collect();
        let fits = |(given, argument): (&Option<SqlType>, &crate::catalog::FunctionArgument)| {
            // What is text to Arrow is no more than that here.
            let wanted = if argument.ty.to_arrow() == DataType::Utf8 { &SqlType::Text } else { &argument.ty };
            given.as_ref().is_some_and(|given| takes(wanted, given))
        };
        if given.len() == arguments.len() && given.iter().zip(arguments).all(fits) {
            return Ok(arguments.iter().map(|a| a.ty.to_arrow()).collect());
        }
        let shown: Vec<String> = given.iter().map(|ty| ty.as_ref().map_or_else(|| "unknown".to_string(), SqlType::to_string)).collect();
        let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {}({}) does not exist", self.name(), shown.join(", ")))
            .with_hint(format!("There is {}; you might need to cast the arguments.", self.definition.signature()));
        Err(into_datafusion(error))
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(self.definition.returns.to_arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(self.definition.returns.field(self.name(), true)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(DataFusionError::Internal(format!("function {} was not put in place", self.name())))
    }
}
