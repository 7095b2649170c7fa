//! Cases that any broker can serve, librdkafka's mock cluster too.

use crate::reading::{PATIENCE, collect, ids, metadata, present_end, range, read, read_ranges, source, starts};
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use eddyline_common::connector::SourceSpec;
use eddyline_common::{Offset, PartitionId, SqlState, SqlType, options};
use eddyline_connectors::testing::{CollectingSink, KafkaClient};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Creates a topic with so many partitions.
pub type Create<'a> = &'a dyn Fn(&str, i32);

pub fn cases_of_any_broker(client: &KafkaClient, create: Create) {
    errors_at_creation(client, create);
    bounded_ranges_are_exact(client, create);
    undecodable_records(client, create);
    comments_are_no_records(client, create);
    metadata_columns(client, create);
    back_pressure(client, create);
}

fn errors_at_creation(client: &KafkaClient, create: Create) {
    create("orders", 1);
    let error = |spec: &SourceSpec| {
        let begun = Instant::now();
        let error = eddyline_connectors::open(spec).and_then(|c| c.resolve_start()).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10));
        error
    };
    let missing = error(&source(client, "order", &[]));
    assert_eq!((missing.state, missing.message.as_str()), (SqlState::UNDEFINED_OBJECT, "topic \"order\" does not exist"));
    let mut away = source(client, "orders", &[]);
    away.options.insert(options::BOOTSTRAP_SERVERS.to_string(), "127.0.0.1:1".to_string());
    let away = error(&away);
    assert_eq!(away.state, SqlState::CONNECTION_FAILURE);
    assert!(away.detail.as_ref().unwrap().contains("Connection refused"), "{away}");
    let refused = error(&source(client, "orders", &[("properties.fetch.wait.max", "1")]));
    assert_eq!(refused.state, SqlState::INVALID_PARAMETER);
    assert!(refused.message.contains("properties.fetch.wait.max"), "{refused}");
}

fn bounded_ranges_are_exact(client: &KafkaClient, create: Create) {
    create("bounded", 3);
    for partition in 0..3 {
        client.produce("bounded", partition, ids(0..20_000)).unwrap();
    }
    let spec = source(client, "bounded", &[]);
    assert_eq!((starts(&spec), present_end(&spec)), (vec![0; 3], vec![20_000; 3]));
    let got = read_ranges(&spec, &[range(0, 0, Some(20_000)), range(1, 17, Some(18)), range(2, 9_000, Some(19_999))]);
    assert_eq!(got[&0].ids, (0..20_000).collect::<Vec<_>>());
    assert_eq!(got[&1].ids, [17]);
    assert_eq!((got[&2].ids.as_slice(), &got[&2].offsets), ((9_000..19_999).collect::<Vec<_>>().as_slice(), &got[&2].ids));
    let empty = read_ranges(&spec, &[range(0, 5, Some(5)), range(1, 20_000, Some(20_000))]);
    assert!(empty[&0].ids.is_empty() && empty[&1].ids.is_empty());
}

fn undecodable_records(client: &KafkaClient, create: Create) {
    create("bad", 1);
    let values: [Option<&str>; 6] =
        [Some("{\"id\":1}"), Some("{\"id\":\"x\"}"), None, Some("{\"id\":1"), Some("{\"id\":2} {\"id\":3}"), Some("{\"id\":4}")];
    values.iter().for_each(|value| client.send("bad", 0, None, value.map(str::as_bytes)));
    client.flush().unwrap();
    let got = read_ranges(&source(client, "bad", &[]), &[range(0, 0, Some(6))]).remove(&0).unwrap();
    assert_eq!((got.ids, got.offsets), (vec![1, 4], vec![0, 5]));
    let reasons: Vec<(i64, &str, &str)> = got.undecodable.iter().map(|u| (u.offset.0, u.reason.as_str(), u.excerpt.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (1, "column id: \"x\" is not a bigint", "{\"id\":\"x\"}"),
            (2, "null value", ""),
            (3, "malformed JSON at byte 7 (the end): a comma or the end of the object must come here", "{\"id\":1"),
            (4, "malformed JSON at byte 9: more after the end of the object", "{\"id\":2} {\"id\":3}"),
        ]
    );
}

