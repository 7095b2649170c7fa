//! The source text of `.proto` files (proto2 and proto3), as a schema registry gives it. Options, services, extensions and
//! comments are passed over; what remains is what a descriptor would say of messages and enums.

mod tokens;

use super::escapes::unescaped;
use super::schema::{EnumDefinition, FieldDefinition, FileDefinition, Label, MessageDefinition, Named, Scalar};
use tokens::{Token, Tokens};

/// Messages within messages.
const DEPTH_MAX: usize = 64;

/// The types that come with Protocol Buffers: importers take them as given.
pub const WELL_KNOWN: &str = r#"syntax = "proto3"; package google.protobuf;
    message Timestamp { int64 seconds = 1; int32 nanos = 2; }
    message Duration { int64 seconds = 1; int32 nanos = 2; }
    message DoubleValue { double value = 1; }
    message FloatValue { float value = 1; }
    message Int64Value { int64 value = 1; }
    message UInt64Value { uint64 value = 1; }
    message Int32Value { int32 value = 1; }
    message UInt32Value { uint32 value = 1; }
    message BoolValue { bool value = 1; }
    message StringValue { string value = 1; }
    message BytesValue { bytes value = 1; }
    message Any { string type_url = 1; bytes value = 2; }
    message Empty {}
    message FieldMask { repeated string paths = 1; }
    message Struct { map<string, Value> fields = 1; }
    message Value { oneof kind { NullValue null_value = 1; double number_value = 2; string string_value = 3; bool bool_value = 4;
        Struct struct_value = 5; ListValue list_value = 6; } }
    enum NullValue { NULL_VALUE = 0; }
    message ListValue { repeated Value values = 1; }"#;

/// The definitions of one file, which bears `name`.
pub fn file(name: &str, text: &str) -> Result<FileDefinition, String> {
    let mut parser = Parser { tokens: Tokens::new(text)?, is_proto3: false };
    parser.file(name).map_err(|why| parser.tokens.at(&why))
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    is_proto3: bool,
}

type Parsed<T> = Result<T, String>;

impl<'a> Parser<'a> {
    fn file(&mut self, name: &str) -> Parsed<FileDefinition> {
        let mut file = FileDefinition { name: name.to_string(), ..Default::default() };
        while let Some(token) = self.tokens.take() {
            match token {
                Token::Symbol(';') => {}
                Token::Word("syntax") => {
                    self.symbol('=')?;
                    let syntax = self.string()?;
                    self.symbol(';')?;
                    self.is_proto3 = match syntax.as_str() {
                        "proto2" => false,
                        "proto3" => true,
                        other => return Err(format!("the syntax {other} is not supported")),
                    };
                }
                Token::Word("edition") => return Err("editions are not supported".to_string()),
                Token::Word("package") => {
                    file.package = self.word()?.to_string();
                    self.symbol(';')?;
                }
                Token::Word("import") => {
                    if matches!(self.tokens.peek(), Some(Token::Word("public" | "weak"))) {
                        self.tokens.take();
                    }
                    // Its types are found by their names.
                    self.string()?;
                    self.symbol(';')?;
                }
                Token::Word("message") => file.messages.push(self.message(0)?),
                Token::Word("enum") => file.enums.push(self.enumeration()?),
                Token::Word("option" | "extend" | "service") => self.skip_statement()?,
                _ => return Err("a definition must come here".to_string()),
            }
        }
        Ok(file)
    }

    fn message(&mut self, depth: usize) -> Parsed<MessageDefinition> {
        let mut message = MessageDefinition { name: self.word()?.to_string(), ..Default::default() };
        self.symbol('{')?;
        self.message_body(&mut message, depth)?;
        Ok(message)
    }

    fn message_body(&mut self, message: &mut MessageDefinition, depth: usize) -> Parsed<()> {
        if depth > DEPTH_MAX {
            return Err("nested too deep".to_string());
        }
        let mut oneofs = 0;
        loop {
            match self.tokens.take() {
                Some(Token::Symbol('}')) => return Ok(()),
                Some(Token::Symbol(';')) => {}
                Some(Token::Word(word)) => match (word, self.tokens.peek()) {
                    ("message", Some(Token::Word(_))) => message.messages.push(self.message(depth + 1)?),
                    ("enum", Some(Token::Word(_))) => message.enums.push(self.enumeration()?),
                    ("option" | "extensions" | "reserved" | "extend", _) => self.skip_statement()?,
                    ("oneof", Some(Token::Word(_))) => {
                        self.oneof(message, oneofs, depth)?;
                        oneofs += 1;
                    }
                    ("map", Some(Token::Symbol('<'))) => self.map(message)?,
                    ("optional", _) => self.labelled(message, Label::Optional, true, depth)?,
                    ("required", _) => self.labelled(message, Label::Required, true, depth)?,
                    ("repeated", _) => self.labelled(message, Label::Repeated, false, depth)?,
                    _ => {
                        let has_presence = !self.is_proto3;
                        let field = self.field(word, Label::Optional, has_presence, message, depth)?;
                        message.fields.push(field);
                    }
                },
                _ => return Err("a field or the end of the message must come here".to_string()),
            }
        }
    }

