//! CREATE TABLE ... LIKE: the other table's definition and the statement's own, put together as in Flink, as a definition of its own, which names the
//! other no more. That is also the text that the catalog keeps.

use crate::catalog::{Relation, RelationKind};
use crate::error::fold;
use crate::parse::ast::{Ast, ColumnAst, ColumnValue, CreateRelation, LikeAst, LikePart, Merge};
use crate::parse::{Parsed, parse};
use crate::plan;
use crate::query::Context;
use crate::table_as::{quoted, spelled};
use datafusion::sql::sqlparser::ast::{Expr, Ident};
use eddyline_common::types::with_precision;
use eddyline_common::{Result, SqlError, SqlState, options};
use std::collections::BTreeMap;

impl Context<'_> {
    /// The CREATE that a CREATE ... LIKE stands for.
    pub fn without_like(&self, create: &CreateRelation, like: &LikeAst) -> Result<Parsed> {
        let relation = self.relation(&like.name)?;
        if like.columns_only {
            let columns = columns_of(&relation).chain(create.columns.iter().cloned()).collect();
            let whole = CreateRelation { like: None, columns, ..create.clone() };
            return parse(&definition(&whole))?.pop().ok_or_else(|| SqlError::internal("a definition without a statement"));
        }
        let Some(Parsed { ast: Ast::CreateRelation(base), .. }) = parse(&relation.sql)?.pop() else {
            let error = SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a table or source", relation.name));
            return Err(error.with_hint("CREATE TABLE ... AS takes a view's columns."));
        };
        if base.columns.is_empty() {
            return Err(SqlError::unsupported(format!("LIKE \"{}\", whose columns its format says, is not supported", relation.name)));
        }
        let merged = merged(*base, create, like)?;
        parse(&definition(&merged))?.pop().ok_or_else(|| SqlError::internal("a definition without a statement"))
    }
}

/// The columns of a relation as those of a table that knows nothing else of it. As in PostgreSQL, NOT NULL is what was declared: not of a view's, nor of what is computed.
fn columns_of(relation: &Relation) -> impl Iterator<Item = ColumnAst> {
    let is_view = matches!(relation.kind, RelationKind::View { .. } | RelationKind::MaterializedView { .. });
    relation.visible.iter().map(move |visible| ColumnAst {
        name: Ident::with_quote('"', &visible.column.name),
        ty: Some(visible.column.ty.clone()),
        precision: visible.column.precision,
        nullable: is_view || visible.column.nullable || !matches!(visible.value, plan::Expr::Column(_)),
        value: ColumnValue::Plain { default: None },
    })
}

fn merged(mut base: CreateRelation, create: &CreateRelation, like: &LikeAst) -> Result<CreateRelation> {
    let own = |column: &ColumnAst| create.columns.iter().any(|c| fold(&c.name) == fold(&column.name));
    base.columns.retain(|column| {
        let part = match column.value {
            ColumnValue::Plain { .. } | ColumnValue::Numbered { .. } => return true,
            ColumnValue::Computed(_) => LikePart::Generated,
            ColumnValue::Metadata { .. } => LikePart::Metadata,
        };
        match like.merge(part) {
            Merge::Including => true,
            Merge::Excluding => false,
            Merge::Overwriting => !own(column),
        }
    });
    let mut merged = create.clone();
    merged.like = None;
    merged.columns = base.columns.into_iter().chain(create.columns.iter().cloned()).collect();
    merged.primary_key = one_of(base.primary_key, merged.primary_key, like.merge(LikePart::Constraints), "primary keys")?;
    merged.watermark = one_of(base.watermark, merged.watermark, like.merge(LikePart::Watermarks), "watermarks")?;
    merged.options = merged_options(base.options, merged.options, like)?;
    merged.format = one_of(base.format, merged.format, like.merge(LikePart::Options), "formats")?;
    if like.merge(LikePart::Metadata) != Merge::Excluding {
        drop(merged.include.splice(..0, base.include));
    }
    let kept = |column: &Ident| merged.columns.iter().any(|c| fold(&c.name) == fold(column));
    let comments = base.comments.into_iter().filter(|comment| comment.column.as_ref().is_some_and(kept));
    merged.comments = comments.chain(create.comments.iter().cloned()).collect();
    merged.append_only |= base.append_only;
    merged.source |= base.source;
    Ok(merged)
}

