//! Message types: from the definitions of some files, in which types are named, to messages and enums that know each other by
//! number. A type that is not there counts only where a column needs it. Knows neither descriptors nor source text.

use eddyline_common::options::nearest;
use std::collections::HashMap;

/// Indexes into `Schema`.
pub type MessageId = usize;
pub type EnumId = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
}

/// What a field is said to be, before names are resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum Named {
    Scalar(Scalar),
    /// A message or an enum: with a dot in front from the root, else from where it stands outwards.
    Type(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Optional,
    Required,
    Repeated,
}

#[derive(Clone, Debug)]
pub struct FieldDefinition {
    pub name: String,
    pub number: u32,
    pub label: Label,
    pub ty: Named,
    /// Absent is another thing than the default.
    pub has_presence: bool,
    /// The `oneof` it is of, by its number in the message.
    pub oneof: Option<u32>,
    /// A declared default: bytes as they are, all else as text, numbers in decimal digits.
    pub default: Option<Vec<u8>>,
}

#[derive(Clone, Debug, Default)]
pub struct MessageDefinition {
    pub name: String,
    pub fields: Vec<FieldDefinition>,
    pub messages: Vec<MessageDefinition>,
    pub enums: Vec<EnumDefinition>,
    /// The entry of a map field: no message of the user's.
    pub is_map_entry: bool,
}

#[derive(Clone, Debug, Default)]
pub struct EnumDefinition {
    pub name: String,
    /// In the order of their declaration.
    pub values: Vec<(String, i32)>,
}

#[derive(Clone, Debug, Default)]
pub struct FileDefinition {
    pub name: String,
    pub package: String,
    pub messages: Vec<MessageDefinition>,
    pub enums: Vec<EnumDefinition>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Scalar(Scalar),
    Message(MessageId),
    Enum(EnumId),
    /// Named, but defined nowhere.
    Missing(String),
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub number: u32,
    pub label: Label,
    pub ty: Type,
    pub has_presence: bool,
    pub oneof: Option<u32>,
    pub default: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct Message {
    /// With its package.
    pub name: String,
    pub fields: Vec<Field>,
    /// The messages within it, in their order, without entries of maps.
    pub nested: Vec<MessageId>,
    pub is_map_entry: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Enum {
    /// In the order of their declaration.
    pub values: Vec<(String, i32)>,
    /// The same by number; of several names for one the first.
    by_number: Vec<(i32, usize)>,
}

impl Enum {
    fn new(values: Vec<(String, i32)>) -> Enum {
        let mut by_number: Vec<(i32, usize)> = values.iter().enumerate().map(|(at, (_, number))| (*number, at)).collect();
        by_number.sort();
        by_number.dedup_by_key(|(number, _)| *number);
        Enum { values, by_number }
    }

    pub fn name_of(&self, number: i32) -> Option<&str> {
        let guess = usize::try_from(number).ok().and_then(|at| self.by_number.get(at)).filter(|(n, _)| *n == number);
        let found = match guess {
            Some((_, at)) => Some(*at),
            None => self.by_number.binary_search_by_key(&number, |(n, _)| *n).ok().map(|found| self.by_number[found].1),
        };
        found.map(|at| self.values[at].0.as_str())
    }

    pub fn number_of(&self, name: &str) -> Option<i32> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, number)| *number)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub messages: Vec<Message>,
    pub enums: Vec<Enum>,
    /// By full name.
    names: HashMap<String, Type>,
    /// The messages of the last file, outermost ones.
    of_last_file: Vec<MessageId>,
}

fn joined(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_string() } else { format!("{scope}.{name}") }
}

impl Schema {
    /// The types of some files, the last of which is the one that matters.
    pub fn new(files: &[FileDefinition]) -> Result<Schema, String> {
        let mut schema = Schema::default();
        let mut defined: Vec<&MessageDefinition> = Vec::new();
        for file in files {
            schema.of_last_file = schema.define(&file.package, &file.messages, &file.enums, &mut defined)?;
        }
        for (id, definition) in defined.into_iter().enumerate() {
            let scope = schema.messages[id].name.clone();
            schema.messages[id].fields = definition.fields.iter().map(|field| schema.field(&scope, field)).collect();
        }
        Ok(schema)
    }

