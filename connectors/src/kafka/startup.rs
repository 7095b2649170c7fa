//! Questions to the broker before reading: which partitions there are, where each begins for this source by its
//! startup mode, and where each ends now. Every answer comes, or fails, within ten seconds, also where many ask at once (`asking`).

use super::asking::Turn;
use super::client::{Reasons, Settings};
use eddyline_common::connector::{PartitionRange, PartitionStart};
use eddyline_common::{Offset, PartitionId, Result, SqlError, SqlState, options};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A broker that has not answered the first question by then is away, and who has found no turn to ask it by then is told the same.
const AWAY_AFTER: Duration = Duration::from_secs(5);
/// All questions together take no longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(9);
/// One attempt at the first question.
const ATTEMPT: Duration = Duration::from_millis(1_000);

/// A conversation with the broker about one topic.
struct Inquiry<'a> {
    settings: &'a Settings,
    client: BaseConsumer<Reasons>,
    begun: Instant,
    /// Dropped after the client.
    _turn: Turn,
}

impl<'a> Inquiry<'a> {
    fn new(settings: &'a Settings) -> Result<Self> {
        let begun = Instant::now();
        let turn = settings.turn(AWAY_AFTER)?;
        Ok(Inquiry { settings, client: settings.inquirer()?, begun, _turn: turn })
    }

    fn time_left(&self) -> Duration {
        ANSWERED_WITHIN.saturating_sub(self.begun.elapsed()).max(Duration::from_millis(1))
    }

    fn failed(&self, error: &KafkaError) -> SqlError {
        // Errors of the connection wait in the client's queue, among log lines (on which a poll without time ends).
        while self.client.poll(Duration::from_millis(10)).is_some() {}
        self.settings.request_error(error, &self.client.context().last())
    }

    /// Asks again while the broker is still making up its mind: a topic just created, a coordinator just found.
    fn ask<T>(&self, question: impl Fn(Duration) -> KafkaResult<T>) -> Result<T> {
        use RDKafkaErrorCode::*;
        loop {
            let error = match question(self.time_left()) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let passing =
                [NotLeaderForPartition, LeaderNotAvailable, UnknownTopicOrPartition, CoordinatorLoadInProgress].into_iter().chain([
                    CoordinatorNotAvailable,
                    NotCoordinator,
                    FencedLeaderEpoch,
                    UnknownLeaderEpoch,
                    ReplicaNotAvailable,
                    KafkaStorageError,
                ]);
            if !error.rdkafka_error_code().is_some_and(|code| passing.into_iter().any(|p| p == code)) || self.time_left() < ATTEMPT {
                return Err(self.failed(&error));
            }
            self.client.poll(Duration::from_millis(50));
        }
    }