    fn labelled(&mut self, message: &mut MessageDefinition, label: Label, has_presence: bool, depth: usize) -> Parsed<()> {
        let ty = self.word()?;
        let field = self.field(ty, label, has_presence, message, depth)?;
        message.fields.push(field);
        Ok(())
    }

    /// What follows the type of a field. A group is a field and a message in one.
    fn field(
        &mut self,
        ty: &str,
        label: Label,
        has_presence: bool,
        message: &mut MessageDefinition,
        depth: usize,
    ) -> Parsed<FieldDefinition> {
        let name = self.word()?.to_string();
        self.symbol('=')?;
        let number = self.number()?;
        let default = self.field_options(&named(ty))?;
        let mut field = FieldDefinition { name, number, label, ty: named(ty), has_presence, oneof: None, default };
        if ty == "group" && !self.is_proto3 {
            self.symbol('{')?;
            let mut group = MessageDefinition { name: field.name.clone(), ..Default::default() };
            self.message_body(&mut group, depth + 1)?;
            field.ty = Named::Type(group.name.clone());
            field.name = group.name.to_lowercase();
            message.messages.push(group);
        } else {
            self.symbol(';')?;
        }
        Ok(field)
    }

    fn oneof(&mut self, message: &mut MessageDefinition, oneof: u32, depth: usize) -> Parsed<()> {
        self.word()?;
        self.symbol('{')?;
        loop {
            match self.tokens.take() {
                Some(Token::Symbol('}')) => return Ok(()),
                Some(Token::Symbol(';')) => {}
                Some(Token::Word("option")) => self.skip_statement()?,
                Some(Token::Word(ty)) => {
                    let field = self.field(ty, Label::Optional, true, message, depth)?;
                    message.fields.push(FieldDefinition { oneof: Some(oneof), ..field });
                }
                _ => return Err("a field or the end of the oneof must come here".to_string()),
            }
        }
    }

    fn map(&mut self, message: &mut MessageDefinition) -> Parsed<()> {
        self.symbol('<')?;
        let key = named(self.word()?);
        self.symbol(',')?;
        let value = named(self.word()?);
        self.symbol('>')?;
        let name = self.word()?.to_string();
        self.symbol('=')?;
        let number = self.number()?;
        self.field_options(&value)?;
        self.symbol(';')?;
        let part = |name: &str, number, ty| FieldDefinition {
            name: name.to_string(),
            number,
            label: Label::Optional,
            ty,
            has_presence: false,
            oneof: None,
            default: None,
        };
        // No type of a user's can bear such a name.
        let entry = format!("{name}<>");
        message.messages.push(MessageDefinition {
            name: entry.clone(),
            fields: vec![part("key", 1, key), part("value", 2, value)],
            is_map_entry: true,
            ..Default::default()
        });
        message.fields.push(FieldDefinition { label: Label::Repeated, ..part(&name, number, Named::Type(entry)) });
        Ok(())
    }

    fn enumeration(&mut self) -> Parsed<EnumDefinition> {
        let mut definition = EnumDefinition { name: self.word()?.to_string(), values: vec![] };
        self.symbol('{')?;
        loop {
            match self.tokens.take() {
                Some(Token::Symbol('}')) => return Ok(definition),
                Some(Token::Symbol(';')) => {}
                Some(Token::Word("option" | "reserved")) if !matches!(self.tokens.peek(), Some(Token::Symbol('='))) => {
                    self.skip_statement()?;
                }
                Some(Token::Word(name)) => {
                    self.symbol('=')?;
                    let is_negative = matches!(self.tokens.peek(), Some(Token::Symbol('-')));
                    if is_negative {
                        self.tokens.take();
                    }
                    let number = self.integer()?;
                    let number =
                        i32::try_from(if is_negative { -number } else { number }).map_err(|_| "a value out of range".to_string())?;
                    self.field_options(&Named::Scalar(Scalar::Int32))?;
                    self.symbol(';')?;
                    definition.values.push((name.to_string(), number));
                }
                _ => return Err("a value or the end of the enum must come here".to_string()),
            }
        }
    }

