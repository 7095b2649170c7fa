//! `t /*+ OPTIONS(...) */` in a query: a scan of the source with other options. The hint is found again by the place of the name that it
//! stands behind. A scan of it is asked for under a name that no statement can spell, so that one query may read a source in several ways. A query that keeps running
//! has a source of its own for each hint.

use super::{Binder, Mode, RelationSource};
use crate::catalog::{FIRST_OWN, OwnSource, Relation, RelationKind};
use crate::error::into_datafusion;
use crate::parse::hints::OptionsHint;
use datafusion::common::{Result as DfResult, TableReference};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{LogicalPlanBuilder, TableSource};
use datafusion::sql::sqlparser::ast::{ObjectName, TableFactor};
use datafusion::sql::sqlparser::tokenizer::Location;
use eddyline_common::{RelationId, Result, SqlError, SqlState, options};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// In the place of a database, with the hint's number behind it.
const MARK: &str = "\0options ";

/// The hints of a query, and which of them have been followed.
pub struct OptionHints<'a> {
    hints: &'a [OptionsHint],
    followed: RefCell<BTreeSet<usize>>,
    own: RefCell<BTreeMap<usize, OwnSource>>,
}

impl<'a> OptionHints<'a> {
    pub fn new(hints: &'a [OptionsHint]) -> Self {
        OptionHints { hints, followed: RefCell::default(), own: RefCell::default() }
    }

    /// What finds them in a query.
    pub fn planner(&self) -> Arc<dyn RelationPlanner> {
        Arc::new(Hinted { tables: self.hints.iter().map(|hint| hint.table).collect() })
    }
}

/// Where the last part of a relation's name stands.
pub fn place_of(name: &ObjectName) -> Option<Location> {
    Some(name.0.last()?.as_ident()?.span.start)
}

#[derive(Debug)]
struct Hinted {
    tables: Vec<Location>,
}

impl RelationPlanner for Hinted {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> DfResult<RelationPlanning> {
        let TableFactor::Table { name, alias, args: None, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let place = place_of(name);
        let Some(number) = self.tables.iter().position(|table| Some(*table) == place) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let named = context.object_name_to_table_reference(name.clone())?;
        let schema = named.schema().unwrap_or_default();
        let marked = TableReference::full(format!("{MARK}{number}"), schema, named.table());
        let source = context.context_provider().get_table_source(marked)?;
        let plan = LogicalPlanBuilder::scan(named, source, None)?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

impl Binder<'_> {
    /// What a scan under a hint stands for, if the name has the mark of one.
    pub(super) fn overridden(&self, name: &TableReference) -> Option<DfResult<Arc<dyn TableSource>>> {
        let number: usize = name.catalog()?.strip_prefix(MARK)?.parse().ok()?;
        let hint = self.hints.hints.get(number)?;
        self.hints.followed.borrow_mut().insert(number);
        let schema = name.schema().filter(|schema| !schema.is_empty());
        let source = self.overridden_source(schema, name.table(), number);
        Some(source.map_err(|error| into_datafusion(self.at(error, hint.at))))
    }

    /// The sources that the query reads for itself.
    pub fn own_sources(&self) -> Vec<OwnSource> {
        self.hints.own.borrow().values().cloned().collect()
    }

    fn overridden_source(&self, schema: Option<&str>, name: &str, number: usize) -> Result<Arc<dyn TableSource>> {
        let Some(relation) = self.catalog.relation(schema, name) else {
            return Err(super::unknown_relation(self.catalog, name, name));
        };
        super::check_readable(&relation)?;
        let RelationKind::Source(spec) = &relation.kind else { return Err(without_options(&relation)) };
        let read = options::overridden_source(&spec.options, &self.hints.hints[number].options, self.mode == Mode::Streaming)?;
        let mut spec = spec.clone();
        spec.options = read.options;
        let overridden = Relation { kind: RelationKind::Source(spec), ..Relation::clone(&relation) };
        let source: Arc<dyn TableSource> = match self.mode {
            Mode::Streaming => Arc::new(RelationSource::new(Arc::new(self.own_source(number, overridden, read.starts_anew)?))),
            Mode::Batch => {
                let source = self.catalog.overridden_source(Arc::new(overridden), read.starts_anew);
                source.ok_or_else(|| SqlError::internal(format!("source \"{name}\" cannot be read with other options")))?
            }
        };
        Ok(super::inlined(self.scan_of(&relation, source)?))
    }

    fn own_source(&self, number: usize, source: Relation, starts_anew: bool) -> Result<Relation> {
        if source.watermark.as_ref().is_some_and(|watermark| watermark.manual) {
            let message = format!("the hint OPTIONS in a query that keeps running is not supported for source \"{}\"", source.name);
            return Err(SqlError::unsupported(message)
                .with_detail("Nobody could advance the watermark of what it reads.")
                .with_hint("Create another source with these options, and read that."));
        }
        let of = source.id;
        let relation = Relation { id: RelationId(FIRST_OWN.0 + number as u32), ..source };
        self.hints.own.borrow_mut().insert(number, OwnSource { relation: relation.clone(), of, starts_anew });
        Ok(relation)
    }

    /// A name that means a common table expression means no source.
    pub(super) fn check_common(&self, ctes: &[Location]) -> Result<()> {
        let Some(hint) = self.hints.hints.iter().find(|hint| ctes.contains(&hint.table)) else { return Ok(()) };
        let error = SqlError::unsupported("the hint OPTIONS is behind the name of a common table expression")
            .with_hint("Write it behind the source's name, where that is read.");
        Err(self.at(error, hint.at))
    }

    /// Every hint must have been behind a source that is read.
    pub(super) fn check_followed(&self) -> Result<()> {
        let followed = self.hints.followed.borrow();
        let Some((_, hint)) = self.hints.hints.iter().enumerate().find(|(number, _)| !followed.contains(number)) else { return Ok(()) };
        let error = SqlError::new(SqlState::SYNTAX_ERROR, "the hint OPTIONS is not behind the name of a source")
            .with_hint("Write FROM t /*+ OPTIONS(...) */ AS a: right behind the source's name, before its alias.");
        Err(self.at(error, hint.at))
    }

    fn at(&self, error: SqlError, location: Location) -> SqlError {
        match self.text {
            Some(text) => text.at(error, location),
            None => error,
        }
    }
}

fn without_options(relation: &Relation) -> SqlError {
    let (what, hint) = match &relation.kind {
        RelationKind::View { .. } => ("a view", "Write it in a query of its own, behind the source that the view reads."),
        RelationKind::MaterializedView { .. } => ("a materialized view", "Its rows are kept, and read as they are. Leave the hint out."),
        RelationKind::KeyedSource { .. } => ("a source with a primary key", "Its rows are kept, and read as they are. Leave the hint out."),
        _ => ("a table", "Its rows are kept, and read as they are. Leave the hint out."),
    };
    SqlError::unsupported(format!("the hint OPTIONS is for sources, and \"{}\" is {what}", relation.name)).with_hint(hint)
}
