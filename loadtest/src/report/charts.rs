//! Charts as inline SVG: lines over the seconds of a drive, and a field of districts. No script, no outside resource.

use std::fmt::Write as _;

use super::figures::DistrictFigures;

/// One line of a chart.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    /// A CSS class that gives the colour.
    pub(crate) class: &'a str,
    /// One value per second; the line breaks where there is none.
    pub(crate) values: Vec<Option<f64>>,
}

/// A stretch of time to be marked: a kill, until the server was back; a Redis that was away; a full disk.
pub(crate) struct Outage {
    pub(crate) word: &'static str,
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 58.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 10.0;

/// Lines over seconds. With `log`, the scale is logarithmic from 0.1 up, as latencies need.
pub(crate) fn over_time(lines: &[Line<'_>], outages: &[Outage], log: bool) -> String {
    let seconds = lines.iter().map(|line| line.values.len()).max().unwrap_or(0).max(2);
    let most = lines.iter().flat_map(|line| &line.values).flatten().copied().fold(1.0, f64::max);
    let scale = Scale { seconds: count(seconds - 1), most: if log { ceil_decade(most) } else { ceil_nice(most) }, log };
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for outage in outages {
        let (from, to) = (scale.x(outage.from_s), scale.x(outage.to_s.min(scale.seconds)));
        let width = (to - from).max(2.0);
        let _ = write!(
            svg,
            "<rect class=\"outage\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{:.1}\"/><text class=\"kill\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            HEIGHT - TOP - BOTTOM,
            from + 3.0,
            TOP + 10.0,
            outage.word
        );
    }
    for value in scale.marks() {
        let y = scale.y(value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            short(value)
        );
    }
    let every = ceil_nice(scale.seconds / 8.0).max(1.0);
    let mut second = 0.0;
    while second <= scale.seconds {
        let _ = write!(
            svg,
            "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second:.0}s</text>",
            scale.x(second),
            HEIGHT - 6.0
        );
        second += every;
    }
    for line in lines {
        let points: Vec<Option<String>> = line
            .values
            .iter()
            .enumerate()
            .map(|(second, value)| value.map(|value| format!("{:.1},{:.1}", scale.x(count(second)), scale.y(value))))
            .collect();
        for run in points.split(Option::is_none) {
            let mut run: Vec<&str> = run.iter().flatten().map(String::as_str).collect();
            match run[..] {
                [] => continue,
                // A lone point shows as a dot, which takes a line from it to itself.
                [alone] => run.push(alone),
                _ => {}
            }
            let _ = write!(svg, "<polyline class=\"line {}\" points=\"{}\"/>", line.class, run.join(" "));
        }
    }
    svg.push_str("</svg><p class=\"legend\">");
    for line in lines {
        let _ = write!(svg, "<span class=\"key {}\"></span>{} ", line.class, line.name);
    }
    svg.push_str("</p>");
    svg
}

/// Every district as a small square, darker the fuller it is; its name and counts show on hovering.
pub(crate) fn district_field(districts: &[DistrictFigures]) -> String {
    const SIDE: f64 = 16.0;
    const PER_ROW: usize = 54;
    let rows = districts.len().div_ceil(PER_ROW).max(1);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">", count(rows) * (SIDE + 0.6) + 2.0);
    for (index, district) in districts.iter().enumerate() {
        let (x, y) = (count(index % PER_ROW) * (SIDE + 0.6), count(index / PER_ROW) * (SIDE + 0.6));
        let title = format!("{}: {} of {} units taken", district.name, district.taken, district.units);
        let class = if district.units == 0 { "empty" } else { "cell" };
        let fill = if district.units == 0 {
            1.0
        } else {
            0.12 + 0.88 * (whole(district.taken) / whole(district.units)).min(1.0)
        };
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{SIDE}\" height=\"{SIDE}\" fill-opacity=\"{fill:.2}\"><title>{}</title></rect>",
            super::html::escape(&title)
        );
    }
    svg.push_str("</svg>");
    svg
}

struct Scale {
    seconds: f64,
    most: f64,
    log: bool,
}

impl Scale {
    fn x(&self, second: f64) -> f64 {
        LEFT + (WIDTH - LEFT - 6.0) * second / self.seconds
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.log {
            let low = 0.1_f64.log10();
            (value.max(0.1).log10() - low) / (self.most.log10() - low)
        } else {
            value / self.most
        };
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share
    }

    fn marks(&self) -> Vec<f64> {
        if !self.log {
            return (0..=4).map(|quarter| self.most * f64::from(quarter) / 4.0).collect();
        }
        let mut marks = vec![0.1];
        while marks.last().is_some_and(|&mark| mark < self.most * 0.99) {
            marks.push(marks[marks.len() - 1] * 10.0);
        }
        marks
    }
}

fn ceil_decade(value: f64) -> f64 {
    10.0_f64.powf(value.max(1.0).log10().ceil())
}

/// The next of 1, 2, 4 or 5 times a power of ten.
fn ceil_nice(value: f64) -> f64 {
    let decade = 10.0_f64.powf(value.max(1e-9).log10().floor());
    [1.0, 2.0, 4.0, 5.0, 10.0].iter().map(|step| step * decade).find(|&nice| nice >= value * 0.999).unwrap_or(value)
}

fn short(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0}k", value / 1_000.0)
    } else if value >= 10.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
fn count(value: usize) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "shares in a picture")]
fn whole(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_stays_inside_its_frame() {
        let line = Line { name: "a", class: "a", values: [0.0, 3.0, 950.0, 12.5].map(Some).to_vec() };
        for log in [false, true] {
            let svg = over_time(std::slice::from_ref(&line), &[Outage { word: "kill", from_s: 1.2, to_s: 99.0 }], log);
            let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            for point in points.split(' ') {
                let (x, y) = point.split_once(',').unwrap();
                assert!((0.0..=WIDTH).contains(&x.parse::<f64>().unwrap()), "{point}");
                assert!((0.0..=HEIGHT).contains(&y.parse::<f64>().unwrap()), "{point}");
            }
        }
    }

    #[test]
    fn a_line_breaks_where_it_has_no_value() {
        let values = vec![Some(1.0), Some(2.0), None, None, Some(3.0), None];
        let svg = over_time(&[Line { name: "a", class: "a", values }], &[], true);
        let runs: Vec<usize> =
            svg.split("points=\"").skip(1).map(|run| run.split('"').next().unwrap().split(' ').count()).collect();
        // The second is a dot: one point, twice.
        assert_eq!(runs, [2, 2]);
    }

    #[test]
    fn scales_end_on_round_figures() {
        assert!((ceil_nice(950.0) - 1_000.0).abs() < 1e-6);
        assert!((ceil_nice(33.0) - 40.0).abs() < 1e-6);
        assert!((ceil_decade(950.0) - 1_000.0).abs() < 1e-6);
    }

    #[test]
    fn a_districts_name_cannot_break_the_page() {
        let district = DistrictFigures { id: "1".into(), name: "<b>&\"".into(), units: 2, taken: 1 };
        assert!(district_field(&[district]).contains("&lt;b&gt;&amp;&quot;"));
    }
}
