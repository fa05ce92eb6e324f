//! The `window` step of a plan: typed against what is in scope, then physical, and how rows go into it and what comes out.

use super::super::rows::ROWS_MAX;
use super::super::spec;
use super::super::sql::{Call, Scope};
use super::super::step::{
    Aggregate, Course, Found, Frame, Hop, Keyed, Pane, Parts, Rows, Stage, Table, Window, output_of, window_fields,
};
use super::{Draft, Logical, Plan, Take, Transformed, Watch, physical};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as SqlResult;
use datafusion_expr::ExprSchemable;

impl Plan {
    /// The window, if there is one.
    pub(in crate::stream) fn window(&self) -> Option<&Window> {
        self.stages.iter().find_map(Stage::window)
    }

    /// What the state of each step that remembers goes by.
    pub(in crate::stream) fn identities(&self) -> Vec<String> {
        let window = self.window().map(|window| window.identity().to_owned());
        self.keyed().map(Keyed::identity).chain(window).collect()
    }

    /// Takes what [`Plan::run`] has made of the records of a course through the other steps to their routes, or into the window. `tables`
    /// has one for each step that remembers, and `pane` is the window's.
    pub(in crate::stream) fn go_on(
        &self,
        rows: Rows,
        tables: &mut [Table],
        pane: Option<&mut Pane>,
        course: &mut Course<'_>,
        watch: Option<&mut (dyn Watch + '_)>,
    ) -> Transformed {
        let mut found = Found::default();
        let mut watch = watch;
        let into = self.head..self.window_at();
        let rows = self.run_stages(into, rows, &mut found, Some((tables, course)), &mut watch);
        let routes = match (self.window(), pane) {
            (Some(window), Some(pane)) => {
                watch.iter_mut().for_each(|watch| watch.enters());
                let late = window.take(rows, pane, course, &mut found);
                watch.iter_mut().for_each(|watch| watch.entered(self.window_at()));
                let none = || Rows { batch: RecordBatch::new_empty(self.output.clone()), sources: Vec::new() };
                let takes = |take: &Take| if matches!(take, Take::Late) { late.clone() } else { none() };
                self.routes.iter().map(takes).collect()
            }
            _ => self.route_watched(rows, &mut found, &mut watch),
        };
        self.transformed(routes, found)
    }

    /// Takes rows of windows that closed to their routes.
    pub(in crate::stream) fn behind_window(&self, rows: Rows, watch: Option<&mut (dyn Watch + '_)>) -> Transformed {
        let mut found = Found::default();
        let mut watch = watch;
        watch.iter_mut().for_each(|watch| watch.after(self.window_at(), &rows, &found));
        let stages = (self.window_at() + 1).min(self.stages.len())..self.stages.len();
        let rows = self.run_stages(stages, rows, &mut found, None, &mut watch);
        let routes = self.route_watched(rows, &mut found, &mut watch);
        self.transformed(routes, found)
    }

    /// So many records are taken through it at a time.
    pub(in crate::stream) fn records_max(&self) -> usize {
        self.window().map_or(ROWS_MAX, Window::records_max).min(self.pieces_of)
    }

    fn window_at(&self) -> usize {
        self.stages.iter().position(|stage| stage.window().is_some()).unwrap_or(self.stages.len())
    }
}

/// A window, typed.
pub(super) struct Typed {
    frame: Frame,
    late_ms: i64,
    time: String,
    key: Vec<String>,
    calls: Vec<Call>,
    size_max: usize,
    late: Option<Vec<String>>,
}

/// What says when a row was, unless the file does.
const TIME: &str = "_timestamp";

impl Draft<'_> {
    /// Whether a step stands behind a window and cannot; then it is told.
    pub(in crate::stream) fn is_behind_window(&mut self, step: &spec::Step) -> bool {
        if !self.steps.iter().any(|step| matches!(step, Logical::Window(_))) {
            return false;
        }
        let (at, what) = match step {
            spec::Step::Unnest(unnest) => (&unnest.list, "unnest"),
            spec::Step::Keyed(keyed) => (&keyed.at, "a step that remembers"),
            spec::Step::Window(window) => (&window.at, "a second window"),
            spec::Step::Where(_)
            | spec::Step::Select(_)
            | spec::Step::Sql(_)
            | spec::Step::Sample(_)
            | spec::Step::Enrich(_) => return false,
        };
        let message = format!(
            "{what} cannot stand behind a window: let the window's rows go to a topic, and read that by a pipeline of its own"
        );
        self.wrong(&at.clone(), message);
        true
    }

    pub(in crate::stream) fn window(&mut self, window: &spec::Window) {
        let unknown = |named: &&spec::Named| self.scope.kind(&named.name).is_none();
        let wrong: Vec<spec::Named> = window.time.iter().chain(&window.key).filter(unknown).cloned().collect();
        wrong.iter().for_each(|named| self.unknown(named));
        let calls = self.planner.aggregates(&self.scope, &window.select).map_err(|wrong| self.mistakes.extend(wrong));
        let time = window.time.as_ref().map_or(TIME, |time| time.name.as_str()).to_owned();
        let has_time = self.has_time(window, &time);
        let key: Vec<String> = window.key.iter().map(|named| named.name.clone()).collect();
        self.late_key(window);
        let Ok(calls) = calls else { return };
        let fields = self.fields_of(window, &key, &calls);
        let (Some(fields), true, true) = (fields, has_time, wrong.is_empty()) else { return };
        [&time].into_iter().chain(&key).for_each(|name| self.reads(name));
        calls.iter().flat_map(|call| call.arg.iter().chain(&call.filter)).for_each(|expr| self.reads_of(expr));
        let late = window.late_to.as_ref().map(|_| self.scope.shown().to_vec());
        late.iter().flatten().for_each(|name| self.reads(name));
        let ms = |time: std::time::Duration| time.as_millis() as i64;
        let frame = match window.frame {
            spec::Frame::Hopping { size, every } => Frame::Hop(Hop { size: ms(size), every: ms(every) }),
            spec::Frame::Session { gap } => Frame::Session { gap: ms(gap) },
        };
        let of_calls = calls.iter().filter(|call| call.arg.as_ref().is_some_and(|arg| self.scope.makes_vague(arg)));
        let vague: Vec<String> = key
            .iter()
            .filter(|name| self.scope.is_vague(name))
            .chain(of_calls.map(|call| &call.name))
            .cloned()
            .collect();
        let (late_ms, size_max) = (ms(window.late), window.size_max as usize);
        self.steps.push(Logical::Window(Typed { frame, late_ms, time, key, calls, size_max, late }));
        self.scope = Scope::new(&fields);
        self.scope.blur(vague);
        self.origins.clear();
        self.is_source = false;
    }

    /// Whether it is known to go by a timestamp; what is wrong is told.
    fn has_time(&mut self, window: &spec::Window, time: &str) -> bool {
        match self.scope.kind(time) {
            _ if self.scope.is_vague(time) => false,
            None if self.scope.is_open() => false,
            Some(DataType::Timestamp(..)) => true,
            Some(other) => {
                let message = format!("{time} is {other}; a window goes by a timestamp");
                self.wrong(window.time.as_ref().unwrap_or(&window.at), message);
                false
            }
            // It is told as a name that is none.
            None if window.time.is_some() => false,
            None => {
                let message =
                    "behind a select a window needs to be told which column says when a row was: time = \"ts\"";
                self.wrong(&window.at, message.to_owned());
                false
            }
        }
    }

    /// What comes out of it; `None` if that cannot be, which is told.
    fn fields_of(&mut self, window: &spec::Window, key: &[String], calls: &[Call]) -> Option<Vec<Field>> {
        let of_key = |name: &String| Some(Field::new(name, self.scope.kind(name)?.clone(), true));
        let of_key: Vec<Field> = key.iter().filter_map(of_key).collect();
        let mut of_calls = Vec::new();
        let mut wrong = Vec::new();
        for call in calls {
            if call.arg.as_ref().is_some_and(|arg| self.scope.makes_vague(arg)) {
                of_calls.push(Field::new(&call.name, DataType::Null, true));
                continue;
            }
            let arg = call.arg.as_ref().and_then(|arg| arg.get_type(self.scope.schema()).ok());
            match output_of(call.fold, arg.as_ref()) {
                Ok(kind) => of_calls.push(Field::new(&call.name, kind, true)),
                Err(why) => wrong.push(self.planner.mistake(&window.select, format!("{}: {why}", call.text))),
            }
        }
        let fields = window_fields(matches!(window.frame, spec::Frame::Session { .. }), &of_key, &of_calls);
        let mut names: Vec<&String> = fields.iter().map(Field::name).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("two columns of the window are named {}", twice[0]);
            wrong.push(self.planner.mistake(&window.select, message));
        }
        let is_right = wrong.is_empty();
        self.mistakes.extend(wrong);
        is_right.then_some(fields)
    }

