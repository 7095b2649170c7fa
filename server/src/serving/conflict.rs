//! Keys of a table under a write: which rows are there already, and what becomes of new rows with the same key.

use super::dml::{Target, changes, conform, positional, rounded};
use super::engine::QueryEngine;
use super::overlay::Overlay;
use crate::coordinator::ReadSnapshot;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use bytes::BytesMut;
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState};
use eddyline_planner::Relation;
use eddyline_planner::statement::OnConflict;
use hashbrown::HashMap;

/// The encoded keys of rows in stored columns.
pub fn keys_of(relation: &Relation, rows: &RecordBatch) -> Result<KeyRows> {
    let columns: Vec<ArrayRef> = relation.key.iter().map(|c| rows.column(*c).clone()).collect();
    let codec = KeyCodec::new(columns.iter().map(|c| c.data_type().clone()).collect())?;
    let mut keys = KeyRows::default();
    codec.encode(&columns, rows.num_rows(), &mut keys);
    Ok(keys)
}

/// The table's rows that share a key with some new rows.
pub struct Existing {
    rows: RecordBatch,
    by_key: HashMap<Vec<u8>, u32>,
}

impl Existing {
    pub fn find(target: &Target, new: &RecordBatch) -> Result<Existing> {
        Self::of(target.relation, target.snapshot, target.overlay.as_deref(), new)
    }

    fn of(relation: &Relation, snapshot: &ReadSnapshot, overlay: Option<&Overlay>, new: &RecordBatch) -> Result<Existing> {
        let schema = arrow_schema(&relation.columns);
        let view = snapshot.views.get(&relation.id);
        let view = view.ok_or_else(|| SqlError::internal(format!("table \"{}\" is not in the snapshot", relation.name)))?;
        let key: Vec<ArrayRef> = relation.key.iter().map(|c| new.column(*c).clone()).collect();
        let base = view.lookup(snapshot.epoch, &key)?;
        let base = conform(base.columns(), base.num_rows(), &schema)?;
        let mut parts = Vec::new();
        if let Some(overlay) = overlay {
            parts.push(overlay.filter_base(&base, &mut HashMap::new())?);
            let keys = keys_of(relation, new)?;
            let mut places: Vec<_> = keys.iter().filter_map(|k| overlay.get(k).flatten()).collect();
            places.sort_unstable();
            places.dedup();
            for place in places {
                let row = overlay.row(place);
                parts.push(conform(row.columns(), 1, &schema)?);
            }
        } else {
            parts.push(base);
        }
        let rows = arrow::compute::concat_batches(&parts[0].schema(), &parts)?;
        let keys = keys_of(relation, &rows)?;
        let by_key = keys.iter().enumerate().map(|(row, key)| (key.to_vec(), row as u32)).collect();
        Ok(Existing { rows, by_key })
    }

    fn take(&self, rows: &[u32]) -> Result<RecordBatch> {
        Ok(arrow::compute::take_record_batch(&self.rows, &UInt32Array::from_iter_values(rows.iter().copied()))?)
    }
}

/// Rows that go and rows that come.
pub struct Resolved {
    pub old: RecordBatch,
    pub new: RecordBatch,
}

