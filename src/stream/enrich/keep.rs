//! Copies of the files that tables were made of, and of those that MaxMind's databases are, beside the checkpoint that names them. What
//! outputs hold behind the last cut was looked up in these: a start that finds other files goes on with the copies as far as that reaches.

use super::{Contents, LookUp, Past};
use crate::disk::replace;
use crate::stream::checkpoint::Checkpoint;
use crate::stream::functions::Database;
use crate::stream::runner::{Fail, Runner};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::warn;

/// What copies are called, before the first digits of what they hash to.
const PREFIX: &str = "table-";

/// The file of one look-up, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::stream) struct Kept {
    from: String,
    /// SHA-256 of its bytes, in hex.
    hash: String,
    /// Whether there is a copy: not of a file that changed after somebody took its copy away.
    is_there: bool,
}

impl Kept {
    fn name(&self) -> String {
        format!("{PREFIX}{}", &self.hash[..self.hash.len().min(32)])
    }

    /// The copy of the file of that name.
    pub(in crate::stream) fn copy_of(&self, from: &str, folder: &Path) -> Option<PathBuf> {
        (self.is_there && self.from == from).then(|| folder.join(self.name()))
    }

    /// Whether it is a file of this table, of which there is a copy.
    pub(super) fn is_of(&self, table: &dyn Origin) -> bool {
        self.is_there && self.from == table.name()
    }

    /// Whether it says what the table was made of.
    pub(super) fn says_same(&self, table: &dyn Origin) -> bool {
        self.hash == hex::encode(table.hash())
    }
}

/// A file that rows are looked up in.
pub(in crate::stream) trait Origin {
    fn name(&self) -> String;

    /// SHA-256 of what it held when it was read.
    fn hash(&self) -> Vec<u8>;

    /// What it held then; `None` = let go, since there is a copy.
    fn raw(&self) -> Option<Bytes>;

    /// There is a copy.
    fn is_copied(&self);

    /// What rows can be looked up in.
    ///
    /// # Errors
    /// Why they cannot be.
    fn read(&self, bytes: Bytes, hash: &[u8]) -> Result<Loaded, String>;

    /// Rows are looked up in this from now on; gives what they were looked up in.
    fn exchange(&self, held: Loaded) -> Loaded;

    /// It does not follow its file any more, which held something else than this.
    fn pin(&self, _hash: Vec<u8>) {}
}

/// What rows are looked up in.
pub(in crate::stream) enum Loaded {
    Table(Contents),
    Database(Arc<Database>),
}

