//! Where reading starts, and brokers that go away.

use crate::reading::{KEEP, PATIENCE, collect, ids, range, read, source, starts};
use eddyline_common::{SqlState, options};
use eddyline_connectors::testing::{CollectingSink, KafkaBroker, KafkaClient};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use std::collections::HashMap;
use std::time::{Duration, Instant};

pub fn startup_modes(broker: &KafkaBroker) {
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

pub fn a_broker_that_restarts(broker: &KafkaBroker) {
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
