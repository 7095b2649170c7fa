//! A sink that writes each change to the server's log, as Flink's does: `+I[1, a]` for a row that comes, `-D[1, a]` for one that goes. For trying
//! out: a step that is written again after a restart is there twice.

use crate::changes::{Change, without_key};
use crate::format::json::encode::utc;
use bytes::{BufMut, BytesMut};
use eddyline_common::connector::*;
use eddyline_common::postgres::encode::RowFormat;
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Column, Result, options};
use std::sync::Arc;

#[derive(Clone)]
pub struct Print {
    name: String,
    /// In front of each row.
    identifier: String,
    format: RowFormat,
}

struct Printer {
    print: Print,
    written: Option<u64>,
}

impl Print {
    pub fn new(spec: &SinkSpec) -> Self {
        let columns: Vec<Column> = spec.columns.iter().map(|c| Column::new(&c.external_name, c.ty.clone(), true)).collect();
        let identifier = spec.options.get(options::PRINT_IDENTIFIER).map(|identifier| format!("{identifier}> ")).unwrap_or_default();
        Print { name: spec.name.clone(), identifier, format: RowFormat::text(arrow_schema(&columns), utc()) }
    }

    /// What goes comes first.
    fn lines(&self, changes: &ChangeBatch) -> Result<Vec<String>> {
        let bound = self.format.bind(&changes.rows)?;
        let writers = bound.text_writers();
        let line = |kind: &str, row: usize| {
            let mut text = BytesMut::new();
            for (column, writer) in writers.iter().enumerate() {
                if column > 0 {
                    text.put_slice(b", ");
                }
                match writer.is_null(row) {
                    true => text.put_slice(b"null"),
                    false => writer.text(row, &mut text),
                }
            }
            format!("{}{kind}[{}]", self.identifier, String::from_utf8_lossy(&text))
        };
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for change in without_key(changes) {
            match change {
                Change::Gone(row) => gone.push(line("-D", row)),
                Change::New(row) | Change::Replaced { new: row, .. } => new.push(line("+I", row)),
            }
        }
        gone.append(&mut new);
        Ok(gone)
    }
}

impl SinkConnector for Print {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn open(&self, _after: u64, _monitor: Arc<dyn SinkMonitor>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Printer { print: self.clone(), written: None }))
    }
}

impl SinkWriter for Printer {
    fn write(&mut self, step: SinkStep, changes: &ChangeBatch) -> Result<u64> {
        let lines = self.print.lines(changes)?;
        for line in &lines {
            tracing::info!(sink = %self.print.name, "{line}");
        }
        self.written = Some(step.number);
        Ok(lines.len() as u64)
    }

    fn flush(&mut self, _all: bool) -> Result<Option<u64>> {
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray};
    use eddyline_common::SqlType;
    use std::collections::BTreeMap;

    #[test]
    fn changes_are_lines() {
        let column = |name: &str, ty: SqlType| SinkColumn { external_name: name.to_string(), ty };
        let spec = SinkSpec {
            name: "s".to_string(),
            incarnation: String::new(),
            options: BTreeMap::from([(options::PRINT_IDENTIFIER.to_string(), "out".to_string())]),
            columns: vec![column("id", SqlType::Integer), column("kind", SqlType::Text)],
            key: vec![],
            mode: SinkMode::Changelog,
        };
        let print = Print::new(&spec);
        let ids = Int32Array::from(vec![1, 2]);
        let kinds = StringArray::from(vec![Some("a"), None]);
        let rows = RecordBatch::try_new(print.format.schema.clone(), vec![Arc::new(ids), Arc::new(kinds)]).unwrap();
        let changes = ChangeBatch::with_weights(rows, Int64Array::from(vec![2, -1]));
        assert_eq!(print.lines(&changes).unwrap(), ["out> -D[2, null]", "out> +I[1, a]", "out> +I[1, a]"]);
    }
}
