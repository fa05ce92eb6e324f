//! One suite for all engines: what a line of the contract says, a test shows on `std`, `uring` and `sim`.

use super::machine::{Machine, Syncs, whole_file_system};
use super::{ALIGNMENT, Allocate, Buffer, Disk, File, ReadFrom, Write, sim::Sim};
use std::path::PathBuf;
use std::sync::Arc;

struct Place {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    name: &'static str,
    _kept: Option<tempfile::TempDir>,
}

/// Every disk that this machine can have; a ring or O_DIRECT that it cannot have is said on standard error.
fn places() -> Vec<Place> {
    let mut places = vec![Place { disk: Sim::new(3).disk(), folder: "/sim".into(), name: "sim", _kept: None }];
    for (name, is_uring, is_direct, by_ring, is_whole) in [
        ("std", false, false, false, false),
        ("std direct", false, true, false, false),
        ("std, syncfs", false, true, false, true),
        ("uring", true, false, false, false),
        ("uring direct", true, true, false, false),
        ("uring direct, syncs by the ring", true, true, true, false),
        ("uring direct, syncfs", true, true, false, true),
    ] {
        let kept = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let found = super::probe(kept.path());
        let missing = [(is_uring, found.uring), (is_direct, found.direct)]
            .into_iter()
            .find(|(asked, found)| *asked && found.is_err());
        if let Some((_, Err(error))) = missing {
            eprintln!("not tested here: {name}: {error}");
            continue;
        }
        let whole = whole_file_system(kept.path()).filter(|_| is_whole).map(|folder| (Arc::new(folder), 2));
        if is_whole && whole.is_none() {
            eprintln!("not tested here: {name}: this is no ext4");
            continue;
        }
        let syncs = Syncs { by_ring, whole };
        let disk = Arc::new(Machine { syncs, ..Machine::new(is_uring, is_direct, name.to_owned()) });
        places.push(Place { disk, folder: kept.path().to_owned(), name, _kept: Some(kept) });
    }
    for place in &places {
        place.disk.create_folder(&place.folder.join("a/b")).unwrap();
    }
    places
}

fn block(byte: u8, blocks: usize) -> Buffer {
    let mut buffer = Buffer::with_capacity(blocks * ALIGNMENT);
    buffer.extend(&vec![byte; blocks * ALIGNMENT]);
    buffer
}

/// The same by every way there is.
fn read(file: &Arc<dyn File>, position: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let count = file.read_at(&mut bytes, position).unwrap();
    bytes.truncate(count);
    for from in [ReadFrom::Cache, ReadFrom::Device] {
        assert_eq!(file.read(position, size, from).unwrap(), bytes, "{from:?}");
    }
    bytes
}

#[test]
fn a_round_writes_all_its_files_and_hands_the_buffers_back() {
    for place in places() {
        let mut engine = place.disk.engine().unwrap();
        let files: Vec<_> = (0..5).map(|n| place.disk.create(&place.folder.join(format!("a/{n}"))).unwrap()).collect();
        for round in 0..3u64 {
            let write = |(n, file): (usize, &Arc<dyn File>)| Write {
                file: file.clone(),
                position: round * ALIGNMENT as u64,
                bytes: block(10 * round as u8 + n as u8, 1),
            };
            let results = engine.write_round(files.iter().enumerate().map(write).collect());
            for (n, (result, buffer)) in results.into_iter().enumerate() {
                result.unwrap();
                assert_eq!(buffer.as_slice()[0], 10 * round as u8 + n as u8, "{}", place.name);
            }
            assert!(engine.sync_round(&files).into_iter().all(|result| result.is_ok()));
        }
        for (n, file) in files.iter().enumerate() {
            let content = read(file, 0, 4 * ALIGNMENT);
            assert_eq!(content.len(), 3 * ALIGNMENT);
            assert_eq!(content[2 * ALIGNMENT], 20 + n as u8, "{}", place.name);
        }
    }
}

