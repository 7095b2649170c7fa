//! The extended protocol: Parse, Bind, Describe, Execute, Close, Sync. What lies between two Syncs is one implicit
//! transaction; answers gather in the buffer until Sync, Flush or an error, or until it is full.

use super::connection::Connection;
use super::guard::{deadline, guarded, is_fatal};
use super::wire::{FLUSH_BYTES, Writer};
use crate::serving::split;
use crate::session::cursor::{Portal, PortalRun, Running};
use crate::session::{Outcome, Session};
use arrow::array::timezone::Tz;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use eddyline_common::postgres::decode;
use eddyline_common::postgres::encode::{Format, RowFormat};
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use eddyline_planner::casts::constant;
use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Parse, TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT};

impl Connection {
    pub async fn parse(&mut self, parse: Parse) -> Result<()> {
        self.reader.check_statement()?;
        let name = parse.name.unwrap_or_default();
        if name.is_empty() {
            self.session.close_statement("");
        }
        let cancel = self.session.cancel.clone();
        guarded(&cancel, None, None, self.session.prepare(&name, &parse.query, parse.type_oids)).await?;
        self.writer.parse_complete();
        Ok(())
    }

    pub async fn bind(&mut self, bind: Bind) -> Result<()> {
        let portal = bind.portal_name.unwrap_or_default();
        let prepared = self.session.prepared(&bind.statement_name.unwrap_or_default())?;
        let (given, wanted) = (bind.parameters.len(), prepared.parameters.len());
        if given != wanted {
            let message = format!("bind message supplies {given} parameters, but prepared statement requires {wanted}");
            return Err(SqlError::new(SqlState("08P01"), message));
        }
        let given_as = formats(&bind.parameter_format_codes, given)?;
        let values = bind.parameters.iter().zip(&prepared.parameters).zip(given_as);
        let zone = self.session.settings.zone();
        let value =
            |((value, ty), format): ((&Option<Bytes>, &SqlType), Format)| parameter(value.as_deref(), format == Format::Binary, ty, zone);
        let values = values.map(value).collect::<Result<Vec<_>>>()?;
        if let Some(schema) = &prepared.schema {
            formats(&bind.result_column_format_codes, schema.fields().len())?;
        }
        if portal.is_empty() {
            self.session.close_portal("");
        }
        let cancel = self.session.cancel.clone();
        let formats = bind.result_column_format_codes;
        guarded(&cancel, None, None, async { self.session.bind(&portal, &prepared, values, formats) }).await?;
        self.writer.bind_complete();
        Ok(())
    }

    pub fn describe(&mut self, describe: Describe) -> Result<()> {
        let name = describe.name.unwrap_or_default();
        match describe.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                let prepared = self.session.prepared(&name)?;
                self.writer.parameter_description(&prepared.oids);
                self.describe_rows(prepared.schema.clone(), &[])
            }
            _ => {
                let portal = self.session.portal(&name)?;
                let (schema, formats) = (portal.schema.clone(), portal.formats.clone());
                self.describe_rows(schema, &formats)
            }
        }
    }

    fn describe_rows(&mut self, schema: Option<SchemaRef>, codes: &[i16]) -> Result<()> {
        match schema {
            None => self.writer.no_data(),
            Some(schema) => {
                let formats = formats(codes, schema.fields().len())?;
                self.writer.row_description(&schema, &formats);
            }
        }
        Ok(())
    }

    pub async fn execute(&mut self, execute: Execute) -> Result<()> {
        let name = execute.name.unwrap_or_default();
        let deadline = deadline(self.session.settings.timeout("statement_timeout"));
        let cancel = self.session.cancel.clone();
        let started = std::time::Instant::now();
        let metrics = self.session.services().metrics.clone();
        metrics.statements.add(1);
        let run = guarded(&cancel, deadline, Some(&self.reader), self.session.run_portal(&name)).await?;
        match run {
            PortalRun::Other(Outcome::CopyIn(copy)) => {
                self.send_notices();
                let tag = self.copy_in(copy, deadline).await?;
                self.writer.command_complete(&tag);
            }
            PortalRun::Other(outcome) => {
                let answer = complete(&mut self.writer, &mut self.session, outcome);
                let tag = guarded(&cancel, deadline, Some(&self.reader), answer).await?;
                self.send_notices();
                match tag {
                    Some(tag) => self.writer.command_complete(&tag),
                    None => self.writer.empty_query(),
                }
            }
            PortalRun::Rows(mut portal) => {
                let limit = u64::try_from(execute.max_rows).ok().filter(|n| *n > 0).unwrap_or(u64::MAX);
                let rows = stream(&mut self.writer, &self.session, &mut portal, limit);
                let tag = guarded(&cancel, deadline, Some(&self.reader), rows).await?;
                self.send_notices();
                match tag {
                    Some(tag) => self.writer.command_complete(&tag),
                    None => self.writer.portal_suspended(),
                }
                self.session.put_back(&name, *portal);
            }
        }
        metrics.statement_micros.add(started.elapsed().as_micros() as u64);
        self.writer.flush_if_full().await
    }

    pub fn close(&mut self, close: Close) -> Result<()> {
        let name = close.name.unwrap_or_default();
        match close.target_type {
            TARGET_TYPE_BYTE_PORTAL => self.session.close_portal(&name),
            _ => self.session.close_statement(&name),
        }
        self.writer.close_complete();
        Ok(())
    }

    pub async fn sync(&mut self) -> Result<()> {
        if std::mem::take(&mut self.skipping) {
            // What failed was reported, and its transaction has been given up.
            self.session.settle().await;
            self.writer.ready_for_query(self.session.transaction_state());
            return self.writer.flush().await;
        }
        let deadline = deadline(self.session.settings.timeout("statement_timeout"));
        let cancel = self.session.cancel.clone();
        if let Err(error) = guarded(&cancel, deadline, Some(&self.reader), self.session.finish_implicit()).await {
            if is_fatal(&error) {
                return Err(error);
            }
            self.session.fail();
            self.writer.error(super::messages::Severity::Error, &error);
        }
        self.send_notices();
        self.session.settle().await;
        self.writer.ready_for_query(self.session.transaction_state());
        self.writer.flush().await
    }
}

