//! The functions that pipelines have beside SQL's own. Each file here is a subject with a table of its functions; this one lists the
//! tables, for the planner, `docs/PIPELINES.md` and `inrush functions`.
//!
//! All are row-wise and give the same answer to the same arguments. NULL gives NULL unless a function's meaning says otherwise, and no
//! input is an error: what cannot be read is NULL. Only a damaged GeoIP database is.

mod address;
mod agent;
mod boxes;
mod call;
mod campaign;
mod geoip;
mod json;
mod picture;
mod pseudonym;
mod referer;
mod robots;
mod sites;
mod sized;
#[cfg(test)]
pub(super) mod tests;
mod times;
mod url;
mod zones;

pub use call::Function;
pub(super) use picture::kind_of as picture_kind;

use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{Expr, ScalarUDF};
pub(super) use geoip::{Database, GeoFile};
pub(super) use sized::limited;
use std::path::Path;
use std::sync::Arc;

/// Every function, by subject and in it by name.
pub const SUBJECTS: &[(&str, &[Function])] = &[
    ("Parts of URLs", url::FUNCTIONS),
    ("Campaigns", campaign::FUNCTIONS),
    ("Where visitors come from", referer::FUNCTIONS),
    ("User agents and robots", agent::FUNCTIONS),
    ("IP addresses", address::FUNCTIONS),
    ("Country, city, network", geoip::FUNCTIONS),
    ("Pseudonyms", pseudonym::FUNCTIONS),
    ("JSON", json::FUNCTIONS),
    ("Times", times::FUNCTIONS),
    ("Pictures", picture::FUNCTIONS),
    ("Boxes", boxes::FUNCTIONS),
    ("Zones", zones::FUNCTIONS),
];

/// Every function, in the same order.
pub fn list() -> impl Iterator<Item = &'static Function> {
    SUBJECTS.iter().flat_map(|(_, functions)| *functions)
}

/// All of them, for the planner.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    list().map(|function| Arc::new(function.udf())).collect()
}

/// Puts into calls what can be known when a pipeline is planned: databases that constants name, polygons that constants are. `files` has each
/// database's file once.
///
/// # Errors
/// A constant that cannot be what it is meant to be; a file that cannot be read.
pub(super) fn bind(expr: Expr, pipeline: &Path, files: &mut Vec<Arc<GeoFile>>) -> Result<Expr> {
    let bound = expr.transform(|expr| {
        let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
        let Some(function) = list().find(|function| function.name == call.func.name()) else {
            return Ok(Transformed::no(expr));
        };
        let bound = match function.name {
            zones::POINT_IN_POLYGON => zones::bound(function, &call.args)?,
            _ => geoip::bound(function, &call.args, pipeline, files)?,
        };
        Ok(match bound {
            Some(udf) => {
                Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), call.args.clone())))
            }
            None => Transformed::no(expr),
        })
    })?;
    Ok(bound.data)
}
