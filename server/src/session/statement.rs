//! What each kind of statement does.

use super::described::described;
use super::planning::{PlannedStatement, query_plan, query_schema};
use super::replanning::Origin;
use super::transaction::Block;
use super::{Outcome, Session, Tag, doomed};
use crate::coordinator::settings::ALTERABLE;
use crate::coordinator::{Ddl, ReadSnapshot, store_without_rows};
use crate::pgcatalog::SystemContext;
use crate::serving::explained::Explained;
use crate::serving::{Bindings, RowStream};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState, SqlType, Timestamp};
use eddyline_planner::statement::{ObjectKind, Planned, Query};
use eddyline_planner::walk::{Walk, WalkPlan};
use eddyline_planner::{Parsed, RelationKind, parameter_types};
use eddyline_storage::priority;
use std::sync::Arc;

/// How an INSERT that keeps running completes: it has written nothing yet.
const RUNNING_INSERT: &str = "INSERT 0 0";

/// What a failed block answers to all but its end.
pub(super) fn aborted() -> SqlError {
    SqlError::new(SqlState::FAILED_TRANSACTION, "current transaction is aborted, commands ignored until end of transaction block")
}

impl Session {
    /// Plans and runs one statement without parameters.
    pub async fn run(&mut self, parsed: &Parsed) -> Result<Outcome> {
        self.check_failed(parsed)?;
        if let Some(outcome) = self.set_piece(parsed).await? {
            return Ok(outcome);
        }
        let with_format = described(parsed, self.format_request(parsed)).await?;
        let parsed = with_format.as_ref().unwrap_or(parsed);
        let statement = self.plan(parsed, &[])?;
        if !parameter_types(&statement.planned).is_empty() {
            return Err(SqlError::new(SqlState("42P02"), "there is no parameter $1"));
        }
        self.execute_planned(statement, Origin::Text(parsed)).await
    }

    /// In a failed transaction only its end is run. Nothing is, by which clients ask whether the server is there.
    pub fn check_failed(&self, parsed: &Parsed) -> Result<()> {
        if self.transaction.block != Block::Failed || parsed.sql.is_empty() || ends_transaction(parsed) {
            return Ok(());
        }
        if let Some(too_old) = self.transaction.too_old() {
            return Err(too_old.clone());
        }
        Err(aborted())
    }

