//! ALTER TABLE ... ADD COLUMN: the table's definition with the columns, and its rows with them. Rows are stored by the places of their columns, so there is a table
//! of the wider rows to be made, which takes the other one's place: whoever runs the statement does that. A table with a watermark is refused: its rows would
//! have arrived anew.

use crate::catalog::{Relation, RelationKind};
use crate::error::fold;
use crate::like::definition;
use crate::parse::ast::{Ast, ColumnAst, ColumnValue, CreateRelation};
use crate::parse::{Parsed, parse, parse_query};
use crate::query::Context;
use crate::statement::{AddColumns, Planned};
use crate::table_as::{quoted, spelled};
use eddyline_common::{Result, SqlError, SqlState, SqlType};

impl Context<'_> {
    pub fn add_columns(&self, added: &CreateRelation, if_not_exists: &[bool]) -> Result<Planned> {
        let table = self.relation(&added.name)?;
        check_plain(&table)?;
        let (mut columns, mut notices): (Vec<ColumnAst>, Vec<SqlError>) = (Vec::new(), Vec::new());
        for (column, may_exist) in added.columns.iter().zip(if_not_exists) {
            let name = fold(&column.name);
            let exists = || {
                let message = format!("column \"{name}\" of relation \"{}\" already exists", table.name);
                SqlError::new(SqlState::DUPLICATE_COLUMN, message)
            };
            let is_there = table.visible.iter().any(|v| v.column.name == name) || columns.iter().any(|c| fold(&c.name) == name);
            match (is_there, *may_exist) {
                (false, _) => columns.push(column.clone()),
                (true, true) => notices.push(exists().skipped()),
                (true, false) => return Err(self.text.at(exists(), column.name.span.start)),
            }
        }
        if columns.is_empty() {
            return Ok(Planned::Idle { tag: "ALTER TABLE", notices });
        }
        // What is wrong with the texts that are made here has no place in the client's.
        let unplaced = |error: SqlError| SqlError { position: None, ..error };
        let values = columns.iter().map(value).collect::<Result<Vec<_>>>()?;
        let stored = table.columns.iter().map(|column| quoted(&column.name));
        let items: Vec<String> = stored.chain(values).collect();
        let rows = parse_query(&format!("SELECT {} FROM public.{}", items.join(", "), quoted(&table.name)))?;
        let rows = self.query(&rows).map_err(unplaced)?;
        let definition = Box::new(widened(&table, columns, added).map_err(unplaced)?);
        Ok(Planned::AddColumns(AddColumns { table, definition, rows, notices }))
    }
}

fn check_plain(table: &Relation) -> Result<()> {
    let what = match &table.kind {
        RelationKind::Table { temporary: true, .. } => "temporary tables",
        RelationKind::Table { numbered: Some(_), .. } => "tables that number their rows",
        RelationKind::Table { webhook: None, .. } if table.watermark.is_some() => "tables with a watermark",
        RelationKind::Table { webhook: None, .. } => return Ok(()),
        RelationKind::Table { .. } | RelationKind::Source(_) | RelationKind::KeyedSource { .. } => "tables with a connector",
        RelationKind::View { .. } | RelationKind::MaterializedView { .. } | RelationKind::Sink(_) => {
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a table", table.name)));
        }
    };
    Err(SqlError::unsupported(format!("ADD COLUMN is not supported for {what}")).with_hint("DROP the table and CREATE it anew."))
}

/// What a new column is in the rows that there are.
fn value(column: &ColumnAst) -> Result<String> {
    let plain = || SqlError::unsupported("only plain columns are added to a table").with_hint("Compute it in a view.");
    let ColumnValue::Plain { default } = &column.value else { return Err(plain()) };
    let ty = spelled(column.ty.as_ref().unwrap_or(&SqlType::Text));
    Ok(match default {
        Some(default) => format!("CAST(({default}) AS {ty})"),
        None => format!("CAST(NULL AS {ty})"),
    })
}

fn widened(table: &Relation, columns: Vec<ColumnAst>, added: &CreateRelation) -> Result<Parsed> {
    let Some(Parsed { ast: Ast::CreateRelation(mut whole), .. }) = parse(&table.sql)?.pop() else {
        return Err(SqlError::internal(format!("no definition of a table: {}", table.sql)));
    };
    whole.columns.extend(columns);
    whole.comments.extend(added.comments.iter().cloned());
    parse(&definition(&whole))?.pop().ok_or_else(|| SqlError::internal("a definition without a statement"))
}
