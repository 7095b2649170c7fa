//! The clause as it was parsed to the node and a projection over it. What a pattern cannot be is refused here, with the reason.

use super::pattern::{self, ends_greedily, first_variables, length};
use super::values::{Values, refused};
use super::{MatchRecognize, Spec};
use crate::bind::{alternatives, casts, window};
use crate::error::{fold, into_datafusion, suggest};
use crate::optimize;
use crate::parse::match_recognize::WITHIN;
use crate::plan::MatchSkip;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, DataFusionError, Diagnostic, Result as DfResult, Span};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    self as sql, AfterMatchSkip, EmptyMatchesMode, Ident, OrderByExpr, RowsPerMatch, SymbolDefinition, TableFactor,
};
use eddyline_common::{SqlError, SqlState};
use std::sync::Arc;

/// Plans MATCH_RECOGNIZE in FROM.
#[derive(Debug)]
pub struct MatchRecognizeClause {
    /// The session's time zone.
    pub zone: String,
}

impl RelationPlanner for MatchRecognizeClause {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> DfResult<RelationPlanning> {
        let TableFactor::MatchRecognize {
            table,
            partition_by,
            order_by,
            measures,
            rows_per_match,
            after_match_skip,
            pattern,
            symbols,
            alias,
        } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let input = context.plan(*table)?;
        let all_rows = match rows_per_match {
            None | Some(RowsPerMatch::OneRow) => false,
            Some(RowsPerMatch::AllRows(Some(EmptyMatchesMode::WithUnmatched))) => {
                return Err(refused("ALL ROWS PER MATCH WITH UNMATCHED ROWS is not supported", "Join the rows with the matches."));
            }
            Some(RowsPerMatch::AllRows(_)) => true,
        };
        let (pattern, variables) = pattern::pattern(&pattern).map_err(into_datafusion)?;
        let schema = input.schema().clone();
        let partition = partition_by.iter().map(|e| column(e, &schema, "PARTITION BY")).collect::<DfResult<Vec<_>>>()?;
        let (order, directions) = order(&order_by, &schema)?;
        let (within, conditions) = definitions(symbols, &variables, context)?;
        check(&pattern, within)?;
        let skip = skip(after_match_skip, &variables, &pattern)?;
        let time = Expr::Column(order[0].clone());
        let (arguments, found) = (Vec::new(), Vec::new());
        let mut values = Values { variables: &variables, input: &schema, time, arguments, values: found, whole: None, said: None };
        let conditions = conditions.into_iter().map(|c| c.map(|c| values.collect(c, context)).transpose()).collect::<DfResult<Vec<_>>>()?;
        values.whole = Some(!all_rows);
        let measures =
            measures.into_iter().map(|m| Ok((values.collect(m.expr, context)?, fold(&m.alias)))).collect::<DfResult<Vec<_>>>()?;
        let over = values.schema()?;
        let condition = |c: Option<sql::Expr>| c.map(|c| self.condition(c, &over, context)).transpose();
        let conditions = conditions.into_iter().map(condition).collect::<DfResult<Vec<_>>>()?;
        let Values { arguments, values, .. } = values;
        let spec = Spec {
            variables: variables.clone(),
            pattern,
            conditions,
            values,
            all_rows,
            skip,
            within,
            partition: partition.len(),
            order: order.len(),
            directions,
        };
        let columns = partition.iter().chain(&order).cloned().map(Expr::Column);
        let node = MatchRecognize::try_new(Arc::new(input), columns.chain(arguments).collect(), Arc::new(spec))?;
        let output = outputs(&node, &partition, &order, measures, context)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        let plan = LogicalPlanBuilder::from(plan).project(output)?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl MatchRecognizeClause {
    fn condition(&self, condition: sql::Expr, over: &DFSchema, context: &mut dyn RelationPlannerContext) -> DfResult<Expr> {
        let typed = alternatives::in_expr(context.sql_to_expr(condition, over)?, over)?.data;
        let bound = casts::in_expr(typed, over, &self.zone)?;
        let bound = optimize::simplify(bound, over)?;
        match bound.get_type(over)? {
            DataType::Boolean | DataType::Null => Ok(bound),
            other => Err(into_datafusion(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!("a condition in DEFINE must be boolean, not {other}"),
            ))),
        }
    }
}

/// The columns that come out: with ONE ROW PER MATCH the partition's and the measures, else also all others of the row.
fn outputs(
    node: &MatchRecognize,
    partition: &[Column],
    order: &[Column],
    measures: Vec<(sql::Expr, String)>,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<Vec<Expr>> {
    use datafusion::logical_expr::UserDefinedLogicalNodeCore;
    let schema = UserDefinedLogicalNodeCore::schema(node).clone();
    let mut front: Vec<Column> = partition.to_vec();
    let mut rest = Vec::new();
    if node.spec.all_rows {
        front.extend(order.iter().filter(|c| !partition.contains(c)).cloned());
        rest = node.input.schema().columns().into_iter().filter(|c| !front.contains(c)).collect();
    }
    let mut exprs: Vec<Expr> = front.into_iter().map(Expr::Column).collect();
    for (measure, name) in measures {
        exprs.push(context.sql_to_expr(measure, &schema)?.alias(name));
    }
    exprs.extend(rest.into_iter().map(Expr::Column));
    Ok(exprs)
}

/// A column of the input.
fn column(expr: &sql::Expr, schema: &DFSchema, place: &str) -> DfResult<Column> {
    let ident = match expr {
        sql::Expr::Identifier(ident) => ident,
        sql::Expr::CompoundIdentifier(parts) if !parts.is_empty() => &parts[parts.len() - 1],
        other => {
            return Err(refused(
                &format!("{place} {other} in MATCH_RECOGNIZE is not supported: it takes columns"),
                "Compute it in a subquery named by WITH, or in a view.",
            ));
        }
    };
    let name = fold(ident);
    match schema.qualified_fields_with_unqualified_name(&name).as_slice() {
        [one] => Ok(Column::from(*one)),
        [] => {
            let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"));
            Err(located(suggest(error, &name, schema.fields().iter().map(|f| f.name().as_str())), ident))
        }
        _ => Err(located(SqlError::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{name}\" is ambiguous")), ident)),
    }
}

