//! The text of an Avro schema to types that a datum is read by.

use serde_json::{Map, Value};
use std::collections::HashMap;

/// Types of one schema: a record of as many fields needs as many, and no more.
const TYPES_MAX: usize = 20_000;
/// Digits that a decimal has room for here.
const SCALE_MAX: u64 = 38;

/// A schema whose names are all known.
#[derive(Debug)]
pub(in crate::stream) struct Schema {
    pub(super) types: Vec<Type>,
    pub(super) root: usize,
}

/// One type; others are known by their place.
#[derive(Debug)]
pub(super) enum Type {
    Null,
    Boolean,
    Int(Meaning),
    Long(Meaning),
    Float,
    Double,
    Bytes(Meaning),
    Text,
    Fixed(usize, Meaning),
    Enum(Vec<String>),
    List(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(String, usize)>),
}

/// What its `logicalType` says that a type is; one that does not fit it is none, as the specification has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Plain,
    Date,
    Millis,
    Micros,
    Nanos,
    Decimal(u8),
    Uuid,
}

impl Schema {
    /// Reads the last text; the others define names that it, or one before it, refers to.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(in crate::stream::format) fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Schema, String> {
        let mut reader = Reader { types: Vec::new(), names: HashMap::new() };
        let mut root = None;
        for text in texts {
            let value: Value = serde_json::from_str(text).map_err(|error| format!("the schema is no JSON: {error}"))?;
            root = Some(reader.of(&value, "")?);
        }
        let root = root.ok_or("there is no schema")?;
        Ok(Schema { types: reader.types, root })
    }

    /// Whether its values have fields.
    pub(in crate::stream::format) fn is_record(&self) -> bool {
        matches!(self.types[self.root], Type::Record(_))
    }

    /// Which part of a path is the first that no value has, and the fields that there are in its place.
    pub(in crate::stream::format) fn lacks(&self, path: &[String]) -> Option<(usize, Vec<String>)> {
        let mut places = vec![self.root];
        for (at, part) in path.iter().enumerate() {
            let (mut next, mut known) = (Vec::new(), Vec::new());
            while let Some(place) = places.pop() {
                match &self.types[place] {
                    Type::Union(branches) => places.extend(branches),
                    Type::Record(fields) => {
                        known.extend(fields.iter().map(|(name, _)| name.clone()));
                        next.extend(fields.iter().filter(|(name, _)| name == part).map(|(_, kind)| *kind));
                    }
                    Type::Map(value) => next.push(*value),
                    Type::List(item) if part.parse::<usize>().is_ok() => next.push(*item),
                    _ => {}
                }
            }
            if next.is_empty() {
                return Some((at, known));
            }
            places = next;
        }
        None
    }
}

struct Reader {
    types: Vec<Type>,
    /// By full name.
    names: HashMap<String, usize>,
}

impl Reader {
    fn add(&mut self, new: Type) -> Result<usize, String> {
        if self.types.len() == TYPES_MAX {
            return Err(format!("the schema has more than {TYPES_MAX} types"));
        }
        self.types.push(new);
        Ok(self.types.len() - 1)
    }

