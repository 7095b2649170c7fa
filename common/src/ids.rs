//! Newtypes for the numbers that name things. They know nothing of what they name.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A catalog object: source, table, view or materialized view. Never reused. A materialized
    /// view's job carries its relation's id.
    RelationId(u32)
);
id!(
    /// The number of a cut. Global, strictly increasing, never reused; 0 is "before the first cut".
    Epoch(u64)
);
id!(
    /// One operator's durable state, unique across all jobs. Never reused.
    StateTableId(u32)
);
id!(
    /// A partition (split) of a source, as the external system numbers it.
    PartitionId(i32)
);
id!(
    /// A position in a source partition. Ranges are half-open: `start..end`.
    Offset(i64)
);

impl Epoch {
    pub const ZERO: Epoch = Epoch(0);
    /// "Not yet": the `died` epoch of a live row.
    pub const MAX: Epoch = Epoch(u64::MAX);

    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}
