//! Names and types: a parsed query to DataFusion's logical plan, over our catalog. The same binder serves
//! batch queries (tables are what the server scans) and streaming ones (tables are `RelationSource`s, which
//! the lowering recognises). Views are inlined here. It does not optimise.

mod aggregates;
mod alternatives;
mod any;
mod arithmetic;
mod arrival;
pub mod as_of;
pub mod asof;
mod casts;
mod catalog_queries;
mod chains;
pub mod chosen;
mod columns;
mod commas;
mod common;
mod constants;
mod ctes;
mod decoded;
mod distinct;
mod distinct_on;
mod group_windows;
mod grouping;
mod inline;
mod intervals;
mod json;
mod json_sets;
mod keys;
mod level;
mod like_any;
mod literals;
mod local_days;
mod marked;
pub mod match_recognize;
mod matching;
mod membership;
mod merged;
mod named_windows;
mod names;
mod neighbours;
mod nested_laterals;
mod of_groups;
mod operands;
mod outer;
mod overlaps;
mod overridden;
mod parts;
mod placed;
mod recursive;
mod rewrite;
mod rounding;
mod rowless;
mod rows;
pub mod session;
mod set_operations;
mod set_returning;
mod slices;
mod spellings;
mod spread;
mod subqueries;
mod unknown;
mod unnest;
mod user;
mod value_lists;
mod versions;
pub mod window;

use crate::catalog::{Catalog, Relation, RelationKind, is_temporary};
use crate::error::{SourceText, from_datafusion, into_datafusion, nearest, suggest};
use crate::expr;
use crate::optimize::copies;
use crate::parse::hints::OptionsHint;
use crate::plan::Expr as PlanExpr;
use crate::settings::Settings;
use crate::types::SqlTypes;
use crate::walk::binder;
use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Column, DFSchema, DataFusionError, Result as DfResult, ScalarValue, SchemaError, TableReference, UnnestOptions};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF, lit,
};
use datafusion::sql::planner::PlannerContext;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Query, Statement};
use eddyline_common::types::arrow_schema;
use eddyline_common::{RelationId, Result, SqlError, SqlState, SqlType, options};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

pub use asof::LEFT as ASOF_LEFT;
pub use casts::{stored, stored_text};
pub use constants::{quoted, reader};
pub use inline::rewrite_names;
pub use matching::{is_text_literal, is_untyped};
pub use membership::{has_rows, rows_equal_to};
pub use names::{of_query as query_names, resolve as resolve_names, shown as shown_names};
use overridden::OptionHints;
pub use placed::{items_over, subquery};
pub use rewrite::{Found, call, cast, sampled};
use user::UserFunction;

/// What scans of user relations stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Batch,
    Streaming,
}

/// A user relation's stored columns in a streaming plan.
#[derive(Debug)]
pub struct RelationSource {
    pub relation: Arc<Relation>,
    schema: SchemaRef,
}

impl RelationSource {
    pub fn new(relation: Arc<Relation>) -> Self {
        let schema = arrow_schema(&relation.columns);
        RelationSource { relation, schema }
    }
}

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// A relation that is a plan: a view, or visible columns over stored ones.
struct Inlined {
    schema: SchemaRef,
    plan: LogicalPlan,
}

fn inlined(plan: LogicalPlan) -> Arc<dyn TableSource> {
    let schema = Arc::new(plan.schema().as_arrow().clone());
    Arc::new(Inlined { schema, plan })
}

impl TableSource for Inlined {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

static OPTIONS: LazyLock<ConfigOptions> = LazyLock::new(|| {
    let mut options = ConfigOptions::default();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.collect_spans = true;
    options.sql_parser.enable_subquery_sort_elimination = false;
    options.execution.time_zone = Some("+00:00".to_string());
    options
});

/// Table functions ask for a session; theirs has the defaults.
static TABLE_FUNCTION_SESSION: LazyLock<SessionState> = LazyLock::new(|| SessionStateBuilder::new().build());

/// DataFusion's options as planning uses them.
pub fn options() -> &'static ConfigOptions {
    &OPTIONS
}

