//! What a CREATE leaves to its format: the columns, where it declares none, and the definition of a record's type in a
//! file. Only a connector can find these out, so the session asks for them before the statement is planned, and planning
//! stays pure. A statement that is described says itself all that it needs.

use crate::catalog::Catalog;
use crate::create::object_name;
use crate::parse::Parsed;
use crate::parse::ast::{Ast, ColumnAst, ColumnValue, CreateRelation, FormatAst};
use crate::statement::ObjectKind;
use datafusion::sql::sqlparser::ast::Ident;
use eddyline_common::{Result, SqlType, options};
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
        let (canonical, wants_columns) = match &self.ast {
            Ast::CreateRelation(create) => {
                let raw = with_clause(&create.options, create.format.as_ref(), options::format_of_clause)?;
                let has_columns = create.columns.iter().any(|column| matches!(column.value, ColumnValue::Plain { .. }));
                (options::canonicalize(raw).ok()?, !has_columns)
            }
            Ast::CreateSink(create) if create.into.is_none() => {
                let raw = with_clause(&create.options, create.format.as_ref(), options::sink_format_of_clause)?;
                (options::canonicalize_sink(raw).ok()?, false)
            }
            _ => return None,
        };
        let is_asked = options::is_described(&canonical) && (wants_columns || canonical.contains_key(options::PROTOBUF_DESCRIPTOR));
        is_asked.then_some(FormatRequest { options: canonical, wants_columns })
    }

    /// What CREATE SOURCE, TABLE or SINK IF NOT EXISTS finds under its name, whatever it is; then nothing else of the statement is looked at.
    pub fn existing(&self, catalog: &dyn Catalog) -> Option<(ObjectKind, String)> {
        let of_relation = |create: &CreateRelation| {
            let is_source = create.source || create.options.keys().any(|key| key.eq_ignore_ascii_case(options::CONNECTOR));
            if is_source { ObjectKind::Source } else { ObjectKind::Table }
        };
        let (kind, temporary, name) = match &self.ast {
            Ast::CreateRelation(create) if create.if_not_exists => (of_relation(create), create.temporary, &create.name),
            Ast::CreateTableAs(create) if create.table.if_not_exists => {
                (of_relation(&create.table), create.table.temporary, &create.table.name)
            }
            Ast::CreateSink(create) if create.if_not_exists => (ObjectKind::Sink, false, &create.name),
            _ => return None,
        };
        let name = object_name(name, &self.text).ok()?;
        // A session's own table may hide another one.
        let schema = (temporary && kind == ObjectKind::Table).then_some("pg_temp");
        catalog.relation(schema, &name).map(|_| (kind, name))
    }

    /// The statement with what its format says: further options, and columns before those that are declared.
    pub fn with_format(&self, options: BTreeMap<String, String>, columns: Vec<(String, SqlType)>) -> Parsed {
        let plain = |(name, ty): (String, SqlType)| {
            let value = ColumnValue::Plain { default: None };
            ColumnAst { name: Ident::new(name), ty: Some(ty), precision: None, nullable: true, value }
        };
        let mut described = self.clone();
        match &mut described.ast {
            Ast::CreateRelation(create) => {
                drop(create.columns.splice(..0, columns.into_iter().map(plain)));
                create.options.extend(options);
            }
            Ast::CreateSink(create) => create.options.extend(options),
            _ => {}
        }
        described
    }
}

/// The options with the format that a clause names.
fn with_clause(
    given: &BTreeMap<String, String>,
    format: Option<&FormatAst>,
    name: fn(&str, &str) -> Result<&'static str>,
) -> Option<BTreeMap<String, String>> {
    let mut raw = given.clone();
    if let Some(format) = format {
        raw.insert(options::FORMAT.to_string(), name(&format.format, &format.encode).ok()?.to_string());
    }
    Some(raw)
}
