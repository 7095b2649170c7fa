//! The Kafka connector against a real broker (`scripts/kafka.sh`), in one test because starting a broker takes
//! seconds. Where no broker can be had, librdkafka's mock cluster stands in for the cases it can serve, and the
//! test says so on standard error. What only a mock can be made to say, and brokers that are away, are tests of their own.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use eddyline_common::connector::*;
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Column, Epoch, Offset, PartitionId, SqlState, SqlType, Timestamp, options};
use eddyline_connectors::testing::{CollectingSink, KafkaBroker, KafkaClient, Nobody};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn kafka_sources() {
    let say = |text: &str| writeln!(std::io::stderr(), "kafka test: {text}").unwrap();
    match KafkaBroker::start() {
        Ok(broker) => {
            cases_of_any_broker(&broker, &|topic, partitions| broker.create_topic(topic, partitions, &KEEP).unwrap());
            startup_modes(&broker);
            transactions_leave_holes(&broker);
            compaction_leaves_holes(&broker);
            deleted_records_are_reported(&broker);
            deleted_records_are_skipped_on_demand(&broker);
            a_query_does_without_deleted_records(&broker);
            a_topic_made_anew_is_not_read_on(&broker);
            a_topic_made_anew_is_told_by_its_id(&broker);
            a_topic_that_is_made_anew_after_a_while_is_not_read_on(&broker);
            new_partitions_are_found(&broker);
            throughput(&broker, &say);
            latency(&broker, &say);
            a_broker_that_restarts(&broker);
        }
        Err(reason) => {
            say(&format!("no broker ({reason}); librdkafka's mock cluster serves a part of the cases"));
            let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
            let client = KafkaClient::new(cluster.bootstrap_servers()).unwrap();
            cases_of_any_broker(&client, &|topic, partitions| cluster.create_topic(topic, partitions, 1).unwrap());
        }
    }
}

/// Creates a topic with so many partitions.
type Create<'a> = &'a dyn Fn(&str, i32);

/// Settings of topics whose records are older than a broker keeps them by default.
const KEEP: [(&str, &str); 1] = [("retention.ms", "-1")];

fn cases_of_any_broker(client: &KafkaClient, create: Create) {
    errors_at_creation(client, create);
    bounded_ranges_are_exact(client, create);
    undecodable_records(client, create);
    comments_are_no_records(client, create);
    metadata_columns(client, create);
    back_pressure(client, create);
}

fn source(client: &KafkaClient, topic: &str, more: &[(&str, &str)]) -> SourceSpec {
    let given = [("connector", "kafka"), ("topic", topic), ("properties.bootstrap.server", &client.bootstrap), ("format", "json")];
    let raw = given.iter().chain(more).map(|(key, value)| (key.to_string(), value.to_string()));
    let options = options::canonicalize(raw.collect()).unwrap();
    SourceSpec { name: "s".to_string(), options, columns: vec![column("id", SqlType::BigInt, ColumnOrigin::Payload)], key: vec![] }
}

fn column(name: &str, ty: SqlType, origin: ColumnOrigin) -> SourceColumn {
    SourceColumn { external_name: name.to_string(), ty, nullable: true, length: None, origin }
}

fn metadata(name: &str, ty: SqlType, key: &str) -> SourceColumn {
    column(name, ty, ColumnOrigin::Metadata(key.to_string()))
}

fn ids(ids: Range<i64>) -> impl Iterator<Item = String> {
    ids.map(|id| format!("{{\"id\":{id}}}"))
}

fn range(partition: i32, start: i64, end: Option<i64>) -> PartitionRange {
    PartitionRange { partition: PartitionId(partition), start: Offset(start), end: end.map(Offset) }
}

fn read(spec: &SourceSpec, ranges: &[PartitionRange], sink: &Arc<CollectingSink>) -> Box<dyn SourceReader> {
    eddyline_connectors::open(spec).unwrap().read(ranges.to_vec(), sink.clone()).unwrap()
}

fn starts(spec: &SourceSpec) -> Vec<i64> {
    eddyline_connectors::open(spec).unwrap().resolve_start().unwrap().iter().map(|s| s.start.0).collect()
}

fn present_end(spec: &SourceSpec) -> Vec<i64> {
    eddyline_connectors::open(spec).unwrap().present().unwrap().unwrap().iter().map(|r| r.end.unwrap().0).collect()
}

