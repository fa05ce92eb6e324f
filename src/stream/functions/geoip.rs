//! Country, city and network of an address, out of a MaxMind DB file (`.mmdb`) that the user brings: no database is shipped.
//!
//! The file is read when a pipeline is planned and held in memory, once however many calls and pipelines name it. A new file counts
//! from the next plan on.

use super::address::address;
use super::call::{Function, Gives, Takes};
use crate::stream::enrich::{Loaded, Origin};
use arc_swap::ArcSwap;
use arrow::array::{ArrayRef, Int64Array, StringBuilder};
use bytes::Bytes;
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::{Expr, ScalarUDF};
use maxminddb::{MaxMindDbError, PathElement, Reader};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use super::call::Call;

/// A database is not larger: the largest that are sold have a few hundred MB.
const FILE_SIZE_MAX: u64 = 2 << 30;

const TAKES: &[(&str, Takes)] = &[("address", Takes::Text), ("file", Takes::Text)];

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "geoip_as_org",
        takes: TAKES,
        optional: 0,
        gives: Gives::Text,
        meaning: "who runs the network (autonomous system) of an address, as geoip_country",
        examples: &[("geoip_as_org('203.0.113.77', 'GeoLite2-ASN.mmdb')", "Example Net")],
        compute: |call| call.nothing(),
    },
    Function {
        name: "geoip_asn",
        takes: TAKES,
        optional: 0,
        gives: Gives::Int64,
        meaning: "number of the network (autonomous system) of an address, as geoip_country",
        examples: &[("geoip_asn('203.0.113.77', 'GeoLite2-ASN.mmdb')", "64500")],
        compute: |call| call.nothing(),
    },
    Function {
        name: "geoip_city",
        takes: TAKES,
        optional: 0,
        gives: Gives::Text,
        meaning: "English name of the city of an address, as geoip_country",
        examples: &[("geoip_city('203.0.113.77', 'GeoLite2-City.mmdb')", "Linköping")],
        compute: |call| call.nothing(),
    },
    Function {
        name: "geoip_country",
        takes: TAKES,
        optional: 0,
        gives: Gives::Text,
        meaning: "ISO code of the country of an address. The MaxMind DB file is named in quotes, from the pipeline file's folder on or as a whole path; read when the pipeline starts. NULL for what is no address, or is not in it",
        examples: &[
            ("geoip_country('203.0.113.77', 'GeoLite2-City.mmdb')", "SE"),
            ("geoip_country('::ffff:203.0.113.77', 'GeoLite2-City.mmdb')", "SE"),
            ("geoip_country('192.0.2.1', 'GeoLite2-City.mmdb')", "NULL"),
            ("geoip_country('unknown', 'GeoLite2-City.mmdb')", "NULL"),
        ],
        compute: |call| call.nothing(),
    },
    Function {
        name: "geoip_region",
        takes: TAKES,
        optional: 0,
        gives: Gives::Text,
        meaning: "first subdivision (state, province, county) of an address, as geoip_country: the part of its ISO 3166-2 code behind the country, or its English name where the file has no code",
        examples: &[
            ("geoip_region('203.0.113.77', 'GeoLite2-City.mmdb')", "E"),
            ("geoip_region('192.0.2.1', 'GeoLite2-City.mmdb')", "NULL"),
        ],
        compute: |call| call.nothing(),
    },
];

