//! Records of several partitions taken from librdkafka many at a time. The safe client hands out one record per call
//! and hides the offset at which a partition ended, which tells holes from missing records; so the few calls
//! needed are made here on the C interface.
//!
//! Invariants: a queue outlives neither its client nor its records' borrowers; partitions are stopped before the
//! queue is destroyed; records are destroyed exactly once.

use eddyline_common::{Result, SqlError};
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;
use std::ffi::{CStr, CString, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::Duration;

/// A queue that some partitions of one topic are consumed into. Used by one thread.
pub struct RecordQueue<C: ConsumerContext + 'static> {
    queue: *mut sys::rd_kafka_queue_t,
    topic: *mut sys::rd_kafka_topic_t,
    started: Vec<i32>,
    /// Owns the client that both pointers belong to.
    client: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's objects are thread-safe; the type itself is used by one thread at a time (no Sync).
unsafe impl<C: ConsumerContext> Send for RecordQueue<C> {}

impl<C: ConsumerContext + 'static> RecordQueue<C> {
    pub fn new(client: Arc<BaseConsumer<C>>, topic: &str) -> Result<Self> {
        let name = CString::new(topic).map_err(SqlError::internal)?;
        let native = client.client().native_ptr();
        // SAFETY: `native` is alive as long as `client`; the name is copied; a null configuration means the default.
        let (queue, topic) = unsafe { (sys::rd_kafka_queue_new(native), sys::rd_kafka_topic_new(native, name.as_ptr(), null_mut())) };
        let made = RecordQueue { queue, topic, started: Vec::new(), client };
        if made.queue.is_null() || made.topic.is_null() { Err(SqlError::internal("Kafka's client made no queue")) } else { Ok(made) }
    }

    /// Begins to fetch a partition into the queue.
    pub fn start(&mut self, partition: i32, offset: i64) -> Result<()> {
        // SAFETY: topic and queue are alive and belong to one client.
        if unsafe { sys::rd_kafka_consume_start_queue(self.topic, partition, offset, self.queue) } != 0 {
            // SAFETY: reads a thread-local of the call above.
            let code: RDKafkaErrorCode = unsafe { sys::rd_kafka_last_error() }.into();
            return Err(SqlError::internal(format!("partition {partition} cannot be read: {code}")));
        }
        self.started.push(partition);
        Ok(())
    }

    /// Ends fetching a partition; its records still in the queue are dropped.
    pub fn stop(&mut self, partition: i32) {
        if let Some(at) = self.started.iter().position(|started| *started == partition) {
            self.started.swap_remove(at);
            // SAFETY: the partition was started on this topic and not stopped since.
            unsafe { sys::rd_kafka_consume_stop(self.topic, partition) };
        }
    }

    /// Takes up to `max` records and errors, and returns as soon as it has so many or `timeout` is over.
    pub fn take(&self, max: usize, timeout: Duration, records: &mut Vec<Record>) {
        let before = records.len();
        records.reserve(max);
        let millis = timeout.as_millis().min(i32::MAX as u128) as i32;
        // SAFETY: `Record` is a transparent pointer, and there is room for `max` of them behind the present ones.
        unsafe {
            let room = records.as_mut_ptr().add(before).cast::<*mut sys::rd_kafka_message_t>();
            let taken = sys::rd_kafka_consume_batch_queue(self.queue, millis, room, max);
            records.set_len(before + taken.max(0) as usize);
        }
    }
}

/// The offset after a partition's last record, as the broker said with the last fetch; asks nobody.
pub fn last_known_end<C: ConsumerContext + 'static>(client: &BaseConsumer<C>, topic: &CStr, partition: i32) -> Option<i64> {
    let (mut low, mut high) = (-1, -1);
    let native = client.client().native_ptr();
    // SAFETY: the client is alive, the name ends in a zero, and both offsets are written only.
    let known = unsafe { sys::rd_kafka_get_watermark_offsets(native, topic.as_ptr(), partition, &mut low, &mut high) };
    (known == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

impl<C: ConsumerContext + 'static> Drop for RecordQueue<C> {
    fn drop(&mut self) {
        while let Some(partition) = self.started.last().copied() {
            self.stop(partition);
        }
        // SAFETY: nothing feeds or reads the queue any more; the client is still alive (dropped after this).
        unsafe {
            if !self.topic.is_null() {
                sys::rd_kafka_topic_destroy(self.topic);
            }
            if !self.queue.is_null() {
                sys::rd_kafka_queue_destroy(self.queue);
            }
        }
        debug_assert!(Arc::strong_count(&self.client) > 0);
    }
}

/// A record, or what happened instead of one. Must not outlive its queue's client.
#[repr(transparent)]
pub struct Record(*mut sys::rd_kafka_message_t);

/// What the queue holds at one place.
pub enum Event {
    Record,
    /// Everything before this offset has been delivered.
    EndOfPartition {
        offset: i64,
    },
    Error {
        code: RDKafkaErrorCode,
        reason: String,
    },
}

impl Record {
    fn message(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: librdkafka gave a valid message, which lives until this is dropped.
        unsafe { &*self.0 }
    }

    pub fn event(&self) -> Event {
        let message = self.message();
        match message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Event::Record,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Event::EndOfPartition { offset: message.offset },
            code => {
                // SAFETY: the text lives as long as the message.
                let reason = unsafe {
                    let text = sys::rd_kafka_message_errstr(self.0);
                    if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
                };
                Event::Error { code: code.into(), reason }
            }
        }
    }

    pub fn partition(&self) -> i32 {
        self.message().partition
    }

    pub fn offset(&self) -> i64 {
        self.message().offset
    }

    pub fn payload(&self) -> Option<&[u8]> {
        bytes(self.message().payload, self.message().len)
    }

    pub fn key(&self) -> Option<&[u8]> {
        bytes(self.message().key, self.message().key_len)
    }

    /// Milliseconds since the epoch, as the producer or the broker set them.
    pub fn timestamp_millis(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid and `kind` is written only.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.0, &mut kind) };
        (millis >= 0 && kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(millis)
    }

    /// The record's headers in order: names and values, of which names may repeat.
    pub fn headers(&self) -> Vec<(String, Option<&[u8]>)> {
        let mut headers = Vec::new();
        let mut list = null_mut();
        // SAFETY: list, names and values belong to the message and live as long as it.
        unsafe {
            if sys::rd_kafka_message_headers(self.0, &mut list) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return headers;
            }
            let (mut name, mut value, mut size) = (null(), null(), 0);
            while sys::rd_kafka_header_get_all(list, headers.len(), &mut name, &mut value, &mut size)
                == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                headers.push((CStr::from_ptr(name).to_string_lossy().into_owned(), bytes(value as *mut c_void, size)));
            }
        }
        headers
    }
}

/// The bytes at a pointer of a message; null is no value, which an empty one is not.
fn bytes<'a>(at: *mut c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: librdkafka gives valid pairs of pointer and length; callers tie the lifetime to the message.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast::<u8>(), len) })
}

impl Drop for Record {
    fn drop(&mut self) {
        // SAFETY: created by librdkafka and destroyed nowhere else.
        unsafe { sys::rd_kafka_message_destroy(self.0) };
    }
}
