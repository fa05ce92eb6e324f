//! Clicks and pictures as real sites and cameras send them, by seed.

use super::agents::{Agent, browsers, robots};
use super::pictures::{Pictures, Sizes};
use jpeg_encoder::EncodingError;
use serde_json::Value;
use std::io::Write;

const PATHS: [&str; 10] = [
    "/",
    "/shoes",
    "/shoes/trail-runner-9",
    "/shoes/city-walker-2",
    "/bags",
    "/bags/daypack-20l",
    "/cart",
    "/checkout",
    "/search",
    "/stores/berlin",
];
const CAMPAIGNS: [&str; 5] = [
    "",
    "",
    "?utm_source=newsletter&utm_campaign=spring",
    "?utm_source=google&utm_medium=cpc&gclid=Cj0KCQ",
    "?ref=app",
];
const REFERRERS: [&str; 4] =
    ["", "https://www.google.com/", "https://shop.example/", "https://news.example/gear-of-the-year"];
const PLACES: [(&str, &str); 6] = [
    ("en-GB", "Europe/London"),
    ("de-DE", "Europe/Berlin"),
    ("fr-FR", "Europe/Paris"),
    ("en-US", "America/New_York"),
    ("es-ES", "Europe/Madrid"),
    ("pl-PL", "Europe/Warsaw"),
];
const CAMERAS: [&str; 4] = ["door", "yard", "garage", "gate"];
const LABELS: [&str; 4] = ["person", "car", "dog", "parcel"];

/// Visitors that clicks come from.
const VISITORS: u64 = 5_000;
/// Of 100 clicks so many are robots'.
const ROBOTS_PERCENT: u8 = 6;

/// A source of events; the same seed gives the same ones.
pub struct Generator {
    random: fastrand::Rng,
    made: u64,
    /// Encoded when the first picture is asked for.
    pictures: Option<Pictures>,
}

/// What stays the same in all clicks of one visitor.
struct Visitor {
    number: u64,
    agent: Agent,
    place: (&'static str, &'static str),
}

impl Visitor {
    fn new(number: u64) -> Visitor {
        let mut random = fastrand::Rng::with_seed(number);
        Visitor { number, agent: browsers().draw(&mut random), place: PLACES[random.usize(..PLACES.len())] }
    }
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { random: fastrand::Rng::with_seed(seed), made: 0, pictures: None }
    }

    /// A click of about 650 bytes at `now_ms`.
    pub fn click(&mut self, now_ms: i64) -> Value {
        let mut line = Vec::new();
        self.write_click(&mut line, now_ms);
        serde_json::from_slice(&line).expect("a click is written as JSON; a test reads many")
    }

    /// Appends a click, one line of JSON without its end. No allocation but what `out` needs: this must keep up with the daemon.
    pub fn write_click(&mut self, out: &mut Vec<u8>, now_ms: i64) {
        self.made += 1;
        let random = &mut self.random;
        let mut visitor = Visitor::new(random.u64(..VISITORS));
        if random.u8(..100) < ROBOTS_PERCENT {
            visitor.agent = robots().draw(random);
        }
        let Visitor { number, agent, place: (locale, timezone) } = visitor;
        let (width, height) = agent.screen;
        let at = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        let at = at.format("%Y-%m-%dT%H:%M:%S%.3fZ");
        let path = PATHS[random.usize(..PATHS.len())];
        let campaign = CAMPAIGNS[random.usize(..CAMPAIGNS.len())];
        let referrer = REFERRERS[random.usize(..REFERRERS.len())];
        let kind = if random.u8(..5) == 0 { "like" } else { "click" };
        let (price, quantity, position) = (random.u32(199..19_999), random.u8(1..5), random.u8(..40));
        let written = write!(
            out,
            concat!(
                r#"{{"ts":"{at}","eventId":"e-{id:016x}-{made}","userId":"u{number}","sessionId":"s{session}","type":"{kind}","#,
                r#""page":{{"url":"https://shop.example{path}{campaign}","title":"Shop {path}","referrer":"{referrer}"}},"#,
                r#""viewport":{{"width":{width},"height":{viewport_height}}},"screen":{{"width":{width},"height":{height},"density":2}},"#,
                r#""props":{{"price":{euros}.{cents:02},"quantity":{quantity},"currency":"EUR","position":{position},"#,
                r#""experiment":"checkout-b","loggedIn":{is_in}}},"locale":"{locale}","timezone":"{timezone}","#,
                r#""userAgent":"{agent}","ip":"203.0.113.{ip}"}}"#
            ),
            at = at,
            id = random.u64(..),
            made = self.made,
            number = number,
            session = number * 7 + 3,
            kind = kind,
            path = path,
            campaign = campaign,
            referrer = referrer,
            width = width,
            viewport_height = height.saturating_sub(120),
            height = height,
            euros = price / 100,
            cents = price % 100,
            quantity = quantity,
            position = position,
            is_in = random.bool(),
            locale = locale,
            timezone = timezone,
            agent = agent.text,
            ip = random.u8(..),
        );
        written.expect("a vector takes all that is written to it");
    }

    /// A JPEG of [`Sizes::Small`] and the query parameters that a camera would send with it.
    ///
    /// # Errors
    /// The encoder's; none is known for these sizes.
    pub fn picture(&mut self) -> Result<(Vec<u8>, String), EncodingError> {
        self.picture_of(Sizes::Small)
    }

    /// A JPEG and the query parameters that a camera would send with it. The first call decides the sizes and encodes the scenes.
    ///
    /// # Errors
    /// The encoder's; none is known for these sizes.
    pub fn picture_of(&mut self, sizes: Sizes) -> Result<(Vec<u8>, String), EncodingError> {
        let pictures = match self.pictures.take() {
            Some(pictures) => pictures,
            None => Pictures::new(sizes, &mut self.random)?,
        };
        self.made += 1;
        let bytes = pictures.draw(self.made, &mut self.random);
        self.pictures = Some(pictures);
        Ok((bytes, self.camera()))
    }

    /// What a camera says with a picture: its name, what it saw, how sure it is.
    pub fn camera(&mut self) -> String {
        let camera = CAMERAS[self.random.usize(..CAMERAS.len())];
        let label = LABELS[self.random.usize(..LABELS.len())];
        format!("camera={camera}&label={label}&score=0.{}", self.random.u8(50..99))
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
    fn clicks_are_json_of_about_650_bytes_and_6_in_100_are_robots() {
        let mut generator = Generator::new(7);
        let (mut size, mut robots) = (0, 0);
        for _ in 0..5_000 {
            let click = generator.click(1_700_000_000_000);
            size += click.to_string().len();
            // Only robots have no screen.
            robots += u32::from(click["screen"]["width"] == 0);
            assert!(click["ts"] == "2023-11-14T22:13:20.000Z" && click["props"]["price"].is_f64(), "{click}");
        }
        assert!((600..720).contains(&(size / 5_000)), "{}", size / 5_000);
        assert!((220..380).contains(&robots), "{robots}");
    }

    #[test]
    fn pictures_are_jpegs() {
        let (bytes, parameters) = Generator::new(1).picture().unwrap();
        assert!(bytes.starts_with(&[0xff, 0xd8, 0xff]) && bytes.len() > 3_000);
        assert!(parameters.contains("camera="));
    }
}
