//! What a kubectl takes when its target is far away: keeps what `load-tests/wan.sh` has measured as JSON, tells
//! it as a table and draws it (`picture`). Table and picture come from the JSON alone, so that they can be
//! made anew without measuring.

mod picture;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::environment;
use crate::report::quantile;

#[derive(Args)]
pub struct Options {
    /// Where the results are kept.
    #[arg(long, default_value = "load-tests/results/wan.json")]
    results: PathBuf,
    #[arg(long, default_value = "load-tests/results/wan.md")]
    table: PathBuf,
    #[arg(long, default_value = "docs/pictures/wan.svg")]
    picture: PathBuf,
    /// Samples of a new run, which replace the results: lines of way, discovery cache, round trip in ms, time
    /// in µs.
    #[arg(long)]
    samples: Option<PathBuf>,
    /// What is to be known of the new run, as NAME=VALUE. Repeatable.
    #[arg(long = "about", value_name = "NAME=VALUE", value_parser = pair)]
    about: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Direct,
    Kubeconfig,
    KubeconfigReverse,
    /// The `kubeconfig`, of a connector for which the gateway has no connection open.
    NothingOpen,
}

/// What kubectl knows of the target's API beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Cache {
    Empty,
    Filled,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Figure {
    cache: Cache,
    round_trip_ms: u64,
    way: Way,
    median_ms: f64,
    p90_ms: f64,
    samples_ms: Vec<f64>,
}

#[derive(Deserialize)]
struct Results {
    about: BTreeMap<String, String>,
    /// By discovery cache, then distance, then way.
    figures: Vec<Figure>,
}

pub fn run(options: Options) -> Result<()> {
    if let Some(samples) = &options.samples {
        let machine = environment::machine().into_iter().map(|(name, value)| (name.to_owned(), value));
        let about = machine.chain(options.about).collect();
        write(&options.results, &Results::of(about, &read(samples)?)?.json()?)?;
    }
    let results: Results = serde_json::from_str(&read(&options.results)?)?;
    let table = results.table();
    print!("{table}");
    write(&options.table, &table)?;
    write(&options.picture, &picture::draw(&results))
}

impl Way {
    const ALL: [Way; 4] = [Way::Direct, Way::Kubeconfig, Way::KubeconfigReverse, Way::NothingOpen];

    fn title(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Kubeconfig => "kubeconfig",
            Way::KubeconfigReverse => "kubeconfig-reverse",
            Way::NothingOpen => "kubeconfig, nothing open yet",
        }
    }
}

impl Cache {
    const ALL: [Cache; 2] = [Cache::Empty, Cache::Filled];

    fn title(self) -> &'static str {
        match self {
            Cache::Empty => "empty",
            Cache::Filled => "filled",
        }
    }
}

impl Results {
    fn of(about: BTreeMap<String, String>, samples: &str) -> Result<Results> {
        let mut times: BTreeMap<(Cache, u64, Way), Vec<f64>> = BTreeMap::new();
        for line in samples.lines() {
            let (key, time) = sample(line).with_context(|| format!("the sample {line:?}"))?;
            times.entry(key).or_default().push(time);
        }
        let rounds = times.values().next().context("there are no samples")?.len();
        ensure!(times.values().all(|one| one.len() == rounds), "not every way has {rounds} samples");
        let figure = |((cache, round_trip_ms, way), samples_ms): ((Cache, u64, Way), Vec<f64>)| {
            let [median_ms, p90_ms] = [0.5, 0.9].map(|part| tenths(quantile(&samples_ms, part)));
            Figure { cache, round_trip_ms, way, median_ms, p90_ms, samples_ms }
        };
        Ok(Results { about, figures: times.into_iter().map(figure).collect() })
    }

    /// A line for each figure: so a new run shows as what it is in a diff.
    fn json(&self) -> Result<String> {
        let about = serde_json::to_string_pretty(&self.about)?;
        let figures = self.figures.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        let figures = figures.join(",\n");
        Ok(format!("{{\"about\": {about},\n\"figures\": [\n{figures}\n]}}\n"))
    }

