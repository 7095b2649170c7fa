//! The table of options: who owns which, in which spellings, of which kind. Adding an option is adding
//! a line here. Aliases are what the two accents and common connectors of theirs write.

use super::value::{Choice, Kind, OptionDef};

/// What options can belong to.
pub struct Owner {
    pub name: &'static str,
    /// As error messages say it.
    pub title: &'static str,
    pub(super) own: &'static [&'static [OptionDef]],
    pub(super) shared: &'static [OptionDef],
    /// Accepts any option that begins with one of these: it goes on to the outside system.
    pub(super) pass_through: &'static [&'static str],
    /// Options with a part that the user names: what is before it, and the kinds by what is behind it.
    pub(super) families: &'static [(&'static str, &'static [OptionDef])],
    /// Reads from an outside system, whose times need guarding.
    pub external: bool,
}

impl Owner {
    pub fn options(&self) -> impl Iterator<Item = &'static OptionDef> {
        self.own.iter().copied().flatten().chain(self.shared)
    }

    pub fn find(&self, lower: &str) -> Option<&'static OptionDef> {
        self.options().find(|def| def.is_spelled(lower))
    }

    /// The option of a family: `fields.id.kind`. The name between may be anything.
    pub fn find_in_family(&self, lower: &str) -> Option<&'static OptionDef> {
        self.families.iter().find_map(|(head, tails)| {
            let (name, tail) = lower.strip_prefix(head)?.rsplit_once('.')?;
            tails.iter().find(|def| !name.is_empty() && def.is_spelled(tail))
        })
    }

    /// The nearest option of the family that an unknown one seems to be of, with what is before it.
    pub fn nearest_in_family<'a>(&self, lower: &'a str) -> Option<(&'a str, &'static str)> {
        self.families.iter().find_map(|(head, tails)| {
            lower.strip_prefix(head)?;
            let (of, tail) = lower.rsplit_once('.')?;
            Some((of, super::nearest(tail, tails.iter().map(|def| def.name))?))
        })
    }

    pub fn passes(&self, lower: &str) -> bool {
        self.pass_through.iter().any(|prefix| lower.len() > prefix.len() && lower.starts_with(prefix))
    }
}

const fn generator(name: &'static str, title: &'static str, own: &'static [&'static [OptionDef]]) -> Owner {
    Owner { name, title, own, shared: WATERMARK, pass_through: &[], families: &[], external: false }
}

pub(super) const fn outside(
    name: &'static str,
    title: &'static str,
    own: &'static [&'static [OptionDef]],
    pass_through: &'static [&'static str],
) -> Owner {
    Owner { name, title, own, shared: WATERMARK, pass_through, families: &[], external: true }
}

pub static CONNECTORS: &[Owner] = &[
    outside("kafka", "connector \"kafka\"", &[KAFKA, KEYED, FORMATS, PROTOBUF], &[super::PASS_THROUGH_PREFIX]),
    outside("upsert-kafka", "connector \"upsert-kafka\"", &[KAFKA, KEYED, FORMATS, PROTOBUF], &[super::PASS_THROUGH_PREFIX]),
    outside("filesystem", "connector \"filesystem\"", &[FILES, FORMATS, PROTOBUF, STORES], &[super::STORE_PREFIX]),
    outside("webhook", "connector \"webhook\"", &[WEBHOOK, FORMATS, PROTOBUF], &[]),
    // Nothing is read from it, so that a watermark has no options.
    Owner { shared: &[], ..generator("postgres", "connector \"postgres\"", &[POSTGRES]) },
    generator("nexmark", "connector \"nexmark\"", &[NEXMARK]),
    Owner { families: &[("fields.", FIELD)], ..generator("datagen", "connector \"datagen\"", &[DATAGEN]) },
];
pub static OWNER_TABLE: Owner = generator("table", "a table without connector", &[]);
pub static OWNER_VIEW: Owner = Owner { shared: &[], ..generator("view", "a view", &[VIEW, KEPT]) };

const COUNT: Kind = Kind::Integer { min: 1, max: i64::MAX };
const RATIO: Kind = Kind::Integer { min: 1, max: 1_000_000 };

const WATERMARK: &[OptionDef] = &[
    OptionDef::new(super::IDLE_TIMEOUT, Kind::Duration).also(&[
        "scan.watermark.idle.timeout",
        "watermark.idle-timeout",
        "watermark.idle.timeout",
    ]),
    OptionDef::new(super::FUTURE_GUARD, Kind::DurationOrNone).also(&[
        "watermark.future.guard",
        "scan.watermark.future-guard",
        "scan.watermark.future.guard",
    ]),
    OptionDef::new(super::WATERMARK_MODE, Kind::OneOf(&[("auto", &["automatic"]), ("manual", &[])])).also(&["scan.watermark.mode"]),
];