fn located(error: SqlError, ident: &Ident) -> DataFusionError {
    let span = Span::try_from_sqlparser_span(ident.span);
    into_datafusion(error.clone()).with_diagnostic(Diagnostic::new_error(error.message, span))
}

/// The order's columns, each with whether it descends and whether nulls come first. The first one ascends.
fn order(items: &[OrderByExpr], schema: &DFSchema) -> DfResult<(Vec<Column>, Vec<(bool, bool)>)> {
    let (mut columns, mut directions) = (Vec::new(), Vec::new());
    for item in items {
        let found = column(&item.expr, schema, "ORDER BY")?;
        if columns.contains(&found) {
            continue;
        }
        let descending = item.options.asc == Some(false);
        columns.push(found);
        directions.push((descending, item.options.nulls_first.unwrap_or(descending)));
    }
    match directions.first() {
        None => Err(refused("MATCH_RECOGNIZE needs ORDER BY an event time", "Write ORDER BY ts, with a watermark on ts.")),
        Some((true, _)) => Err(refused("MATCH_RECOGNIZE in descending order of time is not supported", "Rows come in the order of time.")),
        Some(_) => Ok((columns, directions)),
    }
}

/// The interval of WITHIN, and the condition of each variable.
fn definitions(
    symbols: Vec<SymbolDefinition>,
    variables: &[String],
    context: &mut dyn RelationPlannerContext,
) -> DfResult<(Option<i64>, Vec<Option<sql::Expr>>)> {
    let mut within = None;
    let mut conditions: Vec<Option<sql::Expr>> = vec![None; variables.len()];
    for SymbolDefinition { symbol, definition } in symbols {
        let name = fold(&symbol);
        if name == WITHIN {
            let bound = context.sql_to_expr(definition, &DFSchema::empty())?;
            let micros = window::interval_micros(&bound).map_err(into_datafusion)?;
            if micros <= 0 {
                return Err(into_datafusion(SqlError::new(SqlState::INVALID_PARAMETER, "the interval of WITHIN must be positive")));
            }
            within = Some(micros);
            continue;
        }
        let Some(at) = variables.iter().position(|v| *v == name) else {
            let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("\"{name}\" in DEFINE is no variable of the pattern"));
            return Err(located(suggest(error, &name, variables.iter().map(String::as_str)), &symbol));
        };
        if conditions[at].replace(definition).is_some() {
            let error = SqlError::new(SqlState::DUPLICATE_OBJECT, format!("variable \"{name}\" is defined twice"));
            return Err(located(error, &symbol));
        }
    }
    Ok((within, conditions))
}

/// Refuses patterns whose matches are never known, or are nothing.
fn check(pattern: &crate::plan::MatchPattern, within: Option<i64>) -> DfResult<()> {
    if length(pattern).0 == 0 {
        return Err(refused(
            "a row pattern that matches no rows at all is not supported",
            "Make at least one variable of it necessary: A+ instead of A*.",
        ));
    }
    if within.is_none() && ends_greedily(pattern) {
        return Err(refused(
            "greedy quantifiers are not allowed as the last element of a pattern without WITHIN",
            "A match would not be known to be whole. End the pattern with a simple variable or a reluctant quantifier (B+?), or add WITHIN INTERVAL '1' HOUR behind it.",
        ));
    }
    Ok(())
}

fn skip(skip: Option<AfterMatchSkip>, variables: &[String], pattern: &crate::plan::MatchPattern) -> DfResult<MatchSkip> {
    let variable = |ident: &Ident| {
        let name = fold(ident);
        variables.iter().position(|v| *v == name).ok_or_else(|| {
            let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("\"{name}\" in AFTER MATCH SKIP is no variable of the pattern"));
            located(suggest(error, &name, variables.iter().map(String::as_str)), ident)
        })
    };
    Ok(match skip {
        None | Some(AfterMatchSkip::PastLastRow) => MatchSkip::PastLastRow,
        Some(AfterMatchSkip::ToNextRow) => MatchSkip::ToNextRow,
        Some(AfterMatchSkip::ToLast(ident)) => MatchSkip::ToLast(variable(&ident)?),
        Some(AfterMatchSkip::ToFirst(ident)) => {
            let to = variable(&ident)?;
            if first_variables(pattern).contains(&to) {
                return Err(refused(
                    &format!("AFTER MATCH SKIP TO FIRST {ident} would find the same match for ever: the pattern begins with it"),
                    "Skip to a later variable, to the next row, or past the last one.",
                ));
            }
            MatchSkip::ToFirst(to)
        }
    })
}
