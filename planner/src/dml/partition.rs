//! `INSERT INTO t PARTITION (column = value)`: Flink's way to give a column one value in all rows. It is an INSERT whose query gives that column too.

use super::quoted;
use crate::catalog::Relation;
use crate::error::fold;
use crate::parse::{parse_query, select_all_from};
use crate::query::Context;
use datafusion::sql::sqlparser::ast;
use eddyline_common::connector::ColumnOrigin;
use eddyline_common::{Result, SqlError, SqlState};

/// The query, seen from the one that adds the values.
const ROWS: &str = "__rows";

impl Context<'_> {
    /// The INSERT as it would be without the clause. What the clause names without a value is the query's to give.
    pub fn without_partition(&self, insert: &ast::Insert, partition: &[ast::Expr]) -> Result<ast::Insert> {
        let ast::TableObject::TableName(name) = &insert.table else {
            return Err(SqlError::unsupported("INSERT INTO a function is not supported"));
        };
        let table = self.relation(name)?;
        let fixed: Vec<(ast::Ident, ast::Expr)> = partition.iter().filter_map(|item| fixed(item).transpose()).collect::<Result<_>>()?;
        let mut insert = insert.clone();
        insert.partitioned = None;
        if insert.columns.is_empty() {
            let given = written(&table).into_iter().filter(|column| !fixed.iter().any(|(ident, _)| fold(ident) == **column));
            insert.columns = given.map(|column| ast::ObjectName::from(vec![quoted(column)])).collect();
        }
        insert.columns.extend(fixed.iter().map(|(ident, _)| ast::ObjectName::from(vec![ident.clone()])));
        let values: Vec<ast::Expr> = fixed.into_iter().map(|(_, value)| value).collect();
        match &mut insert.source {
            Some(query) => add(query, values)?,
            None => return Err(SqlError::new(SqlState::SYNTAX_ERROR, "PARTITION needs a query or VALUES")),
        }
        Ok(insert)
    }
}

fn fixed(item: &ast::Expr) -> Result<Option<(ast::Ident, ast::Expr)>> {
    match item {
        ast::Expr::Identifier(_) => Ok(None),
        ast::Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, right } => match left.as_ref() {
            ast::Expr::Identifier(ident) => Ok(Some((ident.clone(), right.as_ref().clone()))),
            _ => Err(wrong(item)),
        },
        _ => Err(wrong(item)),
    }
}

fn wrong(item: &ast::Expr) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, format!("PARTITION takes column = value, not {item}"))
}

/// The columns that an INSERT without a list writes.
fn written(table: &Relation) -> Vec<&str> {
    match table.source_spec() {
        Some(source) => {
            let columns = source.columns.iter().zip(&table.columns);
            columns.filter(|(record, _)| record.origin == ColumnOrigin::Payload).map(|(_, column)| column.name.as_str()).collect()
        }
        None => table.columns.iter().map(|column| column.name.as_str()).collect(),
    }
}

/// The query with constants behind its columns.
fn add(query: &mut Box<ast::Query>, values: Vec<ast::Expr>) -> Result<()> {
    if let ast::SetExpr::Values(rows) = query.body.as_mut() {
        rows.rows.iter_mut().for_each(|row| row.content.extend(values.iter().cloned()));
        return Ok(());
    }
    let inner = std::mem::replace(query, parse_query("SELECT 1")?);
    let alias = Some(ast::TableAlias { explicit: true, name: ast::Ident::new(ROWS), columns: vec![], at: None });
    let mut outer = select_all_from(ast::TableFactor::Derived { lateral: false, subquery: inner, alias, sample: None });
    if let ast::SetExpr::Select(select) = outer.body.as_mut() {
        select.projection.extend(values.into_iter().map(ast::SelectItem::UnnamedExpr));
    }
    **query = outer;
    Ok(())
}
