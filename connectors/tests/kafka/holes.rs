//! Offsets without records: of transactions, of what was compacted away, and of what was deleted.

use crate::reading::{PATIENCE, collect, ids, present_end, range, read, read_ranges, read_ranges_into, source, starts};
use eddyline_connectors::testing::{CollectingSink, KafkaBroker};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Commits or aborts a transaction of some ids.
fn transaction(producer: &BaseProducer, topic: &str, values: Range<i64>, commit: bool) {
    producer.begin_transaction().unwrap();
    for value in ids(values) {
        producer.send(BaseRecord::<(), str>::to(topic).partition(0).payload(&value)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    if commit { producer.commit_transaction(PATIENCE).unwrap() } else { producer.abort_transaction(PATIENCE).unwrap() }
}

pub fn transactions_leave_holes(broker: &KafkaBroker) {
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

pub fn compaction_leaves_holes(broker: &KafkaBroker) {
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

pub fn deleted_records_are_reported(broker: &KafkaBroker) {
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

pub fn deleted_records_are_skipped_on_demand(broker: &KafkaBroker) {
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
pub fn a_query_does_without_deleted_records(broker: &KafkaBroker) {
    let spec = source(broker, "deleted", &[]);
    let got = read_ranges_into(&spec, &[range(0, 10, Some(100)), range(1, 0, Some(100))], CollectingSink::of_a_query(16));
    assert_eq!((got[&0].ids.as_slice(), got[&1].ids.len()), ((50..100).collect::<Vec<_>>().as_slice(), 100));
    let got = read_ranges_into(&spec, &[range(0, 10, Some(40))], CollectingSink::of_a_query(16));
    assert!(got[&0].ids.is_empty());
}
