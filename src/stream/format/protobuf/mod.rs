//! Protobuf: a message of a schema to a tree. Fields have the names of the `.proto`; one that is not in the bytes has its default where the
//! schema cannot tell that from being there, and is null elsewhere.

mod known;
#[cfg(test)]
mod tests;
mod well_known;

use crate::json::{Exact, Node};
use base64::{Engine, engine::general_purpose::STANDARD};
use prost_reflect::prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, FileDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
    Value,
};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use std::borrow::Cow;

/// Values that a tree has for each byte of its message, and that it may have beyond: defaults take none.
const VALUES_OF_BYTE: usize = 8;
const VALUES_BEYOND: usize = 100_000;
/// What a schema's own text is called among those that it imports.
const OWN_NAME: &str = "inrush/schema.proto";
/// How deep a message's place in its file is written at most.
const INDEXES_MAX: i64 = 32;

/// One message of a schema, or a file with several of them.
#[derive(Debug)]
pub(in crate::stream) enum Schema {
    Message(MessageDescriptor),
    /// The frame says which.
    File(FileDescriptor),
}

impl Schema {
    /// A message of a descriptor set, as `protoc --include_imports --descriptor_set_out` writes it.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(in crate::stream::format) fn of_descriptors(bytes: &[u8], message: &str) -> Result<Schema, String> {
        let pool = DescriptorPool::decode(bytes).map_err(|error| format!("this is no descriptor set: {error}"))?;
        let found = pool.get_message_by_name(message);
        found.map(Schema::Message).ok_or_else(|| {
            let known: Vec<String> = pool.all_messages().map(|message| message.full_name().to_owned()).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let meant = crate::config::nearest(message, &known);
            let hint = meant.map_or(String::new(), |meant| format!("; did you mean \"{meant}\"?"));
            format!("the descriptor set has no message \"{message}\"{hint}")
        })
    }

    /// The text of a `.proto` file (or its descriptor in base64, as Confluent's clients but Java's register it), with the texts that it imports by their names. Those of `google/protobuf/` and [`known::FILES`] need not be there.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(in crate::stream::format) fn of_texts(
        own: &str,
        mut imported: Vec<(String, String)>,
    ) -> Result<Schema, String> {
        imported.push((OWN_NAME.to_owned(), own.to_owned()));
        let mut resolver = ChainFileResolver::new();
        resolver.add(Texts(imported));
        resolver.add(GoogleFileResolver::new());
        resolver.add(Texts(known::FILES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()));
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        compiler.open_file(OWN_NAME).map_err(|error| error.to_string())?;
        let file = compiler.descriptor_pool().get_file_by_name(OWN_NAME);
        file.map(Schema::File).ok_or_else(|| "the compiler lost it".to_owned())
    }

    /// Which part of a path is the first that no value has, and the fields that there are in its place; of a file with several messages nothing is
    /// known.
    pub(in crate::stream::format) fn lacks(&self, path: &[String]) -> Option<(usize, Vec<String>)> {
        let Schema::Message(message) = self else { return None };
        let mut place = Place::One(Kind::Message(message.clone()));
        for (at, part) in path.iter().enumerate() {
            place = match place {
                Place::One(Kind::Message(message)) if well_known::has_any_shape(&message) => return None,
                Place::One(Kind::Message(message)) => match message.get_field_by_name(part) {
                    Some(field) => Place::of(&field),
                    None => return Some((at, message.fields().map(|field| field.name().to_owned()).collect())),
                },
                Place::Map(kind) => Place::One(kind),
                Place::List(kind) if part.parse::<usize>().is_ok() => Place::One(kind),
                Place::One(_) | Place::List(_) => return Some((at, Vec::new())),
            };
        }
        None
    }

    /// Reads a value. In Confluent's frame a list of numbers says which message of its file it is.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub(in crate::stream::format) fn read(&self, value: &[u8], is_framed: bool) -> Result<Node<'static>, String> {
        let (indexes, bytes) = if is_framed { indexes(value)? } else { (vec![0], value) };
        let message = match self {
            Schema::Message(message) => message.clone(),
            Schema::File(file) => message_at(file, &indexes)?,
        };
        let message = DynamicMessage::decode(message, bytes).map_err(|error| error.to_string())?;
        Tree { values_left: bytes.len().saturating_mul(VALUES_OF_BYTE).saturating_add(VALUES_BEYOND) }.object(&message)
    }
}

/// What stands at a place of a message.
enum Place {
    One(Kind),
    List(Kind),
    /// Its values.
    Map(Kind),
}

impl Place {
    fn of(field: &FieldDescriptor) -> Place {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => Place::Map(entry.map_entry_value_field().kind()),
            kind if field.is_list() => Place::List(kind),
            kind => Place::One(kind),
        }
    }
}

/// `.proto` texts by name.
struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((name, text)) => match descriptor(text) {
                Some(file) => {
                    Ok(File::from_file_descriptor_proto(FileDescriptorProto { name: Some(name.clone()), ..file }))
                }
                None => File::from_source(name, text),
            },
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The descriptor that a text in base64 holds. No `.proto` text is base64: it has a space, a brace or a semicolon.
fn descriptor(text: &str) -> Option<FileDescriptorProto> {
    FileDescriptorProto::decode(STANDARD.decode(text.trim()).ok()?.as_slice()).ok()
}

