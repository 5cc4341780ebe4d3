//! The results as a picture: a field for each state of the discovery cache, time by distance, a line for each
//! way. Its colours follow what the reader's system prefers, and it brings its own background, so that it can
//! be read wherever it is shown.

use std::fmt::Write;

use super::{Cache, Figure, Results, Way};

const SIZE: [f64; 2] = [880.0, 430.0];
/// Of one field: where the first begins, how far the next is away, how large it is.
const LEFT: f64 = 62.0;
const APART: f64 = 420.0;
const TOP: f64 = 112.0;
const FIELD: [f64; 2] = [368.0, 262.0];
/// Room at the right end for half a number.
const MARGIN: f64 = 16.0;

const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}
.head{font-size:16px;font-weight:600}.number{font-size:12px;font-weight:600;stroke-width:4px;paint-order:stroke}
.line{fill:none;stroke-width:2.5}.line.nothing-open{stroke-width:1.5;stroke-dasharray:5 4}
.most{stroke-width:1.5;opacity:.5}.point{stroke-width:2}
text{fill:#1f2328}.less{fill:#59636e}.paper{fill:#fff;stroke:#d1d9e0}.grid{stroke:#d1d9e0}
.direct{stroke:#c2410c}.kubeconfig,.nothing-open{stroke:#0b62c4}.kubeconfig-reverse{stroke:#0f7b5c}
.of-direct,.point.direct{fill:#c2410c}.of-kubeconfig,.point.kubeconfig{fill:#0b62c4}
.point.kubeconfig-reverse{fill:#0f7b5c}.point.nothing-open{fill:#fff}.number{stroke:#fff}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.less{fill:#9198a1}.paper{fill:#0d1117;stroke:#3d444d}.grid{stroke:#3d444d}
.direct{stroke:#ff9a5c}.kubeconfig,.nothing-open{stroke:#6cb6ff}.kubeconfig-reverse{stroke:#4fd1a5}
.of-direct,.point.direct{fill:#ff9a5c}.of-kubeconfig,.point.kubeconfig{fill:#6cb6ff}
.point.kubeconfig-reverse{fill:#4fd1a5}.point.nothing-open{fill:#0d1117}.number{stroke:#0d1117}}
";

/// From figures to places.
struct Field<'a> {
    results: &'a Results,
    cache: Cache,
    left: f64,
    /// Of the axes, in milliseconds.
    farthest: f64,
    longest: f64,
}

pub fn draw(results: &Results) -> String {
    let [width, height] = SIZE;
    let command = results.about("command");
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>Time of {command} by distance to the target, directly and through the gateway</title>\n\
         <style>\n{STYLE}</style>\n\
         <rect class=\"paper\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
        width - 1.0,
        height - 1.0,
    );
    let (rounds, date) = (results.about("rounds"), results.about("date"));
    text(&mut svg, "head", "start", [20.0, 30.0], &format!("{command}: time by distance to the target"));
    let note = format!("median of {rounds} runs, bar up to p90 · {date}");
    text(&mut svg, "less", "end", [width - 20.0, 30.0], &note);
    legend(&mut svg);
    let round_trips = results.round_trips();
    let farthest = round_trips.last().copied().unwrap_or_default().max(1) as f64;
    let longest = results.figures.iter().map(|figure| figure.p90_ms).fold(1.0, f64::max);
    let longest = (longest / step(longest)).ceil() * step(longest);
    for (place, cache) in Cache::ALL.into_iter().enumerate() {
        let field = Field { results, cache, left: LEFT + place as f64 * APART, farthest, longest };
        field.axes(&mut svg, &round_trips);
        for way in Way::ALL.into_iter().rev() {
            field.line(&mut svg, way);
        }
        // Over all lines, and not of ways whose points lie close to those of others.
        field.numbers(&mut svg, Way::Direct, "number of-direct", -10.0);
        field.numbers(&mut svg, Way::Kubeconfig, "number of-kubeconfig", 19.0);
    }
    svg.push_str("</svg>\n");
    svg
}

impl Field<'_> {
    fn x(&self, round_trip: f64) -> f64 {
        self.left + MARGIN + round_trip / self.farthest * (FIELD[0] - 2.0 * MARGIN)
    }

    fn y(&self, time: f64) -> f64 {
        TOP + FIELD[1] * (1.0 - time / self.longest)
    }

    fn axes(&self, svg: &mut String, round_trips: &[u64]) {
        let title = match self.cache {
            Cache::Empty => "the first time (discovery cache empty)",
            Cache::Filled => "after that (discovery cache filled)",
        };
        text(svg, "", "start", [self.left, TOP - 16.0], title);
        let mut time = 0.0;
        while time <= self.longest {
            let (y, right) = (self.y(time), self.left + FIELD[0]);
            let _ = writeln!(svg, r#"<path class="grid" d="M{:.1} {y:.1}H{right:.1}"/>"#, self.left);
            text(svg, "less", "end", [self.left - 8.0, y + 4.0], &format!("{time:.0}"));
            time += step(self.longest);
        }
        let below = TOP + FIELD[1] + 20.0;
        for round_trip in round_trips {
            text(svg, "less", "middle", [self.x(*round_trip as f64), below], &round_trip.to_string());
        }
        let middle = self.left + FIELD[0] / 2.0;
        text(svg, "less", "middle", [middle, below + 20.0], "round trip to the target, ms");
        text(svg, "less", "end", [self.left - 8.0, TOP - 16.0], "ms");
    }

    /// Of one way, the nearest first.
    fn figures(&self, way: Way) -> impl Iterator<Item = &Figure> {
        self.results.figures.iter().filter(move |figure| figure.cache == self.cache && figure.way == way)
    }

    fn place(&self, figure: &Figure) -> [f64; 2] {
        [self.x(figure.round_trip_ms as f64), self.y(figure.median_ms)]
    }

    fn line(&self, svg: &mut String, way: Way) {
        let points: Vec<[f64; 2]> = self.figures(way).map(|figure| self.place(figure)).collect();
        line(svg, way, &points);
        for figure in self.figures(way) {
            let ([x, y], most, class) = (self.place(figure), self.y(figure.p90_ms), class(way));
            let _ = writeln!(svg, r#"<path class="most {class}" d="M{x:.1} {y:.1}V{most:.1}"/>"#);
        }
    }

    fn numbers(&self, svg: &mut String, way: Way, class: &str, below: f64) {
        for figure in self.figures(way) {
            let [x, y] = self.place(figure);
            text(svg, class, "middle", [x, y + below], &format!("{:.0}", figure.median_ms));
        }
    }
}

fn line(svg: &mut String, way: Way, points: &[[f64; 2]]) {
    let class = class(way);
    let way: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1} {y:.1}")).collect();
    let _ = writeln!(svg, r#"<path class="line {class}" d="M{}"/>"#, way.join("L"));
    for [x, y] in points {
        let _ = writeln!(svg, r#"<circle class="point {class}" cx="{x:.1}" cy="{y:.1}" r="3.2"/>"#);
    }
}

fn legend(svg: &mut String) {
    let mut x = 20.0;
    for way in Way::ALL {
        let title = title(way);
        line(svg, way, &[[x, 58.0], [x + 26.0, 58.0]]);
        text(svg, "", "start", [x + 36.0, 62.0], title);
        // No font is at hand to ask: a letter of this size is about so wide.
        x += 36.0 + title.len() as f64 * 6.9 + 15.0;
    }
}

fn title(way: Way) -> &'static str {
    match way {
        Way::Direct => "directly",
        Way::Kubeconfig => "gateway, kubeconfig",
        Way::KubeconfigReverse => "gateway, kubeconfig-reverse",
        Way::NothingOpen => "kubeconfig, no connection open yet",
    }
}

fn class(way: Way) -> &'static str {
    match way {
        Way::Direct => "direct",
        Way::Kubeconfig => "kubeconfig",
        Way::KubeconfigReverse => "kubeconfig-reverse",
        Way::NothingOpen => "nothing-open",
    }
}

fn text(svg: &mut String, class: &str, anchor: &str, [x, y]: [f64; 2], words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ =
        writeln!(svg, r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{words}</text>"#);
}

/// Between two lines of the grid: at most seven of them.
fn step(longest: f64) -> f64 {
    let steps = [10.0, 20.0, 50.0, 100.0, 200.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0];
    steps.into_iter().find(|step| longest / step <= 6.0).unwrap_or(10_000.0)
}