/// What was read of a partition.
#[derive(Default)]
struct Got {
    ids: Vec<i64>,
    offsets: Vec<i64>,
    undecodable: Vec<UndecodableRecord>,
    end: Option<i64>,
}

/// Reads from the sink until `enough`, and checks the contract on the way: no gaps, in order, offsets within.
fn collect(sink: &CollectingSink, got: &mut HashMap<i32, Got>, mut enough: impl FnMut(&HashMap<i32, Got>) -> bool) {
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
fn read_ranges(spec: &SourceSpec, ranges: &[PartitionRange]) -> HashMap<i32, Got> {
    read_ranges_into(spec, ranges, CollectingSink::new(16))
}

fn read_ranges_into(spec: &SourceSpec, ranges: &[PartitionRange], sink: Arc<CollectingSink>) -> HashMap<i32, Got> {
    let reader = read(spec, ranges, &sink);
    let mut got = HashMap::new();
    let end = |r: &PartitionRange| r.end.map(|end| end.0);
    collect(&sink, &mut got, |got| ranges.iter().all(|r| got.get(&r.partition.0).is_some_and(|g| g.end == end(r))));
    assert!(sink.next(Duration::from_millis(100)).is_none(), "more than the ranges");
    drop(reader);
    got
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
    let reader = read(&spec, &[range(1, 0, Some(3))], &sink);
    let (mut rows, mut undecodable, mut end) = (Vec::new(), Vec::new(), 0);
    while end < 3 {
        let batch = sink.next(PATIENCE).expect("a batch");
        end = batch.end.0;
        undecodable.extend(batch.undecodable);
        rows.push(batch.rows);
    }
    drop(reader);
    let rows = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
    assert_eq!((rows.num_rows(), undecodable[0].reason.as_str()), (2, "column k: the key is not UTF-8"));
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

fn startup_modes(broker: &KafkaBroker) {
    broker.create_topic("modes", 2, &KEEP).unwrap();
    for id in 0..100 {
        let value = format!("{{\"id\":{id}}}");
        broker.send_record(BaseRecord::to("modes").partition(id % 2).payload(value.as_bytes()).timestamp(1_000_000 + id as i64));
    }
    broker.flush().unwrap();
    let mode = |more: &[(&str, &str)]| source(broker, "modes", more);
    assert_eq!(starts(&mode(&[])), [0, 0]);
    assert_eq!(starts(&mode(&[("scan.startup.mode", "latest")])), [50, 50]);
    let at = |millis: &str| starts(&mode(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp.millis", millis)]));
    assert_eq!((at("0"), at("1000031"), at("2000000")), (vec![0, 0], vec![16, 15], vec![50, 50]));
    let offsets = |text: &str| mode(&[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", text)]);
    assert_eq!(starts(&offsets("partition:1,offset:42")), [0, 42]);
    for (text, state) in [("partition:7,offset:1", SqlState::INVALID_PARAMETER), ("partition:0,offset:51", SqlState::INVALID_PARAMETER)] {
        let spec = offsets(text);
        assert_eq!(eddyline_connectors::open(&spec).unwrap().resolve_start().unwrap_err().state, state);
    }
    let group = |more: &[(&str, &str)]| mode(&[&[("scan.startup.mode", "group-offsets"), ("properties.group.id", "g")], more].concat());
    let error = eddyline_connectors::open(&group(&[])).unwrap().resolve_start().unwrap_err();
    assert!(error.message.contains("no committed offset"), "{error}");
    let consumer: BaseConsumer = broker.config().set("group.id", "g").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("modes", 0, KafkaOffset::Offset(7)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
    assert_eq!(starts(&group(&[("properties.auto.offset.reset", "latest")])), [7, 50]);
    assert_eq!(starts(&group(&[("properties.auto.offset.reset", "earliest")])), [7, 0]);
}

/// Commits or aborts a transaction of some ids.
fn transaction(producer: &BaseProducer, topic: &str, values: Range<i64>, commit: bool) {
    producer.begin_transaction().unwrap();
    for value in ids(values) {
        producer.send(BaseRecord::<(), str>::to(topic).partition(0).payload(&value)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    if commit { producer.commit_transaction(PATIENCE).unwrap() } else { producer.abort_transaction(PATIENCE).unwrap() }
}

fn transactions_leave_holes(broker: &KafkaBroker) {
    broker.create_topic("holes", 1, &[]).unwrap();
    let producer: BaseProducer = broker.config().set("transactional.id", "t").create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    transaction(&producer, "holes", 0..10, true); // offsets 0..10, marker at 10
    transaction(&producer, "holes", 100..110, false); // 11..21, marker at 21
    transaction(&producer, "holes", 10..20, true); // 22..32, marker at 32
    let spec = source(broker, "holes", &[]);
    assert_eq!(present_end(&spec), [33]);
    let got = read_ranges(&spec, &[range(0, 0, Some(33))]).remove(&0).unwrap();
    assert_eq!(got.ids, (0..20).collect::<Vec<_>>());
    assert_eq!(got.offsets, (0..10).chain(22..32).collect::<Vec<_>>());
    // Ends in holes, and ranges that are nothing but holes.
    for (start, end, count) in [(0, 11, 10), (5, 15, 5), (10, 22, 0), (12, 14, 0), (15, 23, 1), (32, 33, 0)] {
        let got = read_ranges(&spec, &[range(0, start, Some(end))]).remove(&0).unwrap();
        assert_eq!(got.ids.len(), count, "{start}..{end}");
    }
    // A reader without end comes to the end too, though the last offset is a marker.
    let sink = CollectingSink::new(16);
    let reader = read(&spec, &[range(0, 0, None)], &sink);
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| got.get(&0).is_some_and(|g| g.end == Some(33)));
    // An open transaction is not seen; once committed it is.
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to("holes").partition(0).payload("{\"id\":20}")).unwrap();
    producer.flush(PATIENCE).unwrap();
    assert_eq!(present_end(&spec), [33]);
    assert!(sink.next(Duration::from_millis(200)).is_none());
    producer.commit_transaction(PATIENCE).unwrap();
    collect(&sink, &mut got, |got| got[&0].end == Some(35));
    assert_eq!(got[&0].ids, (0..21).collect::<Vec<_>>());
    drop(reader);
}

fn compaction_leaves_holes(broker: &KafkaBroker) {
    let settings =
        [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.001"), ("max.compaction.lag.ms", "100")];
    broker.create_topic("compacted", 1, &settings).unwrap();
    for id in 0..1_000 {
        broker.send("compacted", 0, Some(b"same"), Some(format!("{{\"id\":{id}}}").as_bytes()));
    }
    broker.flush().unwrap();
    let spec = source(broker, "compacted", &[]);
    let begun = Instant::now();
    let mut next = 1_000;
    loop {
        // Each record rolls the segment, which lets the cleaner at the one before.
        broker.send("compacted", 0, Some(b"same"), Some(format!("{{\"id\":{next}}}").as_bytes()));
        broker.flush().unwrap();
        next += 1;
        let got = read_ranges(&spec, &[range(0, 0, Some(next))]).remove(&0).unwrap();
        assert_eq!(got.ids, got.offsets);
        assert_eq!(got.ids.last(), Some(&(next - 1)));
        if got.ids.len() < 500 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the broker does not compact: {} records", got.ids.len());
    }
    let got = read_ranges(&spec, &[range(0, 100, Some(200))]).remove(&0).unwrap();
    assert!(got.ids.is_empty());
}

fn deleted_records_are_reported(broker: &KafkaBroker) {
    broker.create_topic("deleted", 2, &[]).unwrap();
    broker.produce("deleted", 0, ids(0..100)).unwrap();
    broker.produce("deleted", 1, ids(0..100)).unwrap();
    broker.delete_records("deleted", 0, 50).unwrap();
    let spec = source(broker, "deleted", &[]);
    assert_eq!(starts(&spec), [50, 0]);
    let sink = CollectingSink::new(16);
    let reader = read(&spec, &[range(0, 10, Some(100)), range(1, 0, Some(100))], &sink);
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| got.get(&1).is_some_and(|g| g.end == Some(100)));
    let begun = Instant::now();
    while sink.problems().is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        assert!(sink.next(Duration::from_millis(50)).is_none(), "deleted records are not skipped silently");
    }
    let problem = sink.problems().remove(0).unwrap();
    let says = "partition 0 of topic \"deleted\" does not have offset 10 any more, the earliest is 50";
    assert!(problem.starts_with(says) && problem.contains("HINT: "), "{problem}");
    drop(reader);
}

fn deleted_records_are_skipped_on_demand(broker: &KafkaBroker) {
    let spec = source(broker, "deleted", &[("scan.lost-offsets", "skip")]);
    let got = read_ranges(&spec, &[range(0, 10, Some(100)), range(1, 0, Some(100))]);
    assert_eq!((got[&0].ids.as_slice(), got[&1].ids.len()), ((50..100).collect::<Vec<_>>().as_slice(), 100));
    let skipped: Vec<(i64, &str)> = got[&0].undecodable.iter().map(|u| (u.offset.0, u.reason.as_str())).collect();
    assert_eq!(skipped, [(10, "offsets 10 to 49 were removed from the topic before they were read")]);
    // A range of which nothing is left, and an endless one.
    let got = read_ranges(&spec, &[range(0, 10, Some(40))]);
    assert_eq!((got[&0].ids.len(), got[&0].undecodable.len()), (0, 1));
    let sink = CollectingSink::new(16);
    let reader = read(&spec, &[range(0, 0, None)], &sink);
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| got.get(&0).is_some_and(|g| g.end == Some(100)));
    assert_eq!((got[&0].ids.len(), got[&0].undecodable[0].offset.0), (50, 0));
    drop(reader);
}

/// What was there when a query began to read may be gone when it comes to it.
fn a_query_does_without_deleted_records(broker: &KafkaBroker) {
    let spec = source(broker, "deleted", &[]);
    let got = read_ranges_into(&spec, &[range(0, 10, Some(100)), range(1, 0, Some(100))], CollectingSink::of_a_query(16));
    assert_eq!((got[&0].ids.as_slice(), got[&1].ids.len()), ((50..100).collect::<Vec<_>>().as_slice(), 100));
    let got = read_ranges_into(&spec, &[range(0, 10, Some(40))], CollectingSink::of_a_query(16));
    assert!(got[&0].ids.is_empty());
}

/// Whether the reader's trouble is that.
fn told(sink: &CollectingSink) -> bool {
    sink.problems().last().cloned().flatten().is_some_and(|p| p.contains("the topic is not the one that was read before"))
}

/// Its offsets mean other records: also once there are as many of them, and to readers that begin then.
fn a_topic_made_anew_is_not_read_on(broker: &KafkaBroker) {
    broker.create_topic("anew", 1, &KEEP).unwrap();
    broker.produce("anew", 0, ids(0..10)).unwrap();
    let spec = source(broker, "anew", &[]);
    let connector = eddyline_connectors::open(&spec).unwrap();
    let sink = CollectingSink::new(16);
    let reader = connector.read(vec![range(0, 0, None)], sink.clone()).unwrap();
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| got.get(&0).is_some_and(|g| g.ids.len() == 10));
    broker.recreate_topic("anew", 1, &KEEP).unwrap();
    broker.produce("anew", 0, ids(100..103)).unwrap();
    await_told(&sink);
    broker.produce("anew", 0, ids(103..150)).unwrap();
    let later = CollectingSink::new(16);
    let second = connector.read(vec![range(0, 10, None)], later.clone()).unwrap();
    await_told(&later);
    // A query reads what there is, which a reader that went on would have read too.
    let there = eddyline_connectors::open(&spec).unwrap();
    assert_eq!(there.present().unwrap().unwrap(), [range(0, 0, Some(50))]);
    assert_eq!(read_ranges(&spec, &[range(0, 0, Some(50))])[&0].ids, (100..150).collect::<Vec<i64>>());
    // Dropping a reader waits for its threads, and what they pushed is kept: there is nothing.
    drop((reader, second));
    assert!(told(&sink) && told(&later), "{:?} {:?}", sink.problems(), later.problems());
    assert_eq!((sink.waiting(), later.waiting()), (0, 0));
}

fn await_told(sink: &CollectingSink) {
    let begun = Instant::now();
    while !told(sink) {
        assert!(begun.elapsed() < 3 * PATIENCE, "{:?}", sink.problems());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Also where it has as many records as were read before anybody looks: whoever was told which topic was read takes none of another one.
fn a_topic_made_anew_is_told_by_its_id(broker: &KafkaBroker) {
    broker.create_topic("renewed", 1, &KEEP).unwrap();
    broker.produce("renewed", 0, ids(0..10)).unwrap();
    let spec = source(broker, "renewed", &[]);
    let sink = CollectingSink::new(1_000);
    let reader = read(&spec, &[range(0, 0, None)], &sink);
    let (mut rows, mut notes) = (0, Vec::new());
    while rows < 10 {
        let batch = sink.next(PATIENCE).expect("a batch");
        rows += batch.rows.num_rows();
        notes.extend(batch.notes);
    }
    assert_eq!(notes.len(), 1, "{notes:?}");
    broker.recreate_topic("renewed", 1, &KEEP).unwrap();
    broker.produce("renewed", 0, ids(100..150)).unwrap();
    // One that is at work is told within seconds, whatever it has read by then.
    await_told(&sink);
    drop(reader);
    let restarted = eddyline_connectors::open(&spec).unwrap();
    restarted.remember(&notes).unwrap();
    for wanted in [range(0, 10, None), range(0, 0, Some(5))] {
        let sink = CollectingSink::new(16);
        let reader = restarted.read(vec![wanted], sink.clone()).unwrap();
        await_told(&sink);
        drop(reader);
        assert_eq!(sink.waiting(), 0, "{wanted:?}");
    }
    // Ids say nothing across clusters: there the offsets were carried over.
    let mut note = notes.remove(0);
    let mut known: serde_json::Value = serde_json::from_str(&note.text).unwrap();
    known["cluster"] = "another".into();
    note.text = known.to_string();
    let moved = eddyline_connectors::open(&spec).unwrap();
    moved.remember(&[note]).unwrap();
    let sink = CollectingSink::new(16);
    let reader = moved.read(vec![range(0, 10, None)], sink.clone()).unwrap();
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| got.get(&0).is_some_and(|g| g.ids.len() == 40));
    assert_eq!(got[&0].ids, (110..150).collect::<Vec<i64>>());
    drop(reader);
    // A source that is made now reads what there is.
    assert_eq!(read_ranges(&spec, &[range(0, 0, Some(50))])[&0].ids, (100..150).collect::<Vec<i64>>());
}

/// Whether the reader's trouble is that there is no such topic.
fn told_of_none(problem: &Option<String>) -> bool {
    problem.as_ref().is_some_and(|p| p.starts_with("topic \"gone\" no longer exists at the broker. HINT: "))
}

fn await_report(sink: &CollectingSink, is_it: impl Fn(&Option<String>) -> bool) {
    let begun = Instant::now();
    while !sink.problems().last().is_some_and(&is_it) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", sink.problems());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn a_topic_that_is_made_anew_after_a_while_is_not_read_on(broker: &KafkaBroker) {
    broker.create_topic("gone", 1, &KEEP).unwrap();
    broker.produce("gone", 0, ids(0..10)).unwrap();
    let sink = CollectingSink::new(16);
    let reader = read(&source(broker, "gone", &[]), &[range(0, 0, None)], &sink);
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| got.get(&0).is_some_and(|g| g.ids.len() == 10));
    broker.delete_topic("gone").unwrap();
    await_report(&sink, told_of_none);
    broker.create_topic("gone", 1, &KEEP).unwrap();
    // More than were read: whoever went on would find them.
    broker.produce("gone", 0, ids(100..150)).unwrap();
    await_told(&sink);
    let after = sink.problems().iter().skip_while(|problem| !told_of_none(problem)).any(Option::is_none);
    assert!(!after, "the trouble never ended: {:?}", sink.problems());
    drop(reader);
    assert_eq!(sink.waiting(), 0, "nothing of the other one was read");
}

/// Its trouble ends if it was only away.
#[test]
fn a_topic_that_is_gone_is_told_of_once() {
    let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    let client = KafkaClient::new(cluster.bootstrap_servers()).unwrap();
    cluster.create_topic("gone", 2, 1).unwrap();
    client.produce("gone", 0, ids(0..10)).unwrap();
    let sink = CollectingSink::new(16);
    let reader = read(&source(&client, "gone", &[]), &[range(0, 0, None), range(1, 0, None)], &sink);
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| got.get(&0).is_some_and(|g| g.ids.len() == 10));
    cluster.topic_error("gone", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    await_report(&sink, told_of_none);
    // Brokers are asked again meanwhile.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(sink.problems().iter().filter(|problem| told_of_none(problem)).count(), 1, "{:?}", sink.problems());
    cluster.topic_error("gone", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    await_report(&sink, Option::is_none);
    client.produce("gone", 0, ids(10..20)).unwrap();
    collect(&sink, &mut got, |got| got[&0].ids.len() == 20);
    assert_eq!(got[&0].ids, (0..20).collect::<Vec<_>>());
    drop(reader);
}

/// Brokers before Kafka 2.8 give topics no ids: there the end tells, at the first look, and to readers that begin later too.
#[test]
fn a_topic_made_anew_is_told_by_its_end() {
    let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    // The first answers that have ids are those of version 10.
    cluster.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(9)).unwrap();
    let client = KafkaClient::new(cluster.bootstrap_servers()).unwrap();
    cluster.create_topic("short", 1, 1).unwrap();
    client.produce("short", 0, ids(100..103)).unwrap();
    let connector = eddyline_connectors::open(&source(&client, "short", &[])).unwrap();
    let sink = CollectingSink::new(16);
    // Ten records of the earlier topic were read.
    let reader = connector.read(vec![range(0, 10, None)], sink.clone()).unwrap();
    await_told(&sink);
    let problem = sink.problems().pop().flatten().unwrap();
    assert!(problem.starts_with("partition 0 of topic \"short\" does not have offset 10, it ends at 3: "), "{problem}");
    client.produce("short", 0, ids(103..150)).unwrap();
    let later = CollectingSink::new(16);
    let second = connector.read(vec![range(0, 10, None)], later.clone()).unwrap();
    await_told(&later);
    // A partition whose fetching failed is tried again within that time.
    std::thread::sleep(Duration::from_secs(3));
    drop((reader, second));
    assert!(told(&sink) && told(&later), "{:?} {:?}", sink.problems(), later.problems());
    assert_eq!((sink.waiting(), later.waiting()), (0, 0));
}

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

/// Not all of them with a client of their own, and none for longer than one may take.
#[test]
fn many_questions_to_a_broker_that_is_away_end_in_time() {
    let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    let client = KafkaClient::new(cluster.bootstrap_servers()).unwrap();
    let mut away = source(&client, "orders", &[]);
    away.options.insert(options::BOOTSTRAP_SERVERS.to_string(), "127.0.0.1:2".to_string());
    let begun = Instant::now();
    let ask = || eddyline_connectors::open(&away).and_then(|c| c.resolve_start()).unwrap_err();
    let errors: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(errors.iter().all(|error| error.state == SqlState::CONNECTION_FAILURE), "{errors:?}");
    let is_refused = |detail: &String| detail.starts_with("As many questions as may wait for it at once");
    assert!(errors.iter().any(|error| error.detail.as_ref().is_some_and(is_refused)), "{errors:?}");
}

fn new_partitions_are_found(broker: &KafkaBroker) {
    broker.create_topic("grows", 1, &[]).unwrap();
    broker.produce("grows", 0, ids(0..10)).unwrap();
    let spec = source(broker, "grows", &[("scan.topic-partition-discovery.interval", "200 ms")]);
    let sink = CollectingSink::new(64);
    let reader = read(&spec, &[range(0, 0, None)], &sink);
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| got.get(&0).is_some_and(|g| g.ids.len() == 10));
    broker.add_partitions("grows", 3).unwrap();
    for partition in 0..3 {
        broker.produce("grows", partition, ids(100..200)).unwrap();
    }
    let has = |got: &HashMap<i32, Got>, partition, rows| got.get(&partition).is_some_and(|g| g.ids.len() == rows);
    collect(&sink, &mut got, |got| has(got, 0, 110) && has(got, 1, 100) && has(got, 2, 100));
    // From their first records on, and then with the others.
    broker.produce("grows", 2, ids(200..210)).unwrap();
    collect(&sink, &mut got, |got| has(got, 2, 110));
    assert_eq!(got[&2].ids, (100..210).collect::<Vec<_>>());
    drop(reader);
    // A reader of ranges with ends reads those and nothing else.
    assert_eq!(read_ranges(&spec, &[range(0, 0, Some(5))]).len(), 1);
    assert!(sink.problems().is_empty(), "{:?}", sink.problems());
}

fn a_broker_that_restarts(broker: &KafkaBroker) {
    broker.create_topic("restart", 2, &[]).unwrap();
    broker.produce("restart", 0, ids(0..1_000)).unwrap();
    let sink = CollectingSink::new(64);
    let reader = read(&source(broker, "restart", &[]), &[range(0, 0, None), range(1, 0, None)], &sink);
    let mut got = HashMap::new();
    collect(&sink, &mut got, |got| got.get(&0).is_some_and(|g| g.ids.len() == 1_000));
    broker.stop();
    let begun = Instant::now();
    while !matches!(sink.problems().last(), Some(Some(_))) {
        assert!(begun.elapsed() < PATIENCE, "a broker that is away is reported");
        assert!(sink.next(Duration::from_millis(20)).is_none());
    }
    broker.restart();
    // Nothing new is in the topic, yet the trouble ends.
    let begun = Instant::now();
    while sink.problems().last() != Some(&None) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", sink.problems());
        assert!(sink.next(Duration::from_millis(20)).is_none());
    }
    broker.produce("restart", 0, ids(1_000..2_000)).unwrap();
    broker.produce("restart", 1, ids(0..10)).unwrap();
    collect(&sink, &mut got, |got| got[&0].ids.len() == 2_000 && got.get(&1).is_some_and(|g| g.ids.len() == 10));
    assert_eq!(got[&0].ids, (0..2_000).collect::<Vec<_>>());
    drop(reader);
}

fn throughput(broker: &KafkaBroker, say: &impl Fn(&str)) {
    const RECORDS: i64 = 1_000_000;
    broker.create_topic("fast", 2, &[]).unwrap();
    for n in 0..RECORDS {
        let value = format!(
            "{{\"auction\":{},\"bidder\":{},\"price\":{},\"channel\":\"Google\",\"url\":\"https://www.example.com/abc/item.htm?query=1\",\"date_time\":\"2015-07-15 00:00:01.250\",\"extra\":\"{}\"}}",
            n % 1_000,
            n % 7_919,
            n,
            "x".repeat(30)
        );
        broker.send("fast", (n % 2) as i32, None, Some(value.as_bytes()));
    }
    broker.flush().unwrap();
    let mut spec = source(broker, "fast", &[]);
    let columns = [
        ("auction", SqlType::BigInt),
        ("bidder", SqlType::BigInt),
        ("price", SqlType::BigInt),
        ("channel", SqlType::Text),
        ("url", SqlType::Text),
        ("date_time", SqlType::Timestamp),
        ("extra", SqlType::Text),
    ];
    spec.columns = columns.into_iter().map(|(name, ty)| column(name, ty, ColumnOrigin::Payload)).collect();
    let sink = CollectingSink::new(16);
    let begun = Instant::now();
    let reader = read(&spec, &[range(0, 0, Some(RECORDS / 2)), range(1, 0, Some(RECORDS / 2))], &sink);
    let mut rows = 0;
    while rows < RECORDS as usize {
        rows += sink.next(PATIENCE).expect("a batch").rows.num_rows();
    }
    let rate = RECORDS as f64 / begun.elapsed().as_secs_f64();
    say(&format!("{rate:.0} records of 200 bytes per second, 7 columns"));
    assert!(rate > 20_000.0);
    drop(reader);
}

fn latency(broker: &KafkaBroker, say: &impl Fn(&str)) {
    broker.create_topic("quick", 1, &[]).unwrap();
    let producer: BaseProducer<DefaultProducerContext> = broker.config().set("linger.ms", "0").create().unwrap();
    let sink = CollectingSink::new(16);
    let reader = read(&source(broker, "quick", &[]), &[range(0, 0, None)], &sink);
    let mut micros = BTreeMap::new();
    for id in 0..200 {
        let begun = Instant::now();
        producer.send(BaseRecord::<(), str>::to("quick").partition(0).payload(&format!("{{\"id\":{id}}}"))).unwrap();
        while sink.next(Duration::from_millis(1)).is_none() {
            producer.poll(Duration::ZERO);
            assert!(begun.elapsed() < PATIENCE);
        }
        *micros.entry(begun.elapsed().as_micros()).or_insert(0) += 1;
    }
    let sorted: Vec<u128> = micros.into_iter().flat_map(|(value, count)| std::iter::repeat_n(value, count)).collect();
    say(&format!("send to batch: median {} us, p99 {} us", sorted[100], sorted[198]));
    assert!(sorted[100] < 500_000);
    drop(reader);
}
