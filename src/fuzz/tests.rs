//! Every target over its committed corpus, and over mutations of it that a seed draws.

use super::*;
use std::path::PathBuf;

/// Mutations of each seed on every run; the fuzzer proper does millions.
const MUTATIONS: usize = 40;
const SEEDS_MAX: usize = 64;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn mutated(random: &mut fastrand::Rng, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=bytes.len());
        match random.u8(..5) {
            0 => bytes.insert(at, random.u8(..)),
            1 => bytes.truncate(at),
            2 => bytes.extend_from_within(at..),
            _ if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            _ => bytes.push(random.u8(..)),
        }
    }
    bytes
}

fn replay(name: &str, mutations: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = corpus(target);
    assert!((1..=SEEDS_MAX).contains(&seeds.len()), "{name} has {} seeds", seeds.len());
    let mut random = fastrand::Rng::with_seed(1);
    for seed in &seeds {
        (target.run)(seed);
        for _ in 0..mutations {
            (target.run)(&mutated(&mut random, seed));
        }
    }
}

#[test]
fn decoders_of_records_and_messages_stand_their_corpus() {
    for name in ["record_batch", "record_codec", "kafka_message", "http_body", "http_multipart"] {
        replay(name, MUTATIONS * 10);
    }
}

#[test]
fn doors_stand_their_corpus() {
    for name in ["kafka_frame", "http_request"] {
        replay(name, MUTATIONS);
    }
}

#[test]
fn decoders_of_pipelines_stand_their_corpus() {
    // As pipeline files are read: with room on the stack.
    let thread = crate::work::planning_thread("corpus".to_owned()).spawn(|| {
        for name in
            ["json_columns", "formats", "functions", "pipeline_file", "sql", "config_file", "pipeline_checkpoint"]
        {
            replay(name, MUTATIONS);
        }
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn a_data_folder_stands_its_corpus() {
    replay("data_folder", MUTATIONS);
}

#[test]
fn every_target_has_a_program_and_is_replayed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        let program = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("\"{name}\"")), "{name} runs another target");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml does not build {name}");
        assert!(include_str!("tests.rs").contains(&format!("\"{name}\"")), "{name} is not replayed");
    }
}
