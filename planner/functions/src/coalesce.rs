//! `coalesce`: DataFusion's, which takes no literals in quotes beside values that are no texts. While a query is bound these have no type yet; the binder gives them one before
//! anything else asks (the planner's `bind::alternatives`), and refuses texts that are none.

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::functions::core::coalesce::CoalesceFunc;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use eddyline_common::{SqlError, SqlState, SqlType};

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Coalesce(CoalesceFunc);

impl Coalesce {
    pub fn new() -> Self {
        Coalesce(CoalesceFunc::new())
    }
}

impl ScalarUDFImpl for Coalesce {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        self.0.simplify(args, info)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.0.invoke_with_args(args)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.0.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.0.short_circuits()
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let is_text = |ty: &DataType| matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let typed: Vec<DataType> = types.iter().filter(|ty| !is_text(ty) && !ty.is_null()).cloned().collect();
        if typed.is_empty() {
            return self.0.coerce_types(types);
        }
        self.0.coerce_types(&typed).map(|all| vec![all[0].clone(); types.len()]).map_err(|_| unmatched(&typed))
    }
}

/// Of types that have none in common.
fn unmatched(types: &[DataType]) -> DataFusionError {
    let shown = |ty: &DataType| SqlType::from_arrow(ty).map_or_else(|| ty.to_string(), |ty| ty.to_string());
    let first = &types[0];
    let other = types.iter().find(|ty| type_union_resolution(&[first.clone(), (*ty).clone()]).is_none()).unwrap_or(first);
    let message = format!("COALESCE types {} and {} cannot be matched", shown(first), shown(other));
    let error = SqlError::new(SqlState::DATATYPE_MISMATCH, message).with_hint("Cast one of them to the type of the other.");
    DataFusionError::External(Box::new(error))
}
