//! What conditions and measures say of a match: columns of a variable's rows, aggregates over them, and kin. Each such part of an
//! expression becomes a column of its own, and what is left is an expression over these columns.

use super::values_schema;
use crate::bind::rewrite::{arguments, call};
use crate::error::{fold, into_datafusion};
use crate::functions::registry;
use crate::optimize;
use crate::parse::match_recognize::{FINAL, RUNNING};
use crate::walk::sql as walk;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{self as sql, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, VisitorMut};
use eddyline_common::{Result, SqlError, SqlState};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// In front of a value's number: the name of its column.
const VALUE: &str = "__match_value_";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    pub of: ValueOf,
    /// Of this variable's rows, or of all.
    pub variable: Option<usize>,
    /// Of the whole match, not only as far as a row.
    pub whole: bool,
    /// A measure has it, so it comes out.
    pub shown: bool,
    /// Its column.
    pub field: FieldRef,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueOf {
    /// An argument of the node; see `plan::MatchValueOf`.
    Row {
        argument: usize,
        first: bool,
        nth: usize,
        offset: i64,
    },
    /// A function over an argument.
    Aggregate {
        function: String,
        argument: usize,
    },
    Classifier,
    /// Which of its partition's matches it is.
    Number,
}

/// A call without FINAL or RUNNING before it, and what these say: whether it is of the whole match.
fn unqualified(call: &sql::Expr) -> (&sql::Expr, Option<bool>) {
    let sql::Expr::Function(f) = call else { return (call, None) };
    let whole = match name_of(f).as_str() {
        FINAL => true,
        RUNNING => false,
        _ => return (call, None),
    };
    arguments(f).first().map_or((call, None), |inner| (*inner, Some(whole)))
}

/// The column of a value.
fn column(number: usize) -> String {
    format!("{VALUE}{number}")
}

/// Collects the values of a clause.
pub(super) struct Values<'a> {
    pub variables: &'a [String],
    pub input: &'a DFSchema,
    /// The column of event time.
    pub time: Expr,
    pub arguments: Vec<Expr>,
    pub values: Vec<Value>,
    /// Of a measure: whether it is of the whole match unless it says otherwise. `None` for a condition.
    pub whole: Option<bool>,
    /// What FINAL or RUNNING before the present function say.
    pub said: Option<bool>,
}

