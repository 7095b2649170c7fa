//! Records into columns by a plan. Each message is gone through once, which finds where its fields' last values stand, then each
//! field is read into its column: in whatever order they came, of a field given twice the last counts, parts of a message
//! are one message, and elements of a list may have others between them. Nothing is allocated per record, but for maps and for
//! messages in parts.

use super::plan::{Absent, FieldPlan, MapPlan, MessagePlan, Shape, Value};
use super::schema::Scalar;
use super::wire::{BYTES, FIXED32, Fields, GROUP, Occurrence, Read, Span, VARINT, wire_name, wire_of, zigzag};
use crate::format::json::{ColumnBuffer, Fault, Native};
use crate::format::rows::RowBuilder;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Where a field of the message at hand stands.
#[derive(Clone, Copy, Default)]
struct Slot {
    count: u32,
    wire: u8,
    /// The first tag, and the end of the last value.
    first: usize,
    end: usize,
    /// The last value.
    value_start: usize,
    value_end: usize,
}

#[derive(Default)]
pub struct Decoder {
    /// Of the message at hand and of those around it. Kept for its memory.
    slots: Vec<Slot>,
}

impl Decoder {
    pub fn read(&mut self, plan: &MessagePlan, record: Span, row: &mut RowBuilder) -> Result<(), String> {
        self.slots.clear();
        let base = self.locate(plan, record).map_err(|fault| fault.in_column(""))?;
        for (place, field) in plan.fields.iter().enumerate() {
            let slot = self.slots[base + place];
            if let Some(column) = field.target {
                row.put(column, |buffer| self.field(field, slot, record, buffer))?;
            }
        }
        Ok(())
    }

    /// Finds the fields of a message; where their slots begin.
    fn locate(&mut self, plan: &MessagePlan, message: Span) -> Read<usize> {
        let base = self.slots.len();
        self.slots.resize(base + plan.fields.len(), Slot::default());
        let mut fields = Fields::new(message);
        while let Some(found) = fields.read()? {
            let Some(place) = plan.place(found.number) else { continue };
            for other in &plan.fields[place].others {
                self.slots[base + *other as usize].count = 0;
            }
            let slot = &mut self.slots[base + place];
            if slot.count == 0 {
                slot.first = found.start;
            }
            slot.count += 1;
            (slot.wire, slot.end) = (found.wire, found.end);
            (slot.value_start, slot.value_end) = (found.value_start, found.value_end);
        }
        Ok(base)
    }

    fn field(&mut self, field: &FieldPlan, slot: Slot, message: Span, column: &mut ColumnBuffer) -> Read<()> {
        match &field.shape {
            Shape::List(item) => column.put_list(|items| self.list(item, field.number, slot, message, items)),
            Shape::Map(map) => column.put_map(|keys, values| self.map(map, field.number, slot, message, keys, values)),
            Shape::One(value) if slot.count == 0 => put_absent(&field.absent, value, column),
            Shape::One(value @ (Value::Message(_) | Value::Wrapped(_) | Value::Timestamp)) if slot.count > 1 => {
                // Parts of one message, one behind the other, are the message.
                let mut whole = Vec::new();
                each(field.number, slot, message, |part| {
                    whole.extend_from_slice(of_message(&part)?.bytes);
                    Ok(())
                })?;
                self.value(value, BYTES, Span { bytes: &whole, offset: message.offset + slot.first }, column)
            }
            Shape::One(value) => self.value(value, slot.wire, message.part(slot.value_start, slot.value_end), column),
        }
    }

    fn message(&mut self, plan: &MessagePlan, message: Span, column: &mut ColumnBuffer) -> Read<()> {
        let base = self.locate(plan, message)?;
        column.put_struct(|children| {
            for (place, field) in plan.fields.iter().enumerate() {
                let slot = self.slots[base + place];
                if let Some(child) = field.target.and_then(|target| children.at(target)) {
                    self.field(field, slot, message, child).map_err(|fault| fault.below(|| format!(".{}", field.name)))?;
                }
            }
            Ok(())
        })?;
        self.slots.truncate(base);
        Ok(())
    }

    fn list(&mut self, item: &Value, number: u32, slot: Slot, message: Span, items: &mut ColumnBuffer) -> Read<()> {
        let start = items.len();
        let packed = packed_wire(item);
        each(number, slot, message, |found| {
            let index = items.len() - start;
            let at = |fault: Fault| fault.below(|| format!("[{index}]"));
            match packed {
                Some(wire) if found.wire == BYTES => {
                    each_packed(found.value, wire, |value| self.value(item, wire, value, items)).map_err(at)
                }
                _ => self.value(item, found.wire, found.value, items).map_err(at),
            }
        })
    }

