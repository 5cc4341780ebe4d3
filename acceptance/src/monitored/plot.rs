//! A dashboard as one SVG file: its panels where Grafana has them. Colours of lines are in the middle between black and
//! white, all else follows the reader's choice of light or dark.

mod scale;

use std::fmt::Write;

use super::prometheus::Series;
use super::queries::{Dashboard, Panel};
use scale::{Scale, shown};

/// Pixels of a column of 24, and of a row.
const COLUMN: f64 = 50.0;
const ROW: f64 = 27.0;
const GAP: f64 = 8.0;
/// Around the plot of a panel: what its axes and legend take.
const LEFT: f64 = 62.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 56.0;
const RIGHT: f64 = 14.0;
/// Of a letter, on average.
const LETTER: f64 = 6.0;
const COLOURS: [&str; 10] = [
    "#3f83d6", "#d9822b", "#36a269", "#d0505a", "#8f6bd1", "#1f9fb0", "#b3911f", "#d264a4", "#7d8795",
    "#7f9f35",
];
const STYLE: &str = "text{font:11px sans-serif;fill:#24292f}.t{font-weight:600;font-size:12px}.n{font-size:26px}.f{fill:#6e7781}\
.p{fill:#f6f8fa;stroke:#d0d7de}.g{stroke:#d8dee4}.l{fill:none;stroke-width:1.4;stroke-linejoin:round}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.f{fill:#9198a1}.p{fill:#151b23;stroke:#3d444d}.g{stroke:#2f353d}}";

/// The time that is drawn, in seconds since 1970, and the time between two points.
#[derive(Clone, Copy)]
pub struct Span {
    pub from: f64,
    pub to: f64,
    pub step: f64,
}

/// Where a panel's plot is.
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// `found`: for each panel the name and the points of its lines.
pub fn svg(dashboard: &Dashboard, found: &[Vec<(String, Series)>], span: Span) -> String {
    let bottom = |panel: &Panel| panel.place[1] + panel.place[3];
    let rows = dashboard.panels.iter().map(bottom).fold(0.0, f64::max);
    let (width, height) = (24.0 * COLUMN, rows * ROW);
    let title = escaped(&dashboard.title);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n"
    );
    for (panel, lines) in dashboard.panels.iter().zip(found) {
        text.push_str(&self::panel(panel, lines, span));
    }
    text.push_str("</svg>\n");
    text
}

