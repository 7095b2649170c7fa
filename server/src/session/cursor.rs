//! Prepared statements and portals. A portal is a statement bound to its parameters, and, once it runs, the rows it has
//! left; a SQL cursor is a portal with a name. Both share one namespace, as in PostgreSQL, and end with
//! their transaction, but for a cursor WITH HOLD, which goes on reading at its epoch once its transaction has committed.

use super::kept::Kept;
use super::planning::{PlannedStatement, query_schema, result_schema};
use super::replanning::Origin;
use super::transaction::Block;
use super::{Outcome, Session, Tag};
use crate::pgcatalog::SystemContext;
use crate::serving::{RowStream, split, to_sql_error};
use arrow::array::timezone::Tz;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use eddyline_common::postgres::decode;
use eddyline_common::postgres::types::{oid_of, parameter_type, wire_type};
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use eddyline_planner::casts::constant;
use eddyline_planner::statement::{FetchCount, Planned, Query};
use eddyline_planner::{Parsed, parameter_fields, parse};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Prepared statements and portals a session may hold; a client that leaks them is told before memory ends.
const PREPARED_MAX: usize = 10_000;

/// The texts of a session's named statements: a plan takes many times its text. One without a name is as long as a message may be, and is replaced by the next.
const PREPARED_BYTES_MAX: usize = 32 << 20;

/// What a statement is refused with whose rows are not those that were described.
pub const RESULT_CHANGED: &str = "cached plan must not change result type";

/// How long FETCH waits for the first row of a subscription.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// How long it waits for each that follows: whoever makes them is only a few ahead of who takes them.
const NEXT_WITHIN: Duration = Duration::from_millis(10);

/// Batches of a subscription that one FETCH gives: it may always have more.
const BATCHES_MAX: usize = 64;

/// A statement that was parsed and described, to be bound any number of times.
pub struct Prepared {
    pub parsed: Arc<Parsed>,
    /// As the client declared them.
    pub(super) declared: Vec<Option<SqlType>>,
    /// As they are: declared or inferred.
    pub parameters: Vec<SqlType>,
    /// The oids of their types, a declared one as it was declared.
    pub oids: Vec<u32>,
    pub schema: Option<SchemaRef>,
    pub(super) kept: Mutex<Option<Kept>>,
}

impl Prepared {
    /// Clients read the rows by the description that they were given, however long ago.
    pub(super) fn check_result(&self, now: Option<SchemaRef>) -> Result<()> {
        let (Some(described), Some(now)) = (&self.schema, now) else { return Ok(()) };
        let same = |(a, b): (&FieldRef, &FieldRef)| wire_type(a).oid == wire_type(b).oid;
        match described.fields().len() == now.fields().len() && described.fields().iter().zip(now.fields()).all(same) {
            true => Ok(()),
            false => Err(SqlError::unsupported(RESULT_CHANGED)),
        }
    }
}

#[derive(Default)]
pub struct Statements(HashMap<String, Arc<Prepared>>);

impl Statements {
    /// Each with its name and the oids of its parameters' types.
    pub fn described(&self) -> Vec<(String, Arc<Parsed>, Vec<u32>)> {
        self.named().map(|(name, p)| (name.clone(), p.parsed.clone(), p.oids.clone())).collect()
    }

    /// Those that stay until they are deallocated.
    fn named(&self) -> impl Iterator<Item = (&String, &Arc<Prepared>)> {
        self.0.iter().filter(|(name, _)| !name.is_empty())
    }

    /// Whether one of so many bytes more may be kept.
    fn check_room(&self, name: &str, bytes: usize) -> Result<()> {
        let held = || self.named().map(|(_, p)| p.parsed.sql.len()).sum::<usize>();
        match self.0.len() >= PREPARED_MAX || !name.is_empty() && held() + bytes > PREPARED_BYTES_MAX {
            true => Err(SqlError::new(SqlState::LIMIT_EXCEEDED, "too many prepared statements")
                .with_detail(format!("A session may hold {PREPARED_MAX} of them, with {PREPARED_BYTES_MAX} bytes of text."))
                .with_hint("Deallocate those no longer needed.")),
            false => Ok(()),
        }
    }