    fn map(
        &mut self,
        map: &MapPlan,
        number: u32,
        slot: Slot,
        message: Span,
        keys: &mut ColumnBuffer,
        values: &mut ColumnBuffer,
    ) -> Read<()> {
        // Of an entry given twice the last counts.
        let mut entries: Vec<(Option<Occurrence>, Option<Occurrence>)> = Vec::new();
        let mut known: HashMap<KeyOf, usize> = HashMap::new();
        each(number, slot, message, |entry| {
            let (mut key, mut value) = (None, None);
            let mut fields = Fields::new(of_message(&entry)?);
            while let Some(part) = fields.read()? {
                match part.number {
                    1 => key = Some(part),
                    2 => value = Some(part),
                    _ => {}
                }
            }
            match known.entry(key_of(&map.key, &key)?) {
                Entry::Occupied(earlier) => entries[*earlier.get()] = (key, value),
                Entry::Vacant(new) => {
                    new.insert(entries.len());
                    entries.push((key, value));
                }
            }
            Ok(())
        })?;
        for (key, value) in entries {
            match key {
                Some(key) => self.value(&map.key, key.wire, key.value, keys),
                None => put_absent(&map.absent_key, &map.key, keys),
            }
            .map_err(|fault| fault.below(|| ".key".to_string()))?;
            match value {
                Some(value) => self.value(&map.value, value.wire, value.value, values),
                None => put_absent(&map.absent_value, &map.value, values),
            }
            .map_err(|fault| fault.below(|| ".value".to_string()))?;
        }
        Ok(())
    }

    #[inline]
    fn value(&mut self, value: &Value, wire: u8, bytes: Span, column: &mut ColumnBuffer) -> Read<()> {
        match value {
            Value::Scalar(scalar) => put_scalar(*scalar, wire, bytes, column),
            Value::Name(names) => {
                let number = varint(wire, bytes)? as i32;
                match names.name_of(number) {
                    Some(name) => column.put_native(Native::Text(name)),
                    // A newer writer's: what it is called is not known here.
                    None => column.put_native(Native::Text(&number.to_string())),
                }
            }
            Value::Number => column.put_native(Native::Integer(varint(wire, bytes)? as i32 as i64)),
            Value::Message(plan) => self.message(plan, submessage(wire, bytes)?, column),
            Value::Wrapped(scalar) => {
                let mut last = None;
                let mut fields = Fields::new(submessage(wire, bytes)?);
                while let Some(part) = fields.read()? {
                    last = Some(part).filter(|part| part.number == 1).or(last);
                }
                match last {
                    Some(part) => put_scalar(*scalar, part.wire, part.value, column),
                    None => column.put_native(zero_of(*scalar)),
                }
            }
            Value::Timestamp => column.put_native(Native::Instant(instant(submessage(wire, bytes)?)?)),
        }
    }
}

/// Each occurrence of a field between its first and its last.
fn each<'a>(number: u32, slot: Slot, message: Span<'a>, mut take: impl FnMut(Occurrence<'a>) -> Read<()>) -> Read<()> {
    if slot.count == 0 {
        return Ok(());
    }
    let mut fields = Fields::from(message, slot.first);
    while fields.position() < slot.end {
        match fields.read()? {
            Some(found) if found.number == number => take(found)?,
            Some(_) => {}
            None => return Ok(()),
        }
    }
    Ok(())
}

/// The wire type of a packed list's elements, if its elements can be packed.
fn packed_wire(item: &Value) -> Option<u8> {
    match item {
        Value::Scalar(Scalar::String | Scalar::Bytes) => None,
        Value::Scalar(scalar) => Some(wire_of(*scalar)),
        Value::Name(_) | Value::Number => Some(VARINT),
        Value::Message(_) | Value::Wrapped(_) | Value::Timestamp => None,
    }
}

fn each_packed<'a>(packed: Span<'a>, wire: u8, mut take: impl FnMut(Span<'a>) -> Read<()>) -> Read<()> {
    let mut elements = Fields::new(packed);
    while elements.position() < packed.bytes.len() {
        let start = elements.position();
        match wire {
            VARINT => drop(elements.varint()?),
            FIXED32 => elements.skip(4)?,
            _ => elements.skip(8)?,
        }
        take(packed.part(start, elements.position()))?;
    }
    Ok(())
}

#[cold]
fn wrong_wire<T>(found: u8, expected: u8) -> Read<T> {
    Err(Fault::value(format!("{} where {} is expected", wire_name(found), wire_name(expected))))
}

#[inline]
fn varint(wire: u8, bytes: Span) -> Read<u64> {
    if wire == VARINT { Fields::new(bytes).varint() } else { wrong_wire(wire, VARINT) }
}

fn submessage(wire: u8, bytes: Span) -> Read<Span> {
    if wire == BYTES || wire == GROUP { Ok(bytes) } else { wrong_wire(wire, BYTES) }
}