#[test]
fn a_file_is_reserved_cut_and_read_to_its_end() {
    for place in places() {
        let file = place.disk.create(&place.folder.join("a/file")).unwrap();
        file.allocate(0, 3 * ALIGNMENT as u64, Allocate::Zeroed).unwrap();
        file.allocate(3 * ALIGNMENT as u64, ALIGNMENT as u64, Allocate::Unwritten).unwrap();
        assert_eq!(file.size().unwrap(), 4 * ALIGNMENT as u64, "{}", place.name);
        assert_eq!(read(&file, 100, 50), vec![0; 50]);
        file.set_size(5000).unwrap();
        file.sync().unwrap();
        file.drop_cache(0).unwrap();
        assert_eq!(read(&file, 4990, 100).len(), 10, "{}", place.name);
        let again = place.disk.open(&place.folder.join("a/file")).unwrap();
        assert_eq!(again.size().unwrap(), 5000);
    }
}

#[test]
fn names_are_made_moved_listed_and_removed() {
    for place in places() {
        let (disk, a) = (&place.disk, place.folder.join("a"));
        disk.create(&a.join("x")).unwrap();
        assert!(disk.create(&a.join("x")).is_err(), "{}: a file was created twice", place.name);
        disk.rename(&a.join("x"), &a.join("b/y")).unwrap();
        disk.sync_folder(&a).unwrap();
        assert_eq!(disk.list(&a).unwrap(), vec![a.join("b")]);
        assert_eq!(disk.list(&a.join("b")).unwrap(), vec![a.join("b/y")]);
        disk.remove_file(&a.join("b/y")).unwrap();
        assert!(disk.open(&a.join("b/y")).is_err());
        disk.rename(&a.join("b"), &a.join("c")).unwrap();
        disk.remove_folder(&a.join("c")).unwrap();
        assert!(disk.list(&a).unwrap().is_empty(), "{}", place.name);
    }
}

#[test]
fn a_small_file_is_replaced_as_a_whole() {
    for place in places() {
        let path = place.folder.join("a/small");
        for text in ["first", "the second is longer", "3"] {
            place.disk.replace(&path, text.as_bytes()).unwrap();
            assert_eq!(place.disk.read_whole(&path, 100).unwrap(), text.as_bytes(), "{}", place.name);
        }
        assert!(place.disk.read_whole(&path, 0).is_err(), "{}: a limit was passed over", place.name);
    }
}

#[test]
fn many_changes_are_synced_by_one_call_where_there_is_one() {
    let mut with_one = Vec::new();
    for Place { disk, folder, name, .. } in places() {
        assert!(disk.sync_all(1).is_none(), "{name}");
        let sync_all = disk.sync_all(100);
        for _ in 0..2 {
            disk.make_folder(&folder.join("a/new")).unwrap();
        }
        disk.create(&folder.join("a/new/file")).unwrap().write_at(b"bytes", 0).unwrap();
        assert!(disk.make_folder(&folder.join("missing/new")).is_err(), "{name}");
        assert!(disk.make_folder(&folder.join("a/new/file")).is_err(), "{name}");
        if let Some(sync) = sync_all {
            sync().unwrap();
            with_one.push(name);
        }
        assert_eq!(disk.read_whole(&folder.join("a/new/file"), 10).unwrap(), b"bytes", "{name}");
    }
    assert!(with_one.iter().all(|name| *name == "sim" || name.contains("syncfs")) && with_one.contains(&"sim"));
}

#[test]
fn a_lock_is_held_once() {
    for place in places() {
        let path = place.folder.join("lock");
        let held = place.disk.lock(&path).unwrap();
        assert_eq!(place.disk.lock(&path).err().unwrap().kind(), std::io::ErrorKind::WouldBlock, "{}", place.name);
        drop(held);
        assert!(place.disk.lock(&path).is_ok(), "{}", place.name);
    }
}

#[test]
fn room_is_told() {
    for place in places() {
        let space = place.disk.space(&place.folder).unwrap();
        assert!(space.free > 0 && space.free <= space.total, "{}: {space:?}", place.name);
    }
}
