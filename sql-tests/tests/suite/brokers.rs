//! A Kafka broker of a test's own. One serves as many cases as can share it, because starting it takes seconds.

use eddyline_connectors::testing::KafkaBroker;

/// With these topics, each of so many partitions.
pub(super) fn broker(topics: &[(&str, i32)]) -> KafkaBroker {
    tokio::task::block_in_place(|| {
        let broker = KafkaBroker::start().expect("a broker: scripts/kafka.sh says what it lacks");
        topics.iter().for_each(|(name, partitions)| broker.create_topic(name, *partitions, &[]).expect("a topic"));
        broker
    })
}
