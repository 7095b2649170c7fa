//! Instants and wall-clock times: `AT TIME ZONE`, and texts that name an offset or not.

use super::{local, micros, typed, utc, zone_of};
use crate::native::{Memo, texts};
use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::DataType;
use eddyline_common::postgres::parse;
use eddyline_common::{SqlError, SqlType};

/// `x AT TIME ZONE zone`: a wall-clock time to an instant, an instant to a wall-clock time.
pub(super) fn timezone(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (zones, values) = (texts(&args[0]), micros(&args[1])?);
    let from_instant = matches!(args[1].data_type(), DataType::Timestamp(_, Some(_)));
    let mut zone = Memo::new();
    let convert = |row: usize| {
        if zones.is_null(row) || values.is_null(row) {
            return Ok(None);
        }
        let zone = zone.get(zones.value(row), zone_of)?;
        let convert = if from_instant { local } else { utc };
        convert(values.value(row), zone).map(Some)
    };
    typed((0..values.len()).map(convert), if from_instant { SqlType::Timestamp } else { SqlType::TimestampTz })
}

/// Text with or without an offset to an instant; one without is in the zone.
pub(super) fn instant(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    parse_instants(args, false)
}

pub(super) fn try_instant(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    parse_instants(args, true)
}

fn parse_instants(args: &[ArrayRef], safe: bool) -> Result<ArrayRef, SqlError> {
    let (values, zones) = (texts(&args[0]), texts(&args[1]));
    let mut zone = Memo::new();
    let parsed = |row: usize| {
        if values.is_null(row) || zones.is_null(row) {
            return Ok(None);
        }
        let zone = zone.get(zones.value(row), zone_of)?;
        match parse::timestamptz(values.value(row).trim(), Some(zone)) {
            Err(_) if safe => Ok(None),
            parsed => parsed.map(Some),
        }
    };
    typed((0..values.len()).map(parsed), SqlType::TimestampTz)
}
