//! Where rows go.

mod encode;
pub(super) mod parquet;
