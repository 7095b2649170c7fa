//! Windows of event time: which there are, when what is grouped by one is shown and final, and what is late for it.

use serde::{Deserialize, Serialize};

/// All times in microseconds. Windows are `[start, start + size)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowKind {
    Tumble {
        size: i64,
        offset: i64,
    },
    /// A window starts at every multiple of `slide` plus `offset`; `size` need not be a multiple.
    Hop {
        size: i64,
        slide: i64,
        offset: i64,
    },
    /// Windows that grow: within each `[start, start + size)` one that ends at each multiple of `step`.
    Cumulate {
        size: i64,
        step: i64,
        offset: i64,
    },
    /// Not of `WindowAssign`: what `SessionAssign` makes.
    Session {
        gap: i64,
    },
}

/// Makes an aggregate a window aggregate: the window's start and end are among the group columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateWindow {
    /// Position of the window end column within `group` (of a Top-N: within `partition`). A group is closed once the watermark has
    /// reached its end plus the lateness: then its state is dropped and it is final. A row is late if its
    /// group was closed by its arrival watermark.
    pub end: usize,
    pub emit: Emit,
    /// Microseconds. Of sessions that may become shorter and are shown as they change: with their gap, as in `JoinWindow`.
    pub allowed_lateness: i64,
    /// The window is a session: which rows are late was decided where they got it, so that none is here. A session that has
    /// become shorter may have ended by the present watermark, and is closed when that rises.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub session: bool,
}

/// Which rows are late for a window whose end is a column, never null: as in `AggregateWindow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateRows {
    pub end: usize,
    /// Microseconds.
    pub allowed_lateness: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Emit {
    /// On every step in which the group changed.
    Changes,
    /// Once, when the window closes; the output is append-only.
    OnClose,
}