    /// The type that a value of the schema's JSON declares or names. As deep as serde_json lets the text be.
    fn of(&mut self, value: &Value, space: &str) -> Result<usize, String> {
        match value {
            Value::String(name) => self.named(name, &Map::new(), space),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.of(branch, space)).collect::<Result<_, _>>()?;
                self.add(Type::Union(branches))
            }
            Value::Object(declared) => match declared.get("type") {
                Some(Value::String(name)) => self.named(name, declared, space),
                // {"type": {"type": …}} is allowed for any declared type.
                Some(inner) => self.of(inner, space),
                None => Err("a type of the schema lacks \"type\"".to_owned()),
            },
            other => Err(format!("{other} is no type")),
        }
    }

    fn named(&mut self, name: &str, declared: &Map<String, Value>, space: &str) -> Result<usize, String> {
        let inner = |key: &str| declared.get(key).ok_or_else(|| format!("{name} lacks \"{key}\""));
        let new = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int(meaning(name, declared)),
            "long" => Type::Long(meaning(name, declared)),
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes(meaning(name, declared)),
            "string" => Type::Text,
            "array" => Type::List(self.of(inner("items")?, space)?),
            "map" => Type::Map(self.of(inner("values")?, space)?),
            "fixed" => {
                let size = inner("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or("the size of a fixed is a number")?;
                let is_uuid = size == 16;
                let meaning = Some(meaning(name, declared)).filter(|meaning| *meaning != Meaning::Uuid || is_uuid);
                self.define(declared, space, Type::Fixed(size, meaning.unwrap_or(Meaning::Plain)))?
            }
            "enum" => {
                let symbols = inner("symbols")?.as_array().into_iter().flatten();
                let symbols = symbols.map(|symbol| symbol.as_str().map(str::to_owned)).collect::<Option<_>>();
                self.define(declared, space, Type::Enum(symbols.ok_or("the symbols of an enum are texts")?))?
            }
            "record" | "error" => return self.record(declared, space),
            _ => return self.known(name, space),
        };
        match new {
            Type::Fixed(..) | Type::Enum(_) => {
                self.types.push(new);
                let place = self.types.len() - 1;
                self.names.insert(full_name(declared, space)?.0, place);
                Ok(place)
            }
            new => self.add(new),
        }
    }

    /// Looks whether a name may be given to a new type.
    fn define(&self, declared: &Map<String, Value>, space: &str, new: Type) -> Result<Type, String> {
        let (name, _) = full_name(declared, space)?;
        match self.names.contains_key(&name) {
            true => Err(format!("the schema defines {name} twice")),
            false if self.types.len() == TYPES_MAX => Err(format!("the schema has more than {TYPES_MAX} types")),
            false => Ok(new),
        }
    }

    fn record(&mut self, declared: &Map<String, Value>, space: &str) -> Result<usize, String> {
        let (name, space) = full_name(declared, space)?;
        // Known before its fields are: they may name it.
        let empty = self.define(declared, &space, Type::Record(Vec::new()))?;
        let place = self.add(empty)?;
        self.names.insert(name.clone(), place);
        let listed = declared.get("fields").and_then(Value::as_array);
        let mut fields: Vec<(String, usize)> = Vec::new();
        for field in listed.ok_or_else(|| format!("record {name} lacks \"fields\""))? {
            let field_name = field.get("name").and_then(Value::as_str);
            let field_name = field_name.ok_or_else(|| format!("a field of {name} lacks \"name\""))?;
            if fields.iter().any(|(known, _)| known == field_name) {
                return Err(format!("record {name} has its field {field_name} twice"));
            }
            let kind = match (field.get("type"), field.as_object()) {
                // A logical type may stand beside the field's type.
                (Some(Value::String(kind)), Some(field)) if field.contains_key("logicalType") => {
                    self.named(kind, field, &space)
                }
                (Some(kind), _) => self.of(kind, &space),
                (None, _) => Err(format!("field {field_name} of {name} lacks \"type\"")),
            };
            fields.push((field_name.to_owned(), kind?));
        }
        self.types[place] = Type::Record(fields);
        Ok(place)
    }

    fn known(&self, name: &str, space: &str) -> Result<usize, String> {
        let within = if space.is_empty() || name.contains('.') { name.to_owned() } else { format!("{space}.{name}") };
        let found = self.names.get(&within).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| format!("the schema does not define {within}"))
    }
}

/// A declared type's full name, and the namespace of what is within it.
fn full_name(declared: &Map<String, Value>, space: &str) -> Result<(String, String), String> {
    let text = |key: &str| declared.get(key).and_then(Value::as_str);
    let name = text("name").ok_or("a record, enum or fixed lacks \"name\"")?;
    if let Some((space, _)) = name.rsplit_once('.') {
        return Ok((name.to_owned(), space.to_owned()));
    }
    match text("namespace").unwrap_or(space) {
        "" => Ok((name.to_owned(), String::new())),
        space => Ok((format!("{space}.{name}"), space.to_owned())),
    }
}

fn meaning(of: &str, declared: &Map<String, Value>) -> Meaning {
    let logical = declared.get("logicalType").and_then(Value::as_str).unwrap_or_default();
    match (of, logical) {
        ("int", "date") => Meaning::Date,
        ("long", "timestamp-millis" | "local-timestamp-millis") => Meaning::Millis,
        ("long", "timestamp-micros" | "local-timestamp-micros") => Meaning::Micros,
        ("long", "timestamp-nanos" | "local-timestamp-nanos") => Meaning::Nanos,
        ("bytes" | "fixed", "decimal") => {
            let scale = declared.get("scale").map_or(Some(0), Value::as_u64).filter(|scale| *scale <= SCALE_MAX);
            scale.map_or(Meaning::Plain, |scale| Meaning::Decimal(scale as u8))
        }
        ("fixed", "uuid") => Meaning::Uuid,
        _ => Meaning::Plain,
    }
}
