//! Every metric's name, unit, labels and meaning, in one place; [`describe`] tells them to the recorder.
//!
//! Names are `inrush_<room>_<noun>_<unit>[_total]`. Each room counts under its own section here; a client's text is never a label.

/// One metric: what dashboards and alerts may rely on. Names are never changed once released.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// Label names, comma separated; empty if none.
    pub labels: &'static str,
    pub meaning: &'static str,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const fn metric(name: &'static str, kind: Kind, labels: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind, labels, meaning }
}

// One section a room; each room appends its own lines, and lists them in ALL.

// -- store
// -- ingest
// -- server: http
// -- server: kafka
// -- stream
// -- daemon
pub const DAEMON_START_SECONDS: Metric =
    metric("inrush_daemon_start_seconds", Kind::Gauge, "", "seconds from process start until the doors were open");

/// All metrics, in the order of the sections above.
pub const ALL: &[Metric] = &[
    // -- store
    // -- ingest
    // -- server: http
    // -- server: kafka
    // -- stream
    // -- daemon
    DAEMON_START_SECONDS,
];

/// Tells the installed recorder what each metric means.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.meaning),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.meaning),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.meaning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_house_form_and_are_unique() {
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        for metric in ALL {
            assert!(metric.name.starts_with("inrush_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