const KAFKA: &[OptionDef] = &[
    OptionDef::new(super::CONNECTOR, Kind::Text).required(),
    OptionDef::new(super::TOPIC, Kind::Text).also(&["kafka.topic"]).required(),
    OptionDef::new(super::BOOTSTRAP_SERVERS, Kind::Text)
        .also(&["properties.bootstrap.server", "bootstrap.servers", "bootstrap.server", "kafka.brokers"])
        .required(),
    OptionDef::new(super::GROUP_ID, Kind::Text).also(&["group.id"]),
    OptionDef::new(
        super::AUTO_OFFSET_RESET,
        Kind::OneOf(&[("earliest", &["smallest", "beginning"]), ("latest", &["largest", "end"]), ("none", &["error"])]),
    ),
    OptionDef::new(
        super::STARTUP_MODE,
        Kind::OneOf(&[
            ("earliest-offset", &["earliest"]),
            ("latest-offset", &["latest"]),
            ("group-offsets", &["group-offset"]),
            ("timestamp", &[]),
            ("specific-offsets", &["specific-offset"]),
        ]),
    ),
    OptionDef::new(super::STARTUP_TIMESTAMP, Kind::Integer { min: 0, max: i64::MAX })
        .also(&["scan.startup.timestamp.millis", "scan.startup.timestamp_millis"]),
    OptionDef::new(super::STARTUP_OFFSETS, Kind::SpecificOffsets).also(&["scan.startup.specific.offsets"]),
    OptionDef::new(super::DISCOVERY_INTERVAL, Kind::DurationOrNone).also(&[
        "scan.topic.partition.discovery.interval",
        "partition.discovery.interval",
        "partition.discovery.interval.ms",
        "topic.metadata.refresh.interval.ms",
        "metadata.refresh.interval",
        "metadata.refresh.interval.ms",
    ]),
    OptionDef::new(super::LOST_OFFSETS, Kind::OneOf(&[("wait", &["stop", "error", "none"]), ("skip", &["earliest"])]))
        .also(&["scan.lost.offsets", "lost.offsets"]),
    // For writing only.
    OptionDef::new(super::SINK_KEY, Kind::Text).also(&["key.fields"]),
    OptionDef::new(super::DELIVERY, Kind::OneOf(&[("at-least-once", &[])])),
];

const KEYED: &[OptionDef] = &[
    OptionDef::new(super::KEY_FORMAT, Kind::OneOf(KEY_FORMATS)).also(&["key.encode"]),
    OptionDef::new(super::VALUE_FIELDS, Kind::OneOf(&[("all", &[]), ("except_key", &["except-key"])])).also(&["value.fields.include"]),
];

const KEY_FORMATS: &[Choice] =
    &[("json", &[]), ("csv", &[]), ("raw", &["bytes", "text"]), ("avro", &[]), ("avro-confluent", &[]), ("protobuf", &[])];

/// What a message type is, and where it comes from.
pub(super) const PROTOBUF: &[OptionDef] = &[
    OptionDef::new(super::PROTOBUF_MESSAGE, Kind::Text).also(&[
        "message",
        "protobuf.message",
        "protobuf.message-class-name",
        "value.protobuf.message-name",
        "value.protobuf.message-class-name",
    ]),
    OptionDef::new(super::PROTOBUF_KEY_MESSAGE, Kind::Text).also(&["key.message", "key.protobuf.message-class-name"]),
    OptionDef::new(super::PROTOBUF_DESCRIPTOR, Kind::Text).also(&["schema.location", "protobuf.descriptor"]),
    OptionDef::new(super::PROTOBUF_DESCRIPTOR_SET, Kind::Text),
    OptionDef::new(super::PROTOBUF_SCHEMA, Kind::Text).also(&["value.protobuf.schema"]),
];