fn comments_are_no_records(client: &KafkaClient, create: Create) {
    create("comments", 1);
    client.produce("comments", 0, ["# id", "1", "#2", "3", "#"]).unwrap();
    let spec = source(client, "comments", &[("format", "csv"), ("csv.allow-comments", "true")]);
    let got = read_ranges(&spec, &[range(0, 0, Some(5))]).remove(&0).unwrap();
    assert_eq!((got.ids, got.offsets, got.undecodable.len()), (vec![1, 3], vec![1, 3], 0));
}

fn metadata_columns(client: &KafkaClient, create: Create) {
    create("meta", 2);
    let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some("v") }).insert(Header::<&str> { key: "n", value: None });
    let record = BaseRecord::to("meta").partition(1).key(&b"k1"[..]).payload(&b"{\"id\":1}"[..]).timestamp(1_700_000_000_123);
    client.send_record(record.headers(headers));
    client.send("meta", 1, None, Some(b"{\"id\":2}"));
    client.send("meta", 1, Some(b"\xff"), Some(b"{\"id\":3}"));
    client.send("meta", 1, Some(b"k\0"), Some(b"{\"id\":4}"));
    client.flush().unwrap();
    let mut spec = source(client, "meta", &[]);
    spec.columns.extend([
        metadata("k", SqlType::Text, "key"),
        metadata("p", SqlType::Integer, "partition"),
        metadata("o", SqlType::BigInt, "offset"),
        metadata("at", SqlType::TimestampTz, "timestamp"),
        metadata("t", SqlType::Text, "topic"),
        metadata("h", SqlType::Json, "headers"),
        metadata("m", SqlType::Map(Box::new(SqlType::Text), Box::new(SqlType::Bytes)), "headers"),
    ]);
    let sink = CollectingSink::new(16);
    let reader = read(&spec, &[range(1, 0, Some(4))], &sink);
    let (mut rows, mut undecodable, mut end) = (Vec::new(), Vec::new(), 0);
    while end < 4 {
        let batch = sink.next(PATIENCE).expect("a batch");
        end = batch.end.0;
        undecodable.extend(batch.undecodable);
        rows.push(batch.rows);
    }
    drop(reader);
    let rows = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
    assert_eq!((rows.num_rows(), undecodable[0].reason.as_str()), (2, "column k: the key is not UTF-8"));
    assert_eq!(undecodable[1].reason, "column k: the key has a NUL character, which no text can hold");
    assert_eq!(rows.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("k1"), None]);
    assert_eq!(rows.column(2).as_primitive::<Int32Type>().value(0), 1);
    assert_eq!(rows.column(3).as_primitive::<Int64Type>().values(), &[0, 1]);
    assert_eq!(rows.column(4).as_primitive::<TimestampMicrosecondType>().value(0), 1_700_000_000_123_000);
    assert_eq!(rows.column(5).as_string::<i32>().value(1), "meta");
    assert_eq!(rows.column(6).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["{\"h\":\"v\",\"n\":null}", "{}"]);
    assert_eq!(rows.column(7).as_map().value(0).column(1).as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&b"v"[..]), None]);
}

fn back_pressure(client: &KafkaClient, create: Create) {
    create("pressure", 1);
    client.produce("pressure", 0, ids(0..100_000)).unwrap();
    let sink = CollectingSink::new(1);
    let reader = read(&source(client, "pressure", &[]), &[range(0, 0, None)], &sink);
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| !got.is_empty());
    // Nobody takes: one batch waits, the reader holds one, no more.
    let waited = Instant::now();
    while waited.elapsed() < Duration::from_millis(300) {
        assert!(sink.waiting() <= 1);
        std::thread::yield_now();
    }
    // Where the partition ends is told all the same.
    let waited = Instant::now();
    while sink.end_of(PartitionId(0)) != Some(Offset(100_000)) {
        assert!(waited.elapsed() < PATIENCE, "it ends at {:?}", sink.end_of(PartitionId(0)));
        std::thread::sleep(Duration::from_millis(10));
    }
    collect(&sink, &mut got, |got| got[&0].ids.len() == 100_000);
    assert_eq!(got[&0].ids, (0..100_000).collect::<Vec<_>>());
    // Input that comes later is read, and a closed sink ends the reader.
    client.produce("pressure", 0, ids(100_000..100_010)).unwrap();
    collect(&sink, &mut got, |got| got[&0].ids.len() == 100_010);
    sink.close();
    let begun = Instant::now();
    drop(reader);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(sink.problems().is_empty());
}
