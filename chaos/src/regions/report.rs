//! The survey as a table and as a picture.

use std::{fmt::Write as _, time::Duration};

use super::{Figure, Scene, Survey, Weather, operation::Operation};
use crate::chart::{Anchor, BOUND, COLOURS, FAINT, GRID, INK, Logarithmic, Picture, ms};

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn cell(duration: Option<Duration>) -> String {
    duration.map_or("–".to_owned(), |duration| ms(millis(duration)))
}

impl Survey {
    /// Tables in Markdown, a scene each, in milliseconds.
    pub fn markdown(&self, machine: &str) -> String {
        let mut text = format!(
            "# How long things take, by where people and leaders are\n\n\
             Written by `scripts/bench regions`. {machine}\n\n\
             Three nodes, one a region; regions are 62 ms (1–2), 75 ms (1–3) and 130 ms (2–3) \
             apart, there and back, in the scenes\nof three regions. Clients ask the node of \
             their region; whom they ask is at home where the leaders are in their own. The\n\
             bound is what distances and the disk ask for, without what is computed: a password's \
             hash is in registrations and\nlogins, and not in their bound. A synced write took \
             {} ms in the middle. Milliseconds; `×` is the median over the bound\nwhere that is \
             a millisecond or more.\n\n![The same, drawn](regions.svg)\n",
            ms(millis(self.sync))
        );
        for scene in Scene::ALL {
            write!(
                text,
                "\n## {}\n\n| region | operation | done | failed | bound | p50 | p99 | worst | × |\n\
                 |---|---|---:|---:|---:|---:|---:|---:|---:|\n",
                scene.title()
            )
            .ok();
            for figure in self.figures.iter().filter(|figure| figure.scene == scene) {
                let times = figure.bound.zip(figure.percentile(50)).and_then(|(bound, median)| {
                    (bound >= Duration::from_millis(1))
                        .then(|| format!("{:.2}", median.as_secs_f64() / bound.as_secs_f64()))
                });
                writeln!(
                    text,
                    "| {}{} | {} | {} | {} | {} | {} | {} | {} | {} |",
                    figure.region + 1,
                    if figure.region == scene.leaders { " (home)" } else { "" },
                    figure.operation,
                    figure.took.len(),
                    figure.failed,
                    figure.bound.map_or("cannot be".to_owned(), |bound| ms(millis(bound))),
                    cell(figure.percentile(50)),
                    cell(figure.percentile(99)),
                    cell(figure.worst()),
                    times.unwrap_or_default(),
                )
                .ok();
            }
        }
        text
    }

    /// Every scene in a panel: a dot is a median, its line goes to the 99th percentile,
    /// a tick is the worst, and an upright bar is the bound.
    pub fn picture(&self) -> Picture {
        const ACROSS: usize = 3;
        const PANEL: (f64, f64) = (470.0, 420.0);
        const TOP: f64 = 76.0;
        let down = Scene::ALL.len().div_ceil(ACROSS);
        let (width, height) = (ACROSS as f64 * PANEL.0 + 24.0, TOP + down as f64 * PANEL.1 + 12.0);
        let mut picture = Picture::new(width, height);
        let title = "Latency by the region of the client, where the leaders are, and the bound";
        picture.text((20.0, 30.0), 19.0, Anchor::Start, INK, title);
        let mut x = 24.0;
        for (region, colour) in COLOURS.iter().enumerate().take(3) {
            picture.dot((x, 52.0), 4.0, colour);
            let label = format!("client in region {}", region + 1);
            picture.text((x + 9.0, 56.0), 12.0, Anchor::Start, INK, &label);
            x += 140.0;
        }
        picture.line((x, 45.0), (x, 59.0), 2.5, BOUND);
        let key = "what distances and the disk ask for · dot: median · line: to the 99th percentile · \
                   tick: worst · ms, logarithmic · ○ cannot be done";
        picture.text((x + 9.0, 56.0), 12.0, Anchor::Start, INK, key);
        for (at, scene) in Scene::ALL.iter().enumerate() {
            let corner = ((at % ACROSS) as f64 * PANEL.0, TOP + (at / ACROSS) as f64 * PANEL.1);
            self.panel(&mut picture, scene, corner, PANEL);
        }
        picture
    }

    fn panel(&self, picture: &mut Picture, scene: &Scene, corner: (f64, f64), size: (f64, f64)) {
        const ROW: f64 = 11.0;
        let (left, right) = (corner.0 + 150.0, corner.0 + size.0 - 16.0);
        let top = corner.1 + 42.0;
        let bottom = corner.1 + size.1 - 22.0;
        let scale = Logarithmic { values: (0.3, 5000.0), places: (left, right) };
        picture.text((corner.0 + 20.0, corner.1 + 18.0), 14.0, Anchor::Start, INK, &scene.title());
        for value in [1.0, 10.0, 100.0, 1000.0] {
            let x = scale.at(value);
            picture.line((x, top - 8.0), (x, bottom), 1.0, GRID);
            picture.text((x, top - 12.0), 10.0, Anchor::Middle, FAINT, &ms(value));
        }
        let step = (bottom - top) / Operation::ALL.len() as f64;
        for (at, operation) in Operation::ALL.iter().enumerate() {
            let y = top + step * at as f64;
            let middle = y + ROW * 1.5 + 3.0;
            picture.text((left - 10.0, middle), 12.0, Anchor::End, INK, &operation.to_string());
            let of_scene =
                |figure: &&Figure| figure.scene == *scene && figure.operation == *operation;
            for figure in self.figures.iter().filter(of_scene) {
                let y = y + 6.0 + ROW * figure.region as f64;
                draw(picture, figure, &scale, y);
            }
        }
    }
}

fn draw(picture: &mut Picture, figure: &Figure, scale: &Logarithmic, y: f64) {
    let colour = COLOURS[figure.region % COLOURS.len()];
    let at = |duration: Duration| scale.at(millis(duration));
    let Some((median, most)) = figure.percentile(50).zip(figure.percentile(99)) else {
        let cut =
            matches!(figure.scene.weather, Weather::CutOff(region) if region == figure.region);
        let said = if cut { "○ cut off: refused" } else { "○ not done" };
        picture.text((scale.places.0 + 4.0, y + 3.5), 10.0, Anchor::Start, colour, said);
        return;
    };
    if let Some(bound) = figure.bound {
        picture.line((at(bound), y - 4.5), (at(bound), y + 4.5), 2.5, BOUND);
    }
    picture.line((at(median), y), (at(most), y), 2.0, colour);
    if let Some(worst) = figure.worst() {
        picture.line((at(worst), y - 3.0), (at(worst), y + 3.0), 1.2, colour);
    }
    picture.dot((at(median), y), 3.6, colour);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn every_figure_is_told_beside_its_bound_and_drawn() {
        let figure = |region, took: Vec<Duration>, bound| Figure {
            scene: Scene::ALL[6],
            region,
            operation: Operation::SessionStrong,
            failed: 3 * usize::from(took.is_empty()),
            took,
            bound,
        };
        let took = (60..160).map(|took| took * MS).collect();
        let survey = Survey {
            figures: vec![figure(0, took, Some(62 * MS)), figure(2, Vec::new(), None)],
            sync: 2 * MS,
        };
        let text = survey.markdown("A machine.");
        let row = "| 1 (home) | session, strong | 100 | 0 | 62 | 109 | 158 | 159 | 1.76 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| 3 | session, strong | 0 | 3 | cannot be | – | – | – |  |"));
        let picture = survey.picture().to_string();
        assert!(picture.contains("cut off: refused"));
        assert!(picture.matches("<circle").count() > 3);
    }
}
