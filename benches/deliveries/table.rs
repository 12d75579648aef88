//! The figures as a table and as JSON.

use std::fs;
use std::path::PathBuf;

use super::BoxError;
use super::figure::Figure;

/// Prints a line per figure.
pub(super) fn print(figures: &[Figure]) {
    println!("{:<38} {:>25}   {:<39} target", "", "median (min to max)", "floor in the same run");
    for figure in figures {
        let unit = if figure.unit.is_empty() { String::new() } else { format!(" {}", figure.unit) };
        let range = figure
            .rounds
            .map_or_else(String::new, |(min, max)| format!(" ({} to {})", short(min), short(max)));
        let value = format!("{}{unit}{range}", short(figure.value));
        let floor = figure
            .floor
            .map_or_else(String::new, |floor| format!("{}{unit} {}", short(floor.value), floor.of));
        let target = figure.verdict.as_ref().map_or_else(String::new, |verdict| {
            let met = if verdict.met { "met" } else { "NOT MET" };
            format!("{}: {:.2}, {met}", verdict.target, verdict.compared)
        });
        println!(
            "{}",
            format!("{:<38} {value:>25}   {floor:<39} {target}", figure.name).trim_end()
        );
    }
}

/// Writes the figures to `target/bench/deliveries.json`, an object per figure.
pub(super) fn write(figures: &[Figure]) -> Result<PathBuf, BoxError> {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench"));
    fs::create_dir_all(&directory)?;
    let path = directory.join("deliveries.json");
    fs::write(&path, serde_json::to_string_pretty(figures)? + "\n")?;
    Ok(path)
}

/// About three significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 && size.fract() != 0.0 => format!("{value:.2}"),
        size if size < 100.0 && size.fract() != 0.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
