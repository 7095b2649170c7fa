//! From a Parquet file into a view: the file is written before the clock starts, which runs from CREATE SOURCE until the view, polled
//! over the wire, has all of its rows. The source declares two of the file's columns. Beside it plain DataFusion with the same query,
//! which reads the same columns of the same file with the same library, its row groups spread over as many partitions as we have workers.

use crate::engine::catalog::BenchCatalog;
use crate::report::{Figure, Goal};
use crate::{Result, batch, nexmark, server};
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::compute::{max, sum};
use arrow::datatypes::{Int64Type, SchemaRef};
use clap::Args;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const GOAL_ROWS_PER_SECOND: f64 = 5_000_000.0;
const PATIENCE: Duration = Duration::from_secs(300);
/// What the file has; the source declares the first and the third.
const COLUMNS: &str = "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP";
const DECLARED: &str = "auction BIGINT, price BIGINT";
const DECLARED_PLACES: [usize; 2] = [0, 2];
const QUERY: &str = "SELECT COUNT(*) AS n, SUM(price) AS price, MAX(auction) AS auction FROM bid";

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    settings: server::Settings,
    /// Rows of the file
    #[arg(long, default_value_t = 20_000_000)]
    rows: u64,
}

pub fn run(options: &Options, runtime: &Runtime) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("bids.parquet");
    let written = write(&path, options.rows)?;
    let server = options.settings.start();
    let client = runtime.block_on(server.connect());
    let source = format!("CREATE SOURCE bid ({DECLARED}) WITH (connector = 'filesystem', path = '{}', format = 'parquet')", path.display());
    let begun = Instant::now();
    runtime.block_on(async {
        server::execute(&client, &[&source, &format!("CREATE MATERIALIZED VIEW total AS {QUERY}")]).await?;
        server::wait_for(&client, "SELECT n, price, auction FROM total", &written.totals(), PATIENCE).await
    })?;
    let elapsed = begun.elapsed();
    let pid = server.pid().ok_or("the server is not running")?;
    let used = server::cpu_seconds(pid)?;
    drop(server);
    let context = session(&path, options.settings.workers())?;
    let theirs = batch::collect(&context, QUERY, runtime)?;
    let theirs: Vec<i64> = theirs.iter().flat_map(|b| b.columns().iter().map(|c| c.as_primitive::<Int64Type>().value(0))).collect();
    if theirs != written.totals() {
        return Err(format!("the file holds {:?}, DataFusion reads {theirs:?}", written.totals()).into());
    }
    let (fastest, _) = batch::fastest(&context, QUERY, runtime)?;
    let rows = written.rows as f64;
    Figure::new("Parquet into a view, 2 of 6 columns", rows / elapsed.as_secs_f64(), "rows/s", Goal::AtLeast(GOAL_ROWS_PER_SECOND))
        .datafusion(elapsed, fastest)
        .beside(format!("{} rows, {} MiB, in {:.2} s", written.rows, written.bytes >> 20, elapsed.as_secs_f64()))
        .beside(format!("CPU {:.3} s per million rows; count, sum and maximum checked", used / rows * 1e6))
        .print();
    Ok(())
}

/// What is in the file.
#[derive(Default)]
struct Written {
    rows: u64,
    price: i64,
    auction: i64,
    bytes: u64,
}

impl Written {
    fn totals(&self) -> Vec<i64> {
        vec![self.rows as i64, self.price, self.auction]
    }
}

/// Bids of the generator, as other tools write them: row groups of a million rows, compressed with Snappy.
fn write(path: &Path, rows: u64) -> Result<Written> {
    let (events, _) = nexmark::events_for(rows);
    let create =
        format!("CREATE SOURCE bid ({COLUMNS}) WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '{events}')");
    let spec = BenchCatalog::default().source(&create)?;
    let (mut written, mut writer) = (Written::default(), None);
    nexmark::for_each(&spec, |batch| {
        let column = |place: usize| -> &Int64Array { batch.column(place).as_primitive() };
        written.rows += batch.num_rows() as u64;
        written.price += sum(column(DECLARED_PLACES[1])).unwrap_or(0);
        written.auction = written.auction.max(max(column(DECLARED_PLACES[0])).unwrap_or(0));
        if writer.is_none() {
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            writer = Some(ArrowWriter::try_new(File::create(path)?, batch.schema(), Some(properties))?);
        }
        Ok(writer.as_mut().map_or(Ok(()), |writer| writer.write(&batch))?)
    })?;
    writer.map(ArrowWriter::close).transpose()?;
    written.bytes = std::fs::metadata(path)?.len();
    Ok(written)
}

/// The declared columns of some row groups.
#[derive(Debug)]
struct RowGroups {
    path: PathBuf,
    schema: SchemaRef,
    groups: Vec<usize>,
}

impl RowGroups {
    fn open(&self) -> datafusion::error::Result<ParquetRecordBatchReader> {
        let external = |error| DataFusionError::External(Box::new(error));
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&self.path)?).map_err(external)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), DECLARED_PLACES);
        let builder = builder.with_projection(mask).with_row_groups(self.groups.clone()).with_batch_size(8_192);
        builder.build().map_err(external)
    }
}

impl PartitionStream for RowGroups {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        type Batches = Box<dyn Iterator<Item = datafusion::error::Result<RecordBatch>> + Send>;
        let batches: Batches = match self.open() {
            Ok(reader) => Box::new(reader.map(|batch| Ok(batch?))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream::iter(batches)))
    }
}

fn session(path: &Path, partitions: usize) -> Result<SessionContext> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let schema: SchemaRef = Arc::new(builder.schema().project(&DECLARED_PLACES)?);
    let groups = 0..builder.metadata().num_row_groups();
    let part = |first: usize| -> Arc<dyn PartitionStream> {
        let groups = groups.clone().skip(first).step_by(partitions).collect();
        Arc::new(RowGroups { path: path.to_path_buf(), schema: schema.clone(), groups })
    };
    let table = StreamingTable::try_new(schema.clone(), (0..partitions).map(part).collect())?;
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    context.register_table("bid", Arc::new(table))?;
    Ok(context)
}