const COUNTRY: &[PathElement<'_>] = &[PathElement::Key("country"), PathElement::Key("iso_code")];
const CITY: &[PathElement<'_>] = &[PathElement::Key("city"), PathElement::Key("names"), PathElement::Key("en")];
const REGION: &[PathElement<'_>] =
    &[PathElement::Key("subdivisions"), PathElement::Index(0), PathElement::Key("iso_code")];
const REGION_NAME: &[PathElement<'_>] =
    &[PathElement::Key("subdivisions"), PathElement::Index(0), PathElement::Key("names"), PathElement::Key("en")];
const ASN: &[PathElement<'_>] = &[PathElement::Key("autonomous_system_number")];
const AS_ORG: &[PathElement<'_>] = &[PathElement::Key("autonomous_system_organization")];

/// The function with its database, if it is one of these.
///
/// # Errors
/// The file's name is no constant; the file cannot be read, is no MaxMind DB, or is of a type that never has what is asked of it.
pub(super) fn bound(
    function: &'static Function,
    arguments: &[Expr],
    pipeline: &Path,
    files: &mut Vec<Arc<GeoFile>>,
) -> Result<Option<ScalarUDF>> {
    let name = function.name;
    if !FUNCTIONS.iter().any(|one| one.name == name) {
        return Ok(None);
    }
    let Some(Expr::Literal(ScalarValue::Utf8(Some(file)), _)) = arguments.get(1) else {
        return plan_err!("{name} takes the name of its file in quotes: {name}(ip, 'GeoLite2-City.mmdb')");
    };
    let path = pipeline.parent().unwrap_or(Path::new(".")).join(file);
    let file = match files.iter().find(|known| known.path == path) {
        Some(known) => known.clone(),
        None => match open(&path) {
            Ok((identity, database)) => Arc::new(GeoFile { path, identity, database: ArcSwap::new(database) }),
            Err(message) => return plan_err!("{name}: {message}"),
        },
    };
    let database = file.database.load();
    if let Some(lacks) = database.lacks(name) {
        return plan_err!("{name}: {} is a {}, which holds no {lacks}", database.path.display(), database.kind());
    }
    if !files.iter().any(|known| Arc::ptr_eq(known, &file)) {
        files.push(file.clone());
    }
    Ok(Some(function.computed_by(move |call| {
        let database = file.database.load();
        match name {
            "geoip_asn" => database.numbers(call, ASN),
            "geoip_as_org" => database.texts(call, AS_ORG),
            "geoip_city" => database.texts(call, CITY),
            "geoip_region" => database.regions(call),
            _ => database.texts(call, COUNTRY),
        }
    })))
}

/// The file that calls of one plan name, and the database that was in it.
pub(in crate::stream) struct GeoFile {
    path: PathBuf,
    /// Of the file that was read.
    identity: Identity,
    database: ArcSwap<Database>,
}

impl Origin for GeoFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn hash(&self) -> Vec<u8> {
        self.database.load().hash.get_or_init(|| Sha256::digest(self.bytes()).to_vec()).clone()
    }

    fn raw(&self) -> Option<Bytes> {
        Some(self.bytes())
    }

    /// The database is held for as long as the plan is.
    fn is_copied(&self) {}

    fn read(&self, bytes: Bytes, hash: &[u8]) -> std::result::Result<Loaded, String> {
        let database = Database::of(self.path.clone(), bytes).map_err(|error| error.to_string())?;
        Ok(Loaded::Database(Arc::new(Database { hash: hash.to_vec().into(), ..database })))
    }

    fn exchange(&self, held: Loaded) -> Loaded {
        let Loaded::Database(database) = held else { return held };
        Loaded::Database(self.database.swap(database))
    }
}

impl GeoFile {
    /// Whether another file than was read is in its place.
    pub(in crate::stream) fn has_newer(&self) -> bool {
        identity(&self.path).is_ok_and(|now| now != self.identity)
    }

    fn bytes(&self) -> Bytes {
        self.database.load().bytes.clone()
    }
}

/// A file as it was read.
pub(in crate::stream) struct Database {
    path: PathBuf,
    bytes: Bytes,
    reader: Reader<Bytes>,
    /// Of the bytes, once somebody asks.
    hash: OnceLock<Vec<u8>>,
}

impl Database {
    fn of(path: PathBuf, bytes: Bytes) -> std::result::Result<Database, MaxMindDbError> {
        let reader = Reader::from_source(bytes.clone())?;
        Ok(Database { path, bytes, reader, hash: OnceLock::new() })
    }

    fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// What a database of MaxMind's types, or of those that say they are compatible, cannot answer; of others nothing is known.
    fn lacks(&self, function: &str) -> Option<&'static str> {
        let is = |type_of: &str| {
            ["GeoLite2-", "GeoIP2-"].iter().any(|maker| self.kind().contains(&format!("{maker}{type_of}")))
        };
        // MaxMind has many more types, and none of them holds any of these.
        let lacks = |those: &[&str]| is("") && !those.iter().any(|type_of| is(type_of));
        match function {
            "geoip_asn" | "geoip_as_org" => lacks(&["ASN", "ISP"]).then_some("networks"),
            "geoip_city" => lacks(&["City", "Enterprise", "Precision"]).then_some("cities"),
            "geoip_region" => lacks(&["City", "Enterprise", "Precision"]).then_some("regions"),
            _ => lacks(&["City", "Country", "Enterprise", "Precision"]).then_some("countries"),
        }
    }

    fn texts(&self, call: &Call<'_>, path: &[PathElement<'_>]) -> Result<ArrayRef> {
        let addresses = call.texts(0)?;
        let mut out = StringBuilder::with_capacity(call.rows(), call.rows() * 8);
        for row in 0..call.rows() {
            out.append_option(self.get::<&str>(addresses.get(row).and_then(address), path)?);
        }
        Ok(Arc::new(out.finish()))
    }

    fn regions(&self, call: &Call<'_>) -> Result<ArrayRef> {
        let addresses = call.texts(0)?;
        let mut out = StringBuilder::with_capacity(call.rows(), call.rows() * 4);
        for row in 0..call.rows() {
            out.append_option(self.region(addresses.get(row).and_then(address))?);
        }
        Ok(Arc::new(out.finish()))
    }

    fn region(&self, at: Option<IpAddr>) -> Result<Option<&str>> {
        match self.get(at, REGION)? {
            None => self.get(at, REGION_NAME),
            code => Ok(code),
        }
    }

    fn numbers(&self, call: &Call<'_>, path: &[PathElement<'_>]) -> Result<ArrayRef> {
        let addresses = call.texts(0)?;
        let mut out = Vec::with_capacity(call.rows());
        for row in 0..call.rows() {
            out.push(self.get::<Whole>(addresses.get(row).and_then(address), path)?.map(|Whole(number)| number));
        }
        Ok(Arc::new(Int64Array::from(out)))
    }

    /// A damaged database is an error, not NULL: else rows would lose their countries and nobody would know.
    fn get<'a, T: serde::Deserialize<'a>>(&'a self, at: Option<IpAddr>, path: &[PathElement<'_>]) -> Result<Option<T>> {
        let Some(at) = at else { return Ok(None) };
        match self.reader.lookup(at).and_then(|found| found.decode_path(path)) {
            Ok(value) => Ok(value),
            // IPv6 in a database of IPv4 only.
            Err(MaxMindDbError::InvalidInput { .. }) => Ok(None),
            Err(error) => exec_err!("cannot look up {at} in {}: {error}", self.path.display()),
        }
    }
}

/// A number of any width that the format has; who writes a file chooses.
struct Whole(i64);

impl<'de> serde::Deserialize<'de> for Whole {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Whole, D::Error> {
        deserializer.deserialize_any(WholeVisitor)
    }
}

struct WholeVisitor;

impl serde::de::Visitor<'_> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> std::result::Result<Whole, E> {
        Ok(Whole(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> std::result::Result<Whole, E> {
        i64::try_from(number).map(Whole).map_err(|_| E::custom("it is beyond 63 bits"))
    }

    fn visit_u128<E: serde::de::Error>(self, number: u128) -> std::result::Result<Whole, E> {
        i64::try_from(number).map(Whole).map_err(|_| E::custom("it is beyond 63 bits"))
    }
}

/// A file as it was when it was read.
type Identity = (PathBuf, u64, Option<SystemTime>);

/// Databases that some plan holds.
static OPEN: LazyLock<Mutex<HashMap<Identity, Weak<Database>>>> = LazyLock::new(Mutex::default);

fn identity(path: &Path) -> std::result::Result<Identity, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| wrong(&error))?;
    if metadata.len() > FILE_SIZE_MAX || !metadata.is_file() {
        return Err(wrong(&format!("it is no file of at most {FILE_SIZE_MAX} bytes")));
    }
    let whole = std::fs::canonicalize(path).map_err(|error| wrong(&error))?;
    Ok((whole, metadata.len(), metadata.modified().ok()))
}