const FORMATS: &[OptionDef] = &[
    OptionDef::new(
        super::FORMAT,
        Kind::OneOf(&[
            ("json", &["ndjson"]),
            ("csv", &[]),
            ("raw", &["bytes", "text"]),
            ("avro", &[]),
            ("avro-confluent", &[]),
            ("protobuf", &[]),
            ("debezium-json", &["debezium"]),
            // Of files only.
            ("parquet", &[]),
        ]),
    )
    .also(&["value.format"])
    .required(),
    OptionDef::new(
        super::TIMESTAMP_UNIT,
        Kind::OneOf(&[
            ("second", &["seconds", "s"]),
            ("milli", &["millis", "ms"]),
            ("micro", &["micros", "us"]),
            ("nano", &["nanos", "ns"]),
        ]),
    )
    .also(&["timestamp.number.unit", "timestamp.handling.mode", "timestamptz.handling.mode"]),
    OptionDef::new(super::JSON_FAIL_ON_MISSING, Kind::Boolean).also(&["value.json.fail-on-missing-field"]),
    // Both values mean the same here: a record that cannot be decoded is set aside with its reason.
    OptionDef::new("json.ignore-parse-errors", Kind::Boolean).also(&["value.json.ignore-parse-errors"]),
    OptionDef::new("csv.ignore-parse-errors", Kind::Boolean).also(&["value.csv.ignore-parse-errors"]),
    OptionDef::new("debezium-json.ignore-parse-errors", Kind::Boolean),
    // Events are read with and without their schema, whatever this says.
    OptionDef::new("debezium-json.schema-include", Kind::Boolean),
    // Every spelling of time is read whatever this says; it is for writing.
    OptionDef::new(super::JSON_TIMES, Kind::OneOf(&[("sql", &[]), ("iso-8601", &[])]))
        .also(&["value.json.timestamp-format.standard", "debezium-json.timestamp-format.standard"]),
    OptionDef::new(super::AVRO_SCHEMA, Kind::Text).also(&["value.avro.schema"]),
    OptionDef::new(super::REGISTRY_URL, Kind::Text).also(&[
        "schema.registry",
        "schema.registry.url",
        "avro-confluent.schema-registry.url",
        "protobuf.schema-registry.url",
        "value.avro-confluent.url",
    ]),
    OptionDef::new(super::REGISTRY_USER, Kind::Text).also(&["schema.registry.username"]),
    OptionDef::new(super::REGISTRY_PASSWORD, Kind::Text).also(&["schema.registry.password"]),
    OptionDef::new(super::REGISTRY_SUBJECT, Kind::Text).also(&[
        "avro-confluent.subject",
        "value.avro-confluent.subject",
        "protobuf.subject",
    ]),
    OptionDef::new(super::PROTOBUF_DEFAULTS, Kind::Boolean).also(&["value.protobuf.read-default-values"]),
    OptionDef::new("protobuf.ignore-parse-errors", Kind::Boolean).also(&["value.protobuf.ignore-parse-errors"]),
    OptionDef::new(super::CSV_DELIMITER, Kind::Character).also(&["csv.delimiter", "delimiter", "value.csv.field-delimiter"]),
    OptionDef::new(super::CSV_QUOTE, Kind::Character).also(&["csv.quote", "value.csv.quote-character"]),
    OptionDef::new(super::CSV_NO_QUOTE, Kind::Boolean).also(&["value.csv.disable-quote-character"]),
    OptionDef::new(super::CSV_ESCAPE, Kind::Character).also(&["csv.escape", "value.csv.escape-character"]),
    OptionDef::new(super::CSV_NULL, Kind::Text).also(&["csv.null", "value.csv.null-literal"]),
    OptionDef::new(super::CSV_ARRAY_DELIMITER, Kind::Character).also(&["value.csv.array-element-delimiter"]),
    OptionDef::new(super::CSV_COMMENTS, Kind::Boolean).also(&["value.csv.allow-comments"]),
    OptionDef::new(super::CSV_HEADER, Kind::Boolean).also(&["csv.with-header"]),
    OptionDef::new(super::RAW_ENDIANNESS, Kind::OneOf(&[("big-endian", &["big"]), ("little-endian", &["little"])]))
        .also(&["value.raw.endianness"]),
];

const FILES: &[OptionDef] = &[
    OptionDef::new(super::CONNECTOR, Kind::Text).required(),
    OptionDef::new(super::PATH, Kind::Text).also(&["filesystem.path"]).required(),
    OptionDef::new(super::FILE_PATTERN, Kind::Text).also(&["match_pattern", "path.pattern"]),
    OptionDef::new(super::FILE_ORDER, Kind::OneOf(&[("name", &[]), ("time", &["modified", "modification-time"])]))
        .also(&["source.file.order"]),
    OptionDef::new(super::MONITOR_INTERVAL, Kind::DurationOrNone).also(&["source.monitor.interval", "refresh.interval"]),
    OptionDef::new(super::COMPRESSION, COMPRESSIONS).also(&["source.compression"]),
    // Of writing only, but for the columns that folders are named by.
    OptionDef::new(super::PARQUET_COMPRESSION, PARQUET_COMPRESSIONS).also(&["parquet_compression"]),
    OptionDef::new(super::SINK_KEY, Kind::Text).also(&["key.fields"]),
    OptionDef::new(super::PARTITION_BY, Kind::Text).also(&["partition-by", "partition.by", "partitioned_by"]),
    OptionDef::new(super::ROLL_BYTES, Kind::Bytes).also(&["sink.rolling.policy.file.size", "roll_size"]),
    OptionDef::new(super::ROLL_INTERVAL, Kind::Duration).also(&["sink.rolling.policy.rollover.interval", "roll_interval"]),
];

