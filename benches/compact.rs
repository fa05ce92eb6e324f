//! Compaction alone: how fast a pass reads, judges and writes segments, without the store around it.
//!
//! `cargo bench --bench compact -- --folder DIR [--mib 256] [--keys 100000] [--json]`. Records of about 250 bytes in zstd batches of 500,
//! nine of ten superseded with the defaults.

use inrush::disk::Disk;
use inrush::log::Segment;
use inrush::log::compact::{Keys, Rules, fill, groups, rewrite};
use inrush::record::{BatchBuilder, Codec, NewRecord, Offset};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEGMENT_SIZE: u64 = 64 << 20;

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

fn number(name: &str, default: u64) -> u64 {
    argument(name).map_or(default, |text| text.parse().expect("a number follows"))
}

/// Sealed segments of that many bytes, and the end of their offsets.
fn written(disk: &dyn Disk, folder: &std::path::Path, size: u64, keys: u64) -> (Vec<Arc<Segment>>, Offset) {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut segments, mut end, mut total) = (Vec::new(), Offset(0), 0);
    while total < size {
        let segment = Segment::new(folder, end, 0, 0, -1);
        let file = disk.create(&segment.path).expect("a segment can be made");
        while segment.size() < SEGMENT_SIZE && total + segment.size() < size {
            let mut builder = BatchBuilder::new();
            for _ in 0..500 {
                let key = format!("user-{}", random.u64(..keys));
                let noise: String = (0..60).map(|_| random.alphanumeric()).collect();
                let value = format!(
                    "{{\"page\":\"/products/{noise}\",\"user\":\"{key}\",\"agent\":\"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\",\"at\":{}}}",
                    random.u32(..)
                );
                let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
                builder.push(NewRecord { timestamp: 1, key, value, headers: &[] });
            }
            let batch = builder.build(Codec::Zstd).expect("it has records").stamped(end, 0);
            file.write_at(batch.bytes(), segment.size()).expect("it is written");
            segment.grow(batch.header(), segment.size(), 0);
            end = batch.next_offset();
        }
        file.sync().expect("it is synced");
        segment.seal();
        total += segment.size();
        segments.push(Arc::new(segment));
    }
    (segments, end)
}

fn main() {
    let folder = PathBuf::from(argument("--folder").unwrap_or_else(|| "target/bench-compact".to_owned()));
    let (size, keys) = (number("--mib", 256) << 20, number("--keys", 100_000));
    let disk = inrush::disk::plain();
    let _ = std::fs::remove_dir_all(&folder);
    disk.create_folder(&folder).expect("the folder can be made");
    let (segments, end) = written(disk.as_ref(), &folder, size, keys);
    let before: u64 = segments.iter().map(|segment| segment.size()).sum();
    let began = Instant::now();
    let mut known = Keys::default();
    let reached = fill(&mut known, disk.as_ref(), &segments, (Offset(0), end), &|| true).expect("it is read");
    let filled = began.elapsed().as_secs_f64();
    let rules = Rules { keys: &known, end: reached, now_ms: 0, delete_retention_ms: 1, producers: &HashMap::new() };
    let (mut after, mut removed) = (0, 0);
    for group in groups(&segments, SEGMENT_SIZE) {
        let new = rewrite(disk.as_ref(), &folder, group, end, &rules, &|| true).expect("it is written");
        (after, removed) = (after + new.segment.size(), removed + new.removed.total());
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = before as f64 / 1e6 / seconds;
    if std::env::args().any(|argument| argument == "--json") {
        println!(
            "{{\"bytes_before\":{before},\"bytes_after\":{after},\"records\":{},\"removed\":{removed},\"keys\":{},\"fill_s\":{filled:.3},\"s\":{seconds:.3},\"mb_s\":{rate:.1}}}",
            end.0,
            known.len()
        );
    } else {
        println!(
            "{:.0} MB of {} records, {} keys: {rate:.0} MB/s (keys {filled:.2} s of {seconds:.2} s), {:.0} MB left, {removed} records gone",
            before as f64 / 1e6,
            end.0,
            known.len(),
            after as f64 / 1e6
        );
    }
    let _ = std::fs::remove_dir_all(&folder);
}
