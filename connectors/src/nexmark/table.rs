//! The generator's tables as Arrow columns: which declared column is which property, and batches of them built column
//! by column. Columns may be declared in any order, any subset, in compatible types.

use super::model::{Kind, Model, kind};
use crate::generator::batch_of;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use eddyline_common::connector::{ColumnOrigin, SourceColumn};
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use std::sync::Arc;

/// A property of an event.
#[derive(Clone, Copy)]
enum Property {
    Integer(fn(&Model, i64) -> i64),
    Time(fn(&Model, i64) -> i64),
    Text(fn(&Model, i64, &mut Vec<u8>)),
}
use Property::{Integer, Text, Time};

type Properties = &'static [(&'static str, Property)];

const PERSON: Properties = &[
    ("id", Integer(Model::person_id)),
    ("name", Text(Model::name)),
    ("email_address", Text(Model::email_address)),
    ("credit_card", Text(Model::credit_card)),
    ("city", Text(Model::city)),
    ("state", Text(Model::state)),
    ("date_time", Time(Model::date_time)),
    ("extra", Text(Model::person_extra)),
];

const AUCTION: Properties = &[
    ("id", Integer(Model::auction_id)),
    ("item_name", Text(Model::item_name)),
    ("description", Text(Model::description)),
    ("initial_bid", Integer(Model::initial_bid)),
    ("reserve", Integer(Model::reserve)),
    ("date_time", Time(Model::date_time)),
    ("expires", Time(Model::expires)),
    ("seller", Integer(Model::seller)),
    ("category", Integer(Model::category)),
    ("extra", Text(Model::auction_extra)),
];

const BID: Properties = &[
    ("auction", Integer(Model::bid_auction)),
    ("bidder", Integer(Model::bidder)),
    ("price", Integer(Model::price)),
    ("channel", Text(Model::channel)),
    ("url", Text(Model::url)),
    ("date_time", Time(Model::date_time)),
    ("extra", Text(Model::bid_extra)),
];

fn properties_of(kind: Kind) -> Properties {
    match kind {
        Kind::Person => PERSON,
        Kind::Auction => AUCTION,
        Kind::Bid => BID,
    }
}

/// What a declared column holds.
enum Filling {
    Property(Property),
    /// 0 person, 1 auction, 2 bid.
    EventType,
    /// An event of one kind as a row; NULL in events of the others.
    Event(Kind, Vec<Property>),
}

pub struct Table {
    /// `None`: all kinds.
    kind: Option<Kind>,
    schema: SchemaRef,
    fillings: Vec<Filling>,
}

impl Table {
    pub fn new(table_type: &str, columns: &[SourceColumn]) -> Result<Table> {
        let kind = match table_type {
            "person" => Some(Kind::Person),
            "auction" => Some(Kind::Auction),
            "bid" => Some(Kind::Bid),
            _ => None,
        };
        let mut fillings = Vec::new();
        for column in columns {
            if let ColumnOrigin::Metadata(key) = &column.origin {
                options::metadata_type("nexmark", key)?;
            }
            let (name, ty) = (column.external_name.as_str(), &column.ty);
            fillings.push(match kind {
                Some(kind) => Filling::Property(property(properties_of(kind), name, ty, table_type)?),
                None => event_filling(name, ty, column.nullable)?,
            });
        }
        let fields: Vec<ArrowField> = columns.iter().map(|c| c.ty.field(&c.external_name, c.nullable)).collect();
        Ok(Table { kind, schema: Arc::new(Schema::new(fields)), fillings })
    }

    #[inline]
    pub fn holds(&self, number: i64) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind(number))
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of events, which must be of the table's kind, in the columns that are kept.
    pub fn rows(&self, model: &Model, numbers: &[i64], kept: &[bool]) -> Result<RecordBatch> {
        batch_of(&self.schema, numbers.len(), kept, |column| {
            let declared = self.schema.field(column).data_type();
            let array = match &self.fillings[column] {
                Filling::Property(property) => values(model, *property, numbers, None),
                Filling::EventType => Arc::new(Int64Array::from_iter_values(numbers.iter().map(|n| kind(*n) as i64))),
                Filling::Event(kind, properties) => return event_rows(model, *kind, properties, numbers, declared),
            };
            to_declared(array, declared)
        })
    }
}

