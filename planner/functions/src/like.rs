//! `eddyline_like_pattern(pattern, text, case_insensitive)`: the pattern that LIKE matches a text with. PostgreSQL's has an escape at its end that escapes nothing for an
//! error, but only if it comes to it; for DataFusion's it is a backslash. It does not know how a pattern is matched.

use super::LIKE_PATTERN;
use super::error::into_datafusion;
use super::typed::type_of;
use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::comparison::{ilike, like};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, Like, ScalarFunction};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use eddyline_common::{SqlError, SqlState};
use std::sync::{Arc, LazyLock};

static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(LikePattern::new())));

/// A condition whose pattern may end so, with the function around the pattern.
pub fn guarded(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::Like(Like { negated, expr, pattern, escape_char, case_insensitive }) if may_dangle(&pattern, schema) => {
            let pattern = Box::new(call(*pattern, expr.as_ref().clone(), case_insensitive));
            Transformed::yes(Expr::Like(Like { negated, expr, pattern, escape_char, case_insensitive }))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if case_insensitive(op).is_some() && may_dangle(&right, schema) => {
            let right = Box::new(call(*right, left.as_ref().clone(), case_insensitive(op) == Some(true)));
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        other => Transformed::no(other),
    }
}

/// Whether an operator takes a pattern, and for letters of either case.
fn case_insensitive(op: Operator) -> Option<bool> {
    match op {
        Operator::LikeMatch | Operator::NotLikeMatch => Some(false),
        Operator::ILikeMatch | Operator::NotILikeMatch => Some(true),
        _ => None,
    }
}

fn may_dangle(pattern: &Expr, schema: &DFSchema) -> bool {
    match pattern {
        Expr::Literal(literal, _) => literal.try_as_str().flatten().is_some_and(dangles),
        Expr::ScalarFunction(call) if call.func.name() == LIKE_PATTERN => false,
        other => type_of(other, schema).is_ok_and(|ty| ty.is_string()),
    }
}

fn call(pattern: Expr, text: Expr, case_insensitive: bool) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(FUNCTION.clone(), vec![pattern, text, lit(case_insensitive)]))
}

/// Whether nothing follows the last escape.
fn dangles(pattern: &str) -> bool {
    pattern.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct LikePattern {
    signature: Signature,
}

impl LikePattern {
    pub fn new() -> Self {
        LikePattern { signature: Signature::any(3, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for LikePattern {
    fn name(&self) -> &str {
        LIKE_PATTERN
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let pattern = &args.arg_fields[0];
        Ok(Arc::new(Field::new(LIKE_PATTERN, pattern.data_type().clone(), pattern.is_nullable())))
    }

    fn simplify(&self, mut args: Vec<Expr>, _info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        match &args[0] {
            Expr::Literal(literal, _) if !literal.try_as_str().flatten().is_some_and(dangles) => {
                Ok(ExprSimplifyResult::Simplified(args.swap_remove(0)))
            }
            _ => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let patterns = cast(&args.args[0].to_array(args.number_rows)?, &DataType::Utf8)?;
        let patterns = patterns.as_string::<i32>();
        if !patterns.iter().flatten().any(dangles) {
            return Ok(args.args.swap_remove(0));
        }
        let texts = cast(&args.args[1].to_array(args.number_rows)?, &DataType::Utf8)?;
        let case_insensitive = matches!(args.args[2], ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))));
        let pairs = patterns.iter().zip(texts.as_string::<i32>());
        let complete = pairs.map(|(pattern, text)| match (pattern, text) {
            (Some(pattern), Some(text)) if dangles(pattern) => unreached(pattern, text, case_insensitive).map(Some),
            (pattern, _) => Ok(pattern.map(str::to_string)),
        });
        let complete: ArrayRef = Arc::new(complete.collect::<DfResult<StringArray>>()?);
        Ok(ColumnarValue::Array(cast(&complete, args.return_type())?))
    }
}

/// A pattern that does not match the text either, if that ends before the pattern does.
fn unreached(pattern: &str, text: &str, case_insensitive: bool) -> DfResult<String> {
    let before = &pattern[..pattern.len() - 1];
    let (text, reaching) = (StringArray::new_scalar(text), StringArray::new_scalar(format!("{before}_%")));
    let reaches = if case_insensitive { ilike(&text, &reaching)? } else { like(&text, &reaching)? };
    if reaches.value(0) {
        return Err(into_datafusion(SqlError::new(SqlState("22025"), "LIKE pattern must not end with escape character")));
    }
    Ok(format!("{pattern}\\"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::common::config::ConfigOptions;

    fn pattern(pattern: &str, text: &str, case_insensitive: bool) -> Result<String, String> {
        let texts = |text: &str| ColumnarValue::Array(Arc::new(StringArray::from(vec![text])));
        let field = Arc::new(Field::new("pattern", DataType::Utf8, true));
        let args = ScalarFunctionArgs {
            args: vec![texts(pattern), texts(text), ColumnarValue::Scalar(ScalarValue::Boolean(Some(case_insensitive)))],
            arg_fields: vec![field.clone(), field.clone(), Arc::new(Field::new("ci", DataType::Boolean, false))],
            number_rows: 1,
            return_field: field,
            config_options: Arc::new(ConfigOptions::default()),
        };
        let found = LikePattern::new().invoke_with_args(args).map_err(|e| e.to_string())?.into_array(1).map_err(|e| e.to_string())?;
        Ok(found.as_string::<i32>().value(0).to_string())
    }

    /// As PostgreSQL 15 does.
    #[test]
    fn an_escape_at_the_end_is_an_error_where_matching_comes_to_it() {
        for (text, of) in [("abcd", r"abc\"), ("a", r"%\"), ("abc", r"ab%\"), ("ab", r"\"), ("ab", r"a\")] {
            let error = pattern(of, text, false).unwrap_err();
            assert!(error.contains("must not end with escape character"), "{text} LIKE {of}: {error}");
        }
        assert!(pattern(r"a\", "AB", true).is_err());
        for (text, of) in [("abc", r"abc\"), ("xyz", r"abc\"), ("", r"%\"), ("ab", r"ab%\"), ("", r"\"), ("AB", r"a\")] {
            let complete = pattern(of, text, false).unwrap();
            assert!(!dangles(&complete) && complete.starts_with(of), "{text} LIKE {of}: {complete}");
        }
        for of in [r"a\\", r"a\%", "a%", "", r"\\\\"] {
            assert_eq!(pattern(of, r"a\", false).unwrap(), of);
        }
    }
}
