//! Calls of functions that there are not. Their error names the types of what they are given, which only the binder knows; so the rewriter makes an operator of
//! ours of such a call, between its arguments and how it is called, which is refused where it is planned. It does not know which functions there are.

use super::matching::is_text_literal;
use super::rewrite::{call, string_expr};
use crate::assign::plain;
use crate::error::{fold, into_datafusion};
use crate::functions::words::NO_SUCH_FUNCTION;
use datafusion::common::{DFSchema, DataFusionError, Diagnostic, Location, Result as DfResult, Span};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast;
use eddyline_common::{SqlError, SqlState, SqlType};

const OPERATOR: &str = "__unknown_function";
/// A function of any number of arguments, which keeps them together.
const TOGETHER: &str = "coalesce";
const SEPARATOR: char = '\0';

/// What stands for the call of a function `name`; `near` is one that there is.
pub fn marked(function: &ast::Function, name: &ast::Ident, near: Option<&str>) -> ast::Expr {
    let start = name.span.start;
    let described = format!("{}{SEPARATOR}{}{SEPARATOR}{}{SEPARATOR}{}", start.line, start.column, near.unwrap_or_default(), fold(name));
    let op = ast::BinaryOperator::Custom(OPERATOR.to_string());
    ast::Expr::BinaryOp { left: Box::new(call(TOGETHER, given(function))), op, right: Box::new(string_expr(&described)) }
}

fn given(function: &ast::Function) -> Vec<ast::Expr> {
    use ast::{FunctionArg, FunctionArgExpr};
    let ast::FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let value = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) | FunctionArg::Named { arg: FunctionArgExpr::Expr(value), .. } => {
            Some(value.clone())
        }
        _ => None,
    };
    list.args.iter().filter_map(value).collect()
}

#[derive(Debug)]
pub struct UnknownFunctions;

impl ExprPlanner for UnknownFunctions {
    fn plan_binary_op(&self, binary: RawBinaryExpr, schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
        match &binary.op {
            ast::BinaryOperator::Custom(name) if name == OPERATOR => Err(refused(&binary, schema)),
            _ => Ok(PlannerResult::Original(binary)),
        }
    }
}

fn refused(binary: &RawBinaryExpr, schema: &DFSchema) -> DataFusionError {
    let args: &[Expr] = match &binary.left {
        Expr::ScalarFunction(call) => call.args.as_slice(),
        _ => &[],
    };
    let types: Vec<String> = args.iter().map(|arg| type_of(arg, schema)).collect();
    let described = match &binary.right {
        Expr::Literal(value, _) => value.try_as_str().flatten().unwrap_or_default(),
        _ => "",
    };
    let mut parts = described.splitn(4, SEPARATOR);
    let mut part = || parts.next().unwrap_or_default();
    let (line, column, near, name) = (part().parse().unwrap_or(0), part().parse().unwrap_or(0), part(), part());
    let hint = if near.is_empty() { NO_SUCH_FUNCTION.to_string() } else { format!("{NO_SUCH_FUNCTION} Perhaps you meant \"{near}\".") };
    let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name}({}) does not exist", types.join(", ")));
    let at = Location { line, column };
    let diagnostic = Diagnostic::new_error(error.message.clone(), Some(Span::new(at, at)));
    into_datafusion(error.with_hint(hint)).with_diagnostic(diagnostic)
}

/// A literal in quotes has no type yet, as little as a null or a parameter that nothing tells the type of.
pub fn type_of(arg: &Expr, schema: &DFSchema) -> String {
    let ty = arg.to_field(schema).ok().and_then(|(_, field)| SqlType::from_field(&field));
    match ty {
        Some(ty) if ty != SqlType::Null && !is_text_literal(arg) => plain(&ty),
        _ => "unknown".to_string(),
    }
}
