//! Zones that are drawn as polygons, as Frigate's configuration has them and as JSON.

use super::call::{Call, Function, Gives, Takes};
use arrow::array::{ArrayRef, BooleanArray};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{Expr, ScalarUDF};

/// A zone has at most so many corners.
const CORNERS_MAX: usize = 1_000;

pub(super) const POINT_IN_POLYGON: &str = "point_in_polygon";

pub(super) const FUNCTIONS: &[Function] = &[Function {
    name: POINT_IN_POLYGON,
    takes: &[("x", Takes::Number), ("y", Takes::Number), ("polygon", Takes::Text)],
    optional: 0,
    gives: Gives::Truth,
    meaning: "whether the point lies in the polygon or on its edge. Its 3 to 1,000 corners are written [[x,y],…], or x,y,x,y,… as in Frigate's zones, in the unit of the point; it may cross itself (even-odd rule). NULL for another text; one in quotes is a mistake of the file",
    examples: &[
        ("point_in_polygon(1, 1, '[[0,0],[4,0],[4,2],[0,2]]')", "true"),
        ("point_in_polygon(0.5, 0.9, '0.1,0.1,0.9,0.1,0.9,0.5,0.1,0.5')", "false"),
        // The middle of a box's lower edge, which stands on the ground.
        ("point_in_polygon((10 + 30) / 2, 60, '[[0,50],[100,50],[100,70],[0,70]]')", "true"),
        ("point_in_polygon(NULL, 1, '[[0,0],[4,0],[4,2]]')", "NULL"),
    ],
    compute: |call| {
        let polygons = call.texts(2)?;
        let constant = polygons.constant().map(Polygon::read);
        points(call, |row| match &constant {
            Some(polygon) => polygon.as_ref().map(|polygon| polygon.contains(row.1)),
            None => polygons.get(row.0).and_then(Polygon::read).map(|polygon| polygon.contains(row.1)),
        })
    },
}];

/// The function with its polygon read, if that is a constant.
///
/// # Errors
/// A constant that is no polygon.
pub(super) fn bound(function: &'static Function, arguments: &[Expr]) -> Result<Option<ScalarUDF>> {
    let Some(Expr::Literal(ScalarValue::Utf8(Some(text)), _)) = arguments.get(2) else { return Ok(None) };
    let Some(polygon) = Polygon::read(text) else {
        return plan_err!(
            "\"{text}\" is no polygon: write 3 to {CORNERS_MAX} corners as '[[x,y],[x,y],[x,y]]' or 'x,y,x,y,x,y'"
        );
    };
    Ok(Some(function.computed_by(move |call| points(call, |(_, point)| Some(polygon.contains(point))))))
}

/// Answers for each row's number and point; NULL where there is no point.
fn points(call: &Call<'_>, of: impl Fn((usize, [f64; 2])) -> Option<bool>) -> Result<ArrayRef> {
    let (x, y) = (call.numbers(0)?, call.numbers(1)?);
    call.each::<BooleanArray, _>(|row| of((row, [x.get(row)?, y.get(row)?])))
}

struct Polygon {
    corners: Vec<[f64; 2]>,
}

impl Polygon {
    fn read(text: &str) -> Option<Polygon> {
        let corners: Vec<[f64; 2]> = match text.trim_start().starts_with('[') {
            true => serde_json::from_str(text).ok()?,
            false => {
                let number = |part: &str| part.trim().parse::<f64>().ok();
                // One more than there may be is enough to refuse it.
                let parts = text.split(',').take(2 * CORNERS_MAX + 1);
                let numbers: Vec<f64> = parts.map(number).collect::<Option<_>>()?;
                let (pairs, rest) = numbers.as_chunks::<2>();
                if !rest.is_empty() {
                    return None;
                }
                pairs.to_vec()
            }
        };
        let is_right =
            (3..=CORNERS_MAX).contains(&corners.len()) && corners.as_flattened().iter().all(|n| n.is_finite());
        is_right.then_some(Polygon { corners })
    }

    /// Counts the edges that a line from the point to the right crosses (even-odd rule); points on an edge are found first.
    fn contains(&self, [x, y]: [f64; 2]) -> bool {
        let mut is_in = false;
        let mut from = self.corners[self.corners.len() - 1];
        for to in &self.corners {
            let ([x1, y1], [x2, y2]) = (from, *to);
            let side = (x2 - x1) * (y - y1) - (x - x1) * (y2 - y1);
            let is_between = |a: f64, b: f64, c: f64| a.min(b) <= c && c <= a.max(b);
            if side == 0.0 && is_between(x1, x2, x) && is_between(y1, y2, y) {
                return true;
            }
            // Crossed if its ends lie on two sides of the line, and the point left of it.
            if (y1 > y) != (y2 > y) && (side > 0.0) == (y2 > y1) {
                is_in = !is_in;
            }
            from = *to;
        }
        is_in
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polygon(text: &str) -> Polygon {
        Polygon::read(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn edges_and_corners_are_inside_in_both_directions() {
        for text in ["[[0,0],[4,0],[4,4],[0,4]]", "0,4, 4,4, 4,0, 0,0"] {
            let square = polygon(text);
            for point in [[0.0, 0.0], [4.0, 4.0], [2.0, 0.0], [0.0, 2.0], [4.0, 2.0], [2.0, 4.0], [1.0, 3.0]] {
                assert!(square.contains(point), "{text} {point:?}");
            }
            for point in [[-0.1, 2.0], [4.1, 2.0], [2.0, -0.1], [2.0, 4.1], [9.0, 0.0], [-9.0, 4.0]] {
                assert!(!square.contains(point), "{text} {point:?}");
            }
        }
    }

    #[test]
    fn a_polygon_may_have_bays() {
        let horseshoe = polygon("0,0,6,0,6,6,4,6,4,2,2,2,2,6,0,6");
        assert!(horseshoe.contains([1.0, 5.0]) && horseshoe.contains([5.0, 5.0]) && horseshoe.contains([3.0, 1.0]));
        assert!(!horseshoe.contains([3.0, 5.0]));
    }

    #[test]
    fn what_is_no_polygon_is_none() {
        let many = vec!["1"; 2 * CORNERS_MAX + 2].join(",");
        for text in [
            "",
            "[]",
            "[[0,0],[1,1]]",
            "0,0,1,1",
            "0,0,1,1,2",
            "a,b,c,d,e,f",
            "[[0,0],[1,1],[1,NaN]]",
            "0,0,1,1,2,inf",
            &many,
        ] {
            assert!(Polygon::read(text).is_none(), "{text}");
        }
    }
}
