//! Backend messages, put into a writer's buffer. Each is one method, named as in the protocol's documentation.

use super::wire::{Writer, cstring};
use crate::session::cursor::RESULT_CHANGED;
use arrow::datatypes::Schema;
use bytes::BufMut;
use eddyline_common::SqlError;
use eddyline_common::postgres::encode::Format;
use eddyline_common::postgres::types::{origins, wire_type};
use std::borrow::Cow;

/// How grave an error or notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Fatal,
    Error,
    Warning,
    Notice,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Fatal => "FATAL",
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
        }
    }
}

/// The state that `ReadyForQuery` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    Idle,
    Open,
    Failed,
}

impl Writer {
    pub fn refuse_encryption(&mut self) {
        self.out.put_u8(b'N');
    }

    pub fn authentication_ok(&mut self) {
        self.put(b'R', |out| out.put_i32(0));
    }

    /// The newest minor version that is spoken here, and the options that are not known.
    pub fn negotiate_protocol_version(&mut self, unknown_options: &[String]) {
        self.put(b'v', |out| {
            out.put_i32(0);
            out.put_i32(unknown_options.len() as i32);
            unknown_options.iter().for_each(|o| cstring(out, o));
        });
    }

    pub fn parameter_status(&mut self, name: &str, value: &str) {
        self.put(b'S', |out| {
            cstring(out, name);
            cstring(out, value);
        });
    }

    pub fn backend_key_data(&mut self, process: i32, secret: i32) {
        self.put(b'K', |out| {
            out.put_i32(process);
            out.put_i32(secret);
        });
    }

    pub fn ready_for_query(&mut self, state: TransactionState) {
        let status = match state {
            TransactionState::Idle => b'I',
            TransactionState::Open => b'T',
            TransactionState::Failed => b'E',
        };
        self.put(b'Z', |out| out.put_u8(status));
    }

    pub fn error(&mut self, severity: Severity, error: &SqlError) {
        self.put(b'E', |out| report(out, severity, error));
    }

    pub fn notice(&mut self, severity: Severity, notice: &SqlError) {
        self.put(b'N', |out| report(out, severity, notice));
    }

    pub fn row_description(&mut self, schema: &Schema, formats: &[Format]) {
        self.put(b'T', |out| {
            out.put_i16(schema.fields().len() as i16);
            for ((field, format), (table, column)) in schema.fields().iter().zip(formats).zip(origins(schema)) {
                let ty = wire_type(field);
                cstring(out, field.name());
                out.put_u32(table);
                out.put_i16(column);
                out.put_u32(ty.oid);
                out.put_i16(ty.length);
                out.put_i32(ty.modifier);
                out.put_i16(format.code());
            }
        });
    }

    pub fn parameter_description(&mut self, oids: &[u32]) {
        self.put(b't', |out| {
            out.put_i16(oids.len() as i16);
            oids.iter().for_each(|oid| out.put_u32(*oid));
        });
    }

    pub fn no_data(&mut self) {
        self.put(b'n', |_| {});
    }

    pub fn parse_complete(&mut self) {
        self.put(b'1', |_| {});
    }

    pub fn bind_complete(&mut self) {
        self.put(b'2', |_| {});
    }

    pub fn close_complete(&mut self) {
        self.put(b'3', |_| {});
    }

    pub fn portal_suspended(&mut self) {
        self.put(b's', |_| {});
    }

    pub fn command_complete(&mut self, tag: &str) {
        self.put(b'C', |out| cstring(out, tag));
    }

    pub fn empty_query(&mut self) {
        self.put(b'I', |_| {});
    }

    pub fn copy_in_response(&mut self, columns: usize, format: Format) {
        self.copy_response(b'G', columns, format);
    }

    pub fn copy_out_response(&mut self, columns: usize, format: Format) {
        self.copy_response(b'H', columns, format);
    }

    fn copy_response(&mut self, kind: u8, columns: usize, format: Format) {
        self.put(kind, |out| {
            out.put_i8(format.code() as i8);
            out.put_i16(columns as i16);
            (0..columns).for_each(|_| out.put_i16(format.code()));
        });
    }

    pub fn copy_done(&mut self) {
        self.put(b'c', |_| {});
    }
}

/// What a message or its detail has at most: what they quote may be a literal of megabytes.
const TEXT_BYTES_MAX: usize = 16_384;

fn shortened(text: &str) -> Cow<'_, str> {
    match text.len() <= TEXT_BYTES_MAX {
        true => text.into(),
        false => format!("{}...", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]).into(),
    }
}

fn report(out: &mut bytes::BytesMut, severity: Severity, error: &SqlError) {
    let mut field = |kind: u8, text: &str| {
        out.put_u8(kind);
        cstring(out, text);
    };
    field(b'S', severity.name());
    field(b'V', severity.name());
    field(b'C', error.state.0);
    field(b'M', &shortened(&error.message));
    if let Some(detail) = &error.detail {
        field(b'D', &shortened(detail));
    }
    if let Some(hint) = &error.hint {
        field(b'H', hint);
    }
    if let Some(position) = error.position {
        field(b'P', &position.to_string());
    }
    if let Some(about) = &error.about {
        field(b's', "public");
        field(b't', &about.table);
        about.column.iter().for_each(|column| field(b'c', column));
        about.constraint.iter().for_each(|constraint| field(b'n', constraint));
    }
    // By where it comes from in PostgreSQL drivers know it from other errors of its state, and prepare the statement again.
    if error.message == RESULT_CHANGED {
        field(b'R', "RevalidateCachedQuery");
    }
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("relation \"é\" does not exist"), "relation \"é\" does not exist");
        let long = format!("a{}", "é".repeat(TEXT_BYTES_MAX));
        assert_eq!(shortened(&long), format!("a{}...", "é".repeat(TEXT_BYTES_MAX / 2 - 1)));
    }
}