fn of_message<'a>(found: &Occurrence<'a>) -> Read<Span<'a>> {
    submessage(found.wire, found.value)
}

fn fixed<const N: usize>(bytes: Span) -> Read<[u8; N]> {
    bytes.bytes.try_into().or_else(|_| Fields::new(bytes).malformed("a number of another length"))
}

#[inline]
fn put_scalar(scalar: Scalar, wire: u8, bytes: Span, column: &mut ColumnBuffer) -> Read<()> {
    let expected = wire_of(scalar);
    if wire != expected {
        return wrong_wire(wire, expected);
    }
    let number = || Fields::new(bytes).varint();
    column.put_native(match scalar {
        Scalar::Double => Native::Float(f64::from_le_bytes(fixed(bytes)?)),
        Scalar::Float => Native::Float(f32::from_le_bytes(fixed(bytes)?).into()),
        Scalar::Int32 => Native::Integer(number()? as i32 as i64),
        Scalar::Int64 => Native::Integer(number()? as i64),
        Scalar::Uint32 => Native::Integer(number()? as u32 as i64),
        Scalar::Uint64 => unsigned(number()?),
        Scalar::Sint32 => Native::Integer(zigzag(number()?) as i32 as i64),
        Scalar::Sint64 => Native::Integer(zigzag(number()?)),
        Scalar::Fixed32 => Native::Integer(u32::from_le_bytes(fixed(bytes)?).into()),
        Scalar::Fixed64 => unsigned(u64::from_le_bytes(fixed(bytes)?)),
        Scalar::Sfixed32 => Native::Integer(i32::from_le_bytes(fixed(bytes)?).into()),
        Scalar::Sfixed64 => Native::Integer(i64::from_le_bytes(fixed(bytes)?)),
        Scalar::Bool => Native::Boolean(number()? != 0),
        Scalar::String => match std::str::from_utf8(bytes.bytes) {
            Ok(text) => Native::Text(text),
            Err(_) => return Err(Fault::value("a string that is not UTF-8")),
        },
        Scalar::Bytes => Native::Bytes(bytes.bytes),
    })
}

fn unsigned(number: u64) -> Native<'static> {
    match i64::try_from(number) {
        Ok(number) => Native::Integer(number),
        Err(_) => Native::Decimal { unscaled: number.into(), scale: 0 },
    }
}

fn zero_of(scalar: Scalar) -> Native<'static> {
    match scalar {
        Scalar::Double | Scalar::Float => Native::Float(0.0),
        Scalar::Bool => Native::Boolean(false),
        Scalar::String => Native::Text(""),
        Scalar::Bytes => Native::Bytes(&[]),
        _ => Native::Integer(0),
    }
}

fn put_absent(absent: &Absent, value: &Value, column: &mut ColumnBuffer) -> Read<()> {
    match absent {
        Absent::Null => {
            column.push_null();
            Ok(())
        }
        Absent::Refused => Err(Fault::value("a required field that is missing")),
        Absent::Number(number) => column.put_native(Native::Integer(*number)),
        Absent::Large(number) => column.put_native(Native::Decimal { unscaled: *number, scale: 0 }),
        Absent::Float(number) => column.put_native(Native::Float(*number)),
        Absent::Boolean(value) => column.put_native(Native::Boolean(*value)),
        Absent::Text(text) => column.put_native(Native::Text(text)),
        Absent::Bytes(bytes) => column.put_native(Native::Bytes(bytes)),
        Absent::Empty => Decoder::default().value(value, BYTES, Span::of_record(&[]), column),
    }
}

/// Microseconds since 1970 of a `google.protobuf.Timestamp`.
fn instant(message: Span) -> Read<i64> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut fields = Fields::new(message);
    while let Some(part) = fields.read()? {
        match part.number {
            1 => seconds = varint(part.wire, part.value)? as i64,
            2 => nanos = varint(part.wire, part.value)? as i32 as i64,
            _ => {}
        }
    }
    let micros = seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos.div_euclid(1_000)));
    micros.ok_or_else(|| Fault::value("a time out of range"))
}

/// What tells keys of a map apart.
#[derive(PartialEq, Eq, Hash)]
enum KeyOf<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn key_of<'a>(key: &Value, found: &Option<Occurrence<'a>>) -> Read<KeyOf<'a>> {
    let is_text = matches!(key, Value::Scalar(Scalar::String));
    Ok(match found {
        None if is_text => KeyOf::Bytes(&[]),
        None => KeyOf::Number(0),
        Some(found) if found.wire == VARINT => KeyOf::Number(Fields::new(found.value).varint()?),
        Some(found) if !is_text && found.value.bytes.iter().all(|byte| *byte == 0) => KeyOf::Number(0),
        Some(found) => KeyOf::Bytes(found.value.bytes),
    })
}
