//! Keys by the window that they begin with. Multisets with `RowShape::expiry` only.

use super::KeyedRows;
use super::values::Heads;
use eddyline_common::Result;

impl KeyedRows {
    /// Every key of the window that ends at `end`, also those that were in the store only. Their heads stay valid until the
    /// window is dropped.
    pub fn window_heads(&mut self, end: i64) -> Result<Vec<u32>> {
        while self.heads.load_window(end, &mut Heads(&mut self.values))? {}
        Ok(self.heads.window_slots(end))
    }
}
