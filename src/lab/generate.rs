//! Clicks and pictures as real sites and cameras send them, by seed.

use serde_json::{Value, json};

/// Agents of browsers; clicks are drawn from them.
const BROWSERS: [&str; 8] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:126.0) Gecko/20100101 Firefox/126.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36 Edg/125.0.0.0",
    "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
];
const ROBOTS: [&str; 3] = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "python-requests/2.32.3",
];
const PATHS: [&str; 6] = ["/", "/shoes", "/shoes/trail-runner-9", "/bags/daypack-20l", "/cart", "/search"];
const CAMERAS: [&str; 4] = ["door", "yard", "garage", "gate"];
const LABELS: [&str; 4] = ["person", "car", "dog", "parcel"];

/// Visitors that clicks come from.
const VISITORS: u32 = 500;
/// One click in so many is a robot's: 6 %.
const ROBOT_SHARE: u32 = 16;

/// A source of events; the same seed gives the same ones.
pub struct Generator {
    random: fastrand::Rng,
    made: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { random: fastrand::Rng::with_seed(seed), made: 0 }
    }

    /// A click of about 650 bytes at `now_ms`.
    pub fn click(&mut self, now_ms: i64) -> Value {
        self.made += 1;
        let random = &mut self.random;
        let visitor = random.u32(..VISITORS);
        let is_robot = random.u32(..ROBOT_SHARE) == 0;
        let agents: &[&str] = if is_robot { &ROBOTS } else { &BROWSERS };
        let path = PATHS[random.usize(..PATHS.len())];
        let at = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        let campaign = if random.bool() { "?utm_source=newsletter&utm_campaign=spring" } else { "" };
        json!({
            "ts": at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            "eventId": format!("e-{:016x}-{}", random.u64(..), self.made),
            "userId": format!("u{visitor}"),
            "sessionId": format!("s{}", visitor * 7 + 3),
            "type": if random.u8(..5) == 0 { "like" } else { "click" },
            "page": {
                "url": format!("https://shop.example{path}{campaign}"),
                "title": format!("Shop {path}"),
                "referrer": if random.bool() { "https://www.google.com/" } else { "" },
            },
            "viewport": { "width": 360 + 8 * random.i32(0..200), "height": 640 + 8 * random.i32(0..60) },
            "screen": { "width": 1920, "height": 1080, "density": 2 },
            "props": {
                "price": f64::from(random.u32(199..19_999)) / 100.0, "quantity": random.i32(1..5), "currency": "EUR",
                "position": random.i32(0..40), "experiment": "checkout-b", "loggedIn": random.bool(),
            },
            "locale": "en-GB",
            "timezone": "Europe/Berlin",
            "userAgent": agents[random.usize(..agents.len())],
            "ip": format!("203.0.113.{}", random.u8(..)),
        })
    }

    /// A JPEG and the query parameters that a camera would send with it.
    ///
    /// # Errors
    /// The encoder's; none is known for these sizes.
    pub fn picture(&mut self) -> Result<(Vec<u8>, String), jpeg_encoder::EncodingError> {
        let sizes = [(320u16, 180u16), (480, 270), (640, 360)];
        let (width, height) = sizes[self.random.usize(..sizes.len())];
        let pixels = self.scene(width, height);
        let mut bytes = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut bytes, 70);
        encoder.encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb)?;
        let camera = CAMERAS[self.random.usize(..CAMERAS.len())];
        let label = LABELS[self.random.usize(..LABELS.len())];
        Ok((bytes, format!("camera={camera}&label={label}&score=0.{}", self.random.u8(50..99))))
    }

    /// A sky over a ground with grain, and a box where something stands: enough detail to compress like a photograph.
    fn scene(&mut self, width: u16, height: u16) -> Vec<u8> {
        let (wide, high) = (usize::from(width), usize::from(height));
        let (left, top) = (self.random.usize(..wide / 2), high / 3 + self.random.usize(..high / 4));
        let mut pixels = Vec::with_capacity(wide * high * 3);
        for y in 0..high {
            for x in 0..wide {
                let is_thing = (left..left + wide / 6).contains(&x) && (top..top + high / 3).contains(&y);
                let base = match (is_thing, y < high / 2) {
                    (true, _) => [140, 40, 40],
                    (false, true) => [90 + (y * 80 / high) as u8, 140, 200],
                    (false, false) => [70, 110 - (x * 30 / wide) as u8, 60],
                };
                let grain = self.random.u8(..24);
                pixels.extend(base.map(|value| value + grain));
            }
        }
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_click_of_a_real_size() {
        let (a, b) = (Generator::new(4).click(1_700_000_000_000), Generator::new(4).click(1_700_000_000_000));
        assert_eq!(a, b);
        assert!((550..900).contains(&a.to_string().len()), "{}", a.to_string().len());
    }

    #[test]
    fn pictures_are_jpegs() {
        let (bytes, parameters) = Generator::new(1).picture().unwrap();
        assert!(bytes.starts_with(&[0xff, 0xd8, 0xff]) && bytes.len() > 3_000);
        assert!(parameters.contains("camera="));
    }
}