/// Where in its file the message is, and what stands behind that: zigzag numbers, their count first; a single 0 is the first message.
fn indexes(value: &[u8]) -> Result<(Vec<usize>, &[u8]), String> {
    let (count, mut rest) = number(value)?;
    if count == 0 {
        return Ok((vec![0], rest));
    }
    if !(1..=INDEXES_MAX).contains(&count) {
        return Err(format!("its frame names a message by {count} numbers"));
    }
    let mut indexes = Vec::new();
    for _ in 0..count {
        let (index, behind) = number(rest)?;
        indexes.push(usize::try_from(index).map_err(|_| format!("its frame names a message by the number {index}"))?);
        rest = behind;
    }
    Ok((indexes, rest))
}

fn number(bytes: &[u8]) -> Result<(i64, &[u8]), String> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Ok(((value >> 1) as i64 ^ -((value & 1) as i64), &bytes[at + 1..]));
        }
    }
    Err("the frame ends within the numbers of its message".to_owned())
}

fn message_at(file: &FileDescriptor, indexes: &[usize]) -> Result<MessageDescriptor, String> {
    let mut indexes = indexes.iter();
    let first = indexes.next().and_then(|at| file.messages().nth(*at));
    let found = indexes.try_fold(first, |message, at| Some(child_at(&message?, *at)));
    found.flatten().ok_or_else(|| "its schema has no message at the place that the frame names".to_owned())
}

/// Clients in Python and Go count the entries of maps, which are messages to a descriptor; Java's, which count in the text, do not. What
/// cannot be meant by the first is read as the second.
fn child_at(message: &MessageDescriptor, at: usize) -> Option<MessageDescriptor> {
    let counted = message.child_messages().nth(at).filter(|child| !child.is_map_entry());
    counted.or_else(|| message.child_messages().filter(|child| !child.is_map_entry()).nth(at))
}

/// Builds one tree.
struct Tree {
    values_left: usize,
}

impl Tree {
    fn object(&mut self, message: &DynamicMessage) -> Result<Node<'static>, String> {
        let descriptor = message.descriptor();
        let mut fields = Vec::new();
        for field in descriptor.fields() {
            // A field that knows whether it is there is left out where it is not: columns read null.
            if !field.supports_presence() || message.has_field(&field) {
                let value = self.field(&field, &message.get_field(&field))?;
                fields.push((Cow::Owned(field.name().to_owned()), value));
            }
        }
        Ok(Node::Object(fields))
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value) -> Result<Node<'static>, String> {
        match value {
            Value::List(_) | Value::Map(_) => self.count()?,
            _ => {}
        }
        match value {
            Value::List(items) => {
                Ok(Node::List(items.iter().map(|item| self.value(&field.kind(), item)).collect::<Result<_, _>>()?))
            }
            Value::Map(entries) => {
                let Kind::Message(entry) = field.kind() else { return Ok(Node::Null) };
                let kind = entry.map_entry_value_field().kind();
                let mut sorted: Vec<(&MapKey, &Value)> = entries.iter().collect();
                sorted.sort_unstable_by_key(|(key, _)| *key);
                let fields =
                    sorted.into_iter().map(|(key, value)| Ok((Cow::Owned(name_of(key)), self.value(&kind, value)?)));
                Ok(Node::Object(fields.collect::<Result<_, String>>()?))
            }
            value => self.value(&field.kind(), value),
        }
    }

    fn count(&mut self) -> Result<(), String> {
        self.values_left = self.values_left.checked_sub(1).ok_or("it has far more values than bytes")?;
        Ok(())
    }

    fn value(&mut self, kind: &Kind, value: &Value) -> Result<Node<'static>, String> {
        self.count()?;
        Ok(match value {
            Value::Bool(value) => Node::Bool(*value),
            Value::I32(value) => Node::Int((*value).into()),
            Value::I64(value) => Node::Int(*value),
            Value::U32(value) => Node::Int((*value).into()),
            Value::U64(value) => i64::try_from(*value).map_or(Node::Uint(*value), Node::Int),
            Value::F32(value) => Node::Float((*value).into()),
            Value::F64(value) => Node::Float(*value),
            Value::String(text) => Node::Text(text.clone().into()),
            Value::Bytes(bytes) => Node::Exact(Exact::Bytes(bytes.to_vec().into())),
            Value::EnumNumber(number) => {
                let name = match kind {
                    Kind::Enum(known) => known.get_value(*number).map(|value| value.name().to_owned()),
                    _ => None,
                };
                // A newer schema's: all that is known of it is its number.
                name.map_or(Node::Int((*number).into()), |name| Node::Text(name.into()))
            }
            Value::Message(message) => match well_known::value(self, message) {
                Some(value) => value?,
                None => self.object(message)?,
            },
            // Protobuf has no list in a list, and no map.
            Value::List(_) | Value::Map(_) => Node::Null,
        })
    }
}

fn name_of(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
