//! What SQL may name at one place of a pipeline, and what nobody knows there since the file is wrong before it.

use super::super::columns::RECORD_FIELDS;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{Column, DFSchema};
use datafusion_expr::Expr;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Columns by name.
pub(in crate::stream) struct Scope {
    schema: Arc<DFSchema>,
    /// What `*` stands for.
    shown: Vec<String>,
    is_open: bool,
    /// Columns of a type that nobody knows, which stand in the schema as null.
    vague: BTreeSet<String>,
}

impl Scope {
    /// Of these fields; all but a record's own are what `*` stands for.
    pub(in crate::stream) fn new(fields: &[Field]) -> Scope {
        let names = fields.iter().map(|field| field.name().clone());
        let shown = names.filter(|name| !RECORD_FIELDS.contains(&name.as_str())).collect();
        // Names are unique: whoever makes columns sees to it.
        let schema = DFSchema::try_from(Schema::new(fields.to_vec())).unwrap_or_else(|_| DFSchema::empty());
        Scope { schema: Arc::new(schema), shown, is_open: false, vague: BTreeSet::new() }
    }

    /// What a step makes of it that keeps all columns but for what it does to these.
    pub(in crate::stream) fn with(&self, fields: &[Field]) -> Scope {
        Scope { is_open: self.is_open, vague: self.vague.clone(), ..Scope::new(fields) }
    }

    /// Columns may be there that are not in it: what would make them is wrong.
    pub(in crate::stream) fn open(&mut self) {
        self.is_open = true;
    }

    pub(in crate::stream) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Nobody knows the type of these.
    pub(in crate::stream) fn blur(&mut self, names: impl IntoIterator<Item = String>) {
        self.vague.extend(names);
    }

    /// Whether there is such a column, and nobody knows its type.
    pub(in crate::stream) fn is_vague(&self, name: &str) -> bool {
        self.vague.contains(name)
    }

    /// Whether an expression names a column of which nobody knows the type.
    pub(in crate::stream) fn makes_vague(&self, expr: &Expr) -> bool {
        expr.column_refs().iter().any(|column| self.is_vague(&column.name))
    }

    pub(in crate::stream) fn schema(&self) -> &Arc<DFSchema> {
        &self.schema
    }

    pub(in crate::stream) fn fields(&self) -> Vec<Field> {
        self.schema.fields().iter().map(|field| field.as_ref().clone()).collect()
    }

    /// The type of a column.
    pub(in crate::stream) fn kind(&self, name: &str) -> Option<&DataType> {
        self.schema.field_with_unqualified_name(name).ok().map(|field| field.data_type())
    }

    /// Names of columns, those of the record's own fields last.
    pub(in crate::stream) fn names(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }

    pub(in crate::stream) fn shown(&self) -> &[String] {
        &self.shown
    }

    /// The expression that is a column.
    pub(in crate::stream) fn column(name: &str) -> Expr {
        Expr::Column(Column::from_name(name))
    }
}
