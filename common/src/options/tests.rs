//! Tests of the option table.

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

const KAFKA: &[(&str, &str)] = &[("connector", "kafka"), ("topic", "t"), ("properties.bootstrap.server", "b:9092"), ("format", "JSON")];

fn kafka(more: &[(&str, &str)]) -> Result<BTreeMap<String, String>> {
    canonicalize(map(&[KAFKA, more].concat()))
}

#[test]
fn both_accents_give_the_same_map() {
    let flink = canonicalize(map(&[
        ("connector", "kafka"),
        ("topic", "t"),
        ("properties.bootstrap.servers", "b:9092"),
        ("scan.startup.mode", "timestamp"),
        ("scan.startup.timestamp-millis", "17"),
        ("value.format", "json"),
        ("properties.fetch.wait.max.ms", "3"),
    ]));
    let postgres =
        kafka(&[("scan.startup.mode", "TIMESTAMP"), ("scan.startup.timestamp.millis", "17"), ("properties.fetch.wait.max.ms", "3")]);
    assert_eq!(flink.unwrap(), postgres.unwrap());
    assert_eq!(kafka(&[]).unwrap()[STARTUP_MODE], "earliest-offset");
    assert_eq!(kafka(&[("scan.startup.mode", "latest")]).unwrap()[STARTUP_MODE], "latest-offset");
}

#[test]
fn formats_that_know_a_records_columns() {
    let registry = ("schema.registry", "http://r");
    for subject in ["schema.registry.subject", "avro-confluent.subject", "protobuf.subject"] {
        let options = kafka(&[registry, (subject, "s")]).unwrap();
        assert_eq!((options[REGISTRY_SUBJECT].as_str(), is_described(&options)), ("s", false), "{subject}");
    }
    let of_format = |format: &str| {
        let mut raw = map(&[KAFKA, &[registry]].concat());
        raw.insert("format".to_string(), format.to_string());
        canonicalize(raw).unwrap()
    };
    let keyed = kafka(&[("key.format", "avro")]).unwrap();
    assert_eq!(
        (keyed[KEY_FORMAT].as_str(), kafka(&[("key.format", "avro"), registry]).unwrap()[KEY_FORMAT].as_str()),
        ("avro", "avro-confluent")
    );
    let avro = of_format("avro");
    assert_eq!((avro[FORMAT].as_str(), is_described(&avro)), ("avro-confluent", true));
    assert!(is_described(&of_format("protobuf")) && !is_described(&of_format("csv")));
}

#[test]
fn partitions_are_looked_for_every_five_minutes_unless_told_otherwise() {
    let micros = |more: &[(&str, &str)]| discovery_micros(&kafka(more).unwrap()).unwrap();
    assert_eq!(micros(&[]), Some(300_000_000));
    for spelling in ["scan.topic-partition-discovery.interval", "scan.topic.partition.discovery.interval", "metadata.refresh.interval"] {
        assert_eq!(micros(&[(spelling, "10 s")]), Some(10_000_000), "{spelling}");
    }
    assert_eq!((micros(&[("topic.metadata.refresh.interval.ms", "500")]), micros(&[(DISCOVERY_INTERVAL, "none")])), (Some(500_000), None));
    assert_eq!(micros(&[(DISCOVERY_INTERVAL, "0")]), None);
    assert_eq!(kafka(&[("scan.lost-offsets", "earliest")]).unwrap()[LOST_OFFSETS], "skip");
}

#[test]
fn unknown_names_come_with_the_nearest() {
    let error = kafka(&[("scan.startup.mod", "latest")]).unwrap_err();
    assert_eq!(error.state, SqlState::UNDEFINED_OBJECT);
    assert_eq!(error.hint.unwrap(), "Perhaps you meant \"scan.startup.mode\".");
    let error = canonicalize(map(&[("connector", "kafak")])).unwrap_err();
    assert_eq!((error.message.as_str(), error.hint.unwrap().as_str()), ("unknown connector \"kafak\"", "Perhaps you meant \"kafka\"."));
    let error = canonicalize(map(&[("connector", "nexmark"), ("rate", "1")])).unwrap_err();
    assert_eq!(error.hint.unwrap(), "Perhaps you meant \"nexmark.rate\".");
    let error = canonicalize(map(&[("connector", "nexmark"), ("zzz", "1")])).unwrap_err();
    assert!(error.detail.unwrap().starts_with("Options are: connector, nexmark.table.type"));
}