impl Runner {
    pub(in crate::stream) fn folder(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).to_owned()
    }

    /// Says in a checkpoint what rows are looked up in from there on, and copies it. Rows that were looked up in it follow the checkpoint.
    pub(in crate::stream) fn keep_tables(&self, next: &mut Checkpoint) -> Result<(), Fail> {
        let folder = self.folder();
        let mut kept = Vec::new();
        for table in self.job.plan.origins() {
            self.life.beat();
            let of_now = Kept { from: table.name(), hash: hex::encode(table.hash()), is_there: true };
            let known = self.checkpoint.tables.iter().find(|known| known.hash == of_now.hash && known.is_there);
            let is_there = match known.filter(|known| folder.join(known.name()).exists()) {
                Some(_) => true,
                None => {
                    copy(table, &folder, &of_now).map_err(|error| format!("cannot keep {}: {error}", of_now.from))?
                }
            };
            kept.push(Kept { is_there, ..of_now });
        }
        next.tables = kept;
        Ok(())
    }

    /// As [`Runner::keep_tables`], durably: other tables are in use from now on.
    pub(in crate::stream) fn keep_tables_now(&mut self) -> Result<(), Fail> {
        let mut next = self.checkpoint.clone();
        self.keep_past(&mut next);
        self.keep_tables(&mut next)?;
        self.store(next)?;
        self.forget_tables();
        Ok(())
    }

    /// Behind a checkpoint: lets go what there are copies of, and takes away copies that it does not name.
    pub(in crate::stream) fn forget_tables(&self) {
        self.job.plan.origins().for_each(|table| table.is_copied());
        let Ok(entries) = fs::read_dir(self.folder()) else { return };
        let past = self.checkpoint.past.iter().flat_map(Past::tables);
        let names: Vec<String> = self.checkpoint.tables.iter().chain(past).map(Kept::name).collect();
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(PREFIX) && !names.contains(&name) {
                // It stays if it will not go: the next start tries again.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Whether files are others than those of the last run.
    pub(in crate::stream) fn have_tables_changed(&self) -> bool {
        let is_other = |(known, table): (&Kept, &dyn Origin)| !known.says_same(table);
        self.checkpoint.tables.iter().zip(self.job.plan.origins()).any(is_other)
    }

    /// Puts the copies in the place of the files; they do not follow them any more.
    pub(in crate::stream) fn bring_back_tables(&self) {
        for (known, table) in self.checkpoint.tables.iter().zip(self.job.plan.origins()) {
            let brought = match known.is_of(table) {
                true => bring_back(table, &self.folder(), known),
                false if known.says_same(table) => Ok(()),
                false => Err("there is no copy of it".to_owned()),
            };
            if let Err(reason) = brought {
                warn!(pipeline = self.job.spec.name, table = known.from, %reason,
                    "what was looked up in the file of the last run is looked up in the one of now");
            }
        }
    }
}

/// Copies what a file held; says whether that is still to be had. Durable when it returns.
fn copy(table: &dyn Origin, folder: &Path, kept: &Kept) -> io::Result<bool> {
    let bytes = match table.raw() {
        Some(raw) => raw,
        // There was a copy, and somebody took it away.
        None => match fs::read(table.name()) {
            Ok(bytes) if hex::encode(Sha256::digest(&bytes)) == kept.hash => Bytes::from(bytes),
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        },
    };
    let copy = folder.join(kept.name());
    // One that a crash left half done may be such as nobody may write to.
    match fs::remove_file(copy.with_extension("new")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    replace(&copy, &bytes)?;
    Ok(true)
}

/// The table is what the copy says, until the end.
fn bring_back(table: &dyn Origin, folder: &Path, kept: &Kept) -> Result<(), String> {
    table.exchange(held(table, folder, kept)?);
    table.pin(hex::decode(&kept.hash).unwrap_or_default());
    Ok(())
}

/// What the copy says.
pub(super) fn held(table: &dyn Origin, folder: &Path, kept: &Kept) -> Result<Loaded, String> {
    let bytes = fs::read(folder.join(kept.name())).map_err(|error| format!("its copy cannot be read: {error}"))?;
    let hash = Sha256::digest(&bytes).to_vec();
    if hex::encode(&hash) != kept.hash {
        return Err("its copy is damaged".to_owned());
    }
    table.read(bytes.into(), &hash)
}

impl Origin for LookUp {
    fn name(&self) -> String {
        self.from.to_string()
    }

    fn hash(&self) -> Vec<u8> {
        LookUp::hash(self)
    }

    fn raw(&self) -> Option<Bytes> {
        LookUp::raw(self)
    }

    fn is_copied(&self) {
        LookUp::is_copied(self);
    }

    fn read(&self, bytes: Bytes, _hash: &[u8]) -> Result<Loaded, String> {
        self.load(&bytes).map(Loaded::Table)
    }

    fn exchange(&self, held: Loaded) -> Loaded {
        let Loaded::Table(contents) = held else { return held };
        Loaded::Table(std::mem::replace(&mut *self.contents_mut(), contents))
    }

    fn pin(&self, hash: Vec<u8>) {
        LookUp::pin(self, hash);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::load;
    use super::super::tests::{USERS_BY_ID, file};
    use super::*;

    #[test]
    fn what_a_table_was_made_of_is_copied_whatever_its_file_says_since() {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users.csv");
        let job = load::file(&file(folder.path(), "id,plan\nu1,free\n", USERS_BY_ID, "")).unwrap();
        let table = job.plan.look_ups().next().unwrap();
        let kept = Kept { from: table.from.to_string(), hash: hex::encode(table.hash()), is_there: true };
        fs::write(&users, "id,plan\nu1,paid\n").unwrap();
        fs::write(folder.path().join(format!("{}.new", kept.name())), "half").unwrap();
        assert!(copy(&**table, folder.path(), &kept).unwrap());
        assert_eq!(fs::read_to_string(folder.path().join(kept.name())).unwrap(), "id,plan\nu1,free\n");
        // Once there is one the bytes are let go, and one that was taken away is made of the file, if that is still the same.
        table.is_copied();
        assert!(table.raw().is_none() && !copy(&**table, folder.path(), &kept).unwrap());
        fs::write(&users, "id,plan\nu1,free\n").unwrap();
        assert!(copy(&**table, folder.path(), &kept).unwrap());
    }
}
