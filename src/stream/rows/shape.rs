//! Which fields of which objects are read, made once from the columns; and, for a pass, the order that fields were seen in, so that the
//! next field is guessed and only compared.

use super::super::spec::{Column, From};
use crate::json::{Odd, Scan, Scanner, Text, Word, unescape};

/// Names that a pass learns of one shape; later ones are looked up among the shape's fields each time.
const KNOWN_MAX: usize = 128;

/// All objects that are looked into; the first is the record's value.
pub(super) struct Shapes {
    pub(super) all: Vec<Shape>,
    /// Fields of all shapes.
    pub(super) fields: usize,
}

/// What is read of one object.
pub(super) struct Shape {
    /// By name.
    pub(super) fields: Vec<Field>,
    /// A name that also counts items of a list: then only the tree knows what is meant.
    pub(super) has_index: bool,
}

pub(super) struct Field {
    name: Vec<u8>,
    /// Its number among the fields of all shapes.
    pub(super) id: usize,
    /// What becomes of its value; at least one.
    pub(super) uses: Vec<Use>,
    /// The slot, if all that becomes of it is a scalar there.
    pub(super) scalar: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is a slot's value.
    Slot(usize),
    /// It is looked into, by a shape.
    Object(usize),
}

impl Shapes {
    /// Shapes for the columns that are paths; a column's slot has its number.
    pub(super) fn of(columns: &[Column]) -> Shapes {
        let mut shapes = Shapes { all: Vec::new(), fields: 0 };
        shapes.add();
        for (slot, column) in columns.iter().enumerate() {
            let From::Path(path) = &column.from else { continue };
            let mut shape = 0;
            for (at, name) in path.iter().enumerate() {
                let is_last = at + 1 == path.len();
                let field = shapes.field(shape, name);
                let uses = &shapes.all[shape].fields[field].uses;
                let known =
                    uses.iter().find_map(|found| if let Use::Object(inner) = found { Some(*inner) } else { None });
                let next = match (is_last, known) {
                    (true, _) => Use::Slot(slot),
                    (false, Some(inner)) => Use::Object(inner),
                    (false, None) => Use::Object(shapes.add()),
                };
                let uses = &mut shapes.all[shape].fields[field].uses;
                if !uses.contains(&next) {
                    uses.push(next);
                }
                if let Use::Object(inner) = next {
                    shape = inner;
                }
            }
        }
        shapes
    }

    /// A shape for the fields of a struct: name and slot.
    pub(super) fn of_struct<'n>(&mut self, fields: impl Iterator<Item = (&'n str, usize)>) -> usize {
        let shape = self.add();
        for (name, slot) in fields {
            let field = self.field(shape, name);
            self.all[shape].fields[field].uses.push(Use::Slot(slot));
        }
        shape
    }

    /// Notes the fields that are nothing but a scalar, once all fields and slots are known.
    pub(super) fn note_scalars(&mut self, is_scalar: impl Fn(usize) -> bool) {
        for field in self.all.iter_mut().flat_map(|shape| &mut shape.fields) {
            field.scalar = match field.uses[..] {
                [Use::Slot(slot)] if is_scalar(slot) => Some(slot),
                _ => None,
            };
        }
    }

    fn add(&mut self) -> usize {
        self.all.push(Shape { fields: Vec::new(), has_index: false });
        self.all.len() - 1
    }

    /// The field of that name, made if it is new.
    fn field(&mut self, shape: usize, name: &str) -> usize {
        let shape = &mut self.all[shape];
        if let Some(at) = shape.fields.iter().position(|field| field.name == name.as_bytes()) {
            return at;
        }
        shape.has_index |= name.parse::<usize>().is_ok();
        shape.fields.push(Field { name: name.as_bytes().to_vec(), id: self.fields, uses: Vec::new(), scalar: None });
        self.fields += 1;
        shape.fields.len() - 1
    }
}

impl Shape {
    fn find(&self, name: &[u8]) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

/// The names of one shape's objects that a pass has met, each with the one that followed it last.
#[derive(Default)]
pub(super) struct Order {
    /// The first stands for the beginning and has no name.
    known: Vec<Known>,
}

struct Known {
    /// With quotes and colon, as it stands in JSON without white space.
    name: Word,
    field: Option<usize>,
    next: usize,
}

impl Order {
    /// The place before the first field.
    pub(super) const START: usize = 0;

    pub(super) fn new() -> Order {
        Order { known: vec![Known { name: Word::new(b""), field: None, next: 0 }] }
    }

    /// Passes a field's name and the colon behind it. Gives the shape's field, and the name as it stands there; moves `last`, the place of
    /// the field before, to this one's.
    #[inline(always)]
    pub(super) fn name<'a>(
        &mut self,
        shape: &Shape,
        scan: &mut Scanner<'a>,
        last: &mut usize,
    ) -> Scan<(Option<usize>, Text<'a>)> {
        let from = scan.place();
        let guess = self.known[*last].next;
        let known = &self.known[guess];
        if guess != Order::START && scan.pass_word(&known.name) {
            *last = guess;
            let raw = scan.since(from);
            return Ok((known.field, Text { raw: &raw[1..raw.len() - 2], is_escaped: false }));
        }
        let mut away = Scanner::at(scan.text(), scan.place());
        let found = self.look_up(shape, &mut away, last);
        scan.go_to(away.place());
        found
    }

    #[inline(never)]
    fn look_up<'a>(
        &mut self,
        shape: &Shape,
        scan: &mut Scanner<'a>,
        last: &mut usize,
    ) -> Scan<(Option<usize>, Text<'a>)> {
        scan.pass(b'"')?;
        let text = scan.string()?;
        scan.pass(b':')?;
        if text.is_escaped {
            // Rare enough to be looked up each time.
            let mut name = Vec::new();
            unescape(text.raw, &mut name)?;
            return Ok((shape.find(&name), text));
        }
        let is_it = |known: &Known| {
            known.name.bytes().strip_prefix(b"\"").is_some_and(|name| name[..name.len() - 2] == *text.raw)
        };
        // The guess is right where only white space stands between.
        let guess = self.known[*last].next;
        let found = Some(guess).filter(|guess| is_it(&self.known[*guess]));
        let found = found.or_else(|| self.known.iter().position(is_it));
        let place = match found {
            Some(place) => place,
            None if self.known.len() > KNOWN_MAX => return Ok((shape.find(text.raw), text)),
            None => {
                let name = Word::new(&[b"\"", text.raw, b"\":"].concat());
                self.known.push(Known { name, field: shape.find(text.raw), next: 0 });
                self.known.len() - 1
            }
        };
        self.known[*last].next = place;
        *last = place;
        Ok((self.known[place].field, text))
    }
}

/// Whether a field was met in the object that is read: by object, so that nothing has to be cleared.
pub(super) struct Met {
    by_field: Vec<u64>,
    objects: u64,
}

impl Met {
    pub(super) fn new(fields: usize) -> Met {
        Met { by_field: vec![0; fields], objects: 0 }
    }

    /// Begins an object and gives its number.
    #[inline]
    pub(super) fn begin(&mut self) -> u64 {
        self.objects += 1;
        self.objects
    }

    /// # Errors
    /// [`Odd`] if the object had the field before.
    #[inline]
    pub(super) fn meet(&mut self, object: u64, field: usize) -> Scan<()> {
        if std::mem::replace(&mut self.by_field[field], object) == object { Err(Odd) } else { Ok(()) }
    }
}
