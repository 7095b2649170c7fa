//! Types of expressions, without names. DataFusion's `to_field` spells out the name of what it is asked for, and of all that is beneath; where that is asked at each level of a
//! deep expression, it takes a time that grows with the third power of the depth. It does not know what DataFusion's own rules ask.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::datatype::FieldExt;
use datafusion::common::{Column, DFSchema, ExprSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{Expr, ExprSchemable, ReturnFieldArgs};
use std::sync::Arc;

/// The name of what has none. A cast to a field without any is another one.
const NAME: &str = "value";

/// `ExprSchemable::to_field`, but for the name.
pub fn field_of(expr: &Expr, schema: &DFSchema) -> DfResult<FieldRef> {
    Ok(match expr {
        Expr::Column(column) => schema.field_from_column(column)?.clone(),
        Expr::Literal(value, metadata) => {
            let field = Field::new(NAME, value.data_type(), value.is_null());
            Arc::new(match metadata {
                Some(metadata) => metadata.add_to_field(field),
                None => field,
            })
        }
        Expr::Negative(inner) => field_of(inner, schema)?,
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = (field_of(left, schema)?, field_of(right, schema)?);
            let ty = BinaryTypeCoercer::new(left.data_type(), op, right.data_type()).get_result_type()?;
            Arc::new(Field::new(NAME, ty, left.is_nullable() || right.is_nullable()))
        }
        Expr::ScalarFunction(call) => of_call(call, schema)?,
        Expr::Cast(Cast { expr, field }) => {
            Expr::Cast(Cast { expr: Box::new(stand_in(expr, schema)?), field: field.clone() }).to_field(schema)?.1
        }
        Expr::TryCast(TryCast { expr, field }) => {
            Expr::TryCast(TryCast { expr: Box::new(stand_in(expr, schema)?), field: field.clone() }).to_field(schema)?.1
        }
        other => other.to_field(schema)?.1,
    })
}

/// `ExprSchemable::get_type`, which asks for the fields of functions.
pub fn type_of(expr: &Expr, schema: &DFSchema) -> DfResult<DataType> {
    match expr {
        Expr::Negative(inner) => type_of(inner, schema),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            BinaryTypeCoercer::new(&type_of(left, schema)?, op, &type_of(right, schema)?).get_result_type()
        }
        Expr::ScalarFunction(call) => Ok(of_call(call, schema)?.data_type().clone()),
        other => other.get_type(schema),
    }
}

fn of_call(call: &ScalarFunction, schema: &DFSchema) -> DfResult<FieldRef> {
    let given = call.args.iter().map(|arg| field_of(arg, schema)).collect::<DfResult<Vec<FieldRef>>>()?;
    let taken = fields_with_udf(&given, call.func.as_ref())?;
    let constants = call.args.iter().map(|arg| match arg {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    });
    let constants: Vec<Option<&ScalarValue>> = constants.collect();
    let field = call.func.return_field_from_args(ReturnFieldArgs { arg_fields: &taken, scalar_arguments: &constants })?;
    Ok(field.renamed(NAME))
}

/// A column with the field of an expression.
fn stand_in(expr: &Expr, schema: &DFSchema) -> DfResult<Expr> {
    Ok(Expr::OuterReferenceColumn(field_of(expr, schema)?, Column::from_name(NAME)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{Schema, TimeUnit};
    use datafusion::common::{DataFusionError, ToDFSchema};
    use datafusion::functions::expr_fn::{abs, date_trunc};
    use datafusion::logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast, col, lit, try_cast,
    };

    fn schema() -> DFSchema {
        let fields = vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::Int64, false),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ];
        Schema::new(fields).to_dfschema().unwrap()
    }

    #[test]
    fn fields_are_those_of_datafusion() {
        let schema = schema();
        for expr in [
            col("a") + col("b") * lit(2i16),
            -(col("b") + lit(1.5)),
            abs(col("a") - lit(1i32)),
            date_trunc(lit("day"), col("t")),
            cast(col("b") + lit(1i64), DataType::Utf8),
            try_cast(abs(col("b")), DataType::Float32),
            col("a").gt(lit(1i32)).and(col("b").is_null()),
            lit(ScalarValue::Int32(None)),
        ] {
            let (field, named) = (field_of(&expr, &schema).unwrap(), expr.to_field(&schema).unwrap().1);
            assert_eq!(field.renamed(NAME), named.renamed(NAME), "{expr}");
            assert_eq!(type_of(&expr, &schema).unwrap(), expr.get_type(&schema).unwrap(), "{expr}");
        }
        assert!(field_of(&(col("a") + col("c")), &schema).is_err());
    }

    /// It has no name to be called by.
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Nameless(Signature);

    impl ScalarUDFImpl for Nameless {
        fn name(&self) -> &str {
            "nameless"
        }

        fn schema_name(&self, _: &[Expr]) -> DfResult<String> {
            panic!("its name is asked for")
        }

        fn signature(&self) -> &Signature {
            &self.0
        }

        fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
            Ok(types[0].clone())
        }

        fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
            Err(DataFusionError::Internal("it is never called".into()))
        }
    }

    #[test]
    fn nobody_asks_for_names() {
        let function = ScalarUDF::new_from_impl(Nameless(Signature::any(1, Volatility::Immutable)));
        let deep = (0..50).fold(col("a"), |deep, _| function.call(vec![deep + lit(1i32)]));
        let schema = schema();
        assert_eq!(type_of(&deep, &schema).unwrap(), DataType::Int32);
        assert_eq!(*field_of(&cast(-deep, DataType::Int64), &schema).unwrap().data_type(), DataType::Int64);
    }
}