impl Values<'_> {
    /// The expression over columns of values.
    pub fn collect(&mut self, mut expr: sql::Expr, context: &mut dyn RelationPlannerContext) -> DfResult<sql::Expr> {
        let mut visitor = Visitor { values: self, context };
        match walk::visit_mut(&mut expr, &mut visitor) {
            ControlFlow::Continue(()) => Ok(expr),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// The columns of all values so far.
    pub fn schema(&self) -> DfResult<DFSchema> {
        values_schema(self.values.iter().map(|v| v.field.clone()))
    }

    fn add(&mut self, of: ValueOf, variable: Option<usize>, whole: Option<bool>, ty: FieldRef) -> DfResult<sql::Expr> {
        let whole = match (self.whole, whole) {
            (None, Some(true)) => return Err(refused("FINAL in DEFINE is not allowed", "A condition sees the match as far as the row.")),
            (default, given) => given.or(default).unwrap_or(false),
        };
        let same = |v: &Value| v.of == of && v.variable == variable && v.whole == whole;
        let at = self.values.iter().position(same).unwrap_or_else(|| {
            let field = ty.as_ref().clone().with_name(column(self.values.len())).with_nullable(true);
            self.values.push(Value { of, variable, whole, shown: false, field: Arc::new(field) });
            self.values.len() - 1
        });
        self.values[at].shown |= self.whole.is_some();
        Ok(sql::Expr::Identifier(Ident::with_quote('"', column(at))))
    }

    /// The position of an argument, and its type.
    fn argument(&mut self, expr: Expr) -> DfResult<(usize, FieldRef)> {
        let expr = optimize::simplify(expr, self.input)?;
        let field = expr.to_field(self.input)?.1;
        let at = self.arguments.iter().position(|a| *a == expr).unwrap_or_else(|| {
            self.arguments.push(expr);
            self.arguments.len() - 1
        });
        Ok((at, field))
    }

    fn variable(&self, ident: &Ident) -> Option<usize> {
        let name = fold(ident);
        self.variables.iter().position(|v| *v == name)
    }

    /// An expression over one row, without the variable whose row it is.
    fn of_row(&self, expr: &sql::Expr) -> DfResult<(Option<usize>, sql::Expr)> {
        let mut expr = expr.clone();
        let mut of: BTreeSet<Option<usize>> = BTreeSet::new();
        let mut nested = None;
        walk::expressions_mut(&mut expr, |e| match e {
            sql::Expr::Identifier(_) => {
                of.insert(None);
            }
            sql::Expr::CompoundIdentifier(parts) => {
                let variable = self.variable(&parts[0]);
                of.insert(variable);
                if variable.is_some() {
                    parts.remove(0);
                    if parts.len() == 1 {
                        *e = sql::Expr::Identifier(parts.remove(0));
                    }
                }
            }
            sql::Expr::Function(f) => {
                let name = name_of(f);
                if super::is_function(&name) || registry().udaf(&name).is_ok() {
                    nested.get_or_insert(name);
                }
            }
            _ => {}
        });
        if let Some(name) = nested {
            return Err(refused(
                &format!("{name}() within another function of a row pattern is not supported"),
                "PREV and NEXT take FIRST and LAST.",
            ));
        }
        if of.len() > 1 {
            let hint = "Take the columns of each variable by a function of their own: LAST(A.x) + LAST(B.x).";
            return Err(refused("an argument in MATCH_RECOGNIZE that is of rows of more than one variable is not supported", hint));
        }
        Ok((of.into_iter().next().flatten(), expr))
    }

    fn row_value(
        &mut self,
        expr: &sql::Expr,
        (first, nth, offset): (bool, usize, i64),
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<sql::Expr> {
        let (variable, row) = self.of_row(expr)?;
        let bound = context.sql_to_expr(row, self.input)?;
        let (argument, field) = self.argument(bound)?;
        self.add(ValueOf::Row { argument, first, nth, offset }, variable, self.said, field)
    }

    fn function(&mut self, f: &Function, context: &mut dyn RelationPlannerContext) -> DfResult<Option<sql::Expr>> {
        let full = name_of(f);
        let name = full.as_str();
        let args = arguments(f);
        Ok(Some(match (name, args.as_slice()) {
            (FINAL | RUNNING, [inner]) => self.qualified(inner, name == FINAL, context)?,
            ("first" | "last", [inner]) => self.row_value(inner, (name == "first", 0, 0), context)?,
            ("first" | "last", [inner, n]) => self.row_value(inner, (name == "first", count(n, name)? as usize, 0), context)?,
            ("prev" | "next", [inner, rest @ ..]) if rest.len() <= 1 => {
                let distance = rest.first().map(|n| count(n, name)).transpose()?.unwrap_or(1);
                let offset = if name == "prev" { -distance } else { distance };
                self.neighbour(inner, offset, context)?
            }
            ("classifier", []) => {
                if self.whole.is_none() {
                    return Err(refused("CLASSIFIER() in DEFINE is not supported", "A condition knows whose row it is of."));
                }
                self.add(ValueOf::Classifier, None, self.said, Arc::new(Field::new("", DataType::Utf8, true)))?
            }
            ("match_rowtime", []) => {
                let (argument, field) = self.argument(self.time.clone())?;
                let whole = self.said.or(self.whole.map(|_| true));
                self.add(ValueOf::Row { argument, first: false, nth: 0, offset: 0 }, None, whole, field)?
            }
            ("match_number", []) => {
                if self.whole.is_none() {
                    return Err(refused("MATCH_NUMBER() in DEFINE is not supported", "A match has its number when it is found."));
                }
                self.add(ValueOf::Number, None, None, Arc::new(Field::new("", DataType::Int64, true)))?
            }
            ("match_proctime", []) => {
                return Err(refused("MATCH_PROCTIME() is not supported", "PROCTIME() in the SELECT over it is when a match was found."));
            }
            _ if super::is_function(name) => {
                let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name}() does not take these arguments"));
                return Err(into_datafusion(error.with_hint(
                    "Write FIRST(A.x [, n]), LAST(A.x [, n]), PREV(A.x [, n]), NEXT(A.x [, n]), CLASSIFIER(), MATCH_NUMBER(), MATCH_ROWTIME().",
                )));
            }
            _ if registry().udaf(name).is_ok() => self.aggregate(f, name, context)?,
            _ => return Ok(None),
        }))
    }

    /// A function behind FINAL or RUNNING.
    fn qualified(&mut self, call: &sql::Expr, whole: bool, context: &mut dyn RelationPlannerContext) -> DfResult<sql::Expr> {
        let outer = self.said.replace(whole);
        let value = match call {
            sql::Expr::Function(f) => self.function(f, context),
            _ => Ok(None),
        };
        self.said = outer;
        let word = if whole { "FINAL" } else { "RUNNING" };
        value?.ok_or_else(|| {
            refused(&format!("{word} before what is no function of a match is not supported"), "Write FINAL LAST(A.x) or FINAL COUNT(A.*).")
        })
    }

    /// PREV and NEXT, of a row that FIRST or LAST says, or of the last.
    fn neighbour(&mut self, inner: &sql::Expr, offset: i64, context: &mut dyn RelationPlannerContext) -> DfResult<sql::Expr> {
        let (inner, own) = unqualified(inner);
        let outer = self.said;
        self.said = own.or(outer);
        let value = self.neighbour_of(inner, offset, context);
        self.said = outer;
        value
    }

    fn neighbour_of(&mut self, inner: &sql::Expr, offset: i64, context: &mut dyn RelationPlannerContext) -> DfResult<sql::Expr> {
        if let sql::Expr::Function(f) = inner {
            let full = name_of(f);
            let name = full.as_str();
            if matches!(name, "first" | "last") {
                let (expr, nth) = match arguments(f).as_slice() {
                    [expr] => (*expr, 0),
                    [expr, n] => (*expr, count(n, name)? as usize),
                    _ => return Err(refused("FIRST and LAST take a column and a number", "Write LAST(A.x, 1).")),
                };
                return self.row_value(expr, (name == "first", nth, offset), context);
            }
        }
        self.row_value(inner, (false, 0, offset), context)
    }

    fn aggregate(&mut self, f: &Function, name: &str, context: &mut dyn RelationPlannerContext) -> DfResult<sql::Expr> {
        let plain = match &f.args {
            FunctionArguments::List(list) => list.duplicate_treatment.is_none() && list.clauses.is_empty(),
            _ => false,
        };
        if !plain || f.filter.is_some() || f.over.is_some() || !f.within_group.is_empty() || f.null_treatment.is_some() {
            return Err(refused(
                &format!("{name}() with DISTINCT, FILTER, ORDER BY or OVER in MATCH_RECOGNIZE is not supported"),
                "Define a variable for the rows that count.",
            ));
        }
        let FunctionArguments::List(list) = &f.args else { return Err(refused("this aggregate is not supported", "Write COUNT(A.x).")) };
        let one = || sql::Expr::Value(sql::Value::Number("1".to_string(), true).with_empty_span());
        let (variable, argument) = match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => (None, one()),
            [FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(of))] => {
                let ident = of.0.last().and_then(|part| part.as_ident());
                let variable = ident.and_then(|ident| self.variable(ident));
                let unknown =
                    || into_datafusion(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("\"{of}\" is no variable of the pattern")));
                (Some(variable.ok_or_else(unknown)?), one())
            }
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => self.of_row(expr)?,
            _ => {
                return Err(refused(
                    &format!("{name}() with several arguments in MATCH_RECOGNIZE is not supported"),
                    "Compute the argument in a subquery.",
                ));
            }
        };
        let bound = optimize::simplify(context.sql_to_expr(call(name, vec![argument]), self.input)?, self.input)?;
        let ty = bound.to_field(self.input)?.1;
        let Expr::AggregateFunction(call) = &bound else {
            return Err(DataFusionError::Internal(format!("{name} is no aggregate once it is bound: {bound}")));
        };
        let [argument] = call.params.args.as_slice() else {
            return Err(DataFusionError::Internal(format!("{name} has one argument")));
        };
        let (argument, _) = self.argument(argument.clone())?;
        self.add(ValueOf::Aggregate { function: call.func.name().to_string(), argument }, variable, self.said, ty)
    }
}