    /// Options in brackets, if there are any; the default among them.
    fn field_options(&mut self, of: &Named) -> Parsed<Option<Vec<u8>>> {
        if !matches!(self.tokens.peek(), Some(Token::Symbol('['))) {
            return Ok(None);
        }
        self.tokens.take();
        let (mut default, mut open) = (None, 1);
        while open > 0 {
            match self.tokens.take().ok_or("the file ends early")? {
                Token::Symbol('[' | '{') => open += 1,
                Token::Symbol(']' | '}') => open -= 1,
                Token::Word("default") if open == 1 && matches!(self.tokens.peek(), Some(Token::Symbol('='))) => {
                    self.tokens.take();
                    default = Some(self.constant(of)?);
                }
                _ => {}
            }
        }
        Ok(default)
    }

    /// A value of a type; numbers as a descriptor writes them, in decimal digits.
    fn constant(&mut self, of: &Named) -> Parsed<Vec<u8>> {
        let mut text = String::new();
        while let Some(Token::Symbol(sign @ ('-' | '+'))) = self.tokens.peek() {
            self.tokens.take();
            if sign == '-' {
                text.push('-');
            }
        }
        match self.tokens.peek() {
            Some(Token::String(_)) => {
                let content = self.string_content()?;
                let is_text = *of == Named::Scalar(Scalar::Bytes) || std::str::from_utf8(&content).is_ok();
                if is_text { Ok(content) } else { Err("a string must be text in UTF-8".to_string()) }
            }
            Some(Token::Number(number)) => {
                self.tokens.take();
                match whole_number(number) {
                    Some(whole) => text += &whole.to_string(),
                    None => text += number,
                }
                Ok(text.into_bytes())
            }
            Some(Token::Word(word)) => {
                self.tokens.take();
                Ok((text + word).into_bytes())
            }
            _ => Err("a constant must come here".to_string()),
        }
    }

    /// Passes over the rest of a statement: to its semicolon, or to the end of its block.
    fn skip_statement(&mut self) -> Parsed<()> {
        let mut open = 0;
        loop {
            match self.tokens.take().ok_or("the file ends early")? {
                Token::Symbol('{' | '[') => open += 1,
                Token::Symbol(']') => open -= 1,
                Token::Symbol('}') => {
                    open -= 1;
                    // The value of an option may be a block, and has a semicolon behind it.
                    if open <= 0 && !matches!(self.tokens.peek(), Some(Token::Symbol(';'))) {
                        return Ok(());
                    }
                }
                Token::Symbol(';') if open <= 0 => return Ok(()),
                _ => {}
            }
        }
    }

    fn symbol(&mut self, symbol: char) -> Parsed<()> {
        match self.tokens.take() {
            Some(Token::Symbol(found)) if found == symbol => Ok(()),
            _ => Err(format!("\"{symbol}\" must come here")),
        }
    }

    fn word(&mut self) -> Parsed<&'a str> {
        match self.tokens.take() {
            Some(Token::Word(word)) => Ok(word),
            _ => Err("a name must come here".to_string()),
        }
    }

    fn integer(&mut self) -> Parsed<i64> {
        let Some(Token::Number(text)) = self.tokens.take() else { return Err("a number must come here".to_string()) };
        whole_number(text).and_then(|number| i64::try_from(number).ok()).ok_or_else(|| format!("{text} is not a whole number"))
    }

    /// The number of a field.
    fn number(&mut self) -> Parsed<u32> {
        let number = self.integer()?;
        u32::try_from(number).ok().filter(|n| (1..1 << 29).contains(n)).ok_or_else(|| format!("{number} is not the number of a field"))
    }

    fn string(&mut self) -> Parsed<String> {
        String::from_utf8(self.string_content()?).map_err(|_| "a string must be text in UTF-8".to_string())
    }

    /// Of a string, of which several in a row are one.
    fn string_content(&mut self) -> Parsed<Vec<u8>> {
        let mut content = None;
        while let Some(Token::String(raw)) = self.tokens.peek() {
            self.tokens.take();
            content.get_or_insert_with(Vec::new).extend(unescaped(raw)?);
        }
        content.ok_or_else(|| "a string must come here".to_string())
    }
}

/// Hexadecimal, octal or decimal digits.
fn whole_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

fn named(ty: &str) -> Named {
    Named::Scalar(match ty {
        "double" => Scalar::Double,
        "float" => Scalar::Float,
        "int32" => Scalar::Int32,
        "int64" => Scalar::Int64,
        "uint32" => Scalar::Uint32,
        "uint64" => Scalar::Uint64,
        "sint32" => Scalar::Sint32,
        "sint64" => Scalar::Sint64,
        "fixed32" => Scalar::Fixed32,
        "fixed64" => Scalar::Fixed64,
        "sfixed32" => Scalar::Sfixed32,
        "sfixed64" => Scalar::Sfixed64,
        "bool" => Scalar::Bool,
        "string" => Scalar::String,
        "bytes" => Scalar::Bytes,
        other => return Named::Type(other.to_string()),
    })
}
