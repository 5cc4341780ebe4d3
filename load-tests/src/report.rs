//! Figures, as a table and as JSON. A ratio is taken within a round, where all peers ran right after one
//! another: the machine's noise shows in how the rounds differ.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};

/// One measurement of several ways to do the same. The first is what the others are compared with.
pub struct Figure {
    pub what: String,
    pub unit: &'static str,
    pub series: Vec<Series>,
    pub goals: Vec<Goal>,
}

pub struct Series {
    pub way: &'static str,
    /// One for each round.
    pub samples: Vec<f64>,
}

pub struct Goal {
    pub way: &'static str,
    pub bound: Bound,
}

#[derive(Clone, Copy)]
pub enum Bound {
    /// At most so many times the first way.
    Times(f64),
    /// At least so many times the first way.
    AtLeast(f64),
    /// At most so much more than the first way.
    Plus(f64),
    /// At most.
    Most(f64),
}

impl Figure {
    pub fn new(
        what: impl Into<String>,
        unit: &'static str,
        ways: impl IntoIterator<Item = &'static str>,
    ) -> Figure {
        let series = ways.into_iter().map(|way| Series { way, samples: Vec::new() }).collect();
        Figure { what: what.into(), unit, series, goals: Vec::new() }
    }

    pub fn goal(mut self, way: &'static str, bound: Bound) -> Figure {
        self.goals.push(Goal { way, bound });
        self
    }

    pub fn add(&mut self, way: usize, sample: f64) {
        self.series[way].samples.push(sample);
    }

    fn goal_of(&self, way: &str) -> Option<Bound> {
        self.goals.iter().find(|goal| goal.way == way).map(|goal| goal.bound)
    }

    /// Of each round.
    fn ratios(&self, series: &Series) -> Vec<f64> {
        series.samples.iter().zip(&self.series[0].samples).map(|(sample, base)| sample / base).collect()
    }

    fn differences(&self, series: &Series) -> Vec<f64> {
        series.samples.iter().zip(&self.series[0].samples).map(|(sample, base)| sample - base).collect()
    }

    fn met(&self, series: &Series, bound: Bound) -> bool {
        match bound {
            Bound::Times(most) => median(&self.ratios(series)) <= most,
            Bound::AtLeast(least) => median(&self.ratios(series)) >= least,
            Bound::Plus(more) => median(&self.differences(series)) <= more,
            Bound::Most(most) => median(&series.samples) <= most,
        }
    }

    fn row(&self, table: &mut String, index: usize, series: &Series) {
        let what = if index == 0 { format!("{}, {}", self.what, self.unit) } else { String::new() };
        let (ratio, rounds) = match index {
            0 => ("1".to_owned(), String::new()),
            _ => (figure(median(&self.ratios(series))), list(&self.ratios(series))),
        };
        let added = if index == 0 { String::new() } else { figure(median(&self.differences(series))) };
        let goal = self.goal_of(series.way).map_or_else(String::new, |bound| {
            format!("{}: {}", text(bound), if self.met(series, bound) { "met" } else { "missed" })
        });
        let (median, least) = (figure(median(&series.samples)), figure(least(&series.samples)));
        let _ = writeln!(
            table,
            "| {what} | {} | {median} | {least} | {added} | {ratio} | {rounds} | {goal} |",
            series.way
        );
    }
}

pub fn environment(environment: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in environment {
        let _ = writeln!(text, "* {name}: {value}");
    }
    text
}

pub const HEAD: &str = "| what | way | median | least | more than the first | ratio | ratio of each round | goal |\n|---|---|---|---|---|---|---|---|";

/// Rows below `HEAD`.
pub fn rows(figures: &[Figure]) -> String {
    let mut table = String::new();
    for measured in figures {
        for (index, series) in measured.series.iter().enumerate() {
            measured.row(&mut table, index, series);
        }
    }
    table
}

pub fn json(environment: &[(&str, String)], figures: &[Figure]) -> Result<String> {
    let environment: serde_json::Map<String, Value> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let series = |measured: &Figure, series: &Series| {
        let goal = measured.goal_of(series.way);
        json!({
            "way": series.way,
            "samples": series.samples,
            "median": median(&series.samples),
            "least": least(&series.samples),
            "ratios": measured.ratios(series),
            "ratio": median(&measured.ratios(series)),
            "goal": goal.map(text),
            "met": goal.map(|bound| measured.met(series, bound)),
        })
    };
    let figures: Vec<Value> = figures
        .iter()
        .map(|measured| {
            let ways: Vec<Value> = measured.series.iter().map(|one| series(measured, one)).collect();
            json!({"what": measured.what, "unit": measured.unit, "ways": ways})
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({"environment": environment, "figures": figures}))?)
}

pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// Of the round that the machine disturbed least.
fn least(samples: &[f64]) -> f64 {
    quantile(samples, 0.0)
}

/// Nothing measured is not a number.
pub fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let place = sorted.len().saturating_sub(1) as f64 * part;
    let at = |index: f64| sorted.get(index as usize).copied().unwrap_or(f64::NAN);
    at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
}

fn text(bound: Bound) -> String {
    match bound {
        Bound::Times(most) => format!("≤ {most} ×"),
        Bound::AtLeast(least) => format!("≥ {least} ×"),
        Bound::Plus(more) => format!("≤ + {more}"),
        Bound::Most(most) => format!("≤ {most}"),
    }
}

fn list(samples: &[f64]) -> String {
    samples.iter().map(|sample| figure(*sample)).collect::<Vec<_>>().join(" ")
}

/// Three digits that count.
fn figure(number: f64) -> String {
    match number.abs() {
        // Of nothing, when what it is compared with is nothing.
        size if !size.is_finite() => "–".to_owned(),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}
