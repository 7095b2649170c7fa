//! The dialogues of COPY: data from the client until it is done or gives up, rows to the client as lines or binary tuples.

use super::connection::Connection;
use super::guard::CLIENT_GONE;
use super::guard::guarded;
use super::shape::unexpected;
use super::simple::next_batch;
use super::wire::{FLUSH_BYTES, Reader, Writer};
use crate::serving::RowStream;
use crate::session::Session;
use crate::session::copy::CopyIn;
use crate::session::copy_lines::{header, lines};
use crate::session::copy_tuples::{END_OF_TUPLES, SIGNATURE};
use bytes::BufMut;
use eddyline_common::postgres::encode::{Format, RowFormat};
use eddyline_common::{Result, SqlError, SqlState};
use eddyline_planner::statement::{CopyFormat, CopyKind};
use pgwire::messages::PgWireFrontendMessage as Message;
use tokio::time::Instant;

/// A message's kind and its length.
const MESSAGE_HEAD_BYTES: usize = 5;

impl Connection {
    /// Returns the completion's tag. Nothing is written before the client says that all has come.
    pub async fn copy_in(&mut self, mut copy: CopyIn, deadline: Option<Instant>) -> Result<String> {
        self.writer.copy_in_response(copy.fields(), copy.format());
        self.writer.flush().await?;
        let cancel = self.session.cancel.clone();
        // After an error the client sends on until it has read it; `handle` skips what it sends.
        guarded(&cancel, deadline, None, receive(&mut self.reader, &mut copy)).await?;
        let rows = guarded(&cancel, deadline, Some(&self.reader), self.session.finish_copy(copy)).await?;
        Ok(format!("COPY {rows}"))
    }
}

async fn receive(reader: &mut Reader, copy: &mut CopyIn) -> Result<()> {
    loop {
        match reader.message().await? {
            Some(Message::CopyData(data)) => copy.data(&data.data)?,
            Some(Message::CopyDone(_)) => return Ok(()),
            Some(Message::CopyFail(failed)) => {
                return Err(SqlError::new(SqlState::QUERY_CANCELED, format!("COPY from stdin failed: {}", failed.message)));
            }
            Some(Message::Flush(_) | Message::Sync(_)) => {}
            Some(other) => return Err(unexpected(&other, " during COPY from stdin")),
            None => return Err(SqlError::new(CLIENT_GONE, "connection to client lost during COPY")),
        }
    }
}

pub async fn copy_out(writer: &mut Writer, session: &Session, rows: RowStream, format: &CopyFormat) -> Result<String> {
    let sent = match format.kind {
        CopyKind::Text | CopyKind::Csv => copy_lines(writer, session, rows, format).await?,
        CopyKind::Binary => copy_tuples(writer, session, rows).await?,
    };
    writer.copy_done();
    Ok(format!("COPY {sent}"))
}

async fn copy_lines(writer: &mut Writer, session: &Session, mut rows: RowStream, format: &CopyFormat) -> Result<usize> {
    let schema = rows.schema().clone();
    writer.copy_out_response(schema.fields().len(), Format::Text);
    if let Some(line) = header(&schema, format) {
        writer.put(b'd', |out| out.extend_from_slice(&line));
    }
    let row_format = RowFormat::text(schema, session.settings.zone());
    let mut sent = 0;
    while let Some(batch) = next_batch(writer, &mut rows).await? {
        // A batch is small against the buffer's purpose; it is flushed piece by piece below.
        const PIECE_ROWS: usize = 1024;
        let mut at = 0;
        while at < batch.num_rows() {
            let piece = batch.slice(at, PIECE_ROWS.min(batch.num_rows() - at));
            lines(&piece, &row_format, format, |line| writer.put(b'd', |out| out.extend_from_slice(line)))?;
            at += piece.num_rows();
            writer.flush_if_full().await?;
        }
        sent += batch.num_rows();
    }
    Ok(sent)
}

async fn copy_tuples(writer: &mut Writer, session: &Session, mut rows: RowStream) -> Result<usize> {
    let schema = rows.schema().clone();
    writer.copy_out_response(schema.fields().len(), Format::Binary);
    let format = RowFormat::binary(schema, session.settings.zone());
    let mut sent = 0;
    while let Some(batch) = next_batch(writer, &mut rows).await? {
        let bound = format.bind(&batch)?;
        let mut at = 0;
        while at < batch.num_rows() {
            let (begin, is_first) = (writer.out.len(), sent + at == 0);
            let wanted = if is_first { 1 } else { batch.num_rows() - at };
            at += bound.write_tuples(at, wanted, FLUSH_BYTES, &mut writer.out)?;
            if is_first {
                put_header(writer, begin);
            }
            writer.flush_if_full().await?;
        }
        sent += batch.num_rows();
    }
    let begin = writer.out.len();
    writer.put(b'd', |out| out.put_i16(END_OF_TUPLES));
    if sent == 0 {
        put_header(writer, begin);
    }
    Ok(sent)
}

/// Puts the header into the message that begins there, of the first tuple or of the end: there PostgreSQL has it, and psycopg looks nowhere else.
fn put_header(writer: &mut Writer, begin: usize) {
    let tuple = writer.out[begin + MESSAGE_HEAD_BYTES..].to_vec();
    writer.out.truncate(begin);
    writer.put(b'd', |out| {
        out.extend_from_slice(SIGNATURE);
        // No flags, and no extension of the header.
        out.put_i32(0);
        out.put_i32(0);
        out.extend_from_slice(&tuple);
    });
}