    pub fn schema(&self, name: &str) -> Option<SchemaRef> {
        self.0.get(name).and_then(|p| p.schema.clone())
    }
}

/// A statement that is ready to run, and what it was planned from.
struct Bound {
    statement: PlannedStatement,
    prepared: Arc<Prepared>,
    values: Vec<ScalarValue>,
}

pub struct Portal {
    pub parsed: Arc<Parsed>,
    /// Until it runs.
    bound: Option<Bound>,
    pub schema: Option<SchemaRef>,
    /// Format codes of the result's columns, as the client gave them.
    pub formats: Vec<i16>,
    /// Once it runs.
    pub running: Option<Running>,
    is_cursor: bool,
    /// WITH HOLD.
    hold: bool,
    /// Its transaction has committed.
    kept: bool,
    /// So many savepoints of the transaction are older: it goes with those.
    depth: usize,
}

/// Rows that are left.
pub struct Running {
    pub rows: RowStream,
    pub tag: Tag,
}

#[derive(Default)]
pub struct Portals(HashMap<String, Portal>);

impl Portals {
    pub fn described(&self) -> Vec<(String, Arc<Parsed>)> {
        self.0.iter().filter(|(_, p)| p.is_cursor).map(|(name, p)| (name.clone(), p.parsed.clone())).collect()
    }

    pub fn schema(&self, name: &str) -> Option<SchemaRef> {
        self.0.get(name).and_then(|p| p.schema.clone())
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The transaction is about to commit: those go that end with it.
    pub fn commit(&mut self) {
        self.0.retain(|_, portal| portal.hold);
    }

    /// It has committed.
    pub fn keep(&mut self) {
        for portal in self.0.values_mut() {
            (portal.kept, portal.depth) = (portal.hold, 0);
        }
    }

    /// So many savepoints are left: what was made since the others is the transaction's.
    pub fn release(&mut self, savepoints: usize) {
        self.0.values_mut().for_each(|portal| portal.depth = portal.depth.min(savepoints));
    }

    /// It is undone up to the last of so many savepoints.
    pub fn roll_back_to(&mut self, savepoints: usize) {
        self.0.retain(|_, portal| portal.depth < savepoints);
    }

    /// It is undone, and so is what it declared.
    pub fn roll_back(&mut self) {
        self.0.retain(|_, portal| portal.kept);
    }
}

/// The oids of parameters: as the client declared them (zero where it did not), or of the fields that they have in the statement.
fn oids(declared: &[u32], fields: &[FieldRef], parameters: &[SqlType]) -> Vec<u32> {
    let oid = |(index, ty): (usize, &SqlType)| match (declared.get(index), fields.get(index)) {
        (Some(oid), _) if *oid != 0 => *oid,
        (_, Some(field)) if SqlType::from_field(field).as_ref() == Some(ty) => wire_type(field).oid,
        _ => oid_of(ty),
    };
    parameters.iter().enumerate().map(oid).collect()
}

/// What becomes of a portal that is run.
pub enum PortalRun {
    /// It gives rows; put it back with what is left.
    Rows(Box<Portal>),
    Other(Outcome),
}

impl Session {
    /// Parse: exactly one statement.
    pub async fn prepare(&mut self, name: &str, text: &str, declared_oids: Vec<u32>) -> Result<()> {
        let declared = declared_oids.iter().map(|oid| parameter_type(*oid)).collect();
        self.prepare_as(name, text, declared, declared_oids).await
    }

