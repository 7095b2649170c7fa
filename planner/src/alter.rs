//! ALTER ... SET, RESET and RENAME: what a relation is with other options, or under another name. Only what leaves its rows as they are can change.

use crate::catalog::{Relation, RelationKind, ViewOptions, is_temporary};
use crate::error::fold;
use crate::parse::ast::{Ast, CommentAst};
use crate::parse::parse;
use crate::query::Context;
use crate::sink::log_bytes_max;
use crate::statement::{Comments, ObjectKind, Planned};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use datafusion::sql::sqlparser::tokenizer::Location;
use eddyline_common::connector::SourceSpec;
use eddyline_common::options::{self, Changes};
use eddyline_common::{Result, SqlError, SqlState};
use std::sync::Arc;

impl Context<'_> {
    pub fn alter(&self, kind: ObjectKind, name: &ObjectName, changes: &Changes) -> Result<Planned> {
        let before = self.object(kind, name)?;
        let mut after = Relation::clone(&before);
        match &mut after.kind {
            RelationKind::MaterializedView { options, .. } => {
                for (key, value) in options::altered_view(changes)? {
                    options.set(&key, value.as_deref())?;
                }
            }
            RelationKind::Sink(sink) => {
                sink.spec.options = options::altered_sink(&sink.spec.options, changes)?;
                let own_sources = std::mem::take(&mut sink.options.own_sources);
                sink.options = ViewOptions { own_sources, ..ViewOptions::of(&sink.spec.options)? };
                sink.log_bytes_max = log_bytes_max(&sink.spec.options)?;
            }
            RelationKind::Table { webhook: None, .. } => alter_table(&mut after, changes)?,
            RelationKind::Source(spec) | RelationKind::KeyedSource { spec, .. } | RelationKind::Table { webhook: Some(spec), .. } => {
                alter_source(spec, changes)?;
                let watermark = options::watermark_options(&spec.options)?;
                if let Some(definition) = &mut after.watermark {
                    definition.idle_timeout = watermark.idle_timeout_micros;
                    definition.future_guard = watermark.future_guard_micros;
                }
            }
            RelationKind::View { .. } => return Err(SqlError::unsupported("a view has no options")),
        }
        if let Some(options) = after.job_options() {
            crate::forgetting::check_altered(&after, options, self.catalog)?;
        }
        Ok(Planned::Alter { before, after: Box::new(after) })
    }

    /// A table or view under another name, which its own text has then too. What reads it goes on reading it (`Relation::named`); whether the new name is
    /// free is the catalog's to say. As in PostgreSQL, ALTER TABLE is good for views too.
    pub fn rename(&self, kind: ObjectKind, name: &ObjectName, to: &Ident) -> Result<Planned> {
        if to.value.is_empty() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "zero-length delimited identifier"));
        }
        let before = if kind == ObjectKind::Table { self.relation(name)? } else { self.object(kind, name)? };
        let what = match &before.kind {
            RelationKind::Table { temporary: true, .. } => Some("a temporary table"),
            _ if before.is_temporary() => Some("a temporary view"),
            RelationKind::Table { webhook: None, .. } | RelationKind::View { .. } | RelationKind::MaterializedView { .. } => None,
            RelationKind::Sink(_) => Some("a sink"),
            _ => Some("a source"),
        };
        if let Some(what) = what {
            let error = SqlError::unsupported(format!("RENAME of {what} is not supported"));
            return Err(error.with_hint("DROP it and CREATE it anew."));
        }
        let after = Relation { name: fold(to), sql: renamed(&before.sql, to)?, ..Relation::clone(&before) };
        Ok(Planned::Alter { before, after: Box::new(after) })
    }

    /// A relation that is of this kind, or may be called so.
    pub fn object(&self, kind: ObjectKind, name: &ObjectName) -> Result<Arc<Relation>> {
        let relation = self.relation(name)?;
        let is_kind = match &relation.kind {
            RelationKind::Source(_) | RelationKind::KeyedSource { .. } => matches!(kind, ObjectKind::Source | ObjectKind::Table),
            RelationKind::Table { webhook, .. } => kind == ObjectKind::Table || webhook.is_some() && kind == ObjectKind::Source,
            RelationKind::View { .. } => kind == ObjectKind::View,
            RelationKind::MaterializedView { .. } => kind == ObjectKind::MaterializedView,
            RelationKind::Sink(_) => kind == ObjectKind::Sink,
        };
        if is_kind {
            return Ok(relation);
        }
        let said = match kind {
            ObjectKind::Source => "a source",
            ObjectKind::Table => "a table",
            ObjectKind::View => "a view",
            ObjectKind::MaterializedView => "a materialized view",
            ObjectKind::Sink => "a sink",
            ObjectKind::Function => "a function",
            ObjectKind::Index => "an index",
        };
        Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not {said}", relation.name)))
    }

    pub fn comment(&self, kind: ObjectKind, name: &ObjectName, column: Option<&Ident>, text: Option<String>) -> Result<Planned> {
        let relation = if column.is_some() { self.relation(name)? } else { self.object(kind, name)? };
        if is_temporary(relation.id) {
            return Err(
                SqlError::unsupported("COMMENT ON a temporary view is not supported").with_hint("Say COMMENT 'text' when it is created.")
            );
        }
        let Some(column) = column else { return Ok(Planned::Comment { relation: relation.id, column: None, text }) };
        let at = self.visible_column(&relation, column)?;
        Ok(Planned::Comment { relation: relation.id, column: Some(at), text })
    }
}

/// The text of a CREATE, with another name in it.
fn renamed(sql: &str, to: &Ident) -> Result<String> {
    let other = || SqlError::internal(format!("no definition of a table or view: {sql}"));
    let parsed = parse(sql)?.pop().ok_or_else(other)?;
    let name = match &parsed.ast {
        Ast::CreateRelation(create) => &create.name,
        Ast::CreateView(create) => &create.name,
        _ => return Err(other()),
    };
    let ident = name.0.last().and_then(|part| part.as_ident()).ok_or_else(other)?;
    let (start, end) = (Location::new(1, 1), Location::new(u64::MAX, 1));
    Ok(format!("{}{to}{}", parsed.text.slice(start, ident.span.start), parsed.text.slice(ident.span.end, end)))
}

fn alter_source(spec: &mut SourceSpec, changes: &Changes) -> Result<()> {
    spec.options = options::altered_source(&spec.options, changes)?;
    Ok(())
}

fn alter_table(table: &mut Relation, changes: &Changes) -> Result<()> {
    let changes = options::altered_table(changes)?;
    let Some(watermark) = &mut table.watermark else {
        let message = format!("table \"{}\" has no watermark, and no other options", table.name);
        return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
    };
    for (key, value) in changes {
        let micros = value.as_deref().filter(|v| *v != "none").map(|text| options::duration(&key, text)).transpose()?;
        match key.as_str() {
            options::IDLE_TIMEOUT => watermark.idle_timeout = micros.filter(|m| *m > 0),
            _ => watermark.future_guard = micros,
        }
    }
    Ok(())
}

/// What CREATE says of a relation and of its columns.
pub fn comments(said: &[CommentAst], relation: &Relation) -> Comments {
    let place = |column: &Ident| relation.visible.iter().position(|v| v.column.name == fold(column));
    let of = |comment: &CommentAst| match &comment.column {
        None => Some((None, comment.text.clone())),
        Some(column) => place(column).map(|at| (Some(at), comment.text.clone())),
    };
    said.iter().filter_map(of).collect()
}
