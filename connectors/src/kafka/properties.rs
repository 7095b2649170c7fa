//! The names of librdkafka's properties, for who wrote none of them. It does not know what they mean.

use eddyline_common::options;
use rdkafka::bindings as sys;
use rdkafka::config::ClientConfig;
use std::ffi::{CStr, c_char};

/// The property that was probably meant.
pub fn nearest(name: &str) -> Option<String> {
    let known = names();
    options::nearest(name, known.iter().map(String::as_str)).map(String::from)
}

/// Those of a client and of its topics, without other names for the same.
fn names() -> Vec<String> {
    let Ok(client) = ClientConfig::new().create_native_config() else { return Vec::new() };
    let (mut known, mut count) = (Vec::new(), 0);
    // SAFETY: the client's configuration is alive, and the topics' until it is destroyed. What is listed is a copy of theirs, and freed once it has been copied.
    unsafe {
        known.extend(copied(sys::rd_kafka_conf_dump(client.ptr(), &mut count), count));
        let topics = sys::rd_kafka_topic_conf_new();
        known.extend(copied(sys::rd_kafka_topic_conf_dump(topics, &mut count), count));
        sys::rd_kafka_topic_conf_destroy(topics);
    }
    known
}

/// The names of a list of names and values, which is freed.
///
/// # Safety
/// The list is one of librdkafka's, of so many texts.
unsafe fn copied(list: *mut *const c_char, count: usize) -> Vec<String> {
    // SAFETY: as the caller says; names are never null.
    unsafe {
        let texts = std::slice::from_raw_parts(list, count);
        let names = texts.iter().step_by(2).map(|name| CStr::from_ptr(*name).to_string_lossy().into_owned()).collect();
        sys::rd_kafka_conf_dump_free(list, count);
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told() {
        for (wrong, meant) in [
            ("fetch.min.bytse", Some("fetch.min.bytes")),
            ("sasl.mechanism", Some("sasl.mechanisms")),
            ("auto.ofset.reset", Some("auto.offset.reset")),
            ("qqqqqqqqqqqqqqqqqqqqqqqqq", None),
        ] {
            assert_eq!(nearest(wrong).as_deref(), meant);
        }
    }
}
