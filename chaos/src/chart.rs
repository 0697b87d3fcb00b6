//! Pictures: just enough SVG for them, on a light ground.

use std::fmt::{self, Write as _};

/// What text is written in.
pub const INK: &str = "#1f2933";
/// What is beside the point.
pub const FAINT: &str = "#8a94a0";
/// Lines of a grid.
pub const GRID: &str = "#e3e7eb";
/// What a bound is drawn in.
pub const BOUND: &str = "#c2410c";
/// What regions are told apart by.
pub const COLOURS: [&str; 5] = ["#1d6fb8", "#2a8f5c", "#8a4fbd", "#b8860b", "#0f8b8d"];

/// A picture under construction.
#[derive(Debug, Clone)]
pub struct Picture {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text stands relative to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

impl Picture {
    /// An empty one of so many points.
    pub fn new(width: f64, height: f64) -> Self {
        let mut picture = Self { width, height, body: String::new() };
        picture.bar((0.0, 0.0), (width, height), "#ffffff");
        picture
    }

    /// A text of a size.
    pub fn text(&mut self, (x, y): (f64, f64), size: f64, anchor: Anchor, ink: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}" fill="{ink}">{text}</text>"#
        )
        .ok();
    }

    /// A line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: &str) {
        writeln!(
            self.body,
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}" stroke-width="{width}"/>"#,
            from.0, from.1, to.0, to.1
        )
        .ok();
    }

    /// A filled rectangle between two corners.
    pub fn bar(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let (x, y) = (from.0.min(to.0), from.1.min(to.1));
        let (width, height) = ((to.0 - from.0).abs(), (to.1 - from.1).abs());
        writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        )
        .ok();
    }

    /// A dot.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: &str) {
        writeln!(self.body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{colour}"/>"#)
            .ok();
    }
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, height, body } = self;
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" font-family="system-ui, 'Helvetica Neue', Arial, sans-serif">"#
        )?;
        write!(f, "{body}")?;
        writeln!(f, "</svg>")
    }
}

/// A logarithmic scale from values to places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logarithmic {
    /// The least and the greatest value, above zero.
    pub values: (f64, f64),
    /// Where they are drawn.
    pub places: (f64, f64),
}

impl Logarithmic {
    /// Where a value is drawn; beyond the ends, at them.
    pub fn at(&self, value: f64) -> f64 {
        let (least, most) = (self.values.0.ln(), self.values.1.ln());
        let part = (value.max(self.values.0).ln() - least) / (most - least);
        self.places.0 + (self.places.1 - self.places.0) * part.min(1.0)
    }
}

/// A value of milliseconds in few digits.
pub fn ms(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_svg_whose_text_is_escaped() {
        let mut picture = Picture::new(100.0, 50.0);
        picture.text((1.0, 2.0), 10.0, Anchor::End, INK, "a < b & c");
        picture.dot((3.0, 4.0), 2.0, BOUND);
        let text = picture.to_string();
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
        assert!(text.contains("a &lt; b &amp; c"), "{text}");
    }

    #[test]
    fn decades_are_equally_far_apart() {
        let scale = Logarithmic { values: (1.0, 1000.0), places: (100.0, 400.0) };
        for (value, place) in [(1.0, 100.0), (10.0, 200.0), (100.0, 300.0), (5000.0, 400.0)] {
            assert!((scale.at(value) - place).abs() < 1e-9, "{value}");
        }
        assert!((scale.at(0.0) - 100.0).abs() < 1e-9);
    }
}
