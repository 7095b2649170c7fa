//! Batch queries: SELECT, and the parts of other statements that are one. The plan that leaves here is bound,
//! with windows expanded, and not optimised; whoever runs it does that.

use crate::bind::{Binder, Found, Mode, shown_names, window};
use crate::catalog::{Catalog, Relation, RelationKind};
use crate::create::output_names;
use crate::error::{SourceText, from_datafusion};
use crate::lower::{in_order, in_order_of_values};
use crate::parse::Parsed;
use crate::parse::ast::Ast;
use crate::parse::hints::OptionsHint;
use crate::settings::Settings;
use crate::statement::{Query, RowLocks};
use crate::walk::WalkPlan;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;
use eddyline_common::types::Column;
use eddyline_common::{RelationId, Result, SqlError, SqlType};

/// Everything that planning a statement's queries needs.
pub struct Context<'a> {
    pub catalog: &'a dyn Catalog,
    pub settings: &'a Settings,
    pub text: &'a SourceText,
    pub parameters: &'a [Option<SqlType>],
    /// Of the statement's query.
    pub hints: &'a [OptionsHint],
}

impl<'a> Context<'a> {
    pub fn binder(&self, mode: Mode) -> Binder<'a> {
        let binder = Binder::new(self.catalog, self.settings, mode).with_text(self.text).with_parameters(self.parameters);
        binder.with_option_hints(self.hints)
    }

    pub fn query(&self, query: &ast::Query) -> Result<Query> {
        let (plan, _) = self.bind(query, None)?;
        let names = shown_names(output_names(query, &plan));
        Ok(Query { locks: RowLocks::of(query)?, ..self.finish(plan, names) })
    }

    /// Binds and expands; rows of VALUES take the types of `target`.
    pub fn bind(&self, query: &ast::Query, target: Option<&DFSchema>) -> Result<(LogicalPlan, Found)> {
        let (plan, found) = self.binder(Mode::Batch).query_as(query, target)?;
        Ok((expanded(plan, self.catalog, self.text)?, found))
    }

    /// A bound plan as a query whose columns have these names.
    pub fn finish(&self, plan: LogicalPlan, names: Vec<String>) -> Query {
        let columns = plan
            .schema()
            .fields()
            .iter()
            .zip(names)
            .map(|(field, name)| {
                let ty = match SqlType::from_field(field) {
                    Some(SqlType::Null) | None => SqlType::Text,
                    Some(ty) => ty,
                };
                Column::new(name, ty, field.is_nullable())
            })
            .collect();
        Query { relations: relations_of(&plan, self.catalog), locks: None, columns, plan }
    }
}

/// A bound query over this catalog with its windows expanded.
fn expanded(bound: LogicalPlan, catalog: &dyn Catalog, text: &SourceText) -> Result<LogicalPlan> {
    in_order(bound, catalog).and_then(window::expand).map_err(|e| from_datafusion(e, Some(text)))
}

/// The user relations that a plan scans, subqueries included.
pub fn relations_of(plan: &LogicalPlan, catalog: &dyn Catalog) -> Vec<RelationId> {
    let mut relations = Vec::new();
    let _ = plan.each_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && scan.table_name.schema() == Some("public")
            && let Some(relation) = catalog.relation(Some("public"), scan.table_name.table())
            && !relations.contains(&relation.id)
        {
            relations.push(relation.id);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    relations
}

/// The columns of `plan`, cast where their types differ from `types`, under new names.
pub fn cast_columns(plan: LogicalPlan, targets: &[(String, Expr, SqlType)], zone: &str) -> Result<LogicalPlan> {
    let schema = plan.schema().clone();
    let exprs = targets
        .iter()
        .map(|(name, expr, ty)| {
            let stored = crate::bind::stored(expr.clone(), ty, schema.as_ref(), zone).map_err(|e| from_datafusion(e, None))?;
            Ok(stored.alias(name.clone()))
        })
        .collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::from(plan).project(exprs).and_then(|b| b.build()).map_err(|e| from_datafusion(e, None))
}

/// The batch plan of a view's query, from its own text: what the view must equal.
pub fn oracle_plan(relation: &Relation, catalog: &dyn Catalog) -> Result<LogicalPlan> {
    recomputed_plan(relation, catalog, &Settings::default())
}

/// The same under the settings that the view was made under.
pub fn recomputed_plan(relation: &Relation, catalog: &dyn Catalog, settings: &Settings) -> Result<LogicalPlan> {
    crate::parse::with_stack(|| {
        if !matches!(relation.kind, RelationKind::MaterializedView { .. } | RelationKind::View { .. }) {
            return Err(SqlError::internal(format!("relation \"{}\" has no query", relation.name)));
        }
        let Some(Parsed { ast: Ast::CreateView(create), text, .. }) = crate::parse::parse(&relation.sql)?.pop() else {
            return Err(SqlError::internal(format!("relation \"{}\" was not created by a query", relation.name)));
        };
        let scope = catalog.of_view(relation);
        let context = Context { catalog: scope.as_deref().unwrap_or(catalog), settings, text: &text, parameters: &[], hints: &[] };
        let (bound, _) = context.binder(Mode::Batch).query(&create.query)?;
        // What a plan scans has its present name, whatever the text calls it.
        let plan = expanded(bound, catalog, &text)?;
        let plan = in_order_of_values(plan).map_err(|e| from_datafusion(e, None))?;
        let columns = plan.schema().columns();
        let targets: Vec<_> = relation
            .columns
            .iter()
            .zip(columns)
            .map(|(column, bound)| (column.name.clone(), Expr::Column(bound), column.ty.clone().unlimited()))
            .collect();
        cast_columns(plan, &targets, &settings.time_zone)
    })
}
