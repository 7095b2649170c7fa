//! What the cases read with: sources, ranges, and what came of them, held against the connector's contract on the way.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use eddyline_common::connector::{ColumnOrigin, PartitionRange, SourceColumn, SourceReader, SourceSpec, UndecodableRecord};
use eddyline_common::{Offset, PartitionId, SqlType, options};
use eddyline_connectors::testing::{CollectingSink, KafkaClient};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Settings of topics whose records are older than a broker keeps them by default.
pub const KEEP: [(&str, &str); 1] = [("retention.ms", "-1")];

pub fn source(client: &KafkaClient, topic: &str, more: &[(&str, &str)]) -> SourceSpec {
    let given = [("connector", "kafka"), ("topic", topic), ("properties.bootstrap.server", &client.bootstrap), ("format", "json")];
    let raw = given.iter().chain(more).map(|(key, value)| (key.to_string(), value.to_string()));
    let options = options::canonicalize(raw.collect()).unwrap();
    SourceSpec { name: "s".to_string(), options, columns: vec![column("id", SqlType::BigInt, ColumnOrigin::Payload)], key: vec![] }
}

pub fn column(name: &str, ty: SqlType, origin: ColumnOrigin) -> SourceColumn {
    SourceColumn { external_name: name.to_string(), ty, nullable: true, length: None, origin }
}

pub fn metadata(name: &str, ty: SqlType, key: &str) -> SourceColumn {
    column(name, ty, ColumnOrigin::Metadata(key.to_string()))
}

pub fn ids(ids: Range<i64>) -> impl Iterator<Item = String> {
    ids.map(|id| format!("{{\"id\":{id}}}"))
}

pub fn range(partition: i32, start: i64, end: Option<i64>) -> PartitionRange {
    PartitionRange { partition: PartitionId(partition), start: Offset(start), end: end.map(Offset) }
}

pub fn read(spec: &SourceSpec, ranges: &[PartitionRange], sink: &Arc<CollectingSink>) -> Box<dyn SourceReader> {
    eddyline_connectors::open(spec).unwrap().read(ranges.to_vec(), sink.clone()).unwrap()
}

pub fn starts(spec: &SourceSpec) -> Vec<i64> {
    eddyline_connectors::open(spec).unwrap().resolve_start().unwrap().iter().map(|s| s.start.0).collect()
}

pub fn present_end(spec: &SourceSpec) -> Vec<i64> {
    eddyline_connectors::open(spec).unwrap().present().unwrap().unwrap().iter().map(|r| r.end.unwrap().0).collect()
}

/// What was read of a partition.
#[derive(Default)]
pub struct Got {
    pub ids: Vec<i64>,
    pub offsets: Vec<i64>,
    pub undecodable: Vec<UndecodableRecord>,
    pub end: Option<i64>,
}

/// Reads from the sink until `enough`, and checks the contract on the way: no gaps, in order, offsets within.
pub fn collect(sink: &CollectingSink, got: &mut HashMap<i32, Got>, mut enough: impl FnMut(&HashMap<i32, Got>) -> bool) {
    while !enough(got) {
        let batch = sink.next(PATIENCE).unwrap_or_else(|| panic!("no batch; problems: {:?}", sink.problems()));
        let partition = got.entry(batch.partition.0).or_default();
        assert!(partition.end.is_none_or(|end| end == batch.start.0), "a gap before {}", batch.start);
        assert_eq!(batch.rows.num_rows(), batch.offsets.len());
        assert!(batch.offsets.is_sorted() && batch.offsets.iter().all(|o| (batch.start.0..batch.end.0).contains(o)));
        assert!(batch.rows.num_rows() <= 8_192);
        partition.end = Some(batch.end.0);
        partition.ids.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
        partition.offsets.extend(&batch.offsets);
        partition.undecodable.extend(batch.undecodable);
    }
}

/// Reads bounded ranges to their ends; nothing may come after.
pub fn read_ranges(spec: &SourceSpec, ranges: &[PartitionRange]) -> HashMap<i32, Got> {
    read_ranges_into(spec, ranges, CollectingSink::new(16))
}

pub fn read_ranges_into(spec: &SourceSpec, ranges: &[PartitionRange], sink: Arc<CollectingSink>) -> HashMap<i32, Got> {
    let reader = read(spec, ranges, &sink);
    let mut got = HashMap::new();
    let end = |r: &PartitionRange| r.end.map(|end| end.0);
    collect(&sink, &mut got, |got| ranges.iter().all(|r| got.get(&r.partition.0).is_some_and(|g| g.end == end(r))));
    assert!(sink.next(Duration::from_millis(100)).is_none(), "more than the ranges");
    drop(reader);
    got
}