    fn partitions(&self) -> Result<Vec<i32>> {
        loop {
            let metadata = match self.client.fetch_metadata(Some(&self.settings.topic), ATTEMPT) {
                Ok(metadata) => metadata,
                Err(_) if self.begun.elapsed() < AWAY_AFTER => continue,
                Err(error) => return Err(self.failed(&error)),
            };
            let topic = metadata.topics().iter().find(|topic| topic.name() == self.settings.topic);
            let Some(topic) = topic else { return Err(self.missing_topic()) };
            match topic.error() {
                None if !topic.partitions().is_empty() => {
                    let mut partitions: Vec<i32> = topic.partitions().iter().map(|partition| partition.id()).collect();
                    partitions.sort();
                    return Ok(partitions);
                }
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID) => {
                    return Err(self.missing_topic());
                }
                // A topic in the making has no leaders for a moment.
                None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) if self.begun.elapsed() < AWAY_AFTER => {
                    self.client.poll(Duration::from_millis(100));
                }
                error => {
                    let code = error.unwrap_or(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
                    return Err(self.failed(&KafkaError::MetadataFetch(code.into())));
                }
            }
        }
    }

    fn missing_topic(&self) -> SqlError {
        let all = self.client.fetch_metadata(None, self.time_left().min(ATTEMPT)).ok();
        let names: Vec<&str> = all.iter().flat_map(|m| m.topics()).map(|t| t.name()).filter(|name| !name.starts_with("__")).collect();
        self.settings.missing_topic(options::nearest(&self.settings.topic, names))
    }

    /// The first offset there is and the one after the last committed record.
    fn bounds(&self, partition: i32) -> Result<(i64, i64)> {
        self.ask(|time| self.client.fetch_watermarks(&self.settings.topic, partition, time))
    }

    fn list(&self, partitions: &[i32], offset: KafkaOffset) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(&self.settings.topic, *partition, offset).map_err(SqlError::internal)?;
        }
        Ok(list)
    }

    /// The first record of each partition at or after a time.
    fn at_time(&self, partitions: &[i32], millis: i64) -> Result<Vec<(i32, i64)>> {
        let asked = self.list(partitions, KafkaOffset::Offset(millis))?;
        let answers = self.ask(|time| self.client.offsets_for_times(asked.clone(), time).and_then(each_answered))?;
        let offset_of = |partition: i32| match answers.find_partition(&self.settings.topic, partition).map(|p| p.offset()) {
            Some(KafkaOffset::Offset(offset)) => Ok((partition, offset)),
            _ => Ok((partition, self.bounds(partition)?.1)), // all records are older
        };
        partitions.iter().map(|partition| offset_of(*partition)).collect()
    }

    /// Where the consumer group stands; where it does not, what `auto.offset.reset` says.
    fn of_group(&self, partitions: &[i32]) -> Result<Vec<(i32, i64)>> {
        let asked = self.list(partitions, KafkaOffset::Invalid)?;
        let answers = self.ask(|time| self.client.committed_offsets(asked.clone(), time).and_then(each_answered))?;
        let reset = self.settings.options.get(options::AUTO_OFFSET_RESET).map_or("none", String::as_str);
        let offset_of = |partition: i32| match answers.find_partition(&self.settings.topic, partition).map(|p| p.offset()) {
            Some(KafkaOffset::Offset(offset)) => Ok((partition, offset)),
            _ => match reset {
                "earliest" => Ok((partition, self.bounds(partition)?.0)),
                "latest" => Ok((partition, self.bounds(partition)?.1)),
                _ => {
                    let group = self.settings.options.get(options::GROUP_ID).map_or("", String::as_str);
                    let message =
                        format!("group \"{group}\" has no committed offset in partition {partition} of topic \"{}\"", self.settings.topic);
                    Err(SqlError::new(SqlState::OBJECT_NOT_READY, message)
                        .with_hint(format!("Set \"{}\" to earliest or latest for partitions without one.", options::AUTO_OFFSET_RESET)))
                }
            },
        };
        partitions.iter().map(|partition| offset_of(*partition)).collect()
    }

    /// The offsets of the option; partitions it does not name begin at their first record.
    fn specified(&self, partitions: &[i32]) -> Result<Vec<(i32, i64)>> {
        let text = self.settings.options.get(options::STARTUP_OFFSETS).map_or("", String::as_str);
        let given: BTreeMap<i32, i64> = options::specific_offsets(options::STARTUP_OFFSETS, text)?.into_iter().collect();
        let invalid = |message: String| SqlError::new(SqlState::INVALID_PARAMETER, message);
        if let Some((unknown, _)) = given.iter().find(|(partition, _)| !partitions.contains(partition)) {
            return Err(invalid(format!("topic \"{}\" has no partition {unknown}", self.settings.topic)));
        }
        let offset_of = |partition: i32| {
            let (first, end) = self.bounds(partition)?;
            match given.get(&partition) {
                Some(offset) if *offset < first || *offset > end => {
                    Err(invalid(format!("offset {offset} of partition {partition} is out of range"))
                        .with_detail(format!("The partition holds offsets {first} to {end}.")))
                }
                Some(offset) => Ok((partition, *offset)),
                None => Ok((partition, first)),
            }
        };
        partitions.iter().map(|partition| offset_of(*partition)).collect()
    }
}

/// The answers, if there is one for every partition: a partition's failure must not pass for "no such offset".
fn each_answered(answers: TopicPartitionList) -> KafkaResult<TopicPartitionList> {
    answers.elements().iter().try_for_each(|answer| answer.error())?;
    Ok(answers)
}

fn starts(offsets: Vec<(i32, i64)>) -> Vec<PartitionStart> {
    offsets.into_iter().map(|(partition, offset)| PartitionStart { partition: PartitionId(partition), start: Offset(offset) }).collect()
}

pub fn resolve(settings: &Settings) -> Result<Vec<PartitionStart>> {
    let inquiry = Inquiry::new(settings)?;
    let partitions = inquiry.partitions()?;
    let each = |offset: fn((i64, i64)) -> i64| -> Result<Vec<(i32, i64)>> {
        partitions.iter().map(|partition| Ok((*partition, offset(inquiry.bounds(*partition)?)))).collect()
    };
    let offsets = match settings.options.get(options::STARTUP_MODE).map_or("earliest-offset", String::as_str) {
        "latest-offset" => each(|(_, end)| end)?,
        "timestamp" => inquiry.at_time(&partitions, options::integer(&settings.options, options::STARTUP_TIMESTAMP)?.unwrap_or(0))?,
        "group-offsets" => inquiry.of_group(&partitions)?,
        "specific-offsets" => inquiry.specified(&partitions)?,
        _ => each(|(first, _)| first)?,
    };
    Ok(starts(offsets))
}

pub fn present(settings: &Settings) -> Result<Vec<PartitionRange>> {
    let inquiry = Inquiry::new(settings)?;
    let range = |partition: i32| {
        let (first, end) = inquiry.bounds(partition)?;
        Ok(PartitionRange { partition: PartitionId(partition), start: Offset(first), end: Some(Offset(end)) })
    };
    inquiry.partitions()?.into_iter().map(range).collect()
}