    pub async fn execute(&mut self, statement: PlannedStatement, parsed: &Parsed) -> Result<Outcome> {
        let PlannedStatement { planned, context } = statement;
        match planned {
            Planned::Empty => Ok(Outcome::Empty),
            Planned::Query(query) => {
                let rows = self.query(query, &context).await?;
                Ok(Outcome::Rows { rows, tag: Tag::Counted("SELECT") })
            }
            Planned::Insert(insert) => self.insert(insert).await,
            Planned::WriteOut { spec, source, .. } => self.write_out(*spec, source).await,
            Planned::StatementSet(statements) => {
                for planned in statements {
                    let statement = PlannedStatement { planned, context: context.clone() };
                    Box::pin(self.execute(statement, parsed)).await?;
                }
                Ok(Outcome::Done("EXECUTE STATEMENT SET".into()))
            }
            Planned::Update(update) => self.update(update).await,
            Planned::Delete(delete) => self.delete(delete).await,
            Planned::Truncate(tables) => {
                for rows in tables {
                    self.delete(rows).await?;
                }
                Ok(Outcome::Done("TRUNCATE TABLE".into()))
            }
            Planned::AddColumns(add) => Box::pin(self.add_columns(add)).await,
            Planned::CreateTableAs(create) => Box::pin(self.create_table_as(create)).await,
            Planned::CopyFrom { table, columns, format } => self.copy_in(table, columns, format),
            Planned::CopyTo { query, format } => {
                let names: Vec<&str> = query.columns.iter().map(|column| column.name.as_str()).collect();
                super::copy::check_columns(&format, &names)?;
                let rows = self.query(query, &context).await?;
                Ok(Outcome::CopyOut { rows, format })
            }
            Planned::Create { .. }
            | Planned::Exists { .. }
            | Planned::CreateFunction { .. }
            | Planned::CreateIndex { .. }
            | Planned::Drop { .. }
            | Planned::AdvanceWatermark { .. }
            | Planned::PauseJob { .. }
            | Planned::Alter { .. }
            | Planned::AlterSystem { .. }
            | Planned::Comment { .. } => self.define(planned).await,
            Planned::Explain(lines) => Ok(explained(lines, false)),
            Planned::ExplainQuery { query, analyze, json } => {
                let query = match analyze {
                    true => self.analyze_query(query).await?,
                    false => self.explain_query(query).await,
                };
                Ok(explained(if json { vec![query.json()] } else { query.lines() }, json))
            }
            Planned::ExplainJob(job) => Ok(explained(self.explain_job(job).await?, false)),
            Planned::Show(show) => self.show(show),
            Planned::Set { name, value, local } => self.set_statement(&name, value.as_deref(), local),
            Planned::Begin(modes) => self.begin(modes),
            Planned::SetTransaction { modes, of_session } => self.set_transaction(modes, of_session),
            Planned::Commit { chain } => self.commit(chain).await,
            Planned::Rollback { chain } => self.rollback(chain),
            Planned::Savepoint(name) => self.savepoint(&name),
            Planned::ReleaseSavepoint(name) => self.release_savepoint(&name),
            Planned::RollbackToSavepoint(name) => self.roll_back_to(&name),
            Planned::DeclareCursor { name, query, hold } => self.declare(&name, query, hold, &context, parsed).await,
            Planned::Subscribe(subscription) => self.subscribe(subscription, parsed).await,
            Planned::Fetch { name, count, move_only } => self.fetch(&name, count, move_only).await,
            Planned::CloseCursor(name) => self.close_cursor(name.as_deref()),
            Planned::Prepare { name, statement, types } => self.prepare_statement(&name, &statement, types).await,
            Planned::ExecutePrepared { name, arguments } => Box::pin(self.execute_prepared(&name, arguments)).await,
            Planned::Deallocate(name) => self.deallocate(name.as_deref()),
            Planned::Discard { all } => self.discard(all),
            Planned::Idle { tag, notices } => {
                self.notices.extend(notices);
                Ok(Outcome::Done(tag.into()))
            }
            Planned::Flush => {
                self.seen = self.seen.max(self.services.coordinator.flush().await?);
                Ok(Outcome::Done("FLUSH".into()))
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    /// Starts a query; its rows carry the names that clients see.
    pub(super) async fn query(&mut self, query: Query, context: &Arc<SystemContext>) -> Result<RowStream> {
        let schema = query_schema(&query);
        let bindings = self.bindings_of(&query).await?;
        let acts = uses_set_config(&query);
        let rows = self.services.engine.run(query.plan, bindings).await?;
        if !acts {
            return Ok(rows.with_schema(schema));
        }
        // A query that sets parameters is run to its end first, so that the next statement sees them.
        let mut rows = rows;
        let mut batches = Vec::new();
        while let Some(batch) = rows.next().await? {
            batches.push(batch);
        }
        let changes = std::mem::take(&mut *context.set_config.lock());
        for (name, value, local) in changes {
            self.set_statement(&name, Some(&value), local)?;
        }
        Ok(RowStream::ready(schema, batches))
    }

    async fn analyze_query(&mut self, query: Query) -> Result<Explained> {
        let bindings = self.bindings(&query.relations).await?;
        self.services.engine.analyze(query.plan, bindings).await
    }

    /// A query's plan, and how it would find the rows of tables and views. Nothing is read for that, so nothing has to be there yet; of a query over
    /// sources it is not said, whose connectors would have to be asked.
    async fn explain_query(&self, query: Query) -> Explained {
        let plan = query.plan.display_indent().to_string().lines().map(String::from).collect();
        // A plan that cannot be run, as with parameters in it, is shown all the same.
        Explained { plan, reads: self.reads_of(query).await.unwrap_or_default(), ran: None }
    }

    async fn reads_of(&self, query: Query) -> Result<Vec<String>> {
        let catalog = self.services.coordinator.catalog();
        let mut snapshot = ReadSnapshot::empty(Epoch::ZERO);
        for id in &query.relations {
            let relation = catalog.get(*id).filter(|relation| relation.has_rows());
            let Some(Ok(view)) = relation.map(|relation| store_without_rows(relation, catalog.indexes_of(*id))) else {
                return Ok(Vec::new());
            };
            snapshot.views.insert(*id, view);
        }
        let bindings = Bindings { snapshot: Some(Arc::new(snapshot)), ..Bindings::none(self.now()) };
        self.services.engine.reads(query.plan, bindings).await
    }

    /// What a query reads, under the locks it asks for.
    pub(super) async fn bindings_of(&mut self, query: &Query) -> Result<Bindings> {
        match query.locks {
            None => self.bindings(&query.relations).await,
            Some(locks) => self.locked_bindings(&query.relations, locks).await,
        }
    }

    /// The snapshot and overlays that a statement over these relations reads.
    pub(super) async fn bindings(&mut self, relations: &[RelationId]) -> Result<Bindings> {
        self.transaction.queried = true;
        let snapshot = self.snapshot(relations).await?;
        Ok(self.bindings_at(snapshot, relations))
    }

    /// What is read of these relations at a snapshot, under what the transaction itself wrote.
    pub(super) fn bindings_at(&self, snapshot: Option<Arc<ReadSnapshot>>, relations: &[RelationId]) -> Bindings {
        let overlays = relations.iter().filter_map(|id| Some((*id, self.transaction.overlay(*id)?))).collect();
        Bindings { snapshot, overlays, coordinator: Some(self.services.coordinator.clone()), now: self.now() }
    }

    /// Only tables and materialized views have snapshots; sources are read as they are.
    pub(super) fn stored_of(&self, relations: &[RelationId]) -> Vec<RelationId> {
        let catalog = self.services.coordinator.catalog();
        let has_view = |id: &&RelationId| catalog.get(**id).is_some_and(|r| r.has_rows());
        relations.iter().filter(has_view).copied().collect()
    }

    async fn snapshot(&mut self, relations: &[RelationId]) -> Result<Option<Arc<ReadSnapshot>>> {
        let wanted = self.stored_of(relations);
        if wanted.is_empty() {
            return Ok(None);
        }
        if self.transaction.block == Block::Explicit {
            return self.block_snapshot(&wanted).await.map(Some);
        }
        let snapshot = Arc::new(self.services.coordinator.snapshot(&wanted, self.seen).await?);
        self.watch(&snapshot);
        self.seen = self.seen.max(snapshot.epoch);
        Ok(Some(snapshot))
    }

    /// In a block all SELECTs read the epoch of the first one. It is pinned for every relation that can be read, as nobody
    /// knows which ones the block will name; only those that the statement names can fail it. What could not be read then has no
    /// rows at that epoch.
    async fn block_snapshot(&mut self, wanted: &[RelationId]) -> Result<Arc<ReadSnapshot>> {
        if let Some(snapshot) = &self.transaction.snapshot
            && wanted.iter().all(|id| snapshot.views.contains_key(id))
        {
            return Ok(snapshot.clone());
        }
        let catalog = self.services.coordinator.catalog();
        let others = catalog.relations().filter(|r| r.has_rows() && !wanted.contains(&r.id)).map(|r| r.id).collect();
        let snapshot = Arc::new(self.services.coordinator.snapshot_with(wanted, others, self.seen).await?);
        if let Some(first) = &self.transaction.snapshot
            && first.epoch != snapshot.epoch
        {
            let newer = wanted.iter().find(|id| !first.views.contains_key(*id)).and_then(|id| catalog.get(*id));
            let name = newer.map_or("", |relation| relation.name.as_str());
            let message = format!("relation \"{name}\" was made or filled after the transaction's first SELECT");
            return Err(SqlError::new(SqlState::SERIALIZATION_FAILURE, message).with_hint("Roll back and run the transaction again."));
        }
        self.watch(&snapshot);
        self.seen = self.seen.max(snapshot.epoch);
        self.transaction.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// CREATE, DROP and ALTER take effect at once, in a block too, whose next SELECT sees what they did.
    async fn define(&mut self, planned: Planned) -> Result<Outcome> {
        self.check_writable("execute definition statements")?;
        if self.transaction.is_explicit() {
            self.warn(SqlState::ACTIVE_TRANSACTION, "definition statements take effect at once and are not undone by ROLLBACK");
            self.transaction.snapshot = None;
        }
        let (ddl, tag) = match planned {
            Planned::Create { relation, if_not_exists, comments, notices } => {
                notices.into_iter().for_each(|notice| self.inform(notice));
                if relation.is_temporary_table() {
                    return self.create_temporary_table(relation, comments).await;
                }
                if relation.is_temporary() {
                    return self.create_temporary(relation, if_not_exists, comments);
                }
                let is_insert = matches!(&relation.kind, RelationKind::Sink(sink) if sink.is_insert);
                let created = format!("CREATE {}", kind_tag(crate::catalog::object_kind(&relation)));
                let tag = if is_insert { RUNNING_INSERT.to_string() } else { created };
                (Ddl::Create { relation: Box::new(relation), if_not_exists, comments }, tag)
            }
            Planned::Exists { kind, name } => {
                self.notices.push(SqlError::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists")).skipped());
                return Ok(Outcome::Done(format!("CREATE {}", kind_tag(kind))));
            }
            Planned::CreateFunction { function, replace } => {
                (Ddl::CreateFunction { function: Box::new(function), replace }, "CREATE FUNCTION".to_string())
            }
            Planned::CreateIndex { index, if_not_exists } => {
                (Ddl::CreateIndex { index: Box::new(index), if_not_exists }, "CREATE INDEX".to_string())
            }
            Planned::Drop { kind: kind @ (ObjectKind::Table | ObjectKind::View), names, if_exists, cascade, temporary } => {
                return self.drop_shown(kind, names, if_exists, cascade, temporary).await;
            }
            Planned::Drop { kind, names, if_exists, cascade, .. } => {
                (Ddl::Drop { kind, names, if_exists, cascade }, format!("DROP {}", kind_tag(kind)))
            }
            Planned::AdvanceWatermark { relation, to_micros } => {
                (Ddl::AdvanceWatermark { relation, to_micros }, "ALTER SOURCE".to_string())
            }
            Planned::PauseJob { job, pause } => (Ddl::PauseJob { job, pause }, "ALTER JOB".to_string()),
            Planned::Alter { before, after } => {
                let tag = format!("ALTER {}", kind_tag(crate::catalog::object_kind(&before)));
                (Ddl::Alter { before, after }, tag)
            }
            Planned::AlterSystem { name, value } => (Ddl::AlterSystem { name: name.to_lowercase(), value }, "ALTER SYSTEM".to_string()),
            Planned::Comment { relation, column, text } => (Ddl::Comment { relation, column, text }, "COMMENT".to_string()),
            other => return Err(SqlError::internal(format!("not a definition statement: {other:?}"))),
        };
        self.change_catalog(ddl, tag).await
    }

    pub(super) async fn change_catalog(&mut self, mut ddl: Ddl, tag: String) -> Result<Outcome> {
        let resolved = self.services.coordinator.resolve(&mut ddl).await?;
        let outcome = {
            let _shield = self.cancel.shield();
            doomed::defined(&self.services.coordinator, &self.drops, ddl, resolved).await?
        };
        self.created = outcome.created;
        if tag == RUNNING_INSERT
            && let Some(job) = outcome.created.and_then(|id| self.services.coordinator.catalog().get(id).cloned())
        {
            self.inform(format!("job \"{}\" runs", job.name));
        }
        self.notices.extend(outcome.notices);
        if let Some(view) = outcome.indexed {
            // It goes on when the client is gone, and look-ups are right before it is done.
            let built = tokio::task::spawn_blocking(move || priority::lowered(|| view.build_indexes())).await;
            built.map_err(|e| SqlError::internal(format!("the index is there, but was not filled: {e}")))?;
        }
        Ok(Outcome::Done(tag))
    }

    pub(super) fn set_statement(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<Outcome> {
        let tag = if value.is_some() { "SET" } else { "RESET" };
        if name.eq_ignore_ascii_case("all") && value.is_none() {
            self.change_settings(local, |settings| {
                settings.reset_all();
                Ok(())
            })?;
            return Ok(Outcome::Done(tag.into()));
        }
        if ALTERABLE.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Err(SqlError::new(SqlState("55P02"), format!("parameter \"{name}\" is one of the server, not of a session"))
                .with_hint(format!("ALTER SYSTEM SET {name} = ... changes it.")));
        }
        if local && !self.transaction.is_explicit() {
            self.warn(SqlState::NO_ACTIVE_TRANSACTION, "SET LOCAL can only be used in transaction blocks");
            return Ok(Outcome::Done(tag.into()));
        }
        self.change_settings(local, |settings| settings.set(name, value))?;
        let on = value.map(|_| self.settings.is_on(name));
        match name.to_lowercase().as_str() {
            "transaction_isolation" | "default_transaction_isolation" => self.check_isolation(value.unwrap_or_default()),
            "transaction_read_only" => self.set_read_only(on)?,
            _ => {}
        }
        self.notices.extend(value.and_then(|_| super::settings::notice(name)));
        Ok(Outcome::Done(tag.into()))
    }

    /// The one value of each argument plan.
    pub(super) async fn scalars(&self, plans: Vec<datafusion::logical_expr::LogicalPlan>) -> Result<Vec<datafusion::common::ScalarValue>> {
        let mut values = Vec::with_capacity(plans.len());
        for plan in plans {
            values.push(self.services.engine.scalar(plan, Bindings::none(self.now())).await?);
        }
        Ok(values)
    }
}

pub(super) fn kind_tag(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Source => "SOURCE",
        ObjectKind::Table => "TABLE",
        ObjectKind::View => "VIEW",
        ObjectKind::MaterializedView => "MATERIALIZED VIEW",
        ObjectKind::Function => "FUNCTION",
        ObjectKind::Sink => "SINK",
        ObjectKind::Index => "INDEX",
    }
}

fn explained(lines: Vec<String>, json: bool) -> Outcome {
    let schema = query_plan(json);
    let column: ArrayRef = Arc::new(StringArray::from(lines));
    let batch = RecordBatch::try_new(schema.clone(), vec![column]).expect("one column of text");
    Outcome::Rows { rows: RowStream::ready(schema, [batch]), tag: Tag::Fixed("EXPLAIN".into()) }
}

fn uses_set_config(query: &Query) -> bool {
    use datafusion::common::tree_node::TreeNodeRecursion;
    let mut found = false;
    let walked = query.plan.each_with_subqueries(|node| {
        node.each_own(|expr| {
            expr.each(|e| {
                found |= matches!(e, datafusion::logical_expr::Expr::ScalarFunction(f) if f.func.name() == "set_config");
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    found || walked.is_err()
}

/// COMMIT, ROLLBACK and ROLLBACK TO; what a failed transaction still runs.
fn ends_transaction(parsed: &Parsed) -> bool {
    let word = parsed.sql.split_whitespace().next().unwrap_or_default().trim_end_matches(';').to_ascii_lowercase();
    matches!(word.as_str(), "commit" | "end" | "rollback" | "abort")
}

/// Declared parameter types by number, for PREPARE.
pub fn declared(types: Vec<SqlType>) -> Vec<Option<SqlType>> {
    types.into_iter().map(Some).collect()
}
