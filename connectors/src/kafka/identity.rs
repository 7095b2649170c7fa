//! Which topic it is. One that was deleted and created again has the same name, and other records under the same offsets. Brokers give each topic
//! an id (Kafka 2.8 and later), for which the safe client does not ask; so the few calls needed are made here on the C interface.
//!
//! What is known of a source's topic goes as a note with the first records that are read of it, so that a restart knows it too. Ids are compared
//! within one cluster: what somebody carried over to another one, with its offsets, is what it was.

use eddyline_common::connector::SourceNote;
use eddyline_common::{Offset, PartitionId, Result, SqlError};
use parking_lot::Mutex;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::{RDKafka, RDKafkaRespErr};
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

/// Until a note that no cut has taken goes with another batch: the one that had it may never come to a cut.
const NOTE_AGAIN: Duration = Duration::from_secs(10);

/// A topic among all that ever had its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicId {
    cluster: String,
    topic: String,
}

/// What brokers say of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// There is a topic; `None` where the brokers have no ids.
    Topic(Option<TopicId>),
    Nothing,
}

/// Asks the brokers.
pub fn ask<C: ConsumerContext + 'static>(client: &BaseConsumer<C>, topic: &str, within: Duration) -> KafkaResult<Named> {
    use RDKafkaErrorCode::{UnknownTopic, UnknownTopicId, UnknownTopicOrPartition};
    let native = client.client().native_ptr();
    let millis = within.as_millis().min(i32::MAX as u128) as i32;
    match topic_id(native, &CString::new(topic)?, millis) {
        Ok(Some(topic)) => Ok(Named::Topic(cluster_id(native, millis).map(|cluster| TopicId { cluster, topic }))),
        Ok(None) => Ok(Named::Topic(None)),
        Err(error) => match error.rdkafka_error_code() {
            Some(UnknownTopic | UnknownTopicId | UnknownTopicOrPartition) => Ok(Named::Nothing),
            _ => Err(error),
        },
    }
}

/// `None` if the brokers have no ids; the topic's error if they have no such topic.
fn topic_id(native: *mut RDKafka, topic: &CStr, millis: i32) -> KafkaResult<Option<String>> {
    let mut name = topic.as_ptr();
    let (mut code, mut bits) = (RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT, (0_i64, 0_i64));
    // SAFETY: the client is alive. The request copies options and names; the event lives, with all that it lends, until it is destroyed; a queue that
    // is destroyed takes no late answer.
    unsafe {
        let queue = sys::rd_kafka_queue_new(native);
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(&mut name, 1);
        let options = sys::rd_kafka_AdminOptions_new(native, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, null_mut(), 0);
        sys::rd_kafka_DescribeTopics(native, topics, options, queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        let event = sys::rd_kafka_queue_poll(queue, millis);
        if !event.is_null() {
            code = sys::rd_kafka_event_error(event);
            let result = sys::rd_kafka_event_DescribeTopics_result(event);
            let mut count = 0;
            if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !result.is_null() {
                let found = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
                if count == 1 {
                    code = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(*found));
                    let id = sys::rd_kafka_TopicDescription_topic_id(*found);
                    bits = (sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id));
                }
            }
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
    }
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok((bits != (0, 0)).then(|| format!("{:016x}{:016x}", bits.0, bits.1))),
        code => Err(KafkaError::MetadataFetch(code.into())),
    }
}

fn cluster_id(native: *mut RDKafka, millis: i32) -> Option<String> {
    // SAFETY: the client is alive; the text is a copy of ours, which ends in a zero.
    unsafe {
        let text = sys::rd_kafka_clusterid(native, millis);
        if text.is_null() {
            return None;
        }
        let id = CStr::from_ptr(text).to_string_lossy().into_owned();
        sys::rd_kafka_mem_free(native, text.cast());
        Some(id)
    }
}

/// What is known of a source's topic, for all its readers.
#[derive(Default)]
pub struct Identity(Mutex<State>);

#[derive(Default)]
struct State {
    /// The one that is read.
    known: Option<TopicId>,
    /// A cut has it.
    is_noted: bool,
    /// When a batch last took the note along.
    sent: Option<Instant>,
    /// Another one has its name now: what is to be said of that.
    replaced: Option<String>,
}

impl Identity {
    pub fn remember(&self, notes: &[SourceNote]) -> Result<()> {
        let Some(last) = notes.last() else { return Ok(()) };
        let known = serde_json::from_str(&last.text).map_err(|e| SqlError::corrupt(format!("the note of a topic's id: {e}")))?;
        let mut state = self.0.lock();
        (state.known, state.is_noted) = (Some(known), true);
        Ok(())
    }

    pub fn is_known(&self) -> bool {
        self.0.lock().known.is_some()
    }

    /// The brokers say that the topic has this id now.
    pub fn compare(&self, name: &str, found: TopicId) {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        match &state.known {
            Some(known) if *known == found => {}
            Some(known) if known.cluster == found.cluster => {
                state.replaced = Some(format!(
                    "topic \"{name}\" was deleted and created again (its id was {}, and is {}): the topic is not the one that was read before. \
                     HINT: The source waits here. Drop it and create it again.",
                    known.topic, found.topic
                ));
            }
            _ => (state.known, state.is_noted, state.sent) = (Some(found), false, None),
        }
    }

    /// Why what is there now is not what was read.
    pub fn replaced(&self) -> Option<String> {
        self.0.lock().replaced.clone()
    }

    /// The note that a batch from there on takes along, until a cut has it.
    pub fn note(&self, partition: PartitionId, offset: Offset) -> Option<SourceNote> {
        let mut state = self.0.lock();
        let is_due = !state.is_noted && state.sent.is_none_or(|at| at.elapsed() >= NOTE_AGAIN);
        let text = serde_json::to_string(state.known.as_ref().filter(|_| is_due)?).ok()?;
        state.sent = Some(Instant::now());
        Some(SourceNote { partition, offset, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_another_one_only_within_its_cluster() {
        let id = |cluster: &str, topic: &str| TopicId { cluster: cluster.into(), topic: topic.into() };
        let note_at = |identity: &Identity, offset| identity.note(PartitionId(0), Offset(offset));
        let identity = Identity::default();
        assert!(!identity.is_known() && note_at(&identity, 0).is_none());
        identity.compare("t", id("c", "1"));
        let note = note_at(&identity, 5).unwrap();
        assert_eq!(note.offset, Offset(5));
        assert!(note_at(&identity, 6).is_none(), "one is under way");
        let restarted = Identity::default();
        restarted.remember(&[note]).unwrap();
        assert!(restarted.is_known() && note_at(&restarted, 7).is_none(), "a cut has it");
        restarted.compare("t", id("c", "1"));
        assert_eq!(restarted.replaced(), None);
        restarted.compare("t", id("d", "2"));
        assert!(restarted.replaced().is_none() && note_at(&restarted, 8).is_some(), "it was carried over");
        restarted.compare("t", id("d", "3"));
        assert!(restarted.replaced().is_some_and(|why| why.contains("its id was 2, and is 3")));
    }
}
