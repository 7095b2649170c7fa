//! What a CREATE must know before it is planned: the columns of a record where none are declared, and what must not depend on a
//! file afterwards. Here are the parts that formats share: the newest schema of a registry's subject, and bounds on the way
//! through a record's type. Here, and only here, files and registries are asked for the sake of a statement.

use super::registry::{Registered, Registry};
use super::{avro, protobuf};
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Options that the statement has beside those it says.
    pub options: BTreeMap<String, String>,
    /// Empty unless they were asked for.
    pub columns: Vec<(String, SqlType)>,
}

/// Of canonical options. Blocks; 08006 while a registry is away, which is given some ten seconds for each schema that it is asked for.
pub fn describe(options: &BTreeMap<String, String>, wants_columns: bool) -> Result<Description> {
    match options.get(options::FORMAT).map_or("", String::as_str) {
        "protobuf" | "upsert-protobuf" => protobuf::describe(options, wants_columns),
        "avro" | "avro-confluent" if wants_columns => Ok(Description { columns: avro::describe(options)?, ..Description::default() }),
        _ => Ok(Description::default()),
    }
}

/// What `read` makes of the newest schema of the topic's values, or of the subject that the options name.
pub(super) fn newest<T>(options: &BTreeMap<String, String>, format: &str, read: impl FnOnce(Registered) -> Result<T, String>) -> Result<T> {
    let of_topic = || options.get(options::TOPIC).map(|topic| format!("{topic}-value"));
    let subject = options.get(options::REGISTRY_SUBJECT).cloned().or_else(of_topic).unwrap_or_default();
    let schema = Registry::new(options, format)?.newest(&subject)?;
    schema.and_then(read).map_err(|why| {
        SqlError::new(SqlState::UNDEFINED_OBJECT, format!("the columns cannot be taken from subject \"{subject}\" of the registry: {why}"))
            .with_hint(format!("Declare the columns, or name another subject with {}.", options::REGISTRY_SUBJECT))
    })
}

/// What may follow from a type that says nothing of columns: types that are used twice are there twice.
const DEPTH_MAX: usize = 64;
const FIELDS_MAX: usize = 10_000;

/// On the way through a record's type: the types with fields around one, and how many fields there were.
#[derive(Default)]
pub(super) struct Walk {
    around: Vec<usize>,
    fields: usize,
}

impl Walk {
    /// Goes through a type of so many fields, which is the format's `kind` of that name. Nothing holds itself.
    pub(super) fn within<T>(
        &mut self,
        id: usize,
        fields: usize,
        (kind, name): (&str, &str),
        go: impl FnOnce(&mut Walk) -> Result<T, String>,
    ) -> Result<T, String> {
        if self.around.contains(&id) {
            return Err(format!("a column of {kind} {name}, which holds itself, is not supported"));
        }
        self.fields += fields;
        if self.around.len() >= DEPTH_MAX || self.fields > FIELDS_MAX {
            return Err(format!("{kind} {name} has more than {FIELDS_MAX} fields, or {kind}s in each other more than {DEPTH_MAX} deep"));
        }
        self.around.push(id);
        let gone = go(self);
        self.around.pop();
        gone
    }

    /// What the field at hand is called as a column or as a field of one. Fields of rows are folded, as declared ones are; a column's
    /// spelling is kept for the record.
    pub(super) fn name(&self, field: &str) -> String {
        if self.around.len() == 1 { field.to_string() } else { field.to_lowercase() }
    }
}
