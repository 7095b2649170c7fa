//! Records for an outside that takes them one by one: rows of Arrow columns in, the bytes of one record out.

use super::json::encode::{JsonEncoder, JsonRows, Times};
use super::protobuf::{self, ProtobufEncoder, ProtobufRows};
use arrow::array::RecordBatch;
use bytes::BytesMut;
use eddyline_common::{Result, SqlType, options};
use std::collections::BTreeMap;

/// Writes some columns of a batch.
#[derive(Clone, Debug)]
pub enum RecordEncoder {
    Json(JsonEncoder),
    Protobuf(ProtobufEncoder),
}

/// A batch's rows, ready to be written.
pub enum RecordRows<'a> {
    Json(JsonRows<'a>),
    Protobuf(ProtobufRows<'a>),
}

impl RecordEncoder {
    /// The encoder that a sink's canonical options ask for, of fields that are the batch's columns of these numbers.
    pub fn of_value(options: &BTreeMap<String, String>, fields: Vec<(usize, String, SqlType)>) -> Result<Self> {
        let is_message = options.get(options::FORMAT).is_some_and(|format| matches!(format.as_str(), "protobuf" | "upsert-protobuf"));
        RecordEncoder::new(is_message, options, fields)
    }

    /// The same for keys.
    pub fn of_key(options: &BTreeMap<String, String>, fields: Vec<(usize, String, SqlType)>) -> Result<Self> {
        let is_message = options.get(options::KEY_FORMAT).is_some_and(|format| format == "protobuf");
        match is_message {
            true => RecordEncoder::new(true, &protobuf::options_of_key(options)?, fields),
            false => RecordEncoder::new(false, options, fields),
        }
    }

    fn new(is_message: bool, options: &BTreeMap<String, String>, fields: Vec<(usize, String, SqlType)>) -> Result<Self> {
        match is_message {
            true => Ok(RecordEncoder::Protobuf(protobuf::encoder(options, &fields)?)),
            false => Ok(RecordEncoder::Json(JsonEncoder::new(fields.into_iter(), Times::of(options)))),
        }
    }

    pub fn bind<'a>(&'a self, batch: &'a RecordBatch) -> Result<RecordRows<'a>> {
        Ok(match self {
            RecordEncoder::Json(encoder) => RecordRows::Json(encoder.bind(batch)?),
            RecordEncoder::Protobuf(encoder) => RecordRows::Protobuf(encoder.bind(batch)?),
        })
    }
}

impl RecordRows<'_> {
    /// The row as a record.
    pub fn write(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        match self {
            RecordRows::Json(rows) => {
                rows.write(row, out);
                Ok(())
            }
            RecordRows::Protobuf(rows) => rows.write(row, out),
        }
    }
}