    async fn prepare_as(&mut self, name: &str, text: &str, declared: Vec<Option<SqlType>>, declared_oids: Vec<u32>) -> Result<()> {
        if !name.is_empty() && self.statements.0.contains_key(name) {
            return Err(SqlError::new(SqlState("42P05"), format!("prepared statement \"{name}\" already exists")));
        }
        let mut statements = super::planning::without_stalling(text.len(), || parse(text))?;
        let (Some(parsed), true) = (statements.pop(), statements.is_empty()) else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement"));
        };
        self.check_failed(&parsed)?;
        self.statements.check_room(name, parsed.sql.len())?;
        let request = self.format_request(&parsed);
        let parsed = super::described::described(&parsed, request).await?.unwrap_or(parsed);
        let planned = self.plan(&parsed, &declared)?.planned;
        let fields = parameter_fields(&planned);
        let mut parameters: Vec<SqlType> = fields.iter().filter_map(|field| SqlType::from_field(field)).collect();
        for (index, ty) in declared.iter().enumerate() {
            match (parameters.get_mut(index), ty) {
                // It may have more digits behind the point than a numeric without any has.
                (Some(SqlType::Decimal { .. }), Some(SqlType::Decimal { .. })) => {}
                (Some(parameter), Some(ty)) => *parameter = ty.clone(),
                (None, ty) => parameters.push(ty.clone().unwrap_or(SqlType::Text)),
                (Some(_), None) => {}
            }
        }
        let schema = result_schema(&planned, self);
        let oids = oids(&declared_oids, &fields, &parameters);
        let prepared = Prepared { parsed: Arc::new(parsed), declared, parameters, oids, schema, kept: Mutex::default() };
        self.statements.0.insert(name.to_string(), Arc::new(prepared));
        Ok(())
    }

    pub fn prepared(&self, name: &str) -> Result<Arc<Prepared>> {
        self.statements.0.get(name).cloned().ok_or_else(|| match name {
            "" => SqlError::new(SqlState::INVALID_STATEMENT_NAME, "unnamed prepared statement does not exist"),
            name => SqlError::new(SqlState::INVALID_STATEMENT_NAME, format!("prepared statement \"{name}\" does not exist")),
        })
    }

    /// Bind: over the catalog of this moment.
    pub fn bind(&mut self, portal: &str, prepared: &Arc<Prepared>, values: Vec<ScalarValue>, formats: Vec<i16>) -> Result<()> {
        self.check_failed(&prepared.parsed)?;
        if !portal.is_empty() && self.portals.0.contains_key(portal) {
            return Err(SqlError::new(SqlState::DUPLICATE_CURSOR, format!("cursor \"{portal}\" already exists")));
        }
        if self.portals.0.len() >= PREPARED_MAX {
            return Err(SqlError::new(SqlState::LIMIT_EXCEEDED, "too many portals"));
        }
        let statement = self.plan_of(Origin::Bound(prepared, &values))?;
        let schema = result_schema(&statement.planned, self);
        let bound = Portal {
            parsed: prepared.parsed.clone(),
            bound: Some(Bound { statement, prepared: prepared.clone(), values }),
            schema,
            formats,
            running: None,
            is_cursor: false,
            hold: false,
            kept: false,
            depth: self.transaction.depth(),
        };
        self.portals.0.insert(portal.to_string(), bound);
        Ok(())
    }

    pub fn portal(&self, name: &str) -> Result<&Portal> {
        self.portals.0.get(name).ok_or_else(|| self.no_cursor(name))
    }

    /// Execute: runs the portal if it has not run yet. It is out of the session until `put_back`.
    pub async fn run_portal(&mut self, name: &str) -> Result<PortalRun> {
        let mut portal = self.portals.0.remove(name).ok_or_else(|| self.no_cursor(name))?;
        self.check_failed(&portal.parsed)?;
        let Some(Bound { statement, prepared, values }) = portal.bound.take() else { return Ok(PortalRun::Rows(Box::new(portal))) };
        if let Some(outcome) = self.bound_piece(&portal.parsed).await? {
            return Ok(PortalRun::Other(outcome));
        }
        match self.execute_planned(statement, Origin::Bound(&prepared, &values)).await? {
            Outcome::Rows { rows, tag } => {
                portal.running = Some(Running { rows, tag });
                Ok(PortalRun::Rows(Box::new(portal)))
            }
            other => Ok(PortalRun::Other(other)),
        }
    }

