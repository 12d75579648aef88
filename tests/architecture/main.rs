//! The walls of docs/architecture.md, as tests: which layer may use which, and which library has which home.

mod imports;

use std::collections::{BTreeMap, BTreeSet};

use self::imports::{Import, SourceFile, source_files};

/// A library, and the only places under `src/` that may use it.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("sqlx", &["store/"]),
    ("reqwest", &["egress/", "tools/listen/"]),
    ("hyper_rustls", &["egress/"]),
    ("hyper_util", &["egress/"]),
    ("rustls_platform_verifier", &["egress/"]),
    ("actix_web", &["api/", "server/", "tools/receive/"]),
    ("actix_http", &["api/streams/", "server/"]),
    ("actix_server", &["server/"]),
    ("actix_service", &["server/"]),
    ("actix_cors", &["api/http/"]),
    ("sse_stream", &["tools/listen/"]),
    ("prometheus_client", &["api/operator/"]),
    ("backoff", &["domain/delivery/retry_schedule.rs"]),
    ("clap", &["config/", "cli/"]),
    ("std::env", &["config/"]),
];

/// A part of the crate, and the parts it may import from. A part may always import from itself. A part that no row
/// names is a fault.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("delivery/engine", &["domain"]),
    ("metrics", &["domain", "store", "log"]),
    ("store", &["domain"]),
    ("log", &["domain", "store"]),
    ("access", &["domain", "store", "log", "metrics"]),
    ("egress", &["domain"]),
    ("delivery", &["domain", "delivery/engine", "store", "log", "metrics", "egress", "access"]),
    ("streaming", &["domain", "store", "log", "access"]),
    ("maintenance", &["domain", "store", "log", "metrics"]),
    ("api", &["domain", "store", "log", "access", "metrics", "streaming"]),
    ("config", &["domain"]),
    ("server", &["domain", "api", "config", "streaming"]),
    ("embedded", &["domain"]),
    ("key_files", &["domain"]),
    ("tools", &["domain"]),
    (
        "hub.rs",
        &[
            "domain",
            "store",
            "log",
            "access",
            "metrics",
            "egress",
            "delivery",
            "streaming",
            "maintenance",
            "api",
            "config",
            "server",
            "embedded",
            "key_files",
        ],
    ),
    ("cli", &["domain", "config", "hub.rs", "tools"]),
    ("main.rs", &["cli"]),
    ("lib.rs", &[]),
];

/// A longer file has more than one purpose.
const MAX_LINES: usize = 500;
/// Files that import each other can be understood only together; more than this many are too much to hold in mind.
const MAX_CIRCLE: usize = 3;

/// The row of [`LAYERS`] for `path`, which is relative to `src/`: the longest one that fits.
fn layer_of(path: &str) -> Option<(&'static str, &'static [&'static str])> {
    let fits = |name: &str| path == name || path.starts_with(&format!("{name}/"));
    LAYERS.iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| name.len()).copied()
}

/// Everything in `file` that breaks a wall.
fn faults(file: &SourceFile) -> Vec<String> {
    let path = &file.path;
    let mut faults = Vec::new();
    if !file.has_module_line {
        faults.push(format!("{path}: does not begin with a `//!` line that says what it is for"));
    }
    if file.lines > MAX_LINES {
        faults.push(format!("{path}: has {} lines, more than {MAX_LINES}", file.lines));
    }
    let Some((layer, allowed)) = layer_of(path) else {
        faults.push(format!("{path}: belongs to no layer in LAYERS"));
        return faults;
    };
    for import in &file.imports {
        match import {
            Import::Library(used) => {
                let wall = LIBRARIES.iter().find(|(library, homes)| {
                    let is_used = used == library || used.starts_with(&format!("{library}::"));
                    is_used && !homes.iter().any(|home| path.starts_with(home))
                });
                if let Some((library, homes)) = wall {
                    faults.push(format!("{path}: uses {library}, whose home is {homes:?}"));
                }
            }
            Import::File(target) => {
                let to = layer_of(target).map(|(name, _)| name);
                if to != Some(layer) && !to.is_some_and(|to| allowed.contains(&to)) {
                    faults.push(format!("{path}: {layer} may not import from {target}"));
                }
            }
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

/// The groups of files that import each other, directly or over others.
fn circles(files: &[SourceFile]) -> Vec<BTreeSet<&str>> {
    let edges: BTreeMap<&str, Vec<&str>> = files
        .iter()
        .map(|file| {
            let targets = file.imports.iter().filter_map(|import| match import {
                Import::File(target) => Some(target.as_str()),
                Import::Library(_) => None,
            });
            (file.path.as_str(), targets.collect())
        })
        .collect();
    let reachable: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|path| (*path, reachable_from(path, &edges))).collect();
    let circle_of = |path: &str| -> BTreeSet<&str> {
        let leads_back = |other: &&str| reachable.get(other).is_some_and(|set| set.contains(path));
        reachable.get(path).into_iter().flatten().copied().filter(leads_back).collect()
    };
    let groups: BTreeSet<_> = edges.keys().map(|path| circle_of(path)).collect();
    groups.into_iter().filter(|circle| circle.len() > 1).collect()
}

fn reachable_from<'a>(
    start: &'a str,
    edges: &BTreeMap<&'a str, Vec<&'a str>>,
) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(path) = open.pop() {
        for target in edges.get(path).into_iter().flatten() {
            if found.insert(*target) {
                open.push(target);
            }
        }
    }
    found
}

