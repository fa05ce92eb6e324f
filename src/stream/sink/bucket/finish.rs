//! Completes the upload that a checkpoint names, whatever a crash left of it.
//!
//! | object | upload | what it is | what is done |
//! |---|---|---|---|
//! | - | open | the checkpoint was the last that happened | complete it |
//! | of our size | gone | it was completed | nothing |
//! | - | gone | somebody deleted the object, or ended the upload (a rule of the bucket does) | told and counted; never written again |
//! | equal | open | the store was asked twice, or somebody copied it there | end the upload |
//! | another | any | the name is somebody else's | stall, both stay |

use super::super::super::checkpoint::Staged;
use super::super::staged::Finished;
use super::{Objects, Upload, open};
use std::io;
use std::time::Duration;

/// How often an object that is nowhere is looked for, and between two looks: a store may have taken the upload away a moment before its
/// object can be seen, where an answer to the first request was lost.
const LOOKS: usize = 4;
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// As [`super::super::staged::finish`], for an object.
///
/// # Errors
/// `AlreadyExists` if another object has the name; the store's.
pub(in crate::stream) fn finish(file: &Staged, upload: &Upload) -> io::Result<Finished> {
    let objects = open(&upload.at)?;
    let Some(key) = file.finished.to_str() else { return Err(io::Error::other("a key is UTF-8")) };
    for look in 0..LOOKS {
        if let Some(size) = objects.size(key)? {
            return found(&*objects, key, size, file, upload).map(|()| Finished::Already);
        }
        if objects.complete(key, &upload.id, &upload.parts)? {
            return Ok(Finished::Renamed);
        }
        if look + 1 < LOOKS {
            std::thread::park_timeout(LOOK_PAUSE);
        }
    }
    Ok(Finished::TakenAway)
}

/// Whether the object of that name is the one, and that its upload is over.
fn found(objects: &dyn Objects, key: &str, size: u64, file: &Staged, upload: &Upload) -> io::Result<()> {
    let is_open = objects.uploads(key)?.iter().any(|(of, id)| (of.as_str(), id) == (key, &upload.id));
    let is_ours = size == file.size && (!is_open || objects.sum(key)? == (file.size, file.crc));
    match (is_ours, is_open) {
        (true, true) => objects.abort(key, &upload.id),
        (true, false) => Ok(()),
        (false, _) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "another object ({size} bytes) has the name {}/{key}, which the {} bytes of upload {} are to get; look at it, and move it away",
                upload.at, file.size, upload.id
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::bucket::Address;
    use super::super::twin::Twin;
    use super::*;
    use bytes::Bytes;
    use std::sync::Arc;

    const KEY: &str = "lake/dt=1/p-0-0-0.parquet";

    /// A file all of whose bytes are in an upload.
    fn staged(text: &'static str) -> (Arc<Twin>, Staged, Upload) {
        let (bucket, twin) = Twin::new();
        let at = Address {
            bucket,
            endpoint: None,
            region: None,
            path_style: None,
            credentials: None,
            pipeline: "p.toml".into(),
        };
        let id = twin.begin(KEY).unwrap();
        let part = twin.part(KEY, &id, 0, Bytes::from_static(text.as_bytes())).unwrap();
        let upload = Upload { at, id, parts: vec![part] };
        let (size, crc) = (text.len() as u64, crc32c::crc32c(text.as_bytes()));
        let file = Staged { staged: "".into(), finished: KEY.into(), size, crc, upload: Some(upload.clone()) };
        (twin, file, upload)
    }

    #[test]
    fn each_state_that_a_crash_leaves_ends_with_one_object_and_no_upload() {
        let (twin, file, upload) = staged("abc");
        assert_eq!(finish(&file, &upload).unwrap(), Finished::Renamed);
        assert_eq!(finish(&file, &upload).unwrap(), Finished::Already);
        assert_eq!(twin.objects()[KEY], "abc");
        twin.take_away(KEY);
        assert_eq!(finish(&file, &upload).unwrap(), Finished::TakenAway);
        assert!(twin.objects().is_empty() && twin.open().is_empty());
    }

    #[test]
    fn an_equal_object_beside_the_upload_ends_the_upload() {
        let (twin, file, upload) = staged("abc");
        twin.put(KEY, Bytes::from_static(b"abc"), None).unwrap();
        assert_eq!(finish(&file, &upload).unwrap(), Finished::Already);
        assert!(twin.open().is_empty());
    }

    #[test]
    fn another_object_of_the_name_is_told_and_neither_is_touched() {
        for other in ["xyz", "long"] {
            let (twin, file, upload) = staged("abc");
            twin.put(KEY, Bytes::from_static(other.as_bytes()), None).unwrap();
            let error = finish(&file, &upload).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert!(error.to_string().contains(KEY), "{error}");
            assert_eq!((twin.objects()[KEY].as_ref(), twin.open().len()), (other.as_bytes(), 1));
        }
    }
}