    /// It never was, or its rows were let go of.
    fn no_cursor(&self, name: &str) -> SqlError {
        self.transaction.too_old().cloned().unwrap_or_else(|| no_cursor(name))
    }

    pub fn put_back(&mut self, name: &str, portal: Portal) {
        self.portals.0.insert(name.to_string(), portal);
    }

    pub fn close_statement(&mut self, name: &str) {
        self.statements.0.remove(name);
    }

    pub fn close_portal(&mut self, name: &str) {
        self.portals.0.remove(name);
    }

    pub(super) async fn declare(
        &mut self,
        name: &str,
        query: Query,
        hold: bool,
        context: &Arc<SystemContext>,
        parsed: &Parsed,
    ) -> Result<Outcome> {
        self.check_cursor(name, hold)?;
        let schema = query_schema(&query);
        let rows = self.query(query, context).await?;
        Ok(self.put_cursor(name, schema, rows, hold, parsed))
    }

    /// Whether a cursor of this name may be declared.
    pub(super) fn check_cursor(&self, name: &str, hold: bool) -> Result<()> {
        if self.transaction.block != Block::Explicit && !hold {
            return Err(SqlError::new(SqlState::NO_ACTIVE_TRANSACTION, "DECLARE CURSOR can only be used in transaction blocks"));
        }
        if self.portals.0.contains_key(name) {
            return Err(SqlError::new(SqlState::DUPLICATE_CURSOR, format!("cursor \"{name}\" already exists")));
        }
        Ok(())
    }

    pub(super) fn put_cursor(&mut self, name: &str, schema: SchemaRef, rows: RowStream, hold: bool, parsed: &Parsed) -> Outcome {
        let running = Some(Running { rows, tag: Tag::Counted("FETCH") });
        let (parsed, schema, depth) = (Arc::new(parsed.clone()), Some(schema), self.transaction.depth());
        let portal = Portal { parsed, bound: None, schema, formats: Vec::new(), running, is_cursor: true, hold, kept: false, depth };
        self.portals.0.insert(name.to_string(), portal);
        Outcome::Done("DECLARE CURSOR".into())
    }

