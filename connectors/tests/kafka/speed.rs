//! How fast records come, and how soon.

use crate::reading::{PATIENCE, column, range, read, source};
use eddyline_common::SqlType;
use eddyline_common::connector::ColumnOrigin;
use eddyline_connectors::testing::{CollectingSink, KafkaBroker};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub fn throughput(broker: &KafkaBroker, say: &impl Fn(&str)) {
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

pub fn latency(broker: &KafkaBroker, say: &impl Fn(&str)) {
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
