//! Boxes that detectors draw around what they see: `[x1, y1, x2, y2]`, two opposite corners, in pixels or in parts of the picture.
//!
//! Frigate sends `box` so, in pixels, y downwards; ONVIF counts from -1 to 1 with y upwards. Which corner comes first does not matter.

use super::call::{Call, Function, Gives, Takes};
use arrow::array::{ArrayRef, Float64Array};
use datafusion_common::Result;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "box_area",
        takes: &[("box", Takes::Box)],
        optional: 0,
        gives: Gives::Float64,
        meaning: "area of the box [x1, y1, x2, y2], in its unit squared; NULL for what is not four finite numbers",
        examples: &[
            ("box_area([10, 20, 40, 60])", "1200.0"),
            ("box_area([0.5, 0.25, 0.5 + 0.25, 0.25 + 0.5])", "0.125"),
            ("box_area([10, 20, 40])", "NULL"),
        ],
        compute: |call| {
            let boxes = call.boxes(0)?;
            call.each::<Float64Array, _>(|row| boxes.get(row).map(|corners| Box::of(corners).area()))
        },
    },
    Function {
        name: "box_iou",
        takes: &[("a", Takes::Box), ("b", Takes::Box)],
        optional: 0,
        gives: Gives::Float64,
        meaning: "intersection over union, 0 to 1: how much two boxes are one; 0 if both have no area; NULL as box_area",
        examples: &[("box_iou([0, 0, 2, 2], [0, 0, 2, 1])", "0.5"), ("box_iou([0, 0, 2, 2], [5, 5, 6, 6])", "0.0")],
        compute: |call| pairs(call, Box::iou),
    },
    Function {
        name: "box_overlap",
        takes: &[("a", Takes::Box), ("b", Takes::Box)],
        optional: 0,
        gives: Gives::Float64,
        meaning: "which part of a lies in b, 0 to 1; 0 if a has no area; NULL as box_area",
        examples: &[
            ("box_overlap([0, 0, 2, 2], [1, 0, 9, 9])", "0.5"),
            ("box_overlap([0, 0, 2, 2], [0, 0, 9, 9])", "1.0"),
        ],
        compute: |call| pairs(call, Box::overlap),
    },
];

fn pairs(call: &Call<'_>, of: fn(Box, Box) -> f64) -> Result<ArrayRef> {
    let (a, b) = (call.boxes(0)?, call.boxes(1)?);
    call.each::<Float64Array, _>(|row| Some(of(Box::of(a.get(row)?), Box::of(b.get(row)?))))
}

/// Corners in order: left is not right of right, and so on.
#[derive(Clone, Copy)]
struct Box {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Box {
    fn of([x1, y1, x2, y2]: [f64; 4]) -> Box {
        Box { left: x1.min(x2), top: y1.min(y2), right: x1.max(x2), bottom: y1.max(y2) }
    }

    fn area(self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    /// Area of what two boxes share.
    fn shared(self, other: Box) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    fn iou(self, other: Box) -> f64 {
        let shared = self.shared(other);
        part(shared, self.area() + other.area() - shared)
    }

    fn overlap(self, other: Box) -> f64 {
        part(self.shared(other), self.area())
    }
}

/// A part of a whole; 0 of nothing. Where numbers are so large that areas are infinite, it is no number, and 0 too.
fn part(of: f64, whole: f64) -> f64 {
    let part = of / whole;
    if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_corners_does_not_matter() {
        let a = Box::of([0.0, 0.0, 2.0, 2.0]);
        for corners in [[1.0, 0.0, 3.0, 2.0], [3.0, 2.0, 1.0, 0.0], [1.0, 2.0, 3.0, 0.0]] {
            assert_eq!(a.iou(Box::of(corners)), 2.0 / 6.0);
        }
    }

    #[test]
    fn parts_are_between_0_and_1_for_all_finite_boxes() {
        let numbers = [0.0, -1.0, 1.0, 1e308, -1e308, f64::MIN_POSITIVE];
        for x in numbers {
            for y in numbers {
                let (a, b) = (Box::of([x, y, 0.5, 1e308]), Box::of([y, x, -3.0, x]));
                for part in [a.iou(b), a.overlap(b), b.overlap(a)] {
                    assert!((0.0..=1.0).contains(&part), "{x} {y}: {part}");
                }
            }
        }
    }
}
