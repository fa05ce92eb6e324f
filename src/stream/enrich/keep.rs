//! Copies of the files that tables were made of, beside the checkpoint that names them. What topics hold behind the last cut was looked up in
//! these: a start that finds other files makes it once more with the copies, and goes on with the new files there.

use super::{LookUp, TableFrom};
use crate::disk::sync_folder;
use crate::stream::checkpoint::Checkpoint;
use crate::stream::plan::Plan;
use crate::stream::runner::{Fail, Runner};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
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
    /// Whether there is a copy: not of a file that changed again before it was copied.
    is_there: bool,
}

impl Kept {
    fn name(&self) -> String {
        format!("{PREFIX}{}", &self.hash[..self.hash.len().min(32)])
    }
}

fn files(plan: &Plan) -> impl Iterator<Item = &Arc<LookUp>> {
    plan.look_ups().filter(|table| table.topic().is_none())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Runner {
    fn folder(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).to_owned()
    }

    /// Says in a checkpoint what rows are looked up in from there on, and copies it. Rows that were looked up in it follow the checkpoint.
    pub(in crate::stream) fn keep_tables(&self, next: &mut Checkpoint) -> Result<(), Fail> {
        let folder = self.folder();
        let mut kept = Vec::new();
        for table in files(&self.job.plan) {
            self.life.beat();
            let of_now = Kept { from: table.from.to_string(), hash: hex(&table.hash()), is_there: true };
            let known = self.checkpoint.tables.iter().find(|known| known.hash == of_now.hash && known.is_there);
            let is_there = match known.filter(|known| folder.join(known.name()).exists()) {
                Some(_) => true,
                None => {
                    table.copy(&folder, &of_now).map_err(|error| format!("cannot keep {}: {error}", of_now.from))?
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
        self.keep_tables(&mut next)?;
        self.store(next)?;
        self.forget_tables();
        Ok(())
    }

    /// Takes away copies that the checkpoint does not name.
    pub(in crate::stream) fn forget_tables(&self) {
        let Ok(entries) = fs::read_dir(self.folder()) else { return };
        let names: Vec<String> = self.checkpoint.tables.iter().map(Kept::name).collect();
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
        let is_other = |(known, table): (&Kept, &Arc<LookUp>)| known.hash != hex(&table.hash());
        self.checkpoint.tables.iter().zip(files(&self.job.plan)).any(is_other)
    }

    /// Puts the copies in the place of the files; they do not follow them any more.
    pub(in crate::stream) fn bring_back_tables(&self) {
        for (known, table) in self.checkpoint.tables.iter().zip(files(&self.job.plan)) {
            let brought = match known.is_there && known.from == table.from.to_string() {
                true => table.bring_back(&self.folder(), known),
                false => Err("there is no copy of it".to_owned()),
            };
            if let Err(reason) = brought {
                warn!(pipeline = self.job.spec.name, table = known.from, %reason,
                    "what was looked up in the file of the last run is looked up in the one of now");
            }
        }
    }
}

impl LookUp {
    /// Copies the file; says whether it was still the one that the table was made of. Durable when it returns.
    fn copy(&self, folder: &Path, kept: &Kept) -> io::Result<bool> {
        let (TableFrom::Csv { file, .. } | TableFrom::Parquet(file)) = &self.from else { return Ok(false) };
        let staged = folder.join(format!("{}.new", kept.name()));
        // One that a crash left has the permissions of its file, and may not be written to.
        match fs::remove_file(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let copied = fs::copy(file, &staged).and_then(|_| fs::read(&staged));
        let is_right = match copied {
            Ok(bytes) => hex(&Sha256::digest(&bytes)) == kept.hash,
            // It was taken away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !is_right {
            let _ = fs::remove_file(&staged);
            return Ok(false);
        }
        File::open(&staged)?.sync_all()?;
        fs::rename(&staged, folder.join(kept.name()))?;
        sync_folder(folder)?;
        Ok(true)
    }

    /// The table is what the copy says, until the end.
    fn bring_back(&self, folder: &Path, kept: &Kept) -> Result<(), String> {
        let bytes = fs::read(folder.join(kept.name())).map_err(|error| format!("its copy cannot be read: {error}"))?;
        let hash = Sha256::digest(&bytes).to_vec();
        if hex(&hash) != kept.hash {
            return Err("its copy is damaged".to_owned());
        }
        let contents = self.load(&Bytes::from(bytes))?;
        *self.contents_mut() = contents;
        self.pin(hash);
        Ok(())
    }
}