    fn figure(&self, cache: Cache, round_trip: u64, way: Way) -> Option<&Figure> {
        self.figures.iter().find(|one| (one.cache, one.round_trip_ms, one.way) == (cache, round_trip, way))
    }

    /// In milliseconds, the nearest first.
    fn round_trips(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.figures.iter().map(|figure| figure.round_trip_ms).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn about(&self, name: &str) -> &str {
        self.about.get(name).map_or("unknown", String::as_str)
    }

    fn table(&self) -> String {
        let ways = Way::ALL.map(Way::title).join(" | ");
        let mut table = format!(
            "`{}`, milliseconds: median of {} (nine of ten took no longer)\n\n\
             | discovery cache | round trip | {ways} |\n|---|--:|--:|--:|--:|--:|\n",
            self.about("command"),
            self.about("rounds"),
        );
        for cache in Cache::ALL {
            for round_trip in self.round_trips() {
                let cell = |way| {
                    let figure = self.figure(cache, round_trip, way);
                    figure.map_or("–".to_owned(), |one| format!("{:.0} ({:.0})", one.median_ms, one.p90_ms))
                };
                let cells = Way::ALL.map(cell).join(" | ");
                let _ = writeln!(table, "| {} | {round_trip} ms | {cells} |", cache.title());
            }
        }
        table.push('\n');
        for (name, value) in &self.about {
            let _ = writeln!(table, "* {name}: {value}");
        }
        table
    }
}

fn sample(line: &str) -> Result<((Cache, u64, Way), f64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [way, cache, round_trip, time] = words[..] else { anyhow::bail!("it has not four words") };
    let way = serde_json::from_value(json!(way))?;
    let cache = serde_json::from_value(json!(cache))?;
    let microseconds: f64 = time.parse()?;
    Ok(((cache, round_trip.parse()?, way), tenths(microseconds / 1000.0)))
}

/// What is finer says nothing of a process that takes a tenth of a second to start.
fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("{text} is not NAME=VALUE"))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(path: &str) -> String {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    }

    #[test]
    fn the_table_and_the_picture_in_the_repository_show_the_results_in_it() {
        let text = kept("load-tests/results/wan.json");
        let results: Results = serde_json::from_str(&text).unwrap();
        assert_eq!(results.json().unwrap(), text, "written by hand?");
        assert_eq!(results.table(), kept("load-tests/results/wan.md"), "run `bench wan`");
        assert_eq!(picture::draw(&results), kept("docs/pictures/wan.svg"), "run `bench wan`");
        for figure in &results.figures {
            let again = [0.5, 0.9].map(|part| tenths(quantile(&figure.samples_ms, part)));
            assert_eq!([figure.median_ms, figure.p90_ms], again, "{figure:?}");
        }
    }

    #[test]
    fn samples_of_a_way_become_its_median_and_its_ninth_tenth() {
        let lines: Vec<String> = (0..=10).map(|n| format!("nothing-open filled 80 {}", n * 1000)).collect();
        let results = Results::of(BTreeMap::new(), &lines.join("\n")).unwrap();
        let [figure] = &results.figures[..] else { panic!("{} figures", results.figures.len()) };
        assert_eq!((figure.median_ms, figure.p90_ms, figure.samples_ms.len()), (5.0, 9.0, 11));
        assert_eq!(results.figure(Cache::Filled, 80, Way::NothingOpen), Some(figure));
        assert!(results.table().contains("| filled | 80 ms | – | – | – | 5 (9) |"), "{}", results.table());
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let wrong = ["direct empty 20", "around empty 20 5", "direct full 20 5", "direct empty near 5", ""];
        let uneven = "direct empty 20 5\ndirect empty 20 5\ndirect empty 80 5";
        for line in wrong.into_iter().chain([uneven]) {
            assert!(Results::of(BTreeMap::new(), line).is_err(), "{line:?}");
        }
    }
}
