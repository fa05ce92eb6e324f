//! House rules as a test: the floors of the rooms, banned names and calls, file sizes, a line on top of each file that says what it is.
//!
//! Reads the tree as text; uses nothing of the library. The table of rooms is drawn in `docs/ARCHITECTURE.md`.

use std::fs;
use std::path::{Path, PathBuf};

/// A room uses only rooms on lower floors; rooms on one floor do not see each other.
const FLOORS: &[(&str, u32)] = &[
    ("budget", 0),
    ("clock", 0),
    ("json", 0),
    ("metrics", 0),
    ("pulse", 0),
    ("work", 0),
    ("record", 1),
    ("disk", 1),
    ("config", 1),
    ("kafka", 2),
    ("log", 2),
    ("wire", 2),
    ("store", 3),
    ("ingest", 4),
    ("letters", 4),
    ("access", 5),
    ("control", 5),
    ("group", 5),
    ("server", 6),
    ("stream", 6),
    ("daemon", 8),
    ("client", 9),
    ("lab", 9),
    ("cli", 10),
    ("fuzz", 11),
];
/// Pairs on one floor that do see each other, with the reason.
const ALLOWED: &[(&str, &str)] = &[
    ("lab", "client"), // the demo talks to its daemon as a user's program would
];
const BANNED_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc", "impls", "base"];
/// What must not be called, where it may be, and why.
const BANNED_CALLS: &[(&str, &[&str], &str)] = &[
    (".unwrap()", &[], "name the reason with expect, or return an error"),
    ("todo!(", &[], "nothing is faked"),
    ("unimplemented!(", &[], "nothing is faked"),
    ("dbg!(", &[], "use tracing"),
    ("println!(", &["src/cli/", "src/lab/"], "use tracing; only commands print"),
    ("unbounded_channel", &[], "every queue has a maximum"),
    ("SystemTime::now", &["src/clock.rs"], "time comes from a Clock"),
    ("thread::sleep", &["src/cli/", "src/lab/"], "park with a timeout, so that a stop wakes it"),
];
const LINES_MAX: usize = 800;
const LINES_WANTED: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Files of the library with their path from the root and their text before their tests.
fn sources() -> Vec<(String, String)> {
    rust_files(&root().join("src"))
        .into_iter()
        .filter(|path| !path.iter().any(|part| part == "tests.rs" || part == "tests" || part == "suite.rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            (path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), code)
        })
        .collect()
}

fn floor(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

fn room_of(path: &str) -> &str {
    let rest = path.strip_prefix("src/").unwrap_or(path);
    rest.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

#[test]
fn rooms_use_only_lower_floors() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let room = room_of(&path);
        if matches!(room, "lib" | "main") {
            continue;
        }
        let own =
            floor(room).unwrap_or_else(|| panic!("{path}: the room \"{room}\" has no floor in this test's table"));
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for after in line.split("crate::").skip(1) {
                let used: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_allowed = used == room || ALLOWED.contains(&(room, used.as_str()));
                if floor(&used).is_some_and(|floor| floor >= own) && !is_allowed {
                    wrong.push(format!("{path}:{}: {room} uses {used}, which is not on a lower floor", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn banned_calls_are_not_made() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for (call, allowed, instead) in BANNED_CALLS {
                if line.contains(call) && !allowed.iter().any(|place| path.starts_with(place)) {
                    wrong.push(format!("{path}:{}: {call} {instead}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_have_a_name_that_says_something_and_a_line_on_top() {
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("tests"))) {
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        let names = path.strip_prefix(root()).unwrap().with_extension("");
        for part in names.iter().filter_map(|part| part.to_str()).filter(|part| BANNED_NAMES.contains(part)) {
            wrong.push(format!("{shown}: \"{part}\" says nothing"));
        }
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") {
            wrong.push(format!("{shown}: begins without //! that says what it is"));
        }
        match text.lines().count() {
            lines if lines > LINES_MAX => wrong.push(format!("{shown}: {lines} lines are two nouns")),
            lines if lines > LINES_WANTED => println!("{shown}: {lines} lines, over the wanted {LINES_WANTED}"),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table of `docs/KAFKA.md` numbers what other brokers got wrong, and tests are named by those numbers.
#[test]
fn every_behaviour_that_broke_clients_elsewhere_has_a_test_or_a_reason_why_not() {
    const COUNT: usize = 38;
    let mut tested = [false; COUNT + 1];
    for path in rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("tests"))) {
        let text = fs::read_to_string(&path).unwrap();
        for name in text.split("#[test]\nfn behaviour_").skip(1) {
            let number =
                name.split('_').next().filter(|digits| digits.len() == 2).and_then(|digits| digits.parse().ok());
            let known = number.and_then(|number: usize| tested.get_mut(number));
            *known.unwrap_or_else(|| panic!("{}: behaviour_{}", path.display(), &name[..12])) = true;
        }
    }
    let page = fs::read_to_string(root().join("docs/KAFKA.md")).unwrap();
    let section =
        page.split("\n## ").find(|section| section.starts_with("Behaviours\n")).expect("the page has this section");
    let mut numbers = Vec::new();
    for row in section.lines().filter_map(|line| line.strip_prefix("| ")) {
        let mut cells = row.trim_end_matches('|').split(" | ").map(str::trim);
        let Some(number) = cells.next().and_then(|cell| cell.parse::<usize>().ok()) else { continue };
        let (_what, reason) = (cells.next(), cells.next().unwrap_or_default());
        assert!(
            tested[number] == reason.is_empty(),
            "{number}: a test of its name: {}, and a reason: {reason:?}",
            tested[number]
        );
        numbers.push(number);
    }
    assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
}

#[test]
fn no_file_names_a_machine() {
    let banned = ["/wor".to_owned() + "k/", "crates".to_owned() + ".io/api", "pypi".to_owned() + ".org"];
    let mut wrong = Vec::new();
    for name in ["README.md", "CHANGELOG.md", "Cargo.toml", "docs/ARCHITECTURE.md", ".ci/run"] {
        let text = fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        wrong.extend(banned.iter().filter(|word| text.contains(*word)).map(|word| format!("{name}: {word}")));
    }
    for (path, code) in sources() {
        wrong.extend(banned.iter().filter(|word| code.contains(*word)).map(|word| format!("{path}: {word}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
