//! A picture of some lines. Its background is its own, so that it can be read on a page of any
//! colour, and no font is looked up: text stays text.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::{
    coord::{
        Shift,
        ranged1d::{DefaultFormatting, KeyPointHint},
    },
    prelude::*,
};

use super::{
    axis::{Scale, label},
    curves::{Line, Plot, Point},
};

const SIZE: (u32, u32) = (860, 420);
/// The part of the width that names the lines: inside, it would hide some.
const LEGEND: u32 = 170;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(222, 222, 222);
/// Told apart by the colour-blind too (M. Okabe and K. Ito, 2008), then a few more.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
    RGBColor(136, 34, 85),
    RGBColor(153, 153, 51),
];

/// The picture as SVG.
pub fn svg(plot: &Plot) -> Result<String> {
    let mut text = String::new();
    draw(plot, SVGBackend::with_string(&mut text, SIZE)).map_err(|error| anyhow!("{error}"))?;
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw<'a>(plot: &Plot, backend: SVGBackend<'a>) -> Drawn<'a> {
    let area = backend.into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 - LEGEND);
    draw_lines(plot, &left)?;
    draw_legend(plot, &right)?;
    area.present()
}

fn draw_lines<'a>(plot: &Plot, area: &Area<'a>) -> Drawn<'a> {
    let values: Vec<_> = plot.points().map(|point| point.value).collect();
    let scale = Scale::fitting(&values);
    let at = |point: &Point| (Scale::Log.place(point.size), scale.place(point.value));
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(Axis::of_sizes(plot), Axis::of_values(&values, scale))?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style((FONT, 13, &INK))
        .axis_desc_style((FONT, 14, &INK))
        .x_desc(format!("{}s", plot.thing))
        .y_desc(format!("{}, {}", plot.what, plot.unit))
        .x_label_formatter(&|place| label(Scale::Log.value(*place)))
        .y_label_formatter(&|place| label(scale.value(*place)))
        .draw()?;
    for (line, colour) in coloured(plot) {
        chart.draw_series(LineSeries::new(line.points.iter().map(at), colour.stroke_width(2)))?;
        let dots = |radius, style: ShapeStyle, of: &dyn Fn(&&Point) -> bool| {
            let places: Vec<_> = line.points.iter().filter(of).map(at).collect();
            places.into_iter().map(move |place| Circle::new(place, radius, style))
        };
        chart.draw_series(dots(4, colour.filled(), &|_| true))?;
        // Hollow where the spread was too wide.
        chart.draw_series(dots(2, WHITE.filled(), &|point| point.doubtful))?;
    }
    Ok(())
}

fn draw_legend<'a>(plot: &Plot, area: &Area<'a>) -> Drawn<'a> {
    for ((line, colour), row) in coloured(plot).zip(0..) {
        let y = 28 + 20 * row;
        area.draw(&PathElement::new([(4, y), (22, y)], colour.stroke_width(3)))?;
        area.draw(&Text::new(
            line.name.as_str(),
            (28, y - 7),
            (FONT, 13).into_text_style(area).color(&INK),
        ))?;
    }
    Ok(())
}

fn coloured(plot: &Plot) -> impl Iterator<Item = (&Line, &RGBColor)> {
    plot.lines.iter().zip(COLOURS.iter().cycle())
}

/// Places, and those that have a mark.
struct Axis {
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Axis {
    /// A mark at every size.
    fn of_sizes(plot: &Plot) -> Self {
        let mut marks: Vec<_> = plot.points().map(|it| Scale::Log.place(it.size)).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        let (first, last) = (marks.first().copied(), marks.last().copied());
        Self { range: first.unwrap_or(0.0) - 0.1..last.unwrap_or(1.0) + 0.1, marks }
    }

    fn of_values(values: &[f64], scale: Scale) -> Self {
        let marks: Vec<_> = scale.marks(values).into_iter().map(|it| scale.place(it)).collect();
        let (first, last) = (marks.first().copied(), marks.last().copied());
        Self { range: first.unwrap_or(0.0)..last.unwrap_or(1.0), marks }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        first + (part * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::curves::{of, tests::figure},
        *,
    };

    fn picture(last: f64) -> String {
        let values = [(1, 10.0), (4, 20.0), (1024, last)];
        let case = |size| format!("hit: tcp <snat>, {size} flows");
        let figures: Vec<_> = values.map(|(size, value)| figure(&case(size), value)).into();
        svg(&of(&figures)[0]).unwrap()
    }

    #[test]
    fn a_picture_says_what_it_shows() {
        let picture = picture(90.0);
        for text in ["hit, ns", "flows", "tcp &lt;snat&gt;", "1 Ki", "80", "polyline"] {
            assert!(picture.contains(text), "no {text} in {picture}");
        }
        assert!(picture.len() < 20_000, "{}", picture.len());
    }

    #[test]
    fn points_are_where_their_values_are() {
        let heights = |picture: &str| -> Vec<i32> {
            let circles = picture.split("<circle ").skip(1);
            let height =
                |circle: &str| circle.split("cy=\"").nth(1)?.split('"').next()?.parse().ok();
            circles.map(|circle| height(circle).unwrap()).collect()
        };
        let (low, high) = (heights(&picture(30.0)), heights(&picture(10_000.0)));
        for points in [&low, &high] {
            assert_eq!(points.len(), 3);
            assert!(points[0] > points[1] && points[1] > points[2], "y grows downward: {points:?}");
        }
    }
}