/// Decides, new row by new row, what its key means.
pub fn resolve(target: &Target, rows: RecordBatch, existing: Existing, on_conflict: &OnConflict) -> Result<Resolved> {
    let keys = keys_of(target.relation, &rows)?;
    let mut inserted: HashMap<&[u8], u32> = HashMap::with_capacity(keys.len());
    let (mut fresh, mut conflicting) = (Vec::new(), Vec::new());
    for (row, key) in keys.iter().enumerate() {
        let row = row as u32;
        match (existing.by_key.get(key), on_conflict) {
            (None, OnConflict::Error) if inserted.contains_key(key) => return Err(duplicate(target.relation, &rows, row as usize)),
            (None, OnConflict::DoUpdate { .. }) if inserted.contains_key(key) => return Err(twice()),
            (None, _) => {
                if inserted.insert(key, row).is_none() {
                    fresh.push(row);
                }
            }
            (Some(_), OnConflict::Error) => return Err(duplicate(target.relation, &rows, row as usize)),
            (Some(_), OnConflict::DoNothing) => {}
            (Some(old), OnConflict::DoUpdate { .. }) => {
                if inserted.insert(key, row).is_some() {
                    return Err(twice());
                }
                conflicting.push((row, *old));
            }
        }
    }
    let take = |at: &[u32]| arrow::compute::take_record_batch(&rows, &UInt32Array::from_iter_values(at.iter().copied()));
    let new = take(&fresh)?;
    if conflicting.is_empty() {
        return Ok(Resolved { old: RecordBatch::new_empty(rows.schema()), new });
    }
    let (places, old): (Vec<u32>, Vec<u32>) = conflicting.into_iter().unzip();
    let update = update(target, existing.take(&old)?, take(&places)?, on_conflict)?;
    check_moved_keys(target, &update.old, &update.new)?;
    let places = places.into_iter().enumerate().filter(|(at, _)| update.kept.as_ref().is_none_or(|kept| kept.value(*at)));
    let new = in_order([&new, &update.new], [fresh, places.map(|(_, place)| place).collect()])?;
    Ok(Resolved { old: update.old, new })
}

/// Rows of two batches as one, by the place of each in the statement: that is the order in which RETURNING shows them.
fn in_order(batches: [&RecordBatch; 2], places: [Vec<u32>; 2]) -> Result<RecordBatch> {
    let of = |batch: usize| places[batch].iter().enumerate().map(move |(row, place)| (*place, (batch, row)));
    let mut rows: Vec<_> = of(0).chain(of(1)).collect();
    rows.sort_unstable();
    let rows: Vec<(usize, usize)> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(arrow::compute::interleave_record_batch(&batches, &rows)?)
}

/// Rows that overwrite each other by key, the last one counting: what goes and what comes. Weights are +1 for a row and -1
/// for a key that is gone.
pub fn overwrite(relation: &Relation, snapshot: &ReadSnapshot, columns: Vec<ArrayRef>, weights: Option<Int64Array>) -> Result<ChangeBatch> {
    let rows = columns.first().map_or(0, |c| c.len());
    let rows = rounded(relation, conform(&columns, rows, &arrow_schema(&relation.columns))?)?;
    let keys = keys_of(relation, &rows)?;
    let last: HashMap<&[u8], u32> = keys.iter().enumerate().map(|(row, key)| (key, row as u32)).collect();
    let mut last: Vec<u32> = last.into_values().collect();
    last.sort_unstable();
    let take = |rows: &RecordBatch, at: &[u32]| arrow::compute::take_record_batch(rows, &UInt32Array::from(at.to_vec()));
    let old = Existing::of(relation, snapshot, None, &take(&rows, &last)?)?.rows;
    last.retain(|row| weights.as_ref().is_none_or(|w| w.value(*row as usize) > 0));
    changes(relation, Some(old), take(&rows, &last)?)
}

/// Rows as they were and as they become.
struct Update {
    old: RecordBatch,
    new: RecordBatch,
    /// Which of the rows that were to be inserted led to these; `None`: all.
    kept: Option<BooleanArray>,
}

/// `DO UPDATE SET ... WHERE ...` over old rows and the rows that were to be inserted.
fn update(target: &Target, old: RecordBatch, excluded: RecordBatch, on_conflict: &OnConflict) -> Result<Update> {
    let OnConflict::DoUpdate { assignments, filter } = on_conflict else { return Ok(Update { old, new: excluded, kept: None }) };
    let both = side_by_side(&old, &excluded)?;
    let (input, schema) = positional(&both)?;
    let mut columns = old.columns().to_vec();
    for (column, expr) in assignments {
        let bound = target.engine.expression(expr, &schema, target.now)?;
        columns[*column] = QueryEngine::evaluate(bound.as_ref(), &input)?;
    }
    let updated = rounded(target.relation, conform(&columns, old.num_rows(), &target.schema())?)?;
    let Some(filter) = filter else { return Ok(Update { old, new: updated, kept: None }) };
    let bound = target.engine.expression(filter, &schema, target.now)?;
    let keep = QueryEngine::evaluate(bound.as_ref(), &input)?;
    let keep: BooleanArray = keep.as_boolean().iter().map(|keep| Some(keep == Some(true))).collect();
    let of_kept = |rows: &RecordBatch| arrow::compute::filter_record_batch(rows, &keep);
    Ok(Update { old: of_kept(&old)?, new: of_kept(&updated)?, kept: Some(keep) })
}