/// The property a column names, if its type can hold it.
fn property(properties: Properties, name: &str, ty: &SqlType, table: &str) -> Result<Property> {
    let Some((_, property)) = properties.iter().find(|(known, _)| is_same_name(known, name)) else {
        let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("nexmark table \"{table}\" has no column \"{name}\""));
        return Err(match options::nearest(name, properties.iter().map(|(known, _)| *known)) {
            Some(meant) => error.with_hint(format!("Perhaps you meant \"{meant}\".")),
            None => {
                let known: Vec<&str> = properties.iter().map(|(known, _)| *known).collect();
                error.with_detail(format!("Its columns are: {}.", known.join(", ")))
            }
        });
    };
    let (fits, native) = match property {
        Integer(_) => (matches!(ty, SqlType::Integer | SqlType::BigInt | SqlType::Double | SqlType::Decimal { .. }), SqlType::BigInt),
        Time(_) => (ty.is_time(), SqlType::Timestamp),
        Text(_) => (*ty == SqlType::Text, SqlType::Text),
    };
    if fits { Ok(*property) } else { Err(mismatch(name, ty, &native.to_string())) }
}

/// `date_time` is `dateTime`, as the queries of Nexmark's other implementations have it.
fn is_same_name(known: &str, name: &str) -> bool {
    let letters = |name: &str| name.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>();
    letters(known) == letters(name)
}

fn event_filling(name: &str, ty: &SqlType, nullable: bool) -> Result<Filling> {
    let lower = name.to_ascii_lowercase();
    let kind = match lower.as_str() {
        "event_type" if matches!(ty, SqlType::SmallInt | SqlType::Integer | SqlType::BigInt) => return Ok(Filling::EventType),
        "event_type" => return Err(mismatch(name, ty, "bigint")),
        "person" => Kind::Person,
        "auction" => Kind::Auction,
        "bid" => Kind::Bid,
        _ => {
            return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, format!("nexmark table \"all\" has no column \"{name}\""))
                .with_detail("Its columns are: event_type, person, auction, bid."));
        }
    };
    let SqlType::Struct(fields) = ty else { return Err(mismatch(name, ty, "a row type")) };
    if !nullable {
        return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, format!("column \"{name}\" cannot be NOT NULL"))
            .with_detail("It is NULL in events of the other kinds."));
    }
    let properties = fields.iter().map(|(field, ty)| property(properties_of(kind), field, ty, &lower));
    Ok(Filling::Event(kind, properties.collect::<Result<_>>()?))
}

fn mismatch(name: &str, ty: &SqlType, native: &str) -> SqlError {
    SqlError::new(SqlState::DATATYPE_MISMATCH, format!("column \"{name}\" cannot be of type {ty}"))
        .with_hint(format!("The generator makes it as {native}."))
}

/// One property of all events; where `present` says no, an empty value stands.
fn values(model: &Model, property: Property, numbers: &[i64], present: Option<&NullBuffer>) -> ArrayRef {
    let is_present = |row: usize| present.is_none_or(|nulls| nulls.is_valid(row));
    let integers = |value: fn(&Model, i64) -> i64| -> ScalarBuffer<i64> {
        numbers.iter().enumerate().map(|(row, number)| if is_present(row) { value(model, *number) } else { 0 }).collect::<Vec<_>>().into()
    };
    match property {
        Integer(value) => Arc::new(Int64Array::new(integers(value), present.cloned())),
        Time(value) => Arc::new(TimestampMicrosecondArray::new(integers(value), present.cloned())),
        Text(append) => {
            let (mut data, mut offsets) = (Vec::with_capacity(numbers.len() * 32), Vec::with_capacity(numbers.len() + 1));
            offsets.push(0);
            for (row, number) in numbers.iter().enumerate() {
                if is_present(row) {
                    append(model, *number, &mut data);
                }
                offsets.push(data.len() as i32);
            }
            Arc::new(StringArray::new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(data), present.cloned()))
        }
    }
}

fn event_rows(model: &Model, wanted: Kind, properties: &[Property], numbers: &[i64], declared: &DataType) -> Result<ArrayRef> {
    let present: NullBuffer = numbers.iter().map(|number| kind(*number) == wanted).collect();
    let DataType::Struct(fields) = declared else { return Err(SqlError::internal("an event column that is no struct")) };
    let children = properties.iter().zip(fields);
    let children = children.map(|(p, field)| to_declared(values(model, *p, numbers, Some(&present)), field.data_type()));
    let children = children.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), children, Some(present), numbers.len())?))
}

fn to_declared(array: ArrayRef, declared: &DataType) -> Result<ArrayRef> {
    if array.data_type() == declared { Ok(array) } else { Ok(cast(&array, declared)?) }
}
