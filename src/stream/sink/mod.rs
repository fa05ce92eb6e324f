//! Where rows go.

pub(super) mod parquet;
