//! Throw-away measurement behind 0009: what it costs to send a stored file to a consumer, by four ways.
//! rustc -O --edition 2024 docs/decisions/0009-reads.rs -o /tmp/reads && sudo /tmp/reads FOLDER [MIB] [ROUNDS]
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;

unsafe extern "C" {
    fn sendfile(out: i32, file: i32, offset: *mut i64, count: usize) -> isize;
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
}

const PIECE: usize = 1 << 20;
const O_DIRECT: i32 = 0o40000;

/// User and system CPU seconds of this process, by the kernel's ticks.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// As much work on the bytes as a checksum is: each is looked at once.
#[target_feature(enable = "sse4.2")]
fn crc(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 4];
    for words in bytes.chunks_exact(32) {
        for (sum, word) in sums.iter_mut().zip(words.chunks_exact(8)) {
            *sum = std::arch::x86_64::_mm_crc32_u64(*sum, u64::from_le_bytes(word.try_into().unwrap()));
        }
    }
    sums.iter().fold(0, |all, sum| all ^ sum)
}

fn main() {
    let argument = |at: usize| std::env::args().nth(at);
    let path = argument(1).expect("name a folder on the disk to measure") + "/reads.tmp";
    let size = argument(2).map_or(1024, |mib| mib.parse().unwrap()) << 20;
    let rounds = argument(3).map_or(5, |rounds| rounds.parse().unwrap());
    let mut file = File::create(&path).unwrap();
    let piece: Vec<u8> = (0..PIECE as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    (0..size / PIECE).for_each(|_| file.write_all(&piece).unwrap());
    file.sync_all().unwrap();
    let ways = ["sendfile", "pread, crc, send", "direct, send", "direct, crc, send"];
    let mut costs = vec![Vec::new(); ways.len()];
    for round in 0..rounds * ways.len() {
        let way = round % ways.len();
        std::fs::write("/proc/sys/vm/drop_caches", "3").expect("dropping the page cache takes root");
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = door.local_addr().unwrap();
        // SAFETY: the child only reads a socket and leaves.
        let reader = unsafe { fork() };
        if reader == 0 {
            let mut from = TcpStream::connect(to).unwrap();
            let mut taken = vec![0; PIECE];
            while from.read(&mut taken).unwrap() > 0 {}
            // SAFETY: nothing of the parent's is to be run down here.
            unsafe { _exit(0) };
        }
        let (stream, _) = door.accept().unwrap();
        let (before, began) = (cpu(), Instant::now());
        send(way, &path, size, stream);
        let (seconds, wall) = (cpu() - before, began.elapsed().as_secs_f64());
        // SAFETY: the child is ours, and no status is asked for.
        unsafe { waitpid(reader, std::ptr::null_mut(), 0) };
        costs[way].push((seconds, wall));
    }
    std::fs::remove_file(&path).unwrap();
    for (way, mut costs) in ways.iter().zip(costs) {
        costs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (seconds, wall) = costs[costs.len() / 2];
        let gb = size as f64 / 1e9;
        println!("{way:<18} {:>6.3} CPU s/GB   {:>6.0} MB/s", seconds / gb, size as f64 / 1e6 / wall);
    }
}

fn send(way: usize, path: &str, size: usize, mut stream: TcpStream) {
    let flags = if way >= 2 { O_DIRECT } else { 0 };
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap();
    let mut memory = vec![0; PIECE + 4096];
    let skip = memory.as_ptr().align_offset(4096);
    let piece = &mut memory[skip..skip + PIECE];
    let mut sums = 0;
    for at in (0..size).step_by(PIECE) {
        if way == 0 {
            let (mut offset, end) = (at as i64, (at + PIECE) as i64);
            while offset < end {
                // SAFETY: both descriptors are open, and `offset` outlives the call.
                let sent = unsafe { sendfile(stream.as_raw_fd(), file.as_raw_fd(), &mut offset, (end - offset) as usize) };
                assert!(sent > 0);
            }
            continue;
        }
        file.read_exact_at(piece, at as u64).unwrap();
        if way != 2 {
            // SAFETY: every x86-64 of the last fifteen years has it.
            sums ^= unsafe { crc(piece) };
        }
        stream.write_all(piece).unwrap();
    }
    std::hint::black_box(sums);
}