const COMPRESSIONS: Kind =
    Kind::OneOf(&[("auto", &["automatic"]), ("none", &["uncompressed"]), ("gzip", &["gz"]), ("zstd", &["zst", "zstandard"])]);

pub(super) const PARQUET_COMPRESSIONS: Kind = Kind::OneOf(&[
    ("snappy", &[]),
    ("zstd", &["zstandard"]),
    ("gzip", &["gz"]),
    ("lz4", &["lz4_raw", "lz4-raw"]),
    ("none", &["uncompressed"]),
]);

/// Where an object store is and who asks it. What is absent comes from the environment (`AWS_REGION` and so on).
pub(super) const STORES: &[OptionDef] = &[
    OptionDef::new(super::S3_ENDPOINT, Kind::Text).also(&["s3.endpoint_url", "s3.endpoint-url", "s3.endpoint.url"]),
    OptionDef::new(super::S3_REGION, Kind::Text).also(&["s3.region_name", "s3.endpoint.region"]),
    OptionDef::new(super::S3_ACCESS_KEY, Kind::Text).also(&["s3.access.key", "s3.access-key-id", "s3.credentials.access"]),
    OptionDef::new(super::S3_SECRET_KEY, Kind::Text).also(&["s3.secret.key", "s3.secret-access-key", "s3.credentials.secret"]),
    OptionDef::new(super::S3_SESSION_TOKEN, Kind::Text).also(&["s3.session.token"]),
    OptionDef::new(super::S3_PATH_STYLE, Kind::Boolean).also(&["s3.path.style.access", "s3.path-style"]),
    OptionDef::new(super::GS_SERVICE_ACCOUNT, Kind::Text).also(&["gs.service.account", "gcs.service-account"]),
    OptionDef::new(super::GS_SERVICE_ACCOUNT_KEY, Kind::Text).also(&["gcs.service-account-key", "gcs.credential"]),
    OptionDef::new(super::GS_ENDPOINT, Kind::Text).also(&["gcs.endpoint"]),
    OptionDef::new(super::AZURE_ACCOUNT, Kind::Text).also(&["azure.account-name", "azblob.account_name"]),
    OptionDef::new(super::AZURE_ACCESS_KEY, Kind::Text).also(&["azure.account-key", "azblob.account_key"]),
    OptionDef::new(super::AZURE_SAS_TOKEN, Kind::Text).also(&["azure.sas.token"]),
    OptionDef::new(super::AZURE_CLIENT_ID, Kind::Text),
    OptionDef::new(super::AZURE_CLIENT_SECRET, Kind::Text),
    OptionDef::new(super::AZURE_TENANT_ID, Kind::Text),
    OptionDef::new(super::AZURE_ENDPOINT, Kind::Text).also(&["azblob.endpoint_url"]),
];

/// A store's options alone, as the setting of checkpoints has them.
pub static OWNER_STORE: Owner =
    Owner { shared: &[], pass_through: &[super::STORE_PREFIX], ..generator("store", "an object store", &[STORES]) };

const WEBHOOK: &[OptionDef] =
    &[OptionDef::new(super::CONNECTOR, Kind::Text).required(), OptionDef::new(super::WEBHOOK_TOKEN, Kind::Text).also(&["token"])];

const POSTGRES: &[OptionDef] = &[
    OptionDef::new(super::CONNECTOR, Kind::Text).required(),
    OptionDef::new(super::JDBC_URL, Kind::Text),
    OptionDef::new(super::HOSTNAME, Kind::Text).also(&["host"]),
    OptionDef::new(super::PORT, Kind::Integer { min: 1, max: 65_535 }),
    OptionDef::new(super::DATABASE, Kind::Text).also(&["database", "database.name", "dbname"]),
    OptionDef::new(super::SCHEMA, Kind::Text).also(&["schema", "schema.name"]),
    OptionDef::new(super::TABLE, Kind::Text).also(&["table", "table.name"]).required(),
    OptionDef::new(super::USERNAME, Kind::Text).also(&["user"]),
    OptionDef::new(super::PASSWORD, Kind::Text),
    OptionDef::new(super::LOOKUP_TTL, Kind::Duration).also(&["lookup.partial-cache.expire-after-write"]),
    OptionDef::new(super::LOOKUP_ROWS, Kind::Integer { min: 1, max: 100_000_000 })
        .also(&["lookup.cache.max.rows", "lookup.partial-cache.max-rows"]),
    OptionDef::new(super::LOOKUP_RETRIES, Kind::Integer { min: 0, max: 1_000_000 }).also(&["lookup.max.retries"]),
    OptionDef::new(super::LOOKUP_TIMEOUT, Kind::Duration),
];

