//! The imports of each source file, read from its syntax tree. Code under `#[cfg(test)]` does not count.

use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

/// The target of one path in the code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Import {
    /// A file of this crate, relative to `src/`.
    File(String),
    /// A path into another crate.
    Library(String),
}

/// A file under `src/` as the rules see it.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Relative to `src/`.
    pub(crate) path: String,
    pub(crate) lines: usize,
    pub(crate) has_module_line: bool,
    pub(crate) imports: Vec<Import>,
}

impl SourceFile {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let syntax = syn::parse_file(text).expect(path);
        let mut paths =
            Paths { module: module_of(path), children: children_of(&syntax), found: Vec::new() };
        paths.visit_file(&syntax);
        let imports = paths.found.iter().filter_map(|found| import(found, path)).collect();
        Self {
            path: path.to_owned(),
            lines: text.lines().count(),
            has_module_line: text.starts_with("//!"),
            imports,
        }
    }
}

pub(crate) fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All Rust files under `src/`.
pub(crate) fn source_files() -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(&source_root(), &mut paths);
    let parse = |path: &PathBuf| {
        let name = path.strip_prefix(source_root()).expect("under src").display().to_string();
        SourceFile::parse(&name, &fs::read_to_string(path).expect("readable"))
    };
    paths.iter().map(parse).collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The module path of a file: `api/mod.rs` is `["api"]`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" || path == "main" {
        return Vec::new();
    }
    path.split('/').map(str::to_owned).collect()
}

fn children_of(syntax: &syn::File) -> Vec<String> {
    let child = |item: &Item| match item {
        Item::Mod(child) if child.content.is_none() => Some(child.ident.to_string()),
        _ => None,
    };
    syntax.items.iter().filter_map(child).collect()
}

/// The paths that code names. Paths into this crate begin with `crate` and are absolute.
struct Paths {
    module: Vec<String>,
    /// The file's child modules: `child::item` names them without `self::`.
    children: Vec<String>,
    found: Vec<Vec<String>>,
}

impl Paths {
    fn add(&mut self, segments: &[String]) {
        let mut rest = segments.iter().map(String::as_str).peekable();
        let mut absolute = vec!["crate".to_owned()];
        match rest.peek() {
            Some(&"crate" | &"hookhub") => drop(rest.next()),
            Some(&"self" | &"super") => {
                let mut module = self.module.clone();
                rest.next_if_eq(&"self");
                while rest.next_if_eq(&"super").is_some() {
                    module.pop();
                }
                absolute.extend(module);
            }
            Some(first) if self.children.iter().any(|child| child == first) => {
                absolute.extend(self.module.iter().cloned());
            }
            _ => absolute.clear(),
        }
        absolute.extend(rest.map(str::to_owned));
        self.found.push(absolute);
    }

    fn add_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.add(&with(&name.ident)),
            UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_tree(before, tree));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &[],
        };
        let is_test = |attribute: &Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
        };
        if !attributes.iter().any(is_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    /// `pub(super)` names a module, but imports nothing from it.
    fn visit_vis_restricted(&mut self, _visibility: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }
}

/// The target of a path in the file `from`; `None` for the file itself and for names in scope.
fn import(path: &[String], from: &str) -> Option<Import> {
    let [first, inside @ ..] = path else { return None };
    if first != "crate" {
        return (path.len() > 1).then(|| Import::Library(path.join("::")));
    }
    let file = (1..=inside.len()).rev().find_map(|length| {
        let module = inside.get(..length)?.join("/");
        [format!("{module}.rs"), format!("{module}/mod.rs")]
            .into_iter()
            .find(|candidate| source_root().join(candidate).exists())
    })?;
    (file != from).then_some(Import::File(file))
}
