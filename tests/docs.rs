//! The docs name code that exists: files, and items written as `Type::function` or in capitals.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use regex::Regex;

/// Pages of the past: they name what was.
const EXEMPT: &[&str] = &["CHANGELOG.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// The files that git tracks, or would track once added, relative to the root.
fn files() -> Vec<String> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    let text = String::from_utf8(listing.stdout).expect("paths are UTF-8");
    text.lines().filter(|path| root().join(path).exists()).map(str::to_owned).collect()
}

/// The files and identifiers to which a page may refer.
struct Code {
    files: Vec<String>,
    /// Every identifier in Rust, SQL and shell sources.
    names: HashSet<String>,
}

impl Code {
    fn read() -> Self {
        let files = files();
        let word = Regex::new(r"[A-Za-z_][A-Za-z0-9_]*").expect("a valid pattern");
        let mut names = HashSet::new();
        let is_source = |path: &&String| {
            has_extension(path, "rs") || has_extension(path, "sql") || path.starts_with("scripts/")
        };
        for path in files.iter().filter(is_source) {
            let text = fs::read_to_string(root().join(path)).expect("readable");
            names.extend(word.find_iter(&text).map(|found| found.as_str().to_owned()));
        }
        Self { files, names }
    }

    /// Whether a file or folder ends in `path`, at the border of a name.
    fn has_path(&self, path: &str) -> bool {
        let path = path.trim_start_matches("../").trim_end_matches('/');
        let inner = format!("/{path}/");
        let end = format!("/{path}");
        self.files.iter().any(|file| {
            let file = format!("/{file}");
            file.ends_with(&end) || file.contains(&inner)
        })
    }

    /// The names in `page` that the code does not have.
    fn faults(&self, page: &str, text: &str) -> Vec<String> {
        let quoted = Regex::new(r"`([^`\n]+)`").expect("a valid pattern");
        let path = Regex::new(r"^[A-Za-z0-9_.][A-Za-z0-9_./-]*\.(rs|sql|json|toml)$")
            .expect("a valid pattern");
        let item = Regex::new(r"^([A-Za-z_][A-Za-z0-9_]*)((::[A-Za-z_][A-Za-z0-9_]*)+)(\(\))?$")
            .expect("a valid pattern");
        let constant = Regex::new(r"^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$").expect("a valid pattern");
        let mut faults = Vec::new();
        for (number, line) in text.lines().enumerate() {
            for found in quoted.captures_iter(line) {
                let name = &found[1];
                let is_missing = if path.is_match(name) {
                    !self.has_path(name)
                } else if item.is_match(name) {
                    let mut parts = name.trim_end_matches("()").split("::");
                    parts.any(|part| part != "crate" && !self.names.contains(part))
                } else if constant.is_match(name) {
                    !self.names.contains(name)
                } else {
                    false
                };
                if is_missing {
                    faults.push(format!("{page}:{}: `{name}` does not exist", number + 1));
                }
            }
        }
        faults
    }
}

#[test]
fn pages_name_files_and_items_that_exist() {
    let code = Code::read();
    let pages = code.files.iter().filter(|path| {
        has_extension(path, "md")
            && !EXEMPT.contains(&path.as_str())
            && !path.starts_with("examples/")
    });
    let faults: Vec<_> = pages
        .flat_map(|page| {
            code.faults(page, &fs::read_to_string(root().join(page)).expect("readable"))
        })
        .collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_name_that_is_gone_is_found() {
    let code = Code {
        files: vec!["src/log/tail.rs".into(), "migrations/0001_log.sql".into()],
        names: ["Tail", "offer", "MAX_EVENTS"].map(str::to_owned).into(),
    };
    let sound = "`log/tail.rs`, `tail.rs`, `Tail::offer`, `MAX_EVENTS`, `limit`, `GET /v1/events`";
    assert!(code.faults("page.md", sound).is_empty());
    for gone in ["`log/head.rs`", "`ail.rs`", "`Tail::accept`", "`Head::offer()`", "`MIN_EVENTS`"] {
        assert_eq!(code.faults("page.md", gone).len(), 1, "{gone}");
    }
}