#[test]
fn values_are_checked() {
    for (key, value) in [
        ("scan.startup.mode", "newest"),
        ("scan.watermark.idle-timeout", "5 parsecs"),
        ("watermark.mode", "x"),
        ("scan.startup.specific-offsets", "0:42"),
        ("format", "json"),
        ("json.fail-on-missing-field", "maybe"),
        ("topic", "a,b"),
    ] {
        let mut raw = map(KAFKA);
        raw.insert(key.to_string(), value.to_string());
        let result = canonicalize(raw);
        assert_eq!(result.is_ok(), key == "format", "{key} {value}: {result:?}");
        if let Err(error) = result {
            assert_eq!(error.state, SqlState::INVALID_PARAMETER, "{error}");
        }
    }
    assert!(kafka(&[("scan.startup.mode", "timestamp")]).is_err());
    assert!(kafka(&[("scan.startup.timestamp.millis", "1")]).is_err());
    assert!(kafka(&[("scan.startup.mode", "group-offsets")]).is_err());
    assert_eq!(
        kafka(&[("properties.bootstrap.servers", "c")]).unwrap_err().message,
        "option \"properties.bootstrap.servers\" is given twice"
    );
    assert_eq!(canonicalize(map(&[("connector", "kafka")])).unwrap_err().message, "connector \"kafka\" needs the option \"topic\"");
}

#[test]
fn durations() {
    for (text, micros) in [
        ("1min", 60_000_000),
        ("5 s", 5_000_000),
        ("500ms", 500_000),
        ("1 hour 30 min", 5_400_000_000),
        ("250", 250_000),
        ("1.5 s", 1_500_000),
    ] {
        assert_eq!(micros_of_duration(text), Some(micros), "{text}");
    }
    for text in ["", "s", "-1 s", "5 parsecs", "1..2s", "99999999999999 weeks"] {
        assert_eq!(micros_of_duration(text), None, "{text}");
    }
}

#[test]
fn offsets_per_partition() {
    let pairs = specific_offsets("o", "partition:0,offset:42; partition:1,offset:300;").unwrap();
    assert_eq!(pairs, [(0, 42), (1, 300)]);
    for text in ["", "partition:0", "offset:1,partition:0", "partition:0,offset:-1", "partition:0,offset:1;partition:0,offset:2"] {
        assert!(specific_offsets("o", text).is_err(), "{text}");
    }
}

#[test]
fn watermark_options_of_each_owner() {
    let of = |raw| watermark_options(&canonicalize(map(raw)).unwrap()).unwrap();
    assert_eq!(of(&[]), WatermarkOptions::default());
    assert_eq!(of(&[("connector", "nexmark")]), WatermarkOptions::default());
    assert_eq!(of(KAFKA).future_guard_micros, Some(DEFAULT_FUTURE_GUARD_MICROS));
    let set = of(&[("scan.watermark.idle-timeout", "1min"), ("watermark.future.guard", "2 h"), ("watermark.mode", "manual")]);
    assert_eq!(set, WatermarkOptions { idle_timeout_micros: Some(60_000_000), future_guard_micros: Some(7_200_000_000), manual: true });
    let none = watermark_options(&kafka(&[("watermark.future-guard", "NONE")]).unwrap()).unwrap();
    assert_eq!(none.future_guard_micros, None);
}

#[test]
fn metadata_keys_and_types() {
    use crate::types::SqlType;
    assert_eq!(metadata_type("kafka", "HEADER").unwrap().0, "headers");
    assert!(check_metadata("kafka", "timestamp", &SqlType::Timestamp).is_ok());
    assert_eq!(check_metadata("kafka", "offset", &SqlType::Boolean).unwrap_err().state, SqlState::DATATYPE_MISMATCH);
    assert_eq!(metadata_type("kafka", "partion").unwrap_err().hint.unwrap(), "Perhaps you meant \"partition\".");
    assert!(metadata_type("nexmark", "offset").is_err());
    assert_eq!(default_columns(&map(&[("connector", "nexmark"), ("nexmark.table.type", "bid")])).unwrap().len(), 7);
    assert!(default_columns(&map(&[("connector", "kafka")])).is_none());
}

