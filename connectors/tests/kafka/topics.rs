//! Topics that are made anew, that go away, and that grow.

use crate::reading::{Got, KEEP, PATIENCE, collect, ids, range, read, read_ranges, source};
use eddyline_connectors::testing::{CollectingSink, KafkaBroker, KafkaClient};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Whether the reader's trouble is that.
fn told(sink: &CollectingSink) -> bool {
    sink.problems().last().cloned().flatten().is_some_and(|p| p.contains("the topic is not the one that was read before"))
}

/// Its offsets mean other records: also once there are as many of them, and to readers that begin then.
pub fn a_topic_made_anew_is_not_read_on(broker: &KafkaBroker) {
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
pub fn a_topic_made_anew_is_told_by_its_id(broker: &KafkaBroker) {
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

pub fn a_topic_that_is_made_anew_after_a_while_is_not_read_on(broker: &KafkaBroker) {
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

pub fn new_partitions_are_found(broker: &KafkaBroker) {
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
