//! Times of 96 bits (INT96), as Spark, Hive and Impala write them: a day, and nanoseconds of it. By itself the library counts them in nanoseconds since
//! 1970, in 64 bits, which end in 2262; what is later comes out as another time. So it is told to count microseconds. Knows nothing of
//! what a source declares.

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type;
use parquet::errors::ParquetError;
use std::sync::Arc;

/// The same file, with such times in microseconds.
pub fn in_microseconds(read: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let is_wide: Vec<bool> = read.parquet_schema().columns().iter().map(|leaf| leaf.physical_type() == Type::INT96).collect();
    if !is_wide.contains(&true) {
        return Ok(read);
    }
    let fields = fields_of(read.schema().fields(), &mut is_wide.into_iter());
    let schema = Schema::new_with_metadata(fields, read.schema().metadata().clone());
    ArrowReaderMetadata::try_new(read.metadata().clone(), ArrowReaderOptions::new().with_schema(Arc::new(schema)))
}

/// `leaves`: of each column without others in it whether it is of 96 bits, in the file's order, which is that of the fields.
fn fields_of(fields: &Fields, leaves: &mut impl Iterator<Item = bool>) -> Fields {
    fields.iter().map(|field| field_of(field, leaves)).collect()
}

fn field_of(field: &FieldRef, leaves: &mut impl Iterator<Item = bool>) -> FieldRef {
    let ty = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields_of(fields, leaves)),
        DataType::List(item) => DataType::List(field_of(item, leaves)),
        DataType::ListView(item) => DataType::ListView(field_of(item, leaves)),
        DataType::LargeList(item) => DataType::LargeList(field_of(item, leaves)),
        DataType::LargeListView(item) => DataType::LargeListView(field_of(item, leaves)),
        DataType::FixedSizeList(item, len) => DataType::FixedSizeList(field_of(item, leaves), *len),
        DataType::Map(entries, sorted) => DataType::Map(field_of(entries, leaves), *sorted),
        leaf => match (leaves.next(), leaf) {
            (Some(true), DataType::Timestamp(_, zone)) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            _ => leaf.clone(),
        },
    };
    Arc::new(Field::clone(field).with_data_type(ty))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{TimestampMicrosecondType, TimestampNanosecondType};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::data_type::{Int64Type, Int96, Int96Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    /// The last day of 9999, which stands for "never" in many files, and one microsecond.
    const LAST_DAY: u32 = 5_373_484;
    const LAST_MICROS: i64 = 253_402_214_400_000_001;

    fn file() -> Bytes {
        let text = "message m { REQUIRED GROUP g { REQUIRED INT64 n (TIMESTAMP(NANOS,false)); REQUIRED INT96 at; } REQUIRED INT96 top; }";
        let schema = Arc::new(parse_message_type(text).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::builder().build())).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut number = group.next_column().unwrap().unwrap();
        number.typed::<Int64Type>().write_batch(&[7], None, None).unwrap();
        number.close().unwrap();
        for _ in 0..2 {
            let mut last = Int96::new();
            last.set_data(1_000, 0, LAST_DAY);
            let mut times = group.next_column().unwrap().unwrap();
            times.typed::<Int96Type>().write_batch(&[last], None, None).unwrap();
            times.close().unwrap();
        }
        group.close().unwrap();
        Bytes::from(writer.into_inner().unwrap())
    }

    #[test]
    fn times_after_2262_are_what_they_were() {
        let file = file();
        let read = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default()).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, in_microseconds(read).unwrap());
        let batch = builder.build().unwrap().next().unwrap().unwrap();
        let group = batch.column(0).as_struct();
        assert_eq!(group.column(0).as_primitive::<TimestampNanosecondType>().value(0), 7, "of 64 bits");
        for times in [group.column(1), batch.column(1)] {
            assert_eq!(times.as_primitive::<TimestampMicrosecondType>().value(0), LAST_MICROS);
        }
    }
}
