//! The Kafka connector against a real broker (`scripts/kafka.sh`), in one test because starting a broker takes
//! seconds. Where no broker can be had, librdkafka's mock cluster stands in for the cases it can serve, and the
//! test says so on standard error. What only a mock can be made to say, and brokers that are away, are tests of their own.

mod any_broker;
mod brokers;
mod holes;
mod reading;
mod sink;
mod speed;
mod topics;

use any_broker::cases_of_any_broker;
use eddyline_connectors::testing::{KafkaBroker, KafkaClient};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use reading::KEEP;
use std::io::Write;

#[test]
fn kafka_sources() {
    let say = |text: &str| writeln!(std::io::stderr(), "kafka test: {text}").unwrap();
    match KafkaBroker::start() {
        Ok(broker) => {
            cases_of_any_broker(&broker, &|topic, partitions| broker.create_topic(topic, partitions, &KEEP).unwrap());
            brokers::startup_modes(&broker);
            holes::transactions_leave_holes(&broker);
            holes::compaction_leaves_holes(&broker);
            holes::deleted_records_are_reported(&broker);
            holes::deleted_records_are_skipped_on_demand(&broker);
            holes::a_query_does_without_deleted_records(&broker);
            topics::a_topic_made_anew_is_not_read_on(&broker);
            topics::a_topic_made_anew_is_told_by_its_id(&broker);
            topics::a_topic_that_is_made_anew_after_a_while_is_not_read_on(&broker);
            topics::new_partitions_are_found(&broker);
            speed::throughput(&broker, &say);
            speed::latency(&broker, &say);
            brokers::a_broker_that_restarts(&broker);
        }
        Err(reason) => {
            say(&format!("no broker ({reason}); librdkafka's mock cluster serves a part of the cases"));
            let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
            let client = KafkaClient::new(cluster.bootstrap_servers()).unwrap();
            cases_of_any_broker(&client, &|topic, partitions| cluster.create_topic(topic, partitions, 1).unwrap());
        }
    }
}