    fn define<'a>(
        &mut self,
        scope: &str,
        messages: &'a [MessageDefinition],
        enums: &[EnumDefinition],
        defined: &mut Vec<&'a MessageDefinition>,
    ) -> Result<Vec<MessageId>, String> {
        for definition in enums {
            let id = self.enums.len();
            self.enums.push(Enum::new(definition.values.clone()));
            self.name(joined(scope, &definition.name), Type::Enum(id))?;
        }
        let mut ids = Vec::new();
        for definition in messages {
            let id = self.messages.len();
            let name = joined(scope, &definition.name);
            self.messages.push(Message { name: name.clone(), fields: vec![], nested: vec![], is_map_entry: definition.is_map_entry });
            defined.push(definition);
            self.name(name.clone(), Type::Message(id))?;
            self.messages[id].nested = self.define(&name, &definition.messages, &definition.enums, defined)?;
            if !definition.is_map_entry {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    fn name(&mut self, name: String, ty: Type) -> Result<(), String> {
        match self.names.insert(name.clone(), ty) {
            None => Ok(()),
            Some(_) => Err(format!("type {name} is defined twice")),
        }
    }

    fn field(&self, scope: &str, definition: &FieldDefinition) -> Field {
        let ty = match &definition.ty {
            Named::Scalar(scalar) => Type::Scalar(*scalar),
            Named::Type(name) => self.resolve(scope, name),
        };
        // What a message may lack is told apart from an empty one.
        let has_presence = definition.has_presence || matches!(ty, Type::Message(_)) && definition.label != Label::Repeated;
        let (name, number, label) = (definition.name.clone(), definition.number, definition.label);
        Field { name, number, label, ty, has_presence, oneof: definition.oneof, default: definition.default.clone() }
    }

    /// A name as it stands in a scope: looked for there, and then outwards.
    fn resolve(&self, scope: &str, name: &str) -> Type {
        if let Some(full) = name.strip_prefix('.') {
            return self.names.get(full).cloned().unwrap_or_else(|| Type::Missing(full.to_string()));
        }
        let mut scope = Some(scope);
        while let Some(here) = scope {
            if let Some(found) = self.names.get(&joined(here, name)) {
                return found.clone();
            }
            scope = match here.rsplit_once('.') {
                Some((outer, _)) => Some(outer),
                None if here.is_empty() => None,
                None => Some(""),
            };
        }
        Type::Missing(name.to_string())
    }

    /// The key and the value of a field that is a map.
    pub fn map_entry(&self, field: &Field) -> Option<(&Field, &Field)> {
        let Type::Message(id) = field.ty else { return None };
        let entry = self.message(id);
        let part = |number| entry.fields.iter().find(|f| f.number == number);
        if entry.is_map_entry { part(1).zip(part(2)) } else { None }
    }

    pub fn message(&self, id: MessageId) -> &Message {
        &self.messages[id]
    }

    /// A message by its full name, or by the end of it if only one ends so; without a name the only message of the file.
    pub fn find(&self, name: Option<&str>) -> Result<MessageId, String> {
        let all = || self.messages.iter().enumerate().filter(|(_, m)| !m.is_map_entry);
        let Some(name) = name.map(|name| name.trim_start_matches('.').replace('$', ".")) else {
            return match self.of_last_file.as_slice() {
                [only] => Ok(*only),
                [] => Err("the file has no message".to_string()),
                several => {
                    let names: Vec<&str> = several.iter().map(|id| self.messages[*id].name.as_str()).collect();
                    Err(format!("which of the messages {} is meant must be said", names.join(", ")))
                }
            };
        };
        if let Some(Type::Message(id)) = self.names.get(&name) {
            return Ok(*id);
        }
        let (before, last) = name.rsplit_once('.').unwrap_or(("", &name));
        let ends: Vec<MessageId> = all().filter(|(_, m)| last_part(&m.name) == last).map(|(id, _)| id).collect();
        // A class of Java's bears its outer class, and the package of the Java code.
        let is_class = last_part(before).starts_with(|c: char| c.is_uppercase());
        if let [only] = ends[..]
            && (before.is_empty() || is_class)
        {
            return Ok(only);
        }
        let names: Vec<&str> = all().map(|(_, m)| m.name.as_str()).collect();
        Err(match nearest_of(&name, &names) {
            Some(meant) => format!("there is no message {name}; perhaps {meant} is meant"),
            None => format!("there is no message {name}; there are {}", shown(&names)),
        })
    }

    /// The message at a path of numbers: of the file's messages, then of those within it.
    pub fn at_path(&self, path: &[u64]) -> Result<MessageId, String> {
        let (mut among, mut found) = (&self.of_last_file, None);
        for index in path {
            let id = usize::try_from(*index).ok().and_then(|index| among.get(index)).copied();
            let id = id.ok_or_else(|| format!("the schema has no message at the path {path:?} that the record names"))?;
            (among, found) = (&self.messages[id].nested, Some(id));
        }
        found.ok_or_else(|| "the record names no message of the schema".to_string())
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// By the whole name, or by its last part.
pub fn nearest_of<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let by = |part: &dyn Fn(&str) -> String| {
        let parts: Vec<String> = names.iter().map(|n| part(n).to_lowercase()).collect();
        let meant = nearest(&part(name), parts.iter().map(String::as_str))?;
        parts.iter().position(|n| n == meant).map(|at| names[at])
    };
    by(&|name| name.to_string()).or_else(|| by(&|name| last_part(name).to_string()))
}

/// Names that a message shows.
const SHOWN_MAX: usize = 10;

fn shown(names: &[&str]) -> String {
    let more = if names.len() > SHOWN_MAX { ", ..." } else { "" };
    names.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ") + more
}