const DATAGEN: &[OptionDef] = &[
    OptionDef::new(super::CONNECTOR, Kind::Text).required(),
    OptionDef::new(super::ROWS_PER_SECOND, Kind::Integer { min: 1, max: 1_000_000_000 })
        .also(&["rows.per.second", "datagen.rows.per.second"]),
    OptionDef::new(super::NUMBER_OF_ROWS, Kind::Integer { min: 0, max: i64::MAX }).also(&["number.of.rows"]),
    OptionDef::new(super::SEED, Kind::Integer { min: 0, max: i64::MAX }).also(&["datagen.seed"]),
];

/// Of `fields.<column>.`.
const FIELD: &[OptionDef] = &[
    OptionDef::new("kind", Kind::OneOf(&[("random", &[]), ("sequence", &[])])),
    OptionDef::new("start", Kind::Text),
    OptionDef::new("end", Kind::Text),
    OptionDef::new("min", Kind::Text),
    OptionDef::new("max", Kind::Text),
    OptionDef::new("length", Kind::Integer { min: 0, max: 1 << 20 }),
    OptionDef::new("var-len", Kind::Boolean).also(&["var_len"]),
    OptionDef::new("max-past", Kind::Duration).also(&["max_past"]),
    OptionDef::new("null-rate", Kind::Text).also(&["null_rate"]),
];

const NEXMARK: &[OptionDef] = &[
    OptionDef::new(super::CONNECTOR, Kind::Text).required(),
    OptionDef::new(
        "nexmark.table.type",
        Kind::OneOf(&[("bid", &["bids"]), ("auction", &["auctions"]), ("person", &["people"]), ("all", &[])]),
    )
    .also(&["nexmark.table-type", "nexmark.table_type"]),
    OptionDef::new("nexmark.event.num", COUNT).also(&["nexmark.event-num", "events.num"]),
    OptionDef::new("nexmark.min.event.gap.in.ns", Kind::Integer { min: 0, max: 1_000_000_000_000 }),
    OptionDef::new("nexmark.split.num", Kind::Integer { min: 1, max: 256 }).also(&["nexmark.split-num"]),
    OptionDef::new("nexmark.rate", Kind::Integer { min: 1, max: 1_000_000_000 }).also(&["next-event.rate"]),
    OptionDef::new("nexmark.base-time.ms", Kind::Integer { min: 0, max: 9_000_000_000_000 }).also(&["nexmark.base.time.ms"]),
    OptionDef::new("nexmark.out-of-order.group-size", RATIO).also(&["nexmark.out.of.order.group.size"]),
    OptionDef::new("nexmark.active.people", RATIO),
    OptionDef::new("nexmark.in.flight.auctions", RATIO),
    OptionDef::new("nexmark.hot.seller.ratio", RATIO),
    OptionDef::new("nexmark.hot.auction.ratio", RATIO),
    OptionDef::new("nexmark.hot.bidder.ratio", RATIO),
    OptionDef::new("nexmark.hot.channel.ratio", RATIO),
];

/// What only what is kept can have.
const KEPT: &[OptionDef] = &[OptionDef::new(super::RETENTION, Kind::Retention)];

/// What any job of a query may be told.
pub(super) const VIEW: &[OptionDef] = &[
    OptionDef::new(super::ON_ERROR, Kind::OneOf(&[("reject", &[]), ("stop", &[])])).also(&["on-error", "on.error"]),
    OptionDef::new(super::ALLOWED_LATENESS, Kind::Duration).also(&["allowed-lateness", "allowed.lateness"]),
    OptionDef::new(super::PARALLELISM, Kind::Integer { min: 1, max: 65_536 }).also(&["parallelism.default"]),
    OptionDef::new(super::EMIT_INTERVAL, Kind::Duration).also(&["emit-interval", "emit.interval"]),
    OptionDef::new(super::STATE_TTL, Kind::Duration).also(&["state-ttl", "state.ttl", "table.exec.state.ttl"]),
];