/// One parameter as a typed constant; `None` is null.
pub(super) fn parameter(bytes: Option<&[u8]>, binary: bool, ty: &SqlType, zone: Tz) -> Result<ScalarValue> {
    constant(&decode::value(bytes, binary, ty, zone)?).map_err(SqlError::internal)
}

/// The formats of a result's columns from Bind's codes: none is text, one is for all.
fn formats(codes: &[i16], columns: usize) -> Result<Vec<Format>> {
    let format = |code: i16| match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("unsupported format code: {other}"))),
    };
    match codes {
        [] => Ok(vec![Format::Text; columns]),
        [one] => Ok(vec![format(*one)?; columns]),
        many if many.len() == columns => many.iter().map(|c| format(*c)).collect(),
        many => {
            let message = format!("bind message has {} result formats but query has {columns} columns", many.len());
            Err(SqlError::new(SqlState("08P01"), message))
        }
    }
}

async fn complete(writer: &mut Writer, session: &mut Session, outcome: Outcome) -> Result<Option<String>> {
    match outcome {
        Outcome::Done(tag) => Ok(Some(tag)),
        Outcome::CopyOut { rows, format } => super::copy::copy_out(writer, session, rows, &format).await.map(Some),
        Outcome::Empty | Outcome::Rows { .. } | Outcome::CopyIn(_) => Ok(None),
    }
}

/// Sends up to `limit` rows. Returns the tag at the end of the rows, which counts those sent this time, `None` if there may be more.
async fn stream(writer: &mut Writer, session: &Session, portal: &mut Portal, limit: u64) -> Result<Option<String>> {
    let codes = portal.formats.clone();
    let Some(Running { rows, tag }) = &mut portal.running else {
        return Err(SqlError::new(SqlState("55000"), "portal cannot be run again"));
    };
    let schema = rows.schema().clone();
    let formats = formats(&codes, schema.fields().len())?;
    let format = RowFormat { schema, formats, zone: session.settings.zone() };
    let (mut left, mut sent) = (limit, 0);
    while left > 0 {
        if rows.is_idle() {
            if left < limit && limit < u64::MAX {
                // A client that asked for some gets what there is.
                return Ok(None);
            }
            writer.flush().await?;
        }
        let Some(batch) = rows.next().await? else { return Ok(Some(tag.text(sent))) };
        let (batch, rest) = split(batch, left);
        if let Some(rest) = rest {
            rows.put_back(rest);
        }
        let bound = format.bind(&batch)?;
        let mut at = 0;
        while at < batch.num_rows() {
            let written = bound.write_rows(at, batch.num_rows() - at, FLUSH_BYTES, &mut writer.out)?;
            at += written;
            sent += written as u64;
            writer.flush_if_full().await?;
        }
        left -= batch.num_rows() as u64;
        session.services().metrics.rows_sent.add(batch.num_rows() as u64);
    }
    Ok(None)
}