    /// FETCH and MOVE, forwards only. FETCH hands its rows over as they come. Of a subscription they give what there is, and wait for the first
    /// of it a moment only.
    pub(super) async fn fetch(&mut self, name: &str, count: FetchCount, move_only: bool) -> Result<Outcome> {
        let portal = self.portals.0.get_mut(name).ok_or_else(|| no_cursor(name))?;
        let (Some(running), Some(schema)) = (&mut portal.running, portal.schema.clone()) else {
            return Err(SqlError::new(SqlState("55000"), format!("portal \"{name}\" cannot be run")));
        };
        let endless = running.rows.is_endless();
        if count == FetchCount::All && !move_only && !endless {
            let rest = std::mem::replace(&mut running.rows, RowStream::ready(schema, []));
            return Ok(Outcome::Rows { rows: rest, tag: Tag::Counted("FETCH") });
        }
        let wanted = match count {
            FetchCount::Rows(n) => n,
            FetchCount::All => u64::MAX,
        };
        if !move_only && !endless {
            let rows = running.rows.lend(wanted).await?.with_schema(schema);
            return Ok(Outcome::Rows { rows, tag: Tag::Counted("FETCH") });
        }
        let (mut moved, mut batches, mut passed) = (0, Vec::new(), 0);
        while moved < wanted {
            let next = match (endless, passed) {
                (false, _) => running.rows.next().await?,
                (true, 0) => running.rows.next_within(FIRST_WITHIN).await?,
                (true, 1..BATCHES_MAX) => running.rows.next_within(NEXT_WITHIN).await?,
                (true, _) => None,
            };
            let Some(batch) = next else { break };
            passed += 1;
            let left = wanted - moved;
            let (taken, rest) = split(batch, left);
            moved += taken.num_rows() as u64;
            if let Some(rest) = rest {
                running.rows.put_back(rest);
            }
            if !move_only {
                batches.push(taken);
            }
        }
        Ok(match move_only {
            true => Outcome::Done(format!("MOVE {moved}")),
            false => Outcome::Rows { rows: RowStream::ready(schema, batches), tag: Tag::Counted("FETCH") },
        })
    }

    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            None => self.portals.clear(),
            Some(name) => {
                self.portals.0.remove(name).ok_or_else(|| no_cursor(name))?;
            }
        }
        Ok(Outcome::Done("CLOSE CURSOR".into()))
    }

    pub(super) async fn prepare_statement(&mut self, name: &str, text: &str, types: Vec<SqlType>) -> Result<Outcome> {
        self.prepare_as(name, text, super::statement::declared(types), vec![]).await?;
        Ok(Outcome::Done("PREPARE".into()))
    }

    pub(super) async fn execute_prepared(&mut self, name: &str, arguments: Vec<datafusion::logical_expr::LogicalPlan>) -> Result<Outcome> {
        let prepared = self.prepared(name)?;
        if arguments.len() != prepared.parameters.len() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("wrong number of parameters for prepared statement \"{name}\""))
                .with_detail(format!("Expected {} parameters but got {}.", prepared.parameters.len(), arguments.len())));
        }
        let values = self.scalars(arguments).await?;
        let zone = self.settings.zone();
        let values: Vec<ScalarValue> =
            values.iter().zip(&prepared.parameters).map(|(value, ty)| argument(value, ty, zone)).collect::<Result<_>>()?;
        let origin = Origin::Bound(&prepared, &values);
        let statement = self.plan_of(origin)?;
        if matches!(statement.planned, Planned::ExecutePrepared { .. }) {
            return Err(SqlError::unsupported("EXECUTE of EXECUTE is not supported"));
        }
        self.execute_planned(statement, origin).await
    }

    pub(super) fn deallocate(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            None => {
                self.statements.0.clear();
                Ok(Outcome::Done("DEALLOCATE ALL".into()))
            }
            Some(name) => {
                self.prepared(name)?;
                self.statements.0.remove(name);
                Ok(Outcome::Done("DEALLOCATE".into()))
            }
        }
    }

    pub(super) fn discard(&mut self, all: bool) -> Result<Outcome> {
        if !all {
            self.discard_temporary();
            return Ok(Outcome::Done("DISCARD TEMP".into()));
        }
        if self.transaction.is_explicit() {
            return Err(SqlError::new(SqlState::ACTIVE_TRANSACTION, "DISCARD ALL cannot run inside a transaction block"));
        }
        self.portals.clear();
        self.statements.0.clear();
        self.discard_temporary();
        self.services().sessions.advisory.unlock_all(self.process);
        let mut settings = self.settings.clone();
        settings.reset_all();
        self.adopt(settings);
        self.transaction.settings = None;
        Ok(Outcome::Done("DISCARD ALL".into()))
    }
}

/// An argument of EXECUTE as a value of its parameter's type: a text is read as one that a client sends.
fn argument(value: &ScalarValue, ty: &SqlType, zone: Tz) -> Result<ScalarValue> {
    let array = match value.try_as_str().flatten() {
        Some(text) if !ty.is_text() => decode::value(Some(text.as_bytes()), false, ty, zone)?,
        _ => {
            let cast = value.cast_to(&ty.to_arrow()).and_then(|value| value.to_array()).map_err(to_sql_error)?;
            arrow::compute::cast(&cast, &ty.to_arrow())?
        }
    };
    constant(&array).map_err(to_sql_error)
}

fn no_cursor(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist"))
}
