//! What a sink says of its records.

use crate::reading::source;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use eddyline_common::connector::{SinkColumn, SinkMode, SinkSpec, SinkStep};
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Column, Epoch, SqlType, Timestamp};
use eddyline_connectors::testing::{KafkaClient, Nobody};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::sync::Arc;

/// Of changes that make fewer records than rows.
#[test]
fn a_sink_says_how_many_records_there_are() {
    let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    let client = KafkaClient::new(cluster.bootstrap_servers()).unwrap();
    let schema = arrow_schema(&[Column::new("id", SqlType::BigInt, false), Column::new("v", SqlType::BigInt, false)]);
    let changes = |rows: &[(i64, i64, i64)]| {
        let column = |of: fn(&(i64, i64, i64)) -> i64| Int64Array::from_iter_values(rows.iter().map(of));
        let columns: Vec<ArrayRef> = vec![Arc::new(column(|r| r.0)), Arc::new(column(|r| r.1))];
        ChangeBatch::with_weights(RecordBatch::try_new(schema.clone(), columns).unwrap(), column(|r| r.2))
    };
    for (topic, mode) in [("newest", SinkMode::Upsert), ("envelopes", SinkMode::Changelog)] {
        cluster.create_topic(topic, 1, 1).unwrap();
        let column = |name: &str| SinkColumn { external_name: name.to_string(), ty: SqlType::BigInt };
        let spec = SinkSpec {
            name: "k".to_string(),
            incarnation: "0".to_string(),
            options: source(&client, topic, &[]).options,
            columns: vec![column("id"), column("v")],
            key: vec![0],
            mode,
        };
        let mut writer = eddyline_connectors::open_sink(&spec).unwrap().open(0, Arc::new(Nobody)).unwrap();
        let steps: [&[(i64, i64, i64)]; 3] = [
            &[(1, 10, 1), (2, 20, 1)],
            &[(1, 10, -1), (1, 11, 1), (2, 20, -1), (2, 21, 1), (3, 30, 1)],
            &[(2, 21, -1), (3, 30, -1), (3, 31, 1)],
        ];
        let mut records = Vec::new();
        for (number, rows) in (1..).zip(steps) {
            records.push(writer.write(SinkStep { number, epoch: Epoch(number), now: Timestamp(0) }, &changes(rows)).unwrap());
        }
        assert_eq!((records, writer.flush(true).unwrap()), (vec![2, 3, 2], Some(3)), "{topic}");
        assert_eq!(client.records_in(topic).unwrap(), 7, "{topic}");
    }
}

#[test]
fn a_record_that_is_too_large_says_what_to_raise() {
    let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    let client = KafkaClient::new(cluster.bootstrap_servers()).unwrap();
    cluster.create_topic("small", 1, 1).unwrap();
    let spec = SinkSpec {
        name: "k".to_string(),
        incarnation: "0".to_string(),
        options: source(&client, "small", &[("properties.message.max.bytes", "1000")]).options,
        columns: vec![SinkColumn { external_name: "t".to_string(), ty: SqlType::Text }],
        key: vec![],
        mode: SinkMode::Append,
    };
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(2_000)]));
    let rows = RecordBatch::try_new(arrow_schema(&[Column::new("t", SqlType::Text, true)]), vec![texts]).unwrap();
    let mut writer = eddyline_connectors::open_sink(&spec).unwrap().open(0, Arc::new(Nobody)).unwrap();
    let step = SinkStep { number: 1, epoch: Epoch(1), now: Timestamp(0) };
    let refused = writer.write(step, &ChangeBatch::insertions(rows)).and_then(|_| writer.flush(true)).unwrap_err();
    assert!(refused.hint.is_some_and(|hint| hint.contains("properties.message.max.bytes")), "{}", refused.message);
}