fn side_by_side(left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch> {
    let fields = left.schema().fields().iter().chain(right.schema().fields()).map(|f| f.as_ref().clone()).collect::<Vec<_>>();
    let fields = fields.into_iter().enumerate().map(|(i, f)| f.with_name(format!("c{i}"))).collect::<Vec<_>>();
    let schema: SchemaRef = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
    let columns = left.columns().iter().chain(right.columns()).cloned().collect();
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// After an UPDATE every key is still there once: a row whose key changed must not land on another.
pub fn check_moved_keys(target: &Target, old: &RecordBatch, new: &RecordBatch) -> Result<()> {
    let (before, after) = (keys_of(target.relation, old)?, keys_of(target.relation, new)?);
    if before.iter().eq(after.iter()) {
        return Ok(());
    }
    let leaving: hashbrown::HashSet<&[u8]> = before.iter().collect();
    let existing = Existing::find(target, new)?;
    let mut arriving = hashbrown::HashSet::with_capacity(after.len());
    for (row, key) in after.iter().enumerate() {
        let taken = existing.by_key.contains_key(key) && !leaving.contains(key);
        if taken || !arriving.insert(key) {
            return Err(duplicate(target.relation, new, row));
        }
    }
    Ok(())
}

fn duplicate(relation: &Relation, rows: &RecordBatch, row: usize) -> SqlError {
    let names: Vec<&str> = relation.key.iter().map(|c| relation.columns[*c].name.as_str()).collect();
    let values: Vec<String> = relation.key.iter().map(|c| shown(rows, *c, row)).collect();
    let constraint = format!("{}_pkey", relation.name);
    SqlError::new(SqlState::UNIQUE_VIOLATION, format!("duplicate key value violates unique constraint \"{constraint}\""))
        .with_detail(format!("Key ({})=({}) already exists.", names.join(", "), values.join(", ")))
        .with_constraint(&relation.name, &constraint)
}

/// A row has a null in a column that takes none.
pub fn null_in(relation: &Relation, column: &str, rows: &RecordBatch, row: usize) -> SqlError {
    let message = format!("null value in column \"{column}\" of relation \"{}\" violates not-null constraint", relation.name);
    SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
        .with_detail(format!("Failing row contains {}.", shown_row(rows, row)))
        .with_column(&relation.name, column)
}

fn twice() -> SqlError {
    SqlError::new(SqlState::CARDINALITY_VIOLATION, "ON CONFLICT DO UPDATE command cannot affect row a second time")
        .with_hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
}

fn shown(rows: &RecordBatch, column: usize, row: usize) -> String {
    let one = rows.slice(row, 1);
    let format = eddyline_common::postgres::encode::RowFormat::text(one.schema(), crate::session::settings::utc());
    let text = format.bind(&one).map(|writer| {
        let values = writer.text_writers();
        let mut text = BytesMut::new();
        match values[column].is_null(0) {
            true => text.extend_from_slice(b"null"),
            false => values[column].text(0, &mut text),
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    text.unwrap_or_else(|_| "?".to_string())
}

/// A row as DETAIL shows it.
fn shown_row(rows: &RecordBatch, row: usize) -> String {
    let values: Vec<String> = (0..rows.num_columns()).map(|c| shown(rows, c, row)).collect();
    format!("({})", values.join(", "))
}
