//! What the lowering knows of a node beyond what the plan stores.

use crate::plan::{Expr, Literal, WindowKind};

#[derive(Clone, Debug)]
pub struct Facts {
    pub distribution: Distribution,
    /// Per column: which part of which window it is.
    pub windows: Vec<Option<WindowColumn>>,
    /// Per column: the value that it has in every row.
    pub constants: Vec<Option<Literal>>,
    /// The event time of the relation as an expression over this node's columns, for one that is computed.
    pub event_time: Option<Expr>,
    /// The name of a source below that has no watermark.
    pub unwatermarked: Option<String>,
}

impl Facts {
    pub fn new(distribution: Distribution, columns: usize) -> Self {
        Facts { distribution, windows: vec![None; columns], constants: vec![None; columns], event_time: None, unwatermarked: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowColumn {
    /// Which window it is of: columns of one window follow from each other.
    pub window: usize,
    pub part: WindowPart,
    pub kind: WindowKind,
    /// The window is over event time with a watermark, so it closes.
    pub event_time: bool,
}

impl WindowColumn {
    /// Whether this column alone says which window it is of: many windows of CUMULATE share a start, and sessions of different
    /// partitions share one bound and not the other.
    pub fn tells(&self) -> bool {
        match self.kind {
            WindowKind::Tumble { .. } | WindowKind::Hop { .. } => true,
            WindowKind::Cumulate { .. } => self.part != WindowPart::Start,
            WindowKind::Session { .. } => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowPart {
    Start,
    End,
    Time,
}

/// Which rows are together on one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// No promise.
    Any,
    /// Rows that are equal in these columns, of which there is at least one.
    Hash(Vec<usize>),
    /// All rows.
    Single,
}

impl Distribution {
    pub fn hash(keys: &[usize]) -> Self {
        if keys.is_empty() { Distribution::Single } else { Distribution::Hash(keys.to_vec()) }
    }

    /// Whether rows equal in `keys` are together.
    pub fn serves(&self, keys: &[usize]) -> bool {
        match self {
            Distribution::Any => false,
            Distribution::Hash(columns) => columns.iter().all(|c| keys.contains(c)),
            Distribution::Single => true,
        }
    }

    /// After a projection that has input column `c` at `output(c)`.
    pub fn project(&self, output: &dyn Fn(usize) -> Option<usize>) -> Self {
        match self {
            Distribution::Hash(columns) => match columns.iter().map(|c| output(*c)).collect() {
                Some(columns) => Distribution::Hash(columns),
                None => Distribution::Any,
            },
            other => other.clone(),
        }
    }
}
