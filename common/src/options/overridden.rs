//! The hint OPTIONS: a source with other options for one query that reads it. It is checked as CREATE checks options. What would mean
//! nothing for that query is refused, and so is what would make other than rows of the source's.

use super::altered::{Changes, canonical_changes};
use super::known::CONNECTORS;
use super::*;

/// A source's options under a hint.
#[derive(Clone, Debug, PartialEq)]
pub struct Overridden {
    pub options: BTreeMap<String, String>,
    /// They say anew where the source starts; otherwise it starts where it does for all.
    pub starts_anew: bool,
}

/// How a source's time goes on. Its definition has the watermark.
const OF_WATERMARK: &[&str] = &[IDLE_TIMEOUT, FUTURE_GUARD, WATERMARK_MODE];

/// How its reading goes on.
const OF_GOING_ON: &[&str] = &[DISCOVERY_INTERVAL, MONITOR_INTERVAL];

/// How it is written.
const OF_WRITING: &[&str] = &[SINK_KEY, DELIVERY, PARQUET_COMPRESSION, PARTITION_BY, ROLL_BYTES, ROLL_INTERVAL];

/// What says where a source is and from where on it is read.
const OF_START: &[&str] = &[TOPIC, BOOTSTRAP_SERVERS, STARTUP_MODE, STARTUP_TIMESTAMP, STARTUP_OFFSETS, PATH, FILE_PATTERN];

/// The same where it starts behind what a group has read.
const OF_GROUP: &[&str] = &[GROUP_ID, AUTO_OFFSET_RESET];

/// The options of a source with those of a hint, as they were written, in their places. `goes_on`: for a query that keeps running.
pub fn overridden_source(current: &BTreeMap<String, String>, hint: &BTreeMap<String, String>, goes_on: bool) -> Result<Overridden> {
    let connector = current.get(CONNECTOR).map_or("", String::as_str);
    let owner = CONNECTORS.iter().find(|c| c.name == connector).ok_or_else(|| unknown_connector(connector))?;
    let given = canonical_changes(owner, &Changes { set: hint.clone(), reset: vec![] }, &|_| true)?;
    for key in given.keys() {
        check(key, goes_on)?;
    }
    let mut options = current.clone();
    if given.contains_key(STARTUP_MODE) {
        // They belong to the mode that was.
        options.remove(STARTUP_TIMESTAMP);
        options.remove(STARTUP_OFFSETS);
    }
    let names: Vec<String> = given.keys().cloned().collect();
    options.extend(given.into_iter().filter_map(|(key, value)| Some((key, value?))));
    let options = canonicalize(options)?;
    if is_changelog(&options) != is_changelog(current) {
        return Err(SqlError::unsupported(format!("the hint OPTIONS cannot make \"{}\" of a source's format", options[FORMAT]))
            .with_hint("Records of the one are rows and those of the other changes: create another source."));
    }
    let of_group = options.get(STARTUP_MODE).is_some_and(|mode| mode == "group-offsets");
    let says_start = |name: &str| OF_START.contains(&name) || of_group && OF_GROUP.contains(&name);
    Ok(Overridden { starts_anew: names.iter().any(|name| says_start(name)), options })
}

