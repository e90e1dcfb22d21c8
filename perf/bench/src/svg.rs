//! Charts as SVG: several beside each other over the same values of x, which stand evenly spaced.

use std::fmt::Write;

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is.
    pub name: &'static str,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What is measured.
    pub title: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Its lines.
    pub curves: Vec<Curve>,
}

const COLOURS: [&str; 6] = ["#1b6ca8", "#c8553d", "#3a7d44", "#8d5a97", "#b8860b", "#444444"];
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 60.0;

/// A step that divides `most` into about five parts: 1, 2 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    let raw = most / 5.0;
    let power = 10_f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|&step| step >= raw).unwrap_or(raw)
}

/// The whole document.
pub fn draw(x_title: &str, xs: &[f64], charts: &[Chart]) -> String {
    let curves = charts.iter().map(|chart| chart.curves.len()).max().unwrap_or(0);
    let (width, height) = (charts.len() as f64 * (WIDTH + 2.0 * MARGIN), HEIGHT + 2.0 * MARGIN + 20.0 * curves as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (number, chart) in charts.iter().enumerate() {
        let left = number as f64 * (WIDTH + 2.0 * MARGIN) + MARGIN;
        draw_chart(&mut svg, left, x_title, xs, chart);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_chart(svg: &mut String, left: f64, x_title: &str, xs: &[f64], chart: &Chart) {
    let most = chart.curves.iter().flat_map(|curve| &curve.points).map(|point| point.1).fold(1.0, f64::max);
    let step = step(most);
    let top = (most / step).ceil() * step;
    let x_of = |x: f64| {
        let at = xs.iter().position(|&known| known == x).unwrap_or(0);
        left + WIDTH * at as f64 / (xs.len().max(2) - 1) as f64
    };
    let y_of = |y: f64| MARGIN + HEIGHT * (1.0 - y / top);
    // Writing to a string cannot fail.
    let mut put = |line: String| {
        let _ = writeln!(svg, "{line}");
    };
    put(format!("<text x=\"{left}\" y=\"{}\" font-size=\"15\">{} {}</text>", MARGIN - 20.0, chart.title, chart.unit));
    let mut y = 0.0;
    while y <= top + step / 2.0 {
        let at = y_of(y);
        put(format!("<line x1=\"{left}\" x2=\"{}\" y1=\"{at}\" y2=\"{at}\" stroke=\"#ddd\"/>", left + WIDTH));
        put(format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{y}</text>", left - 6.0, at + 4.0));
        y += step;
    }
    for &x in xs {
        let at = x_of(x);
        put(format!("<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{x}</text>", MARGIN + HEIGHT + 18.0));
    }
    put(format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{x_title}</text>",
        left + WIDTH / 2.0,
        MARGIN + HEIGHT + 38.0
    ));
    for (number, curve) in chart.curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<_> = curve.points.iter().map(|&(x, y)| format!("{:.1},{:.1}", x_of(x), y_of(y))).collect();
        put(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        ));
        let at = MARGIN + HEIGHT + 60.0 + 18.0 * number as f64;
        put(format!("<rect x=\"{left}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>", at - 6.0));
        put(format!("<text x=\"{}\" y=\"{at}\">{}</text>", left + 20.0, curve.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (most, expected) in [(1.0, 0.2), (16.0, 5.0), (95.0, 20.0), (1_000.0, 200.0)] {
            assert!((step(most) - expected).abs() < 1e-9, "{most}: {}", step(most));
        }
    }

    #[test]
    fn every_curve_is_in_the_document() {
        let curve = |name, y| Curve { name, points: vec![(0.0, 0.0), (10.0, y)] };
        let chart = Chart { title: "t", unit: "us", curves: vec![curve("one", 3.0), curve("two", 6.0)] };
        let svg = draw("x", &[0.0, 10.0], &[chart]);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains(">one<") && svg.contains(">two<"));
    }
}