pub struct Binder<'a> {
    pub catalog: &'a dyn Catalog,
    pub settings: &'a Settings,
    pub mode: Mode,
    text: Option<&'a SourceText>,
    parameters: Vec<Option<FieldRef>>,
    hints: OptionHints<'a>,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
}

impl<'a> Binder<'a> {
    pub fn new(catalog: &'a dyn Catalog, settings: &'a Settings, mode: Mode) -> Self {
        let mut planners = SessionStateDefaults::default_expr_planners();
        planners.insert(0, Arc::new(operands::Operands));
        planners.insert(0, Arc::new(arithmetic::Arithmetic));
        planners.insert(0, Arc::new(unknown::UnknownFunctions));
        Binder {
            catalog,
            settings,
            mode,
            text: None,
            parameters: Vec::new(),
            hints: OptionHints::new(&[]),
            expr_planners: planners,
            relation_planners: vec![
                Arc::new(window::WindowFunctions),
                Arc::new(spread::Spread),
                Arc::new(match_recognize::MatchRecognizeClause { zone: settings.time_zone.clone() }),
            ],
        }
    }

    /// Errors get positions in `text`.
    pub fn with_text(mut self, text: &'a SourceText) -> Self {
        self.text = Some(text);
        self
    }

    pub fn with_parameters(mut self, types: &[Option<SqlType>]) -> Self {
        self.parameters = types.iter().map(|ty| ty.as_ref().map(|ty| Arc::new(ty.field("", true)))).collect();
        self
    }

    /// The query's sources are read under these hints.
    pub fn with_option_hints(mut self, hints: &'a [OptionsHint]) -> Self {
        if !hints.is_empty() {
            self.hints = OptionHints::new(hints);
            self.relation_planners.insert(0, self.hints.planner());
        }
        self
    }

    pub fn text(&self) -> Option<&SourceText> {
        self.text
    }

    pub fn error(&self, error: DataFusionError) -> SqlError {
        from_datafusion(error, self.text)
    }