fn check(key: &str, goes_on: bool) -> Result<()> {
    let refused = |why: &str| Err(SqlError::unsupported(format!("the hint OPTIONS cannot have the option \"{key}\"")).with_hint(why));
    match key {
        CONNECTOR => refused("It says what the source is: create another one."),
        PROTOBUF_DESCRIPTOR => {
            refused("A file of the server's is read by CREATE only: give the definition itself, as \"protobuf.schema\".")
        }
        key if goes_on && is_secret(key) => {
            refused("The text of what keeps running is shown to all: create another source, whose secrets are hidden.")
        }
        key if OF_WRITING.contains(&key) => refused("It means nothing for rows that are read. Leave it out."),
        key if OF_WATERMARK.contains(&key) && goes_on => refused("It is of the watermark, which CREATE says: create another source."),
        key if !goes_on && (OF_WATERMARK.contains(&key) || OF_GOING_ON.contains(&key)) => {
            refused("It means nothing for rows that are read once. Leave it out.")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn source(more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = [("connector", "kafka"), ("topic", "t"), ("properties.bootstrap.servers", "b:9092"), ("format", "json")];
        canonicalize(map(&[&own, more].concat())).unwrap()
    }

    fn failure(hint: &[(&str, &str)], goes_on: bool) -> (String, String) {
        let error = overridden_source(&source(&[]), &map(hint), goes_on).unwrap_err();
        (error.state.0.to_string(), format!("{} {}", error.message, error.hint.unwrap_or_default()))
    }

    #[test]
    fn a_hint_takes_the_place_of_what_create_said() {
        let at_a_time = source(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "17")]);
        let hint = map(&[("scan.startup.mode", "earliest"), ("value.json.fail-on-missing-field", "TRUE")]);
        let read = overridden_source(&at_a_time, &hint, false).unwrap();
        assert_eq!(read.options, source(&[("json.fail-on-missing-field", "true")]), "the time goes with its mode");
        assert!(read.starts_anew);
        let read = overridden_source(&at_a_time, &map(&[("scan.startup.timestamp.millis", "18")]), true).unwrap();
        assert_eq!((read.options[STARTUP_TIMESTAMP].as_str(), read.starts_anew), ("18", true));
        let read = overridden_source(&at_a_time, &map(&[("properties.fetch.wait.max.ms", "3")]), false).unwrap();
        assert_eq!((read.options["properties.fetch.wait.max.ms"].as_str(), read.starts_anew), ("3", false));
        let of_group = source(&[("scan.startup.mode", "group-offsets"), ("properties.group.id", "g")]);
        let other_group = map(&[("group.id", "h")]);
        let anew = |source| overridden_source(source, &other_group, false).unwrap().starts_anew;
        assert_eq!((anew(&of_group), anew(&at_a_time)), (true, false), "it starts behind its group, the other one at its time");
    }

    #[test]
    fn what_is_wrong_or_means_nothing_is_refused() {
        for (hint, state, told) in [
            (("scan.startup.mod", "earliest"), "42704", "\"scan.startup.mode\""),
            (("scan.startup.mode", "soon"), "22023", "scan.startup.mode"),
            (("scan.startup.mode", "timestamp"), "22023", "scan.startup.timestamp-millis"),
            (("scan.startup.timestamp-millis", "1"), "22023", "\"earliest-offset\""),
            (("connector", "nexmark"), "0A000", "create another one"),
            (("format", "debezium-json"), "0A000", "create another source"),
            (("scan.watermark.idle-timeout", "1 s"), "0A000", "means nothing"),
            (("key.fields", "a"), "0A000", "means nothing"),
            (("protobuf.descriptor-file", "/etc/passwd"), "0A000", "protobuf.schema"),
        ] {
            let (got, said) = failure(&[hint], false);
            assert!(got == state && said.contains(told), "{hint:?}: {got} {said}");
        }
        let (state, said) = failure(&[("scan.startup.mode", "latest"), ("SCAN.STARTUP.MODE", "earliest")], false);
        assert!(state == "42601" && said.contains("twice"), "{state} {said}");
    }

    #[test]
    fn a_query_that_keeps_running_looks_for_partitions_as_it_says() {
        let hint = map(&[("scan.topic-partition-discovery.interval", "7 s")]);
        let read = overridden_source(&source(&[]), &hint, true).unwrap();
        assert_eq!((read.options.contains_key(DISCOVERY_INTERVAL), read.starts_anew), (true, false));
        for (hint, told) in [
            (("scan.watermark.idle-timeout", "1 s"), "of the watermark"),
            (("key.fields", "a"), "means nothing"),
            (("properties.sasl.password", "p"), "shown to all"),
        ] {
            let (state, said) = failure(&[hint], true);
            assert!(state == "0A000" && said.contains(told), "{hint:?}: {state} {said}");
        }
    }
}
