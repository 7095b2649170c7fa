//! A simple query: any number of statements, in one transaction unless they say otherwise, each answered in turn.

use super::connection::Connection;
use super::guard::{deadline, guarded};
use super::wire::{FLUSH_BYTES, Writer};
use crate::serving::RowStream;
use crate::session::planning::without_stalling;
use crate::session::{Outcome, Session};
use arrow::array::RecordBatch;
use eddyline_common::postgres::encode::{Format, RowFormat};
use eddyline_common::{Result, SqlError};
use eddyline_planner::{Parsed, parse};

impl Connection {
    pub async fn simple_query(&mut self, text: &str) -> Result<()> {
        self.session.close_portal("");
        let result = self.statements(text).await;
        if let Err(error) = result {
            self.tell(error)?;
        }
        self.session.settle().await;
        self.writer.ready_for_query(self.session.transaction_state());
        self.writer.flush().await
    }

    async fn statements(&mut self, text: &str) -> Result<()> {
        self.reader.check_statement()?;
        let cancel = self.session.cancel.clone();
        let statements = guarded(&cancel, None, None, async { without_stalling(text.len(), || parse(text)) }).await?;
        let count = statements.len();
        for (index, parsed) in statements.into_iter().enumerate() {
            self.one(&parsed, index + 1 == count).await?;
        }
        Ok(())
    }

    async fn one(&mut self, parsed: &Parsed, last: bool) -> Result<()> {
        let deadline = deadline(self.session.settings.timeout("statement_timeout"));
        let cancel = self.session.cancel.clone();
        self.session.release_snapshots();
        let started = std::time::Instant::now();
        let metrics = self.session.services().metrics.clone();
        metrics.statements.add(1);
        let outcome = guarded(&cancel, deadline, Some(&self.reader), self.session.run(parsed)).await?;
        if let Outcome::CopyIn(copy) = outcome {
            self.send_notices();
            let tag = self.copy_in(copy, deadline).await?;
            if last {
                guarded(&cancel, deadline, Some(&self.reader), self.session.finish_implicit()).await?;
            }
            self.writer.command_complete(&tag);
            return Ok(());
        }
        let answer = answer(&mut self.writer, &mut self.session, outcome, last);
        let complete = guarded(&cancel, deadline, Some(&self.reader), answer).await?;
        self.send_notices();
        match complete {
            Some(tag) => self.writer.command_complete(&tag),
            None => self.writer.empty_query(),
        }
        metrics.statement_micros.add(started.elapsed().as_micros() as u64);
        self.writer.flush_if_full().await
    }
}

/// Sends the rows, and commits if this was the last statement. Returns the completion's tag.
async fn answer(writer: &mut Writer, session: &mut Session, outcome: Outcome, last: bool) -> Result<Option<String>> {
    let tag = match outcome {
        Outcome::Empty => None,
        Outcome::Done(tag) => Some(tag),
        Outcome::Rows { mut rows, tag } => {
            let format = RowFormat::text(rows.schema().clone(), session.settings.zone());
            writer.row_description(rows.schema(), &vec![Format::Text; rows.schema().fields().len()]);
            let sent = send_rows(writer, &mut rows, &format).await?;
            session.services().metrics.rows_sent.add(sent);
            Some(tag.text(sent))
        }
        Outcome::CopyOut { rows, format } => Some(super::copy::copy_out(writer, session, rows, &format).await?),
        Outcome::CopyIn(_) => return Err(SqlError::internal("a COPY is answered by its own dialogue")),
    };
    if last {
        session.finish_implicit().await?;
    }
    Ok(tag)
}

/// More rows. While they are waited for, what was written before is on its way.
pub async fn next_batch(writer: &mut Writer, rows: &mut RowStream) -> Result<Option<RecordBatch>> {
    if rows.is_idle() {
        writer.flush().await?;
    }
    rows.next().await
}

/// Sends all rows, as the socket takes them.
pub async fn send_rows(writer: &mut Writer, rows: &mut RowStream, format: &RowFormat) -> Result<u64> {
    let mut sent = 0;
    while let Some(batch) = next_batch(writer, rows).await? {
        let bound = format.bind(&batch)?;
        let mut at = 0;
        while at < batch.num_rows() {
            let written = bound.write_rows(at, batch.num_rows() - at, FLUSH_BYTES, &mut writer.out)?;
            at += written;
            sent += written as u64;
            writer.flush_if_full().await?;
        }
    }
    Ok(sent)
}
