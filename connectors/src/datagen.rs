//! `datagen`: rows of any columns from nothing, random within bounds or in sequence.
//!
//! Invariant: a row is a pure function of the options and its offset, so that any range can be read again and gives the
//! same rows. Event time therefore starts at a fixed instant, not at the clock's.

mod field;

use crate::generator::{Generated, Generator, batch_of};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field as ArrowField, Schema, SchemaRef};
use eddyline_common::connector::*;
use eddyline_common::{Result, options};
use field::{Field, Settings, mix};
use std::sync::Arc;

/// Rows per second of an endless source, unless said otherwise; as Flink has it.
const DEFAULT_RATE: i64 = 10_000;

pub struct Datagen {
    schema: SchemaRef,
    fields: Vec<Field>,
    seed: u64,
    /// `None`: endless.
    row_count: Option<i64>,
    rate: Option<i64>,
}

impl Generator for Datagen {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn splits(&self) -> i64 {
        1
    }

    fn split_end(&self, _split: i64) -> Option<i64> {
        self.row_count
    }

    fn rate(&self) -> Option<i64> {
        self.rate
    }

    fn holds(&self, _split: i64, _offset: i64) -> bool {
        true
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn rows(&self, _split: i64, offsets: &[i64], kept: &[bool]) -> Result<RecordBatch> {
        let seeds: Vec<u64> = offsets.iter().map(|offset| mix(self.seed ^ mix(*offset as u64))).collect();
        batch_of(&self.schema, offsets.len(), kept, |column| self.fields[column].values(offsets, &seeds))
    }
}

/// The source that options and columns describe.
pub fn connector(spec: &SourceSpec) -> Result<Generated<Datagen>> {
    let given = options::integer(&spec.options, options::NUMBER_OF_ROWS)?;
    let rate = options::integer(&spec.options, options::ROWS_PER_SECOND)?;
    let mut settings = Settings::new(&spec.options, rate.unwrap_or(DEFAULT_RATE));
    let mut fields = Vec::new();
    for column in &spec.columns {
        if let ColumnOrigin::Metadata(key) = &column.origin {
            options::metadata_type("datagen", key)?;
        }
        fields.push(Field::new(&mut settings, &column.external_name.to_lowercase(), &column.ty, column.nullable)?);
    }
    settings.refuse_unused()?;
    let row_count = fields.iter().filter_map(Field::row_count).chain(given).min();
    let schema = spec.columns.iter().map(|c| c.ty.field(&c.external_name, c.nullable)).collect::<Vec<ArrowField>>();
    let generator = Datagen {
        schema: Arc::new(Schema::new(schema)),
        fields,
        seed: options::integer(&spec.options, options::SEED)?.unwrap_or(0) as u64,
        row_count,
        rate: rate.or(if row_count.is_none() { Some(DEFAULT_RATE) } else { None }),
    };
    Ok(Generated { generator: Arc::new(generator) })
}

#[cfg(test)]
mod tests;