struct Visitor<'a, 'b, 'c> {
    values: &'a mut Values<'b>,
    context: &'c mut dyn RelationPlannerContext,
}

impl VisitorMut for Visitor<'_, '_, '_> {
    type Break = DataFusionError;

    fn pre_visit_query(&mut self, _query: &mut sql::Query) -> ControlFlow<DataFusionError> {
        ControlFlow::Break(refused(
            "a subquery in MATCH_RECOGNIZE is not supported",
            "Join the relation before, in a subquery named by WITH.",
        ))
    }

    fn pre_visit_expr(&mut self, expr: &mut sql::Expr) -> ControlFlow<DataFusionError> {
        let replacement = match expr {
            sql::Expr::Identifier(_) | sql::Expr::CompoundIdentifier(_) => {
                self.values.row_value(expr, (false, 0, 0), self.context).map(Some)
            }
            sql::Expr::Function(f) => self.values.function(f, self.context),
            _ => Ok(None),
        };
        match replacement {
            Ok(Some(value)) => *expr = value,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

fn name_of(f: &Function) -> String {
    match f.name.0.as_slice() {
        [part] => part.as_ident().map(fold).unwrap_or_default(),
        _ => String::new(),
    }
}

pub(super) fn refused(message: &str, hint: &str) -> DataFusionError {
    into_datafusion(SqlError::unsupported(message).with_hint(hint))
}

/// A constant number of rows.
fn count(expr: &sql::Expr, function: &str) -> DfResult<i64> {
    let digits = match expr {
        sql::Expr::Cast { expr, .. } => expr.as_ref(),
        other => other,
    };
    let number = match digits {
        sql::Expr::Value(value) => match &value.value {
            sql::Value::Number(digits, _) => digits.parse::<u16>().ok(),
            sql::Value::SingleQuotedString(digits) => digits.parse::<u16>().ok(),
            _ => None,
        },
        _ => None,
    };
    let bad = || {
        SqlError::new(SqlState::INVALID_PARAMETER, format!("{function}() takes a constant number of rows, not {expr}"))
            .with_hint("It is at least 0 and at most 65535.")
    };
    let checked: Result<i64> = number.map(i64::from).ok_or_else(bad);
    checked.map_err(into_datafusion)
}
