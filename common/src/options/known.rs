//! The table of options: who owns which, in which spellings, of which kind. Adding an option is adding
//! a line here. Aliases are what the two accents and common connectors of theirs write.

use super::value::{Kind, OptionDef};

/// What options can belong to.
pub struct Owner {
    pub name: &'static str,
    /// As error messages say it.
    pub title: &'static str,
    pub(super) own: &'static [OptionDef],
    pub(super) shared: &'static [OptionDef],
    /// Accepts any `properties.*`.
    pub pass_through: bool,
    /// Reads from an outside system, whose times need guarding.
    pub external: bool,
}

impl Owner {
    pub fn options(&self) -> impl Iterator<Item = &'static OptionDef> {
        self.own.iter().chain(self.shared)
    }

    pub fn find(&self, lower: &str) -> Option<&'static OptionDef> {
        self.options().find(|def| def.is_spelled(lower))
    }
}

pub static CONNECTORS: &[Owner] = &[
    Owner { name: "kafka", title: "connector \"kafka\"", own: KAFKA, shared: WATERMARK, pass_through: true, external: true },
    Owner { name: "nexmark", title: "connector \"nexmark\"", own: NEXMARK, shared: WATERMARK, pass_through: false, external: false },
];
pub static OWNER_TABLE: Owner =
    Owner { name: "table", title: "a table without connector", own: &[], shared: WATERMARK, pass_through: false, external: false };
pub static OWNER_VIEW: Owner = Owner { name: "view", title: "a view", own: VIEW, shared: &[], pass_through: false, external: false };

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
    OptionDef::new(super::FORMAT, Kind::OneOf(&[("json", &[])])).also(&["value.format"]).required(),
    // For writing only.
    OptionDef::new(super::SINK_KEY, Kind::Text).also(&["key.fields"]),
    OptionDef::new("key.format", Kind::OneOf(&[("json", &[])])),
    OptionDef::new(super::DELIVERY, Kind::OneOf(&[("at-least-once", &[])])),
    OptionDef::new(super::JSON_FAIL_ON_MISSING, Kind::Boolean).also(&["value.json.fail-on-missing-field"]),
    // Both values mean the same here: a record that cannot be decoded is set aside with its reason.
    OptionDef::new("json.ignore-parse-errors", Kind::Boolean).also(&["value.json.ignore-parse-errors"]),
    // Every spelling of time is read whatever this says.
    OptionDef::new(super::JSON_TIMES, Kind::OneOf(&[("sql", &[]), ("iso-8601", &[])])).also(&["value.json.timestamp-format.standard"]),
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

const VIEW: &[OptionDef] = &[
    OptionDef::new("on_error", Kind::OneOf(&[("reject", &[]), ("stop", &[])])).also(&["on-error", "on.error"]),
    OptionDef::new("allowed_lateness", Kind::Duration).also(&["allowed-lateness", "allowed.lateness"]),
];
