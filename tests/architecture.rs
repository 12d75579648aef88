//! The layer rule of docs/architecture.md, as a test.

use std::fs;
use std::path::{Path, PathBuf};

/// A word in code, and the only places under `src/` that may use it: a folder (with its `/`) or a file.
const WALLS: &[(&str, &[&str])] = &[
    // What comes from outside, and the room that deals with it.
    ("sqlx::", &["store/"]),
    (
        "reqwest::",
        &[
            "dispatch/deliver.rs",
            "dispatch/failure.rs",
            "dispatch/handshake.rs",
            "dispatch/lines.rs",
            "dispatch/outward.rs",
            "dispatch/resolving.rs",
            "dispatch/tokens.rs",
            "dispatch/tunnel.rs",
            "listen/",
        ],
    ),
    ("hyper_rustls::", &["dispatch/tunnel.rs"]),
    ("hyper_util::", &["dispatch/failure.rs", "dispatch/tunnel.rs"]),
    ("rustls_platform_verifier::", &["dispatch/lines.rs"]),
    ("actix_web::", &["api/", "server/", "hub.rs", "receive/"]),
    ("actix_http::", &["api/ws.rs", "server/"]),
    ("actix_server::", &["server/"]),
    ("actix_service::", &["server/"]),
    ("actix_cors::", &["api/cors.rs"]),
    ("sse_stream::", &["listen/source.rs"]),
    ("ring::aead", &["values/sealed.rs"]),
    ("ring::signature", &["values/signing_key.rs"]),
    ("prometheus_client::", &["api/metrics.rs"]),
    ("std::env", &["config/", "main.rs"]),
    ("backoff::", &["values/retry.rs"]),
    // main -> hub -> { server -> api -> stream, dispatch } -> log -> keys -> store -> values
    ("crate::hub", &["hub.rs", "main.rs"]),
    ("crate::server", &["hub.rs", "server/"]),
    ("crate::api", &["hub.rs", "server/", "api/"]),
    ("crate::dispatch", &["hub.rs", "dispatch/"]),
    ("crate::stream", &["hub.rs", "config/", "server/", "api/", "stream/"]),
    ("crate::log", &["hub.rs", "api/", "stream/", "dispatch/", "log/"]),
    ("crate::keys", &["api/", "stream/", "log/", "keys/"]),
    ("crate::measures", &["api/", "dispatch/", "log/", "measures/", "quotas/"]),
    ("crate::listen", &["main.rs", "listen/"]),
    ("crate::quotas", &["hub.rs", "api/", "stream/", "quotas/"]),
    (
        "crate::store",
        &["hub.rs", "api/", "stream/", "dispatch/", "log/", "keys/", "quotas/", "store/"],
    ),
    // Ways around this table: a group of layers, a path that climbs.
    ("crate::{", &[]),
    ("super::super::", &[]),
];

/// All that the lowest layer may name of this crate.
const LOWEST: (&str, &str) = ("values/", "crate::values");

/// A longer file is more than one room.
const MOST_LINES: usize = 500;

/// What is wrong with the file `name` (relative to `src/`).
fn faults(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push(format!("{name}: does not open with its purpose"));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        found.push(format!("{name}: has {lines} lines, more than {MOST_LINES}"));
    }
    // Comments may name anything. The binary calls this crate by its name.
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: Vec<_> = text.lines().filter(is_code).collect();
    let code = code.join("\n").replace("hookhub::", "crate::");
    let climbed = if is_layer(name) { code.replace("super::", "crate::") } else { code.clone() };
    for (word, homes) in WALLS {
        let at_home = homes.iter().any(|home| is_within(name, home));
        if !at_home && (uses(&code, word) || uses(&climbed, word)) {
            found.push(format!("{name}: may not use {word}"));
        }
    }
    let (lowest, own) = LOWEST;
    if is_within(name, lowest) && code.matches("crate::").count() > code.matches(own).count() {
        found.push(format!("{name}: may use nothing of this crate but {own}"));
    }
    found
}

/// Whether `word` stands in `code`, not merely as the beginning of a longer word.
fn uses(code: &str, word: &str) -> bool {
    let is_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_whole = word.ends_with([':', '{']);
    code.split(word).skip(1).any(|after| is_whole || !after.starts_with(is_of_a_word))
}

/// Whether the file is a layer's own, so that `super` is the crate.
fn is_layer(name: &str) -> bool {
    name.strip_suffix("/mod.rs").unwrap_or(name).split('/').count() == 1
}

fn is_within(name: &str, home: &str) -> bool {
    if home.ends_with('/') { name.starts_with(home) } else { name == home }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_keeps_to_its_layer_and_opens_with_its_purpose() {
    let mut files = Vec::new();
    sources(&src(), &mut files);
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(src()).expect("under src").display().to_string();
        found.extend(faults(&name, &fs::read_to_string(&file).expect("readable")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_walls_name_places_that_exist() {
    let homes = WALLS.iter().flat_map(|(_, homes)| homes.iter()).chain([&LOWEST.0]);
    let gone: Vec<_> = homes.filter(|home| !src().join(home).exists()).collect();
    assert!(gone.is_empty(), "renamed or removed under src: {gone:?}");
}

#[test]
fn a_planted_fault_is_found() {
    for (word, _) in WALLS {
        let text = format!("//! A room.\nuse {word};\n");
        assert_eq!(faults("other/room.rs", &text), [format!("other/room.rs: may not use {word}")]);
    }
    for (name, text) in [
        ("a.rs", "use x;"),
        ("a.rs", &*"//! x\n".repeat(MOST_LINES + 1)),
        ("values/a.rs", "//! x\nuse crate::config::Settings;"),
        ("main.rs", "//! x\nuse hookhub::store::Store;"),
        ("dispatch/mod.rs", "//! x\nuse super::api::Request;"),
    ] {
        assert_eq!(faults(name, text).len(), 1, "{name}");
    }
}

#[test]
fn sound_code_is_passed() {
    for (word, homes) in WALLS {
        for home in *homes {
            let name = if home.ends_with('/') { format!("{home}room.rs") } else { (*home).into() };
            assert!(faults(&name, &format!("//! A room.\nuse {word};\n")).is_empty(), "{name}");
        }
    }
    for (name, text) in [
        ("a.rs", "//! See sqlx::Pool.\nuse crate::logs::Line;\n    // reqwest::Client"),
        ("a.rs", "//! x\nmod tests {\n    use super::*;\n}"),
        ("log/b.rs", "//! x\nuse super::api::Name;"),
        ("values/a.rs", "//! x\nuse super::id::Id;\nuse crate::values::event::Event;"),
    ] {
        assert!(faults(name, text).is_empty(), "{name}");
    }
}