    /// The same of a query's binding: a column of a relation that is in no FROM is the relation's error.
    fn unbound(&self, error: DataFusionError, found: &Found) -> SqlError {
        let relation = match error.find_root() {
            DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
                SchemaError::FieldNotFound { field, .. } => field.relation.as_ref().map(|relation| relation.table().to_string()),
                _ => None,
            },
            _ => None,
        };
        let shown = self.error(error);
        match relation.filter(|relation| shown.state == SqlState::UNDEFINED_COLUMN && !found.called.contains(relation)) {
            Some(relation) => {
                let message = format!("missing FROM-clause entry for table \"{relation}\"");
                let error = SqlError { state: SqlState::UNDEFINED_TABLE, message, hint: None, ..shown };
                suggest(error, &relation, found.called.iter().map(String::as_str))
            }
            None => shown,
        }
    }

    /// Rewrites and binds a query. Window nodes are still in it.
    pub fn query(&self, query: &Query) -> Result<(LogicalPlan, Found)> {
        self.query_as(query, None)
    }

    /// The same; literal rows at the top (VALUES) take their types from `target`.
    pub fn query_as(&self, query: &Query, target: Option<&DFSchema>) -> Result<(LogicalPlan, Found)> {
        let mut query = Box::new(query.clone());
        if target.is_some() {
            literals::keep_in_values(&mut query);
        }
        let found = rewrite::rewrite(query.as_mut(), self.catalog, &self.settings.time_zone, self.text)?;
        self.check_common(&found.ctes)?;
        let mut context = PlannerContext::new().with_prepare_param_data_types(self.parameters.clone());
        context.set_table_schema(target.map(|schema| Arc::new(schema.clone())));
        let plan = binder::plan(self, Statement::Query(query), &mut context).map_err(|e| self.unbound(e, &found))?;
        self.check_followed()?;
        let plan = nested_laterals::in_plan(plan).map_err(|e| self.error(e))?;
        let plan = recursive::in_plan(plan).map_err(|e| self.error(e))?;
        let plan = if found.of_groups { of_groups::in_plan(plan).map_err(|e| self.error(e))? } else { plan };
        let plan = if found.functions.is_empty() { plan } else { self.inline_plan(plan).map_err(|e| self.error(e))? };
        let plan = as_of::rewrite(plan, self.mode).map_err(|e| self.error(e))?;
        let plan = asof::rewrite(plan, self.mode).map_err(|e| self.error(e))?;
        let plan = match self.mode {
            Mode::Streaming => unnest::rewrite(plan).map_err(|e| self.error(e))?,
            Mode::Batch => plan,
        };
        let plan = placed::in_plan(plan).map_err(|e| self.error(e))?;
        let plan = parts::in_plan(plan).map_err(|e| self.error(e))?;
        let plan = membership::in_plan(plan).map_err(|e| self.error(e))?;
        let plan = alternatives::in_plan(plan).map_err(|e| self.error(e))?;
        matching::check(&plan).map_err(|e| self.error(e))?;
        let plan = rowless::in_plan(plan).map_err(|e| self.error(e))?;
        let plan = set_operations::rewrite(plan, self.mode).map_err(|e| self.error(e))?;
        let plan = distinct_on::rewrite(plan).map_err(|e| self.error(e))?;
        let plan = casts::in_plan(plan, &self.settings.time_zone).map_err(|e| self.error(e))?;
        let plan = local_days::in_plan(plan, &self.settings.time_zone, self.mode).map_err(|e| self.error(e))?;
        copies::check(&plan).map_err(|e| self.error(e))?;
        Ok((plan, found))
    }

    /// Binds an expression over a schema.
    pub fn expr(&self, expr: &SqlExpr, schema: &DFSchema) -> Result<Expr> {
        let mut expr = expr.clone();
        let zone = &self.settings.time_zone;
        rewrite::rewrite(&mut expr, self.catalog, zone, self.text)?;
        let mut context = PlannerContext::new().with_prepare_param_data_types(self.parameters.clone());
        let bound = binder::expr(self, expr, schema, &mut context);
        let inlined = bound.and_then(|e| self.inline_expr(e, schema));
        inlined.and_then(|e| self.settled(e, schema)).map_err(|e| self.error(e))
    }

    /// An expression that DataFusion has bound, as the passes over a plan would make it.
    fn settled(&self, expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
        let zone = &self.settings.time_zone;
        let typed = alternatives::in_expr(expr, schema)?.data;
        local_days::in_expr(casts::in_expr(typed, schema, zone)?, schema, zone, self.mode)
    }

    /// A series that names no column as a plan of its own, with the column `value`.
    fn series(&self, mut args: Vec<Expr>) -> DfResult<LogicalPlan> {
        if args.len() == 3 {
            args.push(lit(self.settings.time_zone.as_str()));
        }
        let list = crate::functions::registry().udf("generate_series")?.call(args);
        let list = crate::optimize::fold_constant(self.settled(list, &DFSchema::empty())?)?;
        let length = match &list {
            Expr::Literal(ScalarValue::List(list), _) => list.values().len(),
            _ => 0,
        };
        if self.mode == Mode::Streaming && length > SERIES_MAX {
            let error = SqlError::unsupported(format!("a series of more than {SERIES_MAX} values is not supported in a materialized view"));
            return Err(into_datafusion(error.with_hint("Keep the values in a table.")));
        }
        let value = Column::new_unqualified("value");
        // A series to nowhere has no rows.
        let options = UnnestOptions::new().with_preserve_nulls(false);
        LogicalPlanBuilder::empty(true).project(vec![list.alias("value")])?.unnest_column_with_options(value, options)?.build()
    }

    /// The relations and functions named, for `depends_on` of what is no session's own. What names a temporary view names what that stands on; a temporary
    /// table is refused.
    pub fn named_lasting(&self, found: &Found) -> Result<Vec<RelationId>> {
        let (temporary, lasting): (Vec<_>, Vec<_>) = self.named(found).into_iter().partition(|id| self.is_temporary(*id));
        if temporary.iter().any(|id| !is_temporary(*id)) {
            let error = SqlError::unsupported("materialized views, sinks and INSERTs that keep running do not read temporary tables");
            return Err(error.with_hint("Create an ordinary table, and drop it in the end."));
        }
        Ok(lasting)
    }

    /// The session's own relations that are named, and those that they stand on.
    pub fn named_temporary(&self, found: &Found) -> Vec<RelationId> {
        self.named(found).into_iter().filter(|id| self.is_temporary(*id)).collect()
    }

    fn is_temporary(&self, id: RelationId) -> bool {
        is_temporary(id) || self.catalog.relations().iter().any(|r| r.id == id && r.is_temporary_table())
    }

    /// The relations and functions named.
    pub fn named(&self, found: &Found) -> Vec<RelationId> {
        let relations = found.relations.iter().filter_map(|(schema, name)| self.catalog.relation(schema.as_deref(), name));
        let beneath = |r: Arc<Relation>| if r.is_temporary() { r.depends_on.clone() } else { Vec::new() };
        let functions = found.functions.iter().filter_map(|name| self.catalog.user_function(name)).map(|f| f.id);
        let mut ids: Vec<RelationId> = relations.flat_map(|r| [r.id].into_iter().chain(beneath(r))).chain(functions).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// A plan that yields the relation's visible columns.
    pub fn relation_plan(&self, relation: &Arc<Relation>) -> Result<LogicalPlan> {
        check_readable(relation)?;
        match &relation.kind {
            RelationKind::View { query } => self.view_plan(relation, query),
            _ => self.scan_plan(relation),
        }
    }

    fn view_plan(&self, relation: &Relation, query: &str) -> Result<LogicalPlan> {
        let query = crate::parse::parse_query(query)?;
        let scope = self.catalog.of_view(relation);
        let inner = Binder::new(scope.as_deref().unwrap_or(self.catalog), self.settings, self.mode);
        let plan = inner.query(&query)?.0;
        let names: Vec<String> = relation.visible.iter().map(|v| v.column.name.clone()).collect();
        rename(plan, &names).map_err(|e| self.error(e))
    }

    fn scan_plan(&self, relation: &Arc<Relation>) -> Result<LogicalPlan> {
        let source: Arc<dyn TableSource> = match self.mode {
            Mode::Streaming => Arc::new(RelationSource::new(relation.clone())),
            Mode::Batch => self
                .catalog
                .table_source(Some("public"), &relation.name)
                .ok_or_else(|| SqlError::internal(format!("relation \"{}\" has no table to scan", relation.name)))?,
        };
        self.scan_of(relation, source)
    }

    /// A scan of its stored columns, and the visible ones over it.
    fn scan_of(&self, relation: &Relation, source: Arc<dyn TableSource>) -> Result<LogicalPlan> {
        let name = TableReference::partial("public", relation.name.clone());
        let scan = LogicalPlanBuilder::scan(name, source, None).map_err(|e| self.error(e))?;
        let identity = relation.visible.len() == relation.columns.len()
            && relation
                .visible
                .iter()
                .enumerate()
                .all(|(i, v)| v.value == PlanExpr::Column(i) && v.column.name == relation.columns[i].name);
        if identity {
            return scan.build().map_err(|e| self.error(e));
        }
        let stored: Vec<Column> = scan.schema().columns();
        let exprs = relation
            .visible
            .iter()
            .map(|visible| {
                let value = expr::to_datafusion(&visible.value, &|i| Expr::Column(stored[i].clone()))?;
                Ok(match &value {
                    Expr::Column(column) if column.name == visible.column.name => value,
                    _ => value.alias(visible.column.name.clone()),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        scan.project(exprs).and_then(|b| b.build()).map_err(|e| self.error(e))
    }

    fn table(&self, name: &TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(database) = name.catalog()
            && database != self.settings.database
        {
            return Err(SqlError::unsupported(format!("cross-database references are not implemented: \"{name}\"")));
        }
        let (schema, table) = (name.schema(), name.table());
        if let Some(relation) = self.catalog.relation(schema, table) {
            return Ok(inlined(self.relation_plan(&relation)?));
        }
        match self.catalog.table_source(schema, table) {
            Some(_) if self.mode == Mode::Streaming => {
                Err(SqlError::unsupported(format!("system relation \"{name}\" cannot be used in a materialized view")))
            }
            Some(source) => Ok(source),
            None => Err(unknown_relation(self.catalog, &name.to_string(), table)),
        }
    }
}

/// What is only written to cannot be read.
fn check_readable(relation: &Relation) -> Result<()> {
    match &relation.kind {
        RelationKind::Sink(_) => {
            let message = format!("\"{}\" is a sink and cannot be read", relation.name);
            Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).with_hint("Read what it is fed from."))
        }
        RelationKind::Source(spec) if spec.options.get(options::CONNECTOR).is_some_and(|c| !options::can_read(c)) => {
            let connector = spec.options.get(options::CONNECTOR).map_or("", String::as_str);
            let message = format!("table \"{}\" of connector \"{connector}\" can only be written to", relation.name);
            Err(SqlError::unsupported(message).with_hint("Read what it is fed from."))
        }
        _ => Ok(()),
    }
}

/// 42P01 with the nearest name there is.
pub fn unknown_relation(catalog: &dyn Catalog, shown: &str, name: &str) -> SqlError {
    let error = SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{shown}\" does not exist"));
    let relations = catalog.relations();
    match nearest(name, relations.iter().map(|r| r.name.as_str())) {
        Some(near) => error.with_hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

/// A constant; DataFusion's table functions take no narrower integers than bigint.
fn table_function_argument(arg: Expr) -> DfResult<Expr> {
    Ok(match crate::optimize::fold_constant(arg)? {
        Expr::Literal(value, metadata) if matches!(value.data_type(), DataType::Int8 | DataType::Int16 | DataType::Int32) => {
            Expr::Literal(value.cast_to(&DataType::Int64)?, metadata)
        }
        other => other,
    })
}

/// Elements of a series between constants that a view may hold in its plan.
const SERIES_MAX: usize = 100_000;

/// Whether a constant is one that DataFusion makes a series of as its rows are read.
fn is_integer(arg: &Expr) -> bool {
    matches!(arg, Expr::Literal(value, _) if matches!(value.data_type(), DataType::Int64 | DataType::Null))
}

/// The plan with other column names.
pub fn rename(plan: LogicalPlan, names: &[String]) -> DfResult<LogicalPlan> {
    let columns = plan.schema().columns();
    if columns.iter().map(|c| &c.name).eq(names.iter()) {
        return Ok(plan);
    }
    let exprs: Vec<Expr> = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name.clone())).collect();
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}

