//! CREATE INDEX: whose rows it finds, by which columns. Whether its name is free is the coordinator's to say.

use crate::catalog::{Index, Relation, RelationKind};
use crate::create::object_name;
use crate::parse::Parsed;
use crate::parse::ast::CreateIndex;
use crate::plan::Expr;
use crate::query::Context;
use datafusion::sql::sqlparser::ast::Ident;
use eddyline_common::key::KeyCodec;
use eddyline_common::{RelationId, Result, SqlError, SqlState};

impl Context<'_> {
    pub fn create_index(&self, create: &CreateIndex, parsed: &Parsed) -> Result<Index> {
        let relation = self.relation(&create.relation)?;
        if !relation.has_rows() {
            return Err(without_rows(&relation));
        }
        let named = |idents: &[Ident]| self.each_once(idents, |ident| self.visible_column(&relation, ident));
        let columns = named(&create.columns)?;
        for (column, ident) in columns.iter().zip(&create.columns) {
            self.check_indexed(&relation, *column, ident)?;
        }
        let include = named(&create.include)?;
        let name = match &create.name {
            Some(name) => object_name(name, self.text)?,
            None => {
                let names: Vec<&str> = columns.iter().map(|column| relation.visible[*column].column.name.as_str()).collect();
                format!("{}_{}_idx", relation.name, names.join("_"))
            }
        };
        Ok(Index { id: RelationId(0), name, sql: parsed.sql.clone(), relation: relation.id, columns, include })
    }

    /// Only what is stored, and can be compared, can be looked up.
    fn check_indexed(&self, relation: &Relation, column: usize, ident: &Ident) -> Result<()> {
        let visible = &relation.visible[column];
        if !matches!(visible.value, Expr::Column(_)) {
            let error = SqlError::unsupported(format!("an index over the computed column \"{}\" is not supported", visible.column.name));
            let hint = "It is computed when it is read: make a materialized view over the relation, and index that.";
            return Err(self.text.at(error.with_hint(hint), ident.span.start));
        }
        if KeyCodec::new(vec![visible.column.ty.to_arrow()]).is_err() {
            let error = SqlError::unsupported(format!("a column of type {} cannot be indexed", visible.column.ty));
            return Err(self.text.at(error.with_hint("Its values cannot be compared."), ident.span.start));
        }
        Ok(())
    }
}

fn without_rows(relation: &Relation) -> SqlError {
    let hint = match relation.kind {
        RelationKind::View { .. } => "A view is its query: index what it reads, or make it a materialized view.",
        _ => "It keeps no rows: create a materialized view over it, and index that.",
    };
    SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("cannot create index on relation \"{}\"", relation.name)).with_hint(hint)
}
