//! `enrich` in a plan: its columns typed, its table read.

use super::super::enrich::{LookUp, Origin};
use super::super::spec;
use super::super::step::{Enrich, Stage};
use super::{Draft, Logical, Plan};
use crate::record::Record;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::collections::HashMap;
use std::sync::Arc;

impl Plan {
    /// The tables that rows are looked up in, in the order of the steps.
    pub(in crate::stream) fn look_ups(&self) -> impl Iterator<Item = &Arc<LookUp>> {
        self.stages.iter().filter_map(|stage| match stage {
            Stage::Enrich(enrich) => Some(&enrich.table),
            _ => None,
        })
    }
}

impl Plan {
    /// The files that rows are looked up in: tables in the order of the steps, then those of MaxMind's.
    pub(in crate::stream) fn origins(&self) -> impl Iterator<Item = &dyn Origin> {
        let tables = self.look_ups().filter(|table| table.topic().is_none());
        tables.map(|table| &**table as &dyn Origin).chain(self.geo.iter().map(|file| &**file as &dyn Origin))
    }

    /// Topics that steps look up in hold these records and no others.
    pub(in crate::stream) fn set_tables(&self, tables: &HashMap<&str, Vec<Record>>) {
        for table in self.look_ups() {
            table.forget();
            let records = table.topic().and_then(|topic| tables.get(topic));
            table.take(records.map_or(&[], |records| records));
        }
    }
}

impl Draft<'_> {
    pub(super) fn enrich(&mut self, step: &spec::Enrich) {
        if let Some(unknown) = step.on.iter().find(|named| self.scope.kind(&named.name).is_none()) {
            return self.unknown(unknown);
        }
        if step.on.iter().any(|named| self.scope.is_vague(&named.name)) {
            return;
        }
        let kinds: Vec<DataType> = step.on.iter().filter_map(|named| self.scope.kind(&named.name)).cloned().collect();
        let table = match LookUp::new(step, &kinds, &self.spec.file) {
            Ok(table) => Arc::new(table),
            Err((at, message)) => return self.wrong(&at, message),
        };
        let fields = self.scope.fields();
        for (at, field) in table.fields().iter().enumerate() {
            let is_double = table.fields()[..at].iter().any(|other| other.name() == field.name());
            if is_double || self.scope.kind(field.name()).is_some() {
                let name = field.name();
                let message = format!(
                    "there is a column {name} already; call the table's otherwise: columns = [\"{name} as other_{name}\"]"
                );
                return self.wrong(&step.at, message);
            }
        }
        step.on.iter().for_each(|named| self.reads(&named.name));
        self.scope = self.scope.with(&fields.into_iter().chain(table.fields().iter().cloned()).collect::<Vec<_>>());
        let on = step.on.iter().map(|named| named.name.clone()).collect();
        self.steps.push(Logical::Enrich { on, table });
    }
}

/// The stage over rows of this schema, which becomes that of its output.
pub(super) fn stage(on: &[String], table: &Arc<LookUp>, schema: &mut SchemaRef) -> Result<Stage, ArrowError> {
    let on = on.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let added = table.fields().iter().cloned().map(Arc::new);
    *schema = Arc::new(Schema::new(schema.fields().iter().cloned().chain(added).collect::<Vec<FieldRef>>()));
    Ok(Stage::Enrich(Enrich { table: table.clone(), on, output: schema.clone() }))
}