impl ContextProvider for Binder<'_> {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        self.overridden(&name).unwrap_or_else(|| self.table(&name).map_err(into_datafusion))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> DfResult<Arc<dyn TableSource>> {
        let settled = |arg: Expr| self.settled(arg, &DFSchema::empty()).and_then(table_function_argument);
        let args = args.into_iter().map(settled).collect::<DfResult<Vec<_>>>()?;
        if name == "generate_series" && (self.mode == Mode::Streaming || !args.iter().all(is_integer)) {
            return Ok(inlined(self.series(args)?));
        }
        if self.mode == Mode::Batch
            && let Some(function) = SessionStateDefaults::default_table_functions().iter().find(|f| f.name() == name)
        {
            let provider = function.create_table_provider_with_args(TableFunctionArgs::new(&args, &*TABLE_FUNCTION_SESSION))?;
            return Ok(provider_as_source(provider));
        }
        Err(into_datafusion(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("table function {name}() does not exist"))))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> DfResult<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(SqlTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        match self.catalog.user_function(name) {
            Some(function) => Some(Arc::new(UserFunction::udf(function))),
            None => of_groups::function(name, self.catalog).map(Arc::new).or_else(|| self.catalog.functions().udf(name).ok()),
        }
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.catalog.functions().higher_order_function(name).ok()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.catalog.functions().udaf(name).ok()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.catalog.functions().udwf(name).ok()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &OPTIONS
    }

    fn udf_names(&self) -> Vec<String> {
        self.catalog.functions().udfs().into_iter().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.catalog.functions().higher_order_function_names().into_iter().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.catalog.functions().udafs().into_iter().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.catalog.functions().udwfs().into_iter().collect()
    }
}