#[test]
fn options_of_formats_and_fields() {
    let files = |more: &[(&str, &str)]| canonicalize(map(&[&[("connector", "filesystem"), ("path", "/d")][..], more].concat()));
    let csv = files(&[("format", "CSV"), ("delimiter", " "), ("store.region", "eu")]).unwrap();
    assert_eq!((csv[CSV_DELIMITER].as_str(), csv["store.region"].as_str(), csv[FORMAT].as_str()), (" ", "eu", "csv"));
    assert_eq!(files(&[("format", "json"), ("csv.hedaer", "true")]).unwrap_err().hint.unwrap(), "Perhaps you meant \"csv.header\".");
    let generator = |more: &[(&str, &str)]| canonicalize(map(&[&[("connector", "datagen")][..], more].concat()));
    assert_eq!(generator(&[("fields.Id.Kind", "SEQUENCE"), ("fields.r.x.min", "1")]).unwrap()["fields.id.kind"], "sequence");
    assert_eq!(generator(&[("fields.id.knd", "random")]).unwrap_err().hint.unwrap(), "Perhaps you meant \"fields.id.kind\".");
    assert!(generator(&[("fields.kind", "random")]).is_err());
    assert_eq!(canonicalize(map(&[("connector", "HTTP"), ("format", "json")])).unwrap()[CONNECTOR], "webhook");
    assert_eq!(format_of_clause("UPSERT", "Json").unwrap(), "json");
    assert_eq!(format_of_clause("DEBEZIUM", "JSON").unwrap(), "debezium-json");
    assert!(format_of_clause("DEBEZIUM", "CSV").is_err());
}

#[test]
fn what_says_which_rows_there_are_does_not_change() {
    let current = kafka(&[("scan.watermark.idle-timeout", "1 s"), ("properties.linger.ms", "5")]).unwrap();
    let set = |pairs: &[(&str, &str)]| altered_source(&current, &Changes { set: map(pairs), reset: vec![] });
    let moved = set(&[("bootstrap.server", "other:9092"), ("scan.watermark.idle.timeout", "2 s"), ("properties.client.id", "x")]).unwrap();
    let of = |key: &str| moved.get(key).map(String::as_str);
    assert_eq!((of(BOOTSTRAP_SERVERS), of(IDLE_TIMEOUT), of("properties.client.id")), (Some("other:9092"), Some("2 s"), Some("x")));
    let reset = Changes { set: map(&[]), reset: vec!["watermark.idle-timeout".to_string(), "properties.linger.ms".to_string()] };
    let back = altered_source(&current, &reset).unwrap();
    assert_eq!((back.get(IDLE_TIMEOUT), back.get("properties.linger.ms")), (None, None));
    for fixed in ["topic", "format", "scan.startup.mode", "properties.isolation.level", "properties.group.id"] {
        let error = set(&[(fixed, "latest-offset")]).unwrap_err();
        assert_eq!(error.state, SqlState::FEATURE_NOT_SUPPORTED, "{error}");
    }
    assert!(set(&[("scan.watermark.idle-timeout", "soon")]).is_err());
    assert!(altered_source(&current, &Changes { set: map(&[]), reset: vec![BOOTSTRAP_SERVERS.to_string()] }).is_err(), "it is required");
    let changed = altered_view(&Changes { set: map(&[("emit-interval", "1 s")]), reset: vec!["on_error".to_string()] }).unwrap();
    assert_eq!(changed, BTreeMap::from([(EMIT_INTERVAL.to_string(), Some("1 s".to_string())), (ON_ERROR.to_string(), None)]));
}

