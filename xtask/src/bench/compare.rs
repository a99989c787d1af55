//! Figures beside those of an earlier run.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use lb_tests::report::Figure;

use crate::command::announce;

/// A change that is smaller is none, however quiet the machine was.
const LEAST: f64 = 0.05;

/// Reads a file that `--json` wrote.
pub fn read(path: &Path) -> Result<Vec<Figure>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let figures = text.lines().map(Figure::from_json).collect::<Result<_>>();
    figures.with_context(|| path.display().to_string())
}

/// Prints what got slower by more than the noise, which is an error, and what got faster.
pub fn show(baseline: &[Figure], figures: &[Figure]) -> Result<()> {
    announce("compared with the baseline, by ratios to the controls of each run");
    let mut slower = 0;
    for figure in figures {
        let name = format!("{}: {}", figure.bench, figure.case);
        let stored = baseline.iter().find(|old| is_same(old, figure));
        match stored.map_or(Change::New, |stored| compare(stored, figure)) {
            Change::Slower(by) => {
                slower += 1;
                println!("slower   {name}: by {:.0} %", 100.0 * by);
            }
            Change::Faster(by) => println!("faster   {name}: by {:.0} %", 100.0 * by),
            Change::Unknown => println!("unknown  {name}: spread too wide, here or there"),
            Change::New => println!("new      {name}"),
            Change::None => {}
        }
    }
    for old in baseline.iter().filter(|old| was_left_out(old, figures)) {
        println!("missing  {}: {}", old.bench, old.case);
    }
    ensure!(slower == 0, "{slower} figures got slower by more than the noise");
    println!("nothing got slower by more than the noise");
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Change {
    Slower(f64),
    Faster(f64),
    None,
    Unknown,
    New,
}

fn is_same(a: &Figure, b: &Figure) -> bool {
    (&a.bench, &a.case, &a.unit) == (&b.bench, &b.case, &b.unit)
}

/// A case of a benchmark that did run.
fn was_left_out(old: &Figure, figures: &[Figure]) -> bool {
    figures.iter().any(|figure| figure.bench == old.bench)
        && !figures.iter().any(|figure| is_same(old, figure))
}

/// Machines differ, ratios less so. What both runs' spreads reach is noise.
fn compare(old: &Figure, new: &Figure) -> Change {
    let (Some(before), Some(after)) = (old.ratio, new.ratio) else { return Change::Unknown };
    let noise = LEAST + (spread(old) + spread(new)) / 2.0;
    let (cost_before, cost_after) = if new.is_rate() { (after, before) } else { (before, after) };
    let by = cost_after / cost_before - 1.0;
    match by {
        by if !by.is_finite() => Change::None,
        by if by > noise => Change::Slower(by),
        by if cost_before / cost_after - 1.0 > noise => Change::Faster(-by),
        _ => Change::None,
    }
}

/// Of the ratio: a control's own is always 1.
fn spread(figure: &Figure) -> f64 {
    if figure.case == figure.control { 0.0 } else { figure.spread }
}

#[cfg(test)]
mod tests {
    use lb_tests::report::Measured;

    use super::*;

    fn figure(unit: &'static str, ratios: &[f64]) -> Figure {
        let measured = Measured { values: ratios.into(), ..Measured::new("case", unit) };
        Figure::new("bench", &measured, "control", ratios)
    }

    #[test]
    fn a_cost_that_grew_and_a_rate_that_shrank_are_slower() {
        let (two, three) = ([2.0; 7], [3.0; 7]);
        assert_eq!(compare(&figure("ns", &two), &figure("ns", &three)), Change::Slower(0.5));
        let slower = compare(&figure("flows/s", &three), &figure("flows/s", &two));
        assert_eq!(slower, Change::Slower(0.5));
        let faster = compare(&figure("ns", &three), &figure("ns", &two));
        assert!(matches!(faster, Change::Faster(by) if by > 0.3), "{faster:?}");
    }

    #[test]
    fn what_the_spreads_reach_is_noise() {
        let wide = [1.8, 1.8, 1.8, 2.0, 2.2, 2.2, 2.2];
        assert_eq!(compare(&figure("ns", &wide), &figure("ns", &[2.2; 7])), Change::None);
        assert_eq!(compare(&figure("ns", &[2.0; 7]), &figure("ns", &[2.08; 7])), Change::None);
        assert_ne!(compare(&figure("ns", &[2.0; 7]), &figure("ns", &[2.2; 7])), Change::None);
    }

    #[test]
    fn nothing_is_said_about_ratios_that_are_spread_too_wide() {
        let wide = figure("ns", &[1.0, 2.0, 3.0]);
        assert_eq!(compare(&wide, &figure("ns", &[9.0; 7])), Change::Unknown);
    }

    #[test]
    fn what_is_missing_is_missed_only_if_its_benchmark_ran() {
        let (old, new) =
            (figure("ns", &[1.0]), Figure { case: "b".into(), ..figure("ns", &[1.0]) });
        assert!(was_left_out(&old, std::slice::from_ref(&new)));
        assert!(!was_left_out(&old, std::slice::from_ref(&old)));
        assert!(!was_left_out(&old, &[Figure { bench: "other".into(), ..new }]));
    }
}
