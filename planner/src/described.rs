//! What a CREATE of a source leaves to its format: the columns, where it declares none, and the definition of a record's type in a
//! file. Only a connector can find these out, so the session asks for them before the statement is planned, and planning
//! stays pure. A statement that is described says itself all that it needs.

use crate::parse::Parsed;
use crate::parse::ast::{Ast, ColumnAst, ColumnValue, CreateRelation};
use datafusion::sql::sqlparser::ast::Ident;
use eddyline_common::{SqlType, options};
use std::collections::BTreeMap;

/// What to ask the format for.
#[derive(Clone, Debug, PartialEq)]
pub struct FormatRequest {
    /// Canonical, the format's among them.
    pub options: BTreeMap<String, String>,
    /// The statement declares no column of the record.
    pub wants_columns: bool,
}

impl Parsed {
    /// `None` for a statement that nothing has to be asked for, and for one whose options are wrong: planning says how.
    pub fn format_request(&self) -> Option<FormatRequest> {
        let Ast::CreateRelation(create) = &self.ast else { return None };
        let mut raw = create.options.clone();
        if let Some(format) = &create.format {
            raw.insert(options::FORMAT.to_string(), options::format_of_clause(&format.format, &format.encode).ok()?.to_string());
        }
        let canonical = options::canonicalize(raw).ok()?;
        let wants_columns = !create.columns.iter().any(|column| matches!(column.value, ColumnValue::Plain { .. }));
        let is_asked = options::is_described(&canonical) && (wants_columns || canonical.contains_key(options::PROTOBUF_DESCRIPTOR));
        is_asked.then_some(FormatRequest { options: canonical, wants_columns })
    }

    /// The statement with what its format says: further options, and columns before those that are declared.
    pub fn with_format(&self, options: BTreeMap<String, String>, columns: Vec<(String, SqlType)>) -> Parsed {
        let Ast::CreateRelation(create) = &self.ast else { return self.clone() };
        let plain = |(name, ty): (String, SqlType)| {
            let value = ColumnValue::Plain { default: None };
            ColumnAst { name: Ident::new(name), ty: Some(ty), nullable: true, value }
        };
        let mut all: Vec<ColumnAst> = columns.into_iter().map(plain).collect();
        all.extend(create.columns.iter().cloned());
        let mut raw = create.options.clone();
        raw.extend(options);
        let create = CreateRelation { columns: all, options: raw, ..(**create).clone() };
        Parsed { ast: Ast::CreateRelation(Box::new(create)), ..self.clone() }
    }
}