#[test]
fn every_file_keeps_to_its_layer_and_says_what_it_is_for() {
    let faults: Vec<_> = source_files().iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn no_more_than_three_files_import_each_other_in_a_circle() {
    let files = source_files();
    let large: Vec<_> =
        circles(&files).into_iter().filter(|circle| circle.len() > MAX_CIRCLE).collect();
    assert!(large.is_empty(), "{large:#?}");
}

#[test]
fn the_rules_name_places_that_exist() {
    let homes = LIBRARIES.iter().flat_map(|(_, homes)| homes.iter());
    let layers = LAYERS.iter().map(|(name, _)| name);
    let missing: Vec<_> =
        homes.chain(layers).filter(|place| !imports::source_root().join(place).exists()).collect();
    assert!(missing.is_empty(), "renamed or removed under src: {missing:?}");
}

#[test]
fn planted_faults_are_found() {
    let planted = [
        ("domain/event/mod.rs", "use x;", "//!"),
        ("domain/event/mod.rs", &*"//! x\n".repeat(MAX_LINES + 1), "lines"),
        ("nowhere/mod.rs", "//! x", "no layer"),
        ("domain/event/mod.rs", "//! x\nuse crate::store::Store;", "may not import"),
        ("domain/event/mod.rs", "//! x\nfn f() { crate::store::open(); }", "may not import"),
        ("domain/event/mod.rs", "//! x\nuse crate::{domain::id::Id, log::Log};", "may not import"),
        ("delivery/engine/mod.rs", "//! x\nuse super::webhook::Deliverer;", "may not import"),
        ("delivery/mod.rs", "//! x\nuse super::api::routes;", "may not import"),
        ("main.rs", "//! x\nuse hookhub::store::Store;", "may not import"),
        ("log/mod.rs", "//! x\nuse sqlx::PgPool;", "uses sqlx"),
        ("log/mod.rs", "//! x\nfn f(pool: &sqlx::PgPool) {}", "uses sqlx"),
        ("log/mod.rs", "//! x\nuse std::{env, fs};", "uses std::env"),
    ];
    for (path, text, expected) in planted {
        let found = faults(&SourceFile::parse(path, text));
        assert_eq!(found.len(), 1, "{path} {text}: {found:?}");
        assert!(found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn a_planted_circle_is_found() {
    let file = |path, text| SourceFile::parse(path, text);
    let files = [
        file("domain/id.rs", "use super::time::UnixMillis;"),
        file("domain/time.rs", "use crate::domain::position::Position;"),
        file("domain/position.rs", "use super::id::write;"),
        file("domain/retention.rs", "use super::id::write;"),
    ];
    let circle = BTreeSet::from(["domain/id.rs", "domain/position.rs", "domain/time.rs"]);
    assert_eq!(circles(&files), [circle]);
}

#[test]
fn sound_code_passes() {
    for (path, text) in [
        ("domain/id.rs", "//! See sqlx::Pool and crate::store.\nuse std::fmt;"),
        ("domain/id.rs", "//! x\n#[cfg(test)]\nmod tests { use crate::store::Store; }"),
        ("store/log.rs", "//! x\nuse sqlx::PgPool;\nuse crate::domain::id::Id;"),
        (
            "api/events/mod.rs",
            "//! x\nuse super::super::log::Log; mod a { use super::super::super::log::Log; }",
        ),
    ] {
        let found = faults(&SourceFile::parse(path, text));
        assert!(found.is_empty(), "{path}: {found:?}");
    }
}
