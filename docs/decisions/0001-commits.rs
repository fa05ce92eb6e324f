//! Throw-away measurement behind 0001: what a commit over N dirty files costs, against one journal.
//! rustc -O docs/decisions/0001-commits.rs -o /tmp/commits && /tmp/commits FOLDER
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

unsafe extern "C" {
    fn syncfs(fd: i32) -> i32;
}

const BLOCK: usize = 4096;
const SPACE: u64 = 1 << 20;

fn file(path: String) -> File {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    // Written zeros: a commit then changes no metadata but times.
    file.write_all_at(&vec![0; SPACE as usize], 0).unwrap();
    file.sync_all().unwrap();
    file
}

fn report(what: &str, dirty: usize, mut ms: Vec<f64>) {
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms[((ms.len() - 1) as f64 * share) as usize];
    println!("{what:<22} {dirty:>5} dirty   p50 {:>8.2} ms   p99 {:>8.2} ms", at(0.5), at(0.99));
}

fn main() {
    let folder = std::env::args().nth(1).expect("name a folder on the disk to measure");
    let files: Vec<File> = (0..1000).map(|n| file(format!("{folder}/part-{n}"))).collect();
    let journal = file(format!("{folder}/journal"));
    let block = vec![7u8; BLOCK];
    for dirty in [1usize, 8, 10, 100, 1000] {
        let rounds = (4000 / dirty).clamp(20, 200);
        let write = |round: usize| {
            for file in &files[..dirty] {
                file.write_all_at(&block, (round * BLOCK) as u64 % SPACE).unwrap();
            }
        };
        let times = (0..rounds).map(|round| {
            write(round);
            let began = Instant::now();
            files[..dirty].iter().for_each(|file| file.sync_data().unwrap());
            began.elapsed().as_secs_f64() * 1e3
        });
        report("fdatasync each", dirty, times.collect());
        let times = (0..rounds).map(|round| {
            write(round + 7);
            let began = Instant::now();
            // SAFETY: a plain call on an open descriptor.
            assert_eq!(unsafe { syncfs(journal.as_raw_fd()) }, 0);
            began.elapsed().as_secs_f64() * 1e3
        });
        report("syncfs", dirty, times.collect());
        let big = vec![7u8; BLOCK * dirty.min(250)];
        let times = (0..rounds).map(|_| {
            journal.write_all_at(&big, 0).unwrap();
            let began = Instant::now();
            journal.sync_data().unwrap();
            began.elapsed().as_secs_f64() * 1e3
        });
        report("one journal", dirty, times.collect());
    }
}
