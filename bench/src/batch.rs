//! Plain DataFusion over rows in memory: what our figures stand beside and what our results are checked against. It is
//! given as many partitions as we have workers.

use crate::Result;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::common::hash_utils::create_hashes_with_hasher;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Rows counted, and the sum of their hashes: the same for the same rows in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    pub rows: u64,
    pub hashes: u64,
}

impl Checksum {
    /// Adds rows, compared in the types of `schema`.
    pub fn add(&mut self, rows: &RecordBatch, schema: &SchemaRef) -> Result<()> {
        let typed = rows.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        let columns: Vec<ArrayRef> = typed.collect::<std::result::Result<_, _>>()?;
        let mut hashes = vec![0; rows.num_rows()];
        create_hashes_with_hasher(&columns, &BuildHasherDefault::<DefaultHasher>::default(), &mut hashes)?;
        self.rows += rows.num_rows() as u64;
        self.hashes = hashes.into_iter().fold(self.hashes, u64::wrapping_add);
        Ok(())
    }

    pub fn of(batches: &[RecordBatch], schema: &SchemaRef) -> Result<Checksum> {
        let mut sum = Checksum::default();
        batches.iter().try_for_each(|batch| sum.add(batch, schema))?;
        Ok(sum)
    }
}

/// A session that knows the rows as tables of these names, each spread over `partitions`.
pub fn session(tables: &[(&str, Vec<RecordBatch>)], partitions: usize) -> Result<SessionContext> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    for (name, rows) in tables {
        let schema = rows.first().ok_or("there are no rows")?.schema();
        let mut parts = vec![Vec::new(); partitions];
        for (i, batch) in rows.iter().enumerate() {
            parts[i % partitions].push(batch.clone());
        }
        context.register_table(*name, Arc::new(MemTable::try_new(schema, parts)?))?;
    }
    Ok(context)
}

/// The fastest of three runs of the query, and how many rows it has.
pub fn fastest(context: &SessionContext, query: &str, runtime: &Runtime) -> Result<(Duration, u64)> {
    let mut best = time(context, query, runtime)?;
    for _ in 0..2 {
        best = best.min(time(context, query, runtime)?);
    }
    Ok(best)
}

/// Runs the query to its end without keeping its rows. Gives the time and how many rows there were.
pub fn time(context: &SessionContext, query: &str, runtime: &Runtime) -> Result<(Duration, u64)> {
    runtime.block_on(async {
        let begun = Instant::now();
        let streams = context.sql(query).await?.execute_stream_partitioned().await?;
        // Each partition on a thread of its own, as the engine's workers are.
        let drain = |mut stream: datafusion::physical_plan::SendableRecordBatchStream| async move {
            let mut rows = 0;
            while let Some(batch) = stream.next().await {
                rows += batch?.num_rows() as u64;
            }
            Ok::<u64, datafusion::error::DataFusionError>(rows)
        };
        let tasks: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(drain(stream))).collect();
        let mut rows = 0;
        for task in tasks {
            rows += task.await??;
        }
        Ok((begun.elapsed(), rows))
    })
}

/// The query's rows.
pub fn collect(context: &SessionContext, query: &str, runtime: &Runtime) -> Result<Vec<RecordBatch>> {
    runtime.block_on(async { Ok(context.sql(query).await?.collect().await?) })
}