fn open(path: &Path) -> std::result::Result<(Identity, Arc<Database>), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let identity = identity(path)?;
    // Held while the file is read: two plans that name it shall not read it twice. What is in the map is whole at every moment.
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(database) = open.get(&identity).and_then(Weak::upgrade) {
        return Ok((identity, database));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
    let database = Arc::new(Database::of(path.to_owned(), bytes.into()).map_err(|error| wrong(&error))?);
    open.retain(|_, database| database.strong_count() > 0);
    open.insert(identity.clone(), Arc::downgrade(&database));
    Ok((identity, database))
}

#[cfg(test)]
mod tests {
    use super::super::tests::mmdb::{city, networks, regions_without_codes};
    use super::*;
    use crate::stream::load;

    fn wrong(folder: &Path, sql: &str) -> String {
        let file = folder.join("p.toml");
        let text = format!(
            "from = \"topic:t\"\nselect = \"{sql} as x\"\nto = {{ parquet = \"t\" }}\n[columns]\nip = \"string\"\n"
        );
        match load::text(&file, &text) {
            Ok(_) => "right".to_owned(),
            Err(mistakes) => mistakes[0].to_string(),
        }
    }

    #[test]
    fn a_file_that_cannot_answer_is_a_mistake_of_the_pipeline_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing = wrong(folder.path(), "geoip_country(ip, 'a.mmdb')");
        assert!(
            missing.contains("p.toml:2:") && missing.contains("a.mmdb") && missing.contains("No such file"),
            "{missing}"
        );
        std::fs::write(folder.path().join("a.mmdb"), b"no database").unwrap();
        let other = wrong(folder.path(), "geoip_country(ip, 'a.mmdb')");
        assert!(other.contains("cannot read") && other.contains("a.mmdb"), "{other}");
        std::fs::write(folder.path().join("a.mmdb"), city()).unwrap();
        assert_eq!(wrong(folder.path(), "geoip_country(ip, 'a.mmdb')"), "right");
        let lacking = wrong(folder.path(), "geoip_asn(ip, 'a.mmdb')");
        assert!(lacking.contains("is a GeoLite2-City, which holds no networks"), "{lacking}");
        assert!(wrong(folder.path(), "geoip_city(ip, ip)").contains("in quotes"));
    }

    #[test]
    fn a_file_is_read_once_while_a_plan_holds_it_and_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("city.mmdb");
        std::fs::write(&path, city()).unwrap();
        let (first, second) = (open(&path).unwrap(), open(&path).unwrap());
        assert!(Arc::ptr_eq(&first.1, &second.1));
        std::fs::write(&path, networks()).unwrap();
        assert_eq!(open(&path).unwrap().1.kind(), "GeoLite2-ASN");
    }

    #[test]
    fn a_region_without_a_code_goes_by_its_name() {
        let region = |bytes: Vec<u8>| {
            let database = Database::of(PathBuf::from("x.mmdb"), bytes.into()).unwrap();
            database.region("203.0.113.77".parse().ok()).unwrap().map(str::to_owned)
        };
        assert_eq!(region(regions_without_codes()).as_deref(), Some("Skåne County"));
        assert_eq!((region(city()).as_deref(), region(networks())), (Some("E"), None));
    }

    #[test]
    fn a_database_with_a_wrong_byte_ends_in_an_answer_or_an_error() {
        let whole = city();
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let Ok(database) = Database::of(PathBuf::from("x.mmdb"), bytes.into()) else { continue };
                for address in ["203.0.113.77", "192.0.2.1", "2001:db8::1"] {
                    let address = address.parse().ok();
                    let _ = database.get::<&str>(address, CITY);
                    let _ = database.get::<Whole>(address, ASN);
                }
            }
        }
    }
}
