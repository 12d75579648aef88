//! Keeps words out of code and prose that the project has replaced by the field's standard terms.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use regex::Regex;

/// A pattern, matched line by line without regard to case, and what to write instead.
struct Rule {
    pattern: &'static str,
    instead: &'static str,
    scope: Scope,
}

/// The lines to which a rule applies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    Rust,
}

const fn everywhere(pattern: &'static str, instead: &'static str) -> Rule {
    Rule { pattern, instead, scope: Scope::All }
}

const fn rust(pattern: &'static str, instead: &'static str) -> Rule {
    Rule { pattern, instead, scope: Scope::Rust }
}

const RULES: &[Rule] = &[
    // Terms of the field.
    everywhere(r"\b(re|un)?seal(s|ed|ing|er)?\b", "encrypt, encrypted, re-encryption"),
    everywhere(r"\bdoorbells?\b", "notifier, notify"),
    everywhere(r"\b(rang|rung)\b", "notified"),
    everywhere(r"\bcrowds?\b", "connection limit"),
    everywhere(r"\berrands?\b", "effect"),
    everywhere(r"\bconsent(s|ed|ing)?\b", "verification, confirm"),
    everywhere(r"\bpatien(ce|t|tly)\b", "timeout, or retry until available"),
    everywhere(r"\btortur(e|es|ed|ing)\b", "chaos run, fault"),
    rust(r"//[/!].*\brooms?\b", "module"),
    rust(r"\b(struct|enum|trait|type) Turn", "a name for the transition, lock or phase"),
    rust(r"\b\w*(MOST|LONGEST)_[A-Z]\w*|\b[A-Z]\w*_(MOST|LONGEST)\b|\b(MOST|LONGEST)\b", "MAX_..."),
    // English that every engineer reads at once.
    everywhere(r"\banew\b", "again"),
    everywhere(r"\b(whom|whoever)\b", "name the client, receiver or operator"),
    everywhere(r"\balone\b", "only, or by itself"),
    everywhere(r"\btold\b", "reported, sent, configured"),
    everywhere(r"\btells?\b", "reports, sends, names"),
    everywhere(r"\blet go\b", "released, resumed, closed"),
    everywhere(r"\b(come|comes|came) of\b", "result of, caused by"),
    everywhere(r"\bthere (is|are) had\b", "exists"),
    everywhere(r"\b(goes|go|went) out\b", "is sent, is written"),
    everywhere(r"\bso (many|much)\b", "the number, or a limit with its name"),
    everywhere(r"\bthat of\b", "name the thing again"),
    everywhere(r"\bby that\b", "name the cause"),
    rust(r"\btried\b", "attempted, or sent"),
    // A comment that starts without a noun.
    rust(
        r"//[/!]? (Who|What|Which|Whose|Whom|Its?|How far|To whom|Of what|By what)\b",
        "start the sentence with the thing itself, or delete the comment",
    ),
];

/// Names in SQL, metrics and stored formats, which stay as they are.
const STORED_NAMES: &[&str] = &[
    "FROM sealed",
    "VIEW sealed",
    "sealed_with_other_keys",
    "sealed_with",
    "sealed1",
    "consent_token",
    "consent_key",
    "\"consent\"",
    "\"consents\"",
    // A function of the crate ring.
    "seal_in_place_append_tag",
];

/// Texts that may hold the words, each with its reason.
const EXEMPT: &[(&str, &str)] = &[
    ("CHANGELOG.md", "keeps the words of its time"),
    ("LICENSE", "not ours"),
    ("migrations/0008_subscription_functions.sql", "an applied migration keeps its checksum"),
    ("docs/internals/store.md", "names the SQL view `sealed`"),
    ("migrations/0012_encryption_functions.sql", "defines the SQL view `sealed`"),
    ("tests/language.rs", "lists the words"),
];

/// Extensions and names of the files that are checked.
const CHECKED: &[&str] = &[
    "rs",
    "md",
    "sql",
    "toml",
    "json",
    "yml",
    "js",
    "html",
    "css",
    "py",
    "sh",
    "Makefile",
    "Dockerfile",
];

/// A line that holds a word to avoid.
struct Finding<'a> {
    file: &'a str,
    line: usize,
    words: String,
    instead: &'static str,
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, words, instead } = self;
        write!(f, "{file}:{line}: \"{words}\": write instead: {instead}")
    }
}

struct Checker {
    rules: Vec<(Regex, &'static Rule)>,
    /// Matches wherever one of the rules does: one pass over a text finds the few lines to look at.
    any: Regex,
}

impl Checker {
    fn new() -> Self {
        let compile = |rule: &'static Rule| (Regex::new(&flagged(rule)).expect(rule.pattern), rule);
        let all: Vec<String> = RULES.iter().map(|rule| format!("({})", flagged(rule))).collect();
        Self {
            rules: RULES.iter().map(compile).collect(),
            any: Regex::new(&all.join("|")).expect("rules compile together"),
        }
    }