#[test]
fn what_the_guarantee_of_a_sink_rests_on_is_not_up_to_options() {
    let sink = |more: &[(&str, &str)]| {
        let given = [("connector", "kafka"), ("topic", "t"), ("bootstrap.servers", "b"), ("format", "json")];
        canonicalize_sink(map(&[&given[..], more].concat()))
    };
    for (option, other) in [("properties.acks", "0"), ("properties.request.required.acks", "1"), ("properties.enable.idempotence", "false")]
    {
        let change = Changes { set: map(&[(option, other)]), reset: vec![] };
        let refused = [
            sink(&[(option, other)]),
            kafka(&[(option, other)]),
            altered_sink(&sink(&[]).unwrap(), &change),
            altered_source(&kafka(&[]).unwrap(), &change),
        ];
        for error in refused.map(Result::unwrap_err) {
            assert_eq!((error.state, error.message), (SqlState::INVALID_PARAMETER, format!("option \"{option}\" cannot be \"{other}\"")));
            assert!(error.hint.is_some_and(|hint| hint.contains("acks = all and enable.idempotence = true")));
        }
    }
    assert!(sink(&[("properties.acks", "-1"), ("properties.enable.idempotence", "True"), ("properties.linger.ms", "1")]).is_ok());
}

#[test]
fn a_table_that_is_read_is_written_by_the_same_options() {
    let table = kafka(&[("scan.startup.mode", "latest"), ("properties.group.id", "g"), ("key.fields", "a;b")]).unwrap();
    let sink = sink_options_of_table(&table).unwrap();
    assert_eq!(sink.get(SINK_KEY).map(|key| names(key)), Some(vec!["a".to_string(), "b".to_string()]));
    assert!(!sink.contains_key(STARTUP_MODE) && !sink.contains_key(GROUP_ID) && sink.contains_key(BOOTSTRAP_SERVERS));
    let generated = canonicalize(map(&[("connector", "datagen")])).unwrap();
    assert_eq!(sink_options_of_table(&generated).unwrap_err().state, SqlState::WRONG_OBJECT_TYPE);
    assert_eq!((bytes_of_size("64MB"), bytes_of_size("1 GiB"), bytes_of_size("x")), (Some(64 << 20), Some(1 << 30), None));
}

#[test]
fn an_address_of_jdbc_is_that_of_its_parts() {
    let table = |more: &[(&str, &str)]| {
        let given = [("table-name", "customers"), ("username", "u"), ("password", "p")];
        canonicalize(map(&[&given[..], more].concat()))
    };
    let of_url = table(&[("connector", "jdbc"), ("url", "jdbc:postgresql://db:5433/shop")]).unwrap();
    let of_parts = table(&[("connector", "postgres"), ("hostname", "db"), ("port", "5433"), ("database-name", "shop")]).unwrap();
    assert_eq!(of_url, of_parts);
    assert!(is_looked_up(&of_url) && is_secret(PASSWORD) && !of_url.contains_key(JDBC_URL));
    let bracketed = table(&[("connector", "jdbc"), ("url", "jdbc:postgresql://[::1]/shop")]).unwrap();
    assert_eq!((bracketed[HOSTNAME].as_str(), bracketed[PORT].as_str()), ("::1", "5432"));
    let refused = |more: &[(&str, &str)]| table(more).unwrap_err();
    assert_eq!(refused(&[("connector", "jdbc"), ("url", "jdbc:mysql://db/shop")]).state, SqlState::FEATURE_NOT_SUPPORTED);
    for url in ["postgres://db/shop", "jdbc:postgresql://db", "jdbc:postgresql://db:x/shop", "jdbc:postgresql://u@db/shop"] {
        assert_eq!(refused(&[("connector", "jdbc"), ("url", url)]).state, SqlState::INVALID_PARAMETER, "{url}");
    }
    let encrypted = refused(&[("connector", "jdbc"), ("url", "jdbc:postgresql://db/shop?sslmode=require")]);
    assert!(encrypted.detail.is_some_and(|detail| detail.contains("not encrypted")));
    let parts = [("connector", "postgres"), ("hostname", "db"), ("database-name", "shop")];
    assert!(refused(&parts[..2]).message.contains(DATABASE));
    let cached = |more: &[(&str, &str)]| table(&[&parts[..], more].concat());
    assert!(cached(&[("lookup.cache.max-rows", "10")]).unwrap_err().message.contains(LOOKUP_TTL));
    assert!(cached(&[("lookup.cache.max-rows", "10"), ("lookup.cache.ttl", "1 min")]).is_ok());
    assert_eq!(cached(&[("lookup.cache.tll", "1 min")]).unwrap_err().hint.as_deref(), Some("Perhaps you meant \"lookup.cache.ttl\"."));
    assert_eq!(cached(&[("scan.startup.mode", "earliest")]).unwrap_err().state, SqlState::UNDEFINED_OBJECT);
}