fn panel(panel: &Panel, lines: &[(String, Series)], span: Span) -> String {
    let [x, y, width, height] = panel.place;
    let (x, y) = (x * COLUMN + GAP / 2.0, y * ROW + GAP / 2.0);
    let (width, height) = (width * COLUMN - GAP, height * ROW - GAP);
    let title = escaped(&panel.title);
    let (left, line) = (x + 10.0, y + 19.0);
    let mut text = format!(
        "<rect class=\"p\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\"/>\n<text class=\"t\" x=\"{left}\" y=\"{line}\">{title}</text>\n"
    );
    if panel.single {
        let last = lines.iter().filter_map(|(_, series)| series.points.last()).next();
        let value = last.map_or_else(|| "–".to_owned(), |(_, value)| shown(*value, &panel.unit));
        let (middle, base) = (x + width / 2.0, y + height * 0.68);
        let number =
            format!("<text class=\"n\" text-anchor=\"middle\" x=\"{middle}\" y=\"{base}\">{value}</text>\n");
        return text + &number;
    }
    let area = Area { x: x + LEFT, y: y + TOP, width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
    let values = lines.iter().flat_map(|(_, series)| series.points.iter().map(|(_, value)| *value));
    let scale = Scale::of(values, &panel.unit);
    text.push_str(&axes(&area, &scale, &panel.unit, span));
    for ((_, series), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        text.push_str(&line_of(&area, &scale, series, colour, span));
    }
    text + &legend(&area, lines)
}

/// Lines across with their values, and the minutes below.
fn axes(area: &Area, scale: &Scale, unit: &str, span: Span) -> String {
    let mut text = String::new();
    let right = area.x + area.width;
    for mark in scale.marks() {
        let y = area.y + area.height * (1.0 - mark / scale.most);
        let (label, x, base) = (shown(mark, unit), area.x - 6.0, y + 4.0);
        let _ = writeln!(
            text,
            "<line class=\"g\" x1=\"{:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"f\" text-anchor=\"end\" x=\"{x:.1}\" y=\"{base:.1}\">{label}</text>",
            area.x
        );
    }
    let length = span.to - span.from;
    let apart = [15.0, 30.0, 60.0, 120.0, 300.0, 600.0].into_iter().find(|apart| length / apart <= 8.0);
    let apart = apart.unwrap_or(1800.0);
    let mut second = 0.0;
    while second <= length {
        let (x, y) = (area.x + area.width * second / length, area.y + area.height + 15.0);
        let (minutes, seconds) = ((second / 60.0).floor(), second % 60.0);
        let _ = writeln!(
            text,
            "<text class=\"f\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{y:.1}\">{minutes}:{seconds:02}</text>"
        );
        second += apart;
    }
    text
}

/// Interrupted where there was nothing.
fn line_of(area: &Area, scale: &Scale, series: &Series, colour: &str, span: Span) -> String {
    let mut path = String::new();
    let mut before = f64::NEG_INFINITY;
    for (time, value) in series.points.iter().filter(|(_, value)| value.is_finite()) {
        let pen = if time - before > span.step * 1.5 { 'M' } else { 'L' };
        let x = area.x + area.width * (time - span.from) / (span.to - span.from);
        let y = area.y + area.height * (1.0 - value / scale.most).clamp(0.0, 1.0);
        let _ = write!(path, "{pen}{x:.1} {y:.1}");
        before = *time;
    }
    format!("<path class=\"l\" stroke=\"{colour}\" d=\"{path}\"/>\n")
}

/// Two lines of names at most.
fn legend(area: &Area, lines: &[(String, Series)]) -> String {
    let mut text = String::new();
    let (start, end) = (area.x - LEFT + 12.0, area.x + area.width);
    let (mut x, mut y) = (start, area.y + area.height + 32.0);
    let last = y + 15.0;
    for ((name, _), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let width = LETTER.mul_add(name.chars().count() as f64, 26.0);
        if x + width > end && x > start {
            (x, y) = (start, y + 15.0);
        }
        if y > last {
            break;
        }
        let (square, words, name) = (y - 8.0, x + 13.0, escaped(name));
        let _ = writeln!(
            text,
            "<rect x=\"{x:.1}\" y=\"{square:.1}\" width=\"9\" height=\"9\" rx=\"2\" fill=\"{colour}\"/><text x=\"{words:.1}\" y=\"{y:.1}\">{name}</text>"
        );
        x += width;
    }
    text
}

/// What Grafana makes of a legend: `{{label}}` is the series' own.
pub fn name(legend: &str, series: &Series) -> String {
    let mut name = legend.to_owned();
    for (label, value) in &series.labels {
        name = name.replace(&format!("{{{{{label}}}}}"), value);
    }
    // A label that is not there is empty.
    while let (Some(from), Some(to)) = (name.find("{{"), name.find("}}")) {
        name.replace_range(from..to + 2, "");
    }
    let name = name.trim().trim_start_matches('/');
    if name.is_empty() { "none".to_owned() } else { name.to_owned() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::queries::Query;
    use super::*;

    fn series(labels: &[(&str, &str)], points: &[(f64, f64)]) -> Series {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Series { labels: labels.collect::<BTreeMap<_, _>>(), points: points.to_vec() }
    }

    #[test]
    fn a_legend_takes_its_words_from_the_labels() {
        let of = series(&[("code", "2xx"), ("connector", "other")], &[]);
        for (legend, expected) in [
            ("{{code}}", "2xx"),
            ("p99", "p99"),
            ("{{connector_namespace}}/{{connector}}", "other"),
            ("watch {{kind}}", "watch"),
            ("{{kind}}", "none"),
        ] {
            assert_eq!(name(legend, &of), expected, "{legend}");
        }
    }

    #[test]
    fn a_line_is_drawn_within_its_panel_and_broken_where_there_was_nothing() {
        let queries = vec![Query { expression: String::new(), legend: String::new() }];
        let place = [0.0, 0.0, 12.0, 8.0];
        let panel = Panel { title: "a < b".into(), unit: "reqps".into(), single: false, queries, place };
        let dashboard = Dashboard { title: "D".into(), panels: vec![panel] };
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 4.0), (4.0, 3.0)];
        let found = vec![vec![("one & two".to_owned(), series(&[], &points))]];
        let svg = svg(&dashboard, &found, Span { from: 0.0, to: 4.0, step: 1.0 });
        let path = svg.split(" d=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        assert_eq!(path, "M66.0 126.0L195.0 96.0M453.0 36.0L582.0 66.0");
        assert!(svg.contains("a &lt; b") && svg.contains("one &amp; two"), "{svg}");
    }
}