    /// The key of `late-to` is a column of the rows that come in.
    fn late_key(&mut self, window: &spec::Window) {
        let Some(route) = &window.late_to else { return };
        let spec::Output::Topic(spec::TopicOutput { key: Some(key), .. }) = &route.to else { return };
        if !self.scope.shown().contains(key) {
            let (line, column) = route.named_at;
            let field = format!("{}.late-to.key", window.at.field);
            self.unknown(&spec::Named { field, name: key.clone(), line, column });
        }
    }
}

impl Typed {
    pub(in crate::stream) fn physical(&self, schema: &SchemaRef) -> SqlResult<Window> {
        let aggregate = |call: &Call| -> SqlResult<Aggregate> {
            let arg = call.arg.as_ref().map(|arg| physical(arg, schema)).transpose()?;
            let arg = arg.map(|arg| arg.data_type(schema).map(|kind| (arg, kind))).transpose()?;
            let filter = call.filter.as_ref().map(|filter| physical(filter, schema)).transpose()?;
            Ok(Aggregate::new(call, arg, filter)?)
        };
        let place = |name: &String| schema.index_of(name);
        let parts = Parts {
            frame: self.frame,
            late_ms: self.late_ms,
            time: place(&self.time)?,
            key: self.key.iter().map(place).collect::<Result<_, _>>()?,
            aggregates: self.calls.iter().map(aggregate).collect::<SqlResult<_>>()?,
            size_max: self.size_max,
            late: self.late.as_ref().map(|late| late.iter().map(place).collect::<Result<_, _>>()).transpose()?,
        };
        Ok(Window::new(schema, parts)?)
    }
}