    fn check<'a>(&self, file: &'a str, text: &str) -> Vec<Finding<'a>> {
        let text = STORED_NAMES.iter().fold(text.to_owned(), |text, name| text.replace(name, ""));
        let mut findings = self.check_words(file, &text);
        if is_rust(file) {
            // An underscore joins words in an identifier, and each of these is a word.
            findings.extend(self.check_words(file, &text.replace('_', " ")));
        }
        findings.sort_by_key(|finding| (finding.line, finding.instead));
        findings.dedup_by_key(|finding| (finding.line, finding.instead));
        findings
    }

    fn check_words<'a>(&self, file: &'a str, text: &str) -> Vec<Finding<'a>> {
        let mut findings = Vec::new();
        let (mut line, mut counted) = (1, 0);
        for candidate in self.any.find_iter(text) {
            let skipped = text.get(counted..candidate.start()).unwrap_or_default();
            line += skipped.matches('\n').count();
            counted = candidate.start();
            for (regex, rule) in &self.rules {
                let applies = is_rust(file) || rule.scope == Scope::All;
                if applies && regex.is_match(candidate.as_str()) {
                    let words = candidate.as_str().trim().to_owned();
                    findings.push(Finding { file, line, words, instead: rule.instead });
                }
            }
        }
        findings
    }
}

fn is_rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "rs")
}

/// The rule's pattern. Only the patterns for comments and constants distinguish upper and lower case.
fn flagged(rule: &Rule) -> String {
    let keeps_case = rule.pattern.contains("[A-Z]") || rule.pattern.starts_with("//");
    format!("{}{}", if keeps_case { "(?-i)" } else { "(?i)" }, rule.pattern)
}

/// The files under version control that are checked.
fn checked_files() -> Vec<String> {
    let output = Command::new("git").arg("ls-files").output().expect("git ls-files");
    let files = String::from_utf8(output.stdout).expect("UTF-8 file names");
    let is_checked = |file: &str| {
        let name = file.rsplit('/').next().unwrap_or(file);
        let extension = name.rsplit('.').next().unwrap_or(name);
        let is_script = file.starts_with("scripts/") || file.starts_with(".ci/");
        (is_script || CHECKED.contains(&extension))
            && !file.starts_with(".sqlx/")
            && !EXEMPT.iter().any(|(exempt, _reason)| *exempt == file)
            && Path::new(file).is_file()
    };
    files.lines().filter(|file| is_checked(file)).map(str::to_owned).collect()
}

#[test]
fn code_and_prose_use_the_standard_terms() {
    let (checker, files) = (Checker::new(), checked_files());
    assert!(files.len() > 100, "git lists only {} files", files.len());
    let mut report = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect(file);
        report.extend(checker.check(file, &text).iter().map(ToString::to_string));
    }
    assert!(report.is_empty(), "\n{}\n{} lines to reword", report.join("\n"), report.len());
}

#[test]
fn planted_words_are_found() {
    let checker = Checker::new();
    let found = |file: &str, line: &str| {
        let findings = checker.check(file, &format!("fn main() {{}}\n{line}\n"));
        assert!(findings.iter().all(|finding| finding.line == 2), "{line}");
        !findings.is_empty()
    };
    for line in [
        "    /// Its id.",
        "//! What went wrong.",
        "    // Which one it is.",
        "const MOST_EVENTS: usize = 1;",
        "const EVENTS_MOST: usize = 1;",
        "    if elapsed > LONGEST {",
        "fn look_anew() {}",
        "struct Resealer; // sealed",
        "let told = answer.text;",
        "/// The receiver is told.",
        "struct TurnOfRetention;",
        "fn a_test_for_whoever_asks() {}",
    ] {
        assert!(found("src/a.rs", line), "{line}");
    }
    for line in ["Events that are sealed.", "It was let go.", "What comes of it.", "a key alone"] {
        assert!(found("docs/a.md", line), "{line}");
    }
    for line in [
        "    /// Whether the event's id is valid.",
        "    /// Itself a hub.",
        "let almost = most(values);",
        "fn maximum() -> usize { MAX_EVENTS }",
    ] {
        assert!(!found("src/a.rs", line), "{line}");
    }
    assert!(!found("docs/a.md", "What you need: its id, who sent it, and which key was tried."));
}

#[test]
fn a_finding_names_file_line_word_and_replacement() {
    let findings = Checker::new().check("docs/a.md", "first\nread anew\n");
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["docs/a.md:2: \"anew\": write instead: again"]);
}
