//! Expressions over single rows: a select list over a table, bound and coerced, with its columns replaced by those of
//! a stored row. Parameters stay in them until they are bound.

use crate::bind::Mode;
use crate::create::output_names;
use crate::error::{from_datafusion, into_datafusion};
use crate::lower::columns_of;
use crate::optimize;
use crate::parse::{select_all_from, table_factor};
use crate::query::Context;
use crate::statement::Returning;
use crate::walk::Walk;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column as DfColumn, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast;
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlType};

impl Context<'_> {
    /// RETURNING over the table's own rows. `joined`: the statement reads other tables too.
    pub(super) fn returning(
        &self,
        items: Option<&[ast::SelectItem]>,
        name: &ast::ObjectName,
        alias: Option<&ast::Ident>,
        joined: bool,
    ) -> Result<Option<Returning>> {
        let Some(items) = items else { return Ok(None) };
        if joined && items.iter().any(|item| matches!(item, ast::SelectItem::Wildcard(_))) {
            return Err(SqlError::unsupported("RETURNING * with FROM or USING is not supported")
                .with_hint("Name the columns of the table that is written."));
        }
        let mut query = select_all_from(table_factor(name, alias));
        let ast::SetExpr::Select(select) = query.body.as_mut() else { return Err(SqlError::internal("not a select")) };
        select.projection = items.to_vec();
        let (exprs, columns) = self.row_exprs(&query, [])?;
        Ok(Some(Returning { exprs, columns }))
    }

    /// A select list over tables as expressions over their stored columns, named `c0`, `c1`, ..., one table's after
    /// the other's. The first of them are assigned to columns of these names and types.
    pub(super) fn row_exprs<'c>(
        &self,
        query: &ast::Query,
        assigned_to: impl IntoIterator<Item = (&'c str, &'c SqlType)>,
    ) -> Result<(Vec<Expr>, Vec<Column>)> {
        let (plan, _) = self.binder(Mode::Streaming).query(query)?;
        self.check_assigned(query, &plan, assigned_to)?;
        let names = output_names(query, &plan);
        let plan = optimize::analyze(plan).map_err(|e| from_datafusion(e, Some(self.text)))?;
        let mut columns = columns_of(plan.schema())?;
        for (column, name) in columns.iter_mut().zip(names) {
            column.name = name;
            if column.ty == SqlType::Null {
                column.ty = SqlType::Text;
            }
        }
        Ok((over_stored(&plan, 0)?.0, columns))
    }
}

/// The plan's columns over stored ones, which are numbered from `first`, and how many stored ones there are.
fn over_stored(plan: &LogicalPlan, first: usize) -> Result<(Vec<Expr>, usize)> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let (inputs, width) = over_stored(&projection.input, first)?;
            let exprs = projection.expr.iter().map(|e| inline(e, projection.input.schema(), &inputs)).collect::<Result<_>>()?;
            Ok((exprs, width))
        }
        LogicalPlan::SubqueryAlias(alias) => over_stored(&alias.input, first),
        LogicalPlan::TableScan(scan) => {
            let width = scan.projected_schema.fields().len();
            let column = |i: usize| Expr::Column(DfColumn::new_unqualified(format!("c{}", first + i)));
            Ok(((0..width).map(column).collect(), width))
        }
        LogicalPlan::Join(join) if join.on.is_empty() && join.filter.is_none() => {
            let (mut exprs, left) = over_stored(&join.left, first)?;
            let (others, right) = over_stored(&join.right, first + left)?;
            exprs.extend(others);
            Ok((exprs, left + right))
        }
        _ => Err(refused()),
    }
}

fn inline(expr: &Expr, schema: &DFSchema, inputs: &[Expr]) -> Result<Expr> {
    let inlined = expr.clone().unalias_nested().data.up(|e| match e {
        Expr::Column(column) => Ok(Transformed::yes(inputs[schema.index_of_column(&column)?].clone())),
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => Err(into_datafusion(refused())),
        other => Ok(Transformed::no(other)),
    });
    inlined.map(|t| t.data).map_err(|e| from_datafusion(e, None))
}

fn refused() -> SqlError {
    SqlError::unsupported("only expressions over the table's columns are supported here")
}
