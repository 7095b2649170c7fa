//! CREATE TABLE AS: a CREATE TABLE of its own, with the query's columns, which is also the text that the catalog keeps; and the query's rows. Of a query
//! that keeps running, and for a table with a connector, these are an INSERT that is planned once the table is there.

use crate::create::{object_name, output_names};
use crate::error::fold;
use crate::parse::ast::{Ast, CreateTableAs, InsertClauses};
use crate::parse::{Parsed, parse};
use crate::query::{Context, cast_columns};
use crate::statement::{Planned, Query, RowLocks, TableAs, TableRows};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Insert, ObjectName, TableObject};
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};

impl Context<'_> {
    pub fn create_table_as(&self, create: &CreateTableAs, parsed: &Parsed) -> Result<Planned> {
        let insert = insert_into(&create.table.name, create)?;
        let (bound, runs) = match self.running_query(&insert) {
            Some((_, bound, _)) => (bound, true),
            None => (self.bind(&create.query, None)?.0, false),
        };
        let columns = self.table_columns(create, &bound)?;
        let name = create.table.name.to_string();
        let definition = definition(&name, create.table.temporary, &columns, &create.clauses)?;
        let has_connector = create.table.options.keys().any(|key| key.eq_ignore_ascii_case(options::CONNECTOR));
        let rows = if !create.with_data {
            TableRows::None
        } else if runs || has_connector {
            let sql = format!("INSERT INTO {name} {}", create.query_text);
            TableRows::Insert(Box::new(Parsed { sql, ast: Ast::Insert(Box::new(insert), InsertClauses::default()), ..parsed.clone() }))
        } else {
            let inputs = bound.schema().columns();
            let target = |(i, (input, column)): (usize, (_, &Column))| (format!("c{i}"), Expr::Column(input), column.ty.clone());
            let targets: Vec<_> = inputs.into_iter().zip(&columns).enumerate().map(target).collect();
            let plan = cast_columns(bound, &targets, &self.settings.time_zone)?;
            let names = columns.into_iter().map(|column| column.name).collect();
            TableRows::Of(Box::new(Query { locks: RowLocks::of(&create.query)?, ..self.finish(plan, names) }))
        };
        Ok(Planned::CreateTableAs(TableAs { name: object_name(&create.table.name, self.text)?, definition: Box::new(definition), rows }))
    }

    /// The query's columns under the names that the statement gives them.
    fn table_columns(&self, create: &CreateTableAs, bound: &LogicalPlan) -> Result<Vec<Column>> {
        let mut columns = self.finish(bound.clone(), output_names(&create.query, bound)).columns;
        if let Some(more) = create.columns.get(columns.len()) {
            let error = SqlError::new(SqlState::SYNTAX_ERROR, "too many column names were specified");
            return Err(self.text.at(error, more.span.start));
        }
        for (column, ident) in columns.iter_mut().zip(&create.columns) {
            column.name = fold(ident);
        }
        Ok(columns)
    }
}

fn insert_into(name: &ObjectName, create: &CreateTableAs) -> Result<Insert> {
    let Some(Parsed { ast: Ast::Insert(mut insert, _), .. }) = parse("INSERT INTO t SELECT 1")?.pop() else {
        return Err(SqlError::internal("a constant INSERT is none"));
    };
    insert.table = TableObject::TableName(name.clone());
    insert.source = Some(create.query.clone());
    Ok(*insert)
}

/// The CREATE TABLE that makes the table without its rows.
fn definition(name: &str, temporary: bool, columns: &[Column], clauses: &str) -> Result<Parsed> {
    let what = if temporary { "TEMPORARY TABLE" } else { "TABLE" };
    let columns: Vec<String> = columns.iter().map(|column| format!("{} {}", quoted(&column.name), spelled(&column.ty))).collect();
    let sql = format!("CREATE {what} {name} ({}) {clauses}", columns.join(", "));
    parse(sql.trim_end())?.pop().ok_or_else(|| SqlError::internal("a definition without a statement"))
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A type as it can be written in a definition, its parts too.
pub fn spelled(ty: &SqlType) -> String {
    match ty {
        SqlType::Array(item) => format!("ARRAY<{}>", spelled(item)),
        SqlType::Map(key, value) => format!("MAP<{}, {}>", spelled(key), spelled(value)),
        SqlType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, ty)| format!("{} {}", quoted(name), spelled(ty))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        SqlType::Null => SqlType::Text.to_string(),
        simple => simple.to_string(),
    }
}
