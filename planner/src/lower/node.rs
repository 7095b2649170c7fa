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

    /// Of rows that are computed of others with the same window, which `window` is a column of, or of any others: columns of other
    /// windows are no event time any more, as their rows may come and go after these have closed. Gives the columns that still are.
    pub fn within(&mut self, window: Option<usize>) -> Vec<usize> {
        let own = window.and_then(|column| self.windows[column]).map(|w| w.window);
        let of_own = |w: &WindowColumn| Some(w.window) == own;
        self.event_time = None;
        self.windows.iter_mut().flatten().for_each(|w| w.event_time &= of_own(w));
        let is_time = |w: &WindowColumn| of_own(w) && w.event_time && w.part != WindowPart::Start;
        (0..self.windows.len()).filter(|i| self.windows[*i].as_ref().is_some_and(is_time)).collect()
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
    /// How far the watermark may have passed its end, and the allowed lateness, while it still changes; in microseconds. That is the gap of a session
    /// that became shorter as a row was taken back: such a row was not late, and what is left ends less than a gap before the row alone would.
    pub settles: i64,
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