fn one_of<T>(base: Option<T>, own: Option<T>, merge: Merge, what: &str) -> Result<Option<T>> {
    match (base, own, merge) {
        (_, own, Merge::Excluding) => Ok(own),
        (Some(_), Some(_), Merge::Including) => {
            let error = SqlError::new(SqlState::INVALID_TABLE_DEFINITION, format!("multiple {what} are not allowed"));
            Err(error.with_hint("Leave out the other table's with EXCLUDING."))
        }
        (base, own, _) => Ok(own.or(base)),
    }
}

fn merged_options(base: BTreeMap<String, String>, own: BTreeMap<String, String>, like: &LikeAst) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (key, value) in base {
        let part = if key == options::PARTITION_BY { LikePart::Partitions } else { LikePart::Options };
        let is_own = own.keys().any(|k| k.eq_ignore_ascii_case(&key));
        match like.merge(part) {
            Merge::Excluding => {}
            Merge::Including if is_own => {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("option \"{key}\" is given twice"));
                return Err(error.with_hint("Write OVERWRITING OPTIONS."));
            }
            _ if is_own => {}
            _ => drop(all.insert(key, value)),
        }
    }
    all.extend(own);
    Ok(all)
}

/// The text of a definition.
pub fn definition(create: &CreateRelation) -> String {
    let comment = |of: Option<&Ident>| {
        let found = create.comments.iter().find(|c| c.column.as_ref().map(fold) == of.map(fold));
        found.map(|c| format!(" COMMENT {}", literal(&c.text))).unwrap_or_default()
    };
    let mut elements = Vec::new();
    for column in &create.columns {
        elements.push(format!("{}{}", column_text(column), comment(Some(&column.name))));
    }
    if let Some(key) = &create.primary_key {
        let enforced = if key.enforced { "" } else { " NOT ENFORCED" };
        elements.push(format!("PRIMARY KEY ({}){enforced}", names(&key.columns)));
    }
    if let Some(watermark) = &create.watermark {
        elements.push(format!("WATERMARK FOR {} AS {}", watermark.column, watermark.expr));
    }
    let what = match (create.source, create.temporary) {
        (true, _) => "SOURCE",
        (false, true) => "TEMPORARY TABLE",
        (false, false) => "TABLE",
    };
    let mut text = format!("CREATE {what} {} ({})", create.name, elements.join(", "));
    for include in &create.include {
        text.push_str(&format!(" INCLUDE {}", include.what));
        text.push_str(&include.alias.as_ref().map(|alias| format!(" AS {alias}")).unwrap_or_default());
    }
    text.push_str(&comment(None));
    if create.append_only {
        text.push_str(" APPEND ONLY");
    }
    if !create.options.is_empty() {
        let options: Vec<String> = create.options.iter().map(|(key, value)| format!("{} = {}", literal(key), literal(value))).collect();
        text.push_str(&format!(" WITH ({})", options.join(", ")));
    }
    if let Some(format) = &create.format {
        text.push_str(&format!(" FORMAT {} ENCODE {}", format.format, format.encode));
    }
    text
}

fn column_text(column: &ColumnAst) -> String {
    let ty = column.ty.as_ref().map(|ty| format!(" {}", with_precision(&spelled(ty), column.precision))).unwrap_or_default();
    let null = if column.nullable { "" } else { " NOT NULL" };
    let value = match &column.value {
        ColumnValue::Plain { default: None } => String::new(),
        ColumnValue::Plain { default: Some(default) } => format!(" DEFAULT {default}"),
        ColumnValue::Numbered { always, start } => {
            format!(" GENERATED {} AS IDENTITY (START WITH {start})", if *always { "ALWAYS" } else { "BY DEFAULT" })
        }
        ColumnValue::Computed(expr @ Expr::Nested(_)) => format!(" AS {expr}"),
        ColumnValue::Computed(expr) => format!(" AS ({expr})"),
        ColumnValue::Metadata { key } => {
            format!(" METADATA{}", key.as_ref().map(|key| format!(" FROM {}", literal(key))).unwrap_or_default())
        }
    };
    // Names keep their letters, which a record's may depend on.
    let name = if column.name.quote_style.is_some() { quoted(&column.name.value) } else { column.name.value.clone() };
    format!("{name}{ty}{value}{null}")
}

fn names(columns: &[Ident]) -> String {
    columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
