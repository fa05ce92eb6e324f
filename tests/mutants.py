"""Builds mistakes into a copy of the source, each asleep until INRUSH_MUTANT names it. Usage: mutants.py COPY; prints their names."""

import pathlib
import sys

ROOT = pathlib.Path(sys.argv[1])
ASLEEP = """
/// Whether this run is to make the mistake `name`: in copies made by tests/mutants.py only.
pub fn mutant(name: &str) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var("INRUSH_MUTANT").ok());
    CHOSEN.as_deref() == Some(name)
}
"""

# Name, file, what stands there, what stands there instead.
MUTANTS = [
    (
        "no-sync",
        "src/store/writer.rs",
        "self.engine.sync_round(&files).into_iter().collect();",
        'if crate::mutant("no-sync") { Ok(()) } else { self.engine.sync_round(&files).into_iter().collect() };',
    ),
    (
        "ignored-result",
        "src/store/writer.rs",
        "        self.meters.sync_seconds.record(",
        '        let results = if crate::mutant("ignored-result") { Ok(()) } else { results };\n        self.meters.sync_seconds.record(',
    ),
    (
        "answer-before-sync",
        "src/store/writer.rs",
        ".partition(|part| part.is_os);",
        '.partition(|part| part.is_os || crate::mutant("answer-before-sync"));',
    ),
    (
        "answer-before-tail",
        "src/store/writer.rs",
        "        let Part { partition, mut state, mut round, answers, .. } = part;\n",
        "        let Part { partition, mut state, mut round, mut answers, .. } = part;\n"
        '        if crate::mutant("answer-before-tail") {\n'
        "            answers.drain(..).for_each(|(answer, appended)| drop(answer.send(Ok(appended))));\n"
        "            std::thread::yield_now();\n"
        "        }\n",
    ),
    (
        "enqueue-out-of-order",
        "src/store/writer.rs",
        "            groups[place].jobs.push((job.append, job.answer));",
        '            let at = if crate::mutant("enqueue-out-of-order") { 0 } else { groups[place].jobs.len() };\n'
        "            groups[place].jobs.insert(at, (job.append, job.answer));",
    ),
    (
        "buffer-reused-early",
        "src/store/writer.rs",
        "            writes.push(Write { file: part.file.clone(), position: part.round.position, bytes });",
        "            let mut bytes = bytes;\n"
        '            if crate::mutant("buffer-reused-early") && bytes.len() > 4096 {\n'
        "                let size = bytes.len();\n"
        "                bytes = crate::disk::Buffer::with_capacity(size);\n"
        "                bytes.extend(&vec![7; size]);\n"
        "            }\n"
        "            writes.push(Write { file: part.file.clone(), position: part.round.position, bytes });",
    ),
    (
        "dedupe-window-1",
        "src/log/producers.rs",
        "        Producers { known: HashMap::new(), window: BATCHES_KEPT }",
        '        let window = if crate::mutant("dedupe-window-1") { 1 } else { BATCHES_KEPT };\n'
        "        Producers { known: HashMap::new(), window }",
    ),
    (
        "no-folder-sync",
        "src/log/partition.rs",
        "        disk.sync_folder(folder)?;",
        '        if !crate::mutant("no-folder-sync") {\n            disk.sync_folder(folder)?;\n        }',
    ),
]

library = ROOT / "src/lib.rs"
library.write_text(library.read_text() + ASLEEP)
for name, file, right, wrong in MUTANTS:
    path = ROOT / file
    text = path.read_text()
    if text.count(right) != 1:
        sys.exit(f"{name}: {file} has {text.count(right)} places that read:\n{right}\nsay in tests/mutants.py where it is now")
    path.write_text(text.replace(right, wrong))
    print(name)
