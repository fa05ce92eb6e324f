//! JPEGs as cameras send them: photo-like scenes of several sizes, each copy distinct.
//!
//! Encoding a picture costs more than sending it, so a few scenes are encoded once; every copy gets its number as a JPEG comment, which
//! makes its bytes its own and leaves it a picture that every reader takes.

use jpeg_encoder::{ColorType, Encoder, EncodingError};

const QUALITY: u8 = 75;
/// Length and marker of a comment segment before its text (ITU T.81, B.2.4.5).
const COMMENT_MARKER: [u8; 2] = [0xff, 0xfe];

/// Which pictures a camera sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// 270 lines, about 20 kB: what a detector attaches to an event.
    Small,
    /// Mostly small ones, some of 720 and of 1080 lines: up to about half a megabyte.
    Mixed,
}

/// Encoded scenes to draw copies from.
pub struct Pictures {
    scenes: Vec<Vec<u8>>,
}

impl Pictures {
    /// Encodes the scenes: 130 thousand pixels each for small ones, 2 million for the largest.
    ///
    /// # Errors
    /// The encoder's; none is known for these sizes.
    pub fn new(sizes: Sizes, random: &mut fastrand::Rng) -> Result<Pictures, EncodingError> {
        let wanted: &[(u16, u16)] = match sizes {
            Sizes::Small => &[(480, 270); 4],
            Sizes::Mixed => &[
                (480, 270),
                (480, 270),
                (480, 270),
                (480, 270),
                (480, 270),
                (480, 270),
                (1280, 720),
                (1280, 720),
                (1280, 720),
                (1920, 1080),
            ],
        };
        let scenes = wanted.iter().map(|(width, height)| encode(*width, *height, random)).collect::<Result<_, _>>()?;
        Ok(Pictures { scenes })
    }

    /// A copy of one of them that says `number` in a comment.
    pub fn draw(&self, number: u64, random: &mut fastrand::Rng) -> Vec<u8> {
        let scene = &self.scenes[random.usize(..self.scenes.len())];
        let text = format!("shot {number}");
        let mut bytes = Vec::with_capacity(scene.len() + text.len() + 4);
        bytes.extend_from_slice(&scene[..2]);
        bytes.extend_from_slice(&COMMENT_MARKER);
        bytes.extend_from_slice(&(text.len() as u16 + 2).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&scene[2..]);
        bytes
    }
}

fn encode(width: u16, height: u16, random: &mut fastrand::Rng) -> Result<Vec<u8>, EncodingError> {
    let pixels = scene(usize::from(width), usize::from(height), random);
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, QUALITY).encode(&pixels, width, height, ColorType::Rgb)?;
    Ok(bytes)
}

/// Sky over ground with something standing on it, light and grain on three scales: as much detail as a camera's picture has.
fn scene(width: usize, height: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let seed = random.u32(..);
    let (left, top) = (random.usize(..width / 2), height / 3 + random.usize(..height / 4));
    let (thing_wide, thing_high) = (width / 6, height / 3);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let is_thing = (left..left + thing_wide).contains(&x) && (top..top + thing_high).contains(&y);
            let is_sky = y < height * 2 / 5;
            let base = match (is_thing, is_sky) {
                (true, _) => [150, 60, 50],
                (false, true) => [110 + (y * 70 / height) as i32, 150, 200],
                (false, false) => [95, 115 - (x * 25 / width) as i32, 75],
            };
            let detail = if is_sky { 1 } else { 2 };
            let light =
                noise(x, y, 64, seed) * 40 / 256 + noise(x, y, 12, seed ^ 1) * 16 * detail / 256 - 20 - 11 * detail
                    + noise(x, y, 3, seed ^ 2) * 20 * detail / 256;
            pixels.extend(base.map(|value| (value + light).clamp(0, 255) as u8));
        }
    }
    pixels
}

/// Value noise, 0 to 255: random at the points of a lattice, straight between them.
fn noise(x: usize, y: usize, step: usize, seed: u32) -> i32 {
    let point = |x: usize, y: usize| {
        let mut bits = (x as u32).wrapping_mul(0x9e37_79b1) ^ (y as u32).wrapping_mul(0x85eb_ca77) ^ seed;
        bits = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
        ((bits ^ (bits >> 12)) & 255) as i32
    };
    let (column, row, right, down) = (x / step, y / step, (x % step) as i32, (y % step) as i32);
    let step = step as i32;
    let above = point(column, row) * (step - right) + point(column + 1, row) * right;
    let below = point(column, row + 1) * (step - right) + point(column + 1, row + 1) * right;
    (above * (step - down) + below * down) / (step * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_weigh_what_a_camera_sends() {
        let mut random = fastrand::Rng::with_seed(1);
        let pictures = Pictures::new(Sizes::Small, &mut random).unwrap();
        for number in 0..4 {
            let bytes = pictures.draw(number, &mut random);
            assert!((14_000..24_000).contains(&bytes.len()), "{} bytes", bytes.len());
        }
    }

    #[test]
    fn copies_differ_and_are_read_as_pictures_of_their_size() {
        let mut random = fastrand::Rng::with_seed(2);
        let pictures = Pictures::new(Sizes::Small, &mut random).unwrap();
        let copies: Vec<Vec<u8>> = (0..20).map(|number| pictures.draw(number, &mut random)).collect();
        for (at, copy) in copies.iter().enumerate() {
            let size = imagesize::blob_size(copy).unwrap();
            assert_eq!((size.width, size.height), (480, 270));
            assert!(copies[..at].iter().all(|other| other != copy), "copy {at} is not its own");
        }
    }
}
