//! The run as a table and as a picture.

use std::{fmt::Write as _, time::Duration};

use super::{Adversity, Passed, Phase};
use crate::chart::{Anchor, BOUND, COLOURS, FAINT, GRID, INK, Logarithmic, Picture, ms};

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn cell(duration: Option<Duration>) -> String {
    duration.map_or("–".to_owned(), |duration| ms(millis(duration)))
}

/// A phase in a line.
pub fn sentence(passed: &Passed) -> String {
    format!(
        "{}: {:.0} writes/s, p99 {} ms, {} errors, longest without a write {} ms; {}; whole again \
         after {} ms",
        passed.phase,
        passed.whole.rate,
        cell(passed.whole.p99),
        passed.whole.errors,
        cell(passed.gap),
        passed.done,
        passed.recovery.as_millis()
    )
}

impl Adversity {
    /// A table in Markdown.
    pub fn markdown(&self, machine: &str) -> String {
        let seconds = self.phases.first().map_or(0.0, |passed| passed.whole.seconds);
        let mut text = format!(
            "# One load through seven phases\n\n\
             Written by `scripts/bench adversity`. {machine}\n\n\
             Five nodes over three regions (62, 75 and 130 ms there and back), two of them in the \
             first and in the second, each with\na disk of its own. Writes go to every home shard \
             through every node, beside people, registers and permissions; a phase is\n{seconds:.0} s. \
             Clients of a dead node stay with it: their requests are the errors.\n\n\
             ![The same as a line of time](adversity.svg)\n\n\
             | phase | writes/s | of baseline | p99 ms | errors | longest without a write, ms | whole \
             again, ms | what was done |\n|---|---:|---:|---:|---:|---:|---:|---|\n"
        );
        for passed in &self.phases {
            writeln!(
                text,
                "| {} | {:.0} | {:.0} % | {} | {} | {} | {} | {} |",
                passed.phase,
                passed.whole.rate,
                self.share(passed.phase),
                cell(passed.whole.p99),
                passed.whole.errors,
                cell(passed.gap),
                passed.recovery.as_millis(),
                passed.done
            )
            .ok();
        }
        writeln!(text, "\n{} promises broken.", self.findings.violations.len()).ok();
        text
    }

    /// The line of time: throughput, latency and errors, one above the other.
    pub fn picture(&self) -> Picture {
        const WIDTH: f64 = 1200.0;
        const LEFT: f64 = 84.0;
        const RIGHT: f64 = WIDTH - 20.0;
        let mut picture = Picture::new(WIDTH, 560.0);
        let title = "Throughput, latency and errors of one load through seven phases";
        picture.text((20.0, 30.0), 19.0, Anchor::Start, INK, title);
        let length = self.line.last().map_or(1.0, |last| last.began_s + last.seconds);
        let x = |second: f64| LEFT + (RIGHT - LEFT) * (second / length).min(1.0);
        for (at, passed) in self.phases.iter().enumerate() {
            let from = x(passed.whole.began_s);
            let to = x(passed.whole.began_s + passed.whole.seconds);
            let ground = if at % 2 == 0 { "#f4f6f8" } else { "#eaf0f6" };
            picture.bar((from, 64.0), (to, 530.0), ground);
            let label = passed.phase.to_string();
            picture.text(((from + to) / 2.0, 58.0), 12.0, Anchor::Middle, INK, &label);
        }
        let most = self.line.iter().map(|window| window.rate).fold(1.0, f64::max) * 1.1;
        let baseline =
            self.phases.iter().find(|passed| passed.phase == Phase::Baseline).map(|p| p.whole.rate);
        let rate_y = |rate: f64| 230.0 - 150.0 * rate / most;
        picture.text((20.0, 80.0), 12.0, Anchor::Start, INK, "writes/s");
        for part in [0.0, 0.5, 1.0] {
            let (value, y) = (most / 1.1 * part, rate_y(most / 1.1 * part));
            picture.line((LEFT, y), (RIGHT, y), 1.0, GRID);
            picture.text((LEFT - 6.0, y + 4.0), 10.0, Anchor::End, FAINT, &format!("{value:.0}"));
        }
        if let Some(half) = baseline.map(|rate| rate / 2.0) {
            picture.line((LEFT, rate_y(half)), (RIGHT, rate_y(half)), 1.5, BOUND);
            let place = (RIGHT, rate_y(half) - 4.0);
            picture.text(place, 10.0, Anchor::End, BOUND, "half of the baseline");
        }
        let delay = Logarithmic { values: (10.0, 10_000.0), places: (390.0, 260.0) };
        picture.text((20.0, 248.0), 12.0, Anchor::Start, INK, "p99, ms");
        for value in [10.0, 100.0, 1000.0, 10_000.0] {
            let y = delay.at(value);
            picture.line((LEFT, y), (RIGHT, y), 1.0, GRID);
            picture.text((LEFT - 6.0, y + 4.0), 10.0, Anchor::End, FAINT, &ms(value));
        }
        let failed = self.line.iter().map(|window| window.errors).max().unwrap_or(0).max(1);
        let error_y = |errors: usize| 520.0 - 90.0 * errors as f64 / failed as f64;
        picture.text((20.0, 416.0), 12.0, Anchor::Start, INK, "errors");
        picture.line((LEFT, 520.0), (RIGHT, 520.0), 1.0, GRID);
        picture.text(
            (LEFT - 6.0, error_y(failed) + 4.0),
            10.0,
            Anchor::End,
            FAINT,
            &failed.to_string(),
        );
        let mut before: Option<(f64, f64)> = None;
        for window in &self.line {
            let (from, to) = (x(window.began_s), x(window.began_s + window.seconds));
            let here = ((from + to) / 2.0, rate_y(window.rate));
            if let Some(before) = before {
                picture.line(before, here, 2.0, COLOURS[0]);
            }
            before = Some(here);
            match window.p99 {
                Some(p99) => {
                    picture.dot(((from + to) / 2.0, delay.at(millis(p99))), 2.4, COLOURS[2])
                }
                // Nothing was acknowledged.
                None => picture.bar((from, 262.0), (to, 390.0), "#f6d8c9"),
            }
            if window.errors > 0 {
                picture.bar((from, error_y(window.errors)), (to - 0.5, 520.0), BOUND);
            }
        }
        let minute = |second: usize| format!("{}:{:02}", second / 60, second % 60);
        for second in (0..=length as usize).step_by(30) {
            let place = (x(second as f64), 546.0);
            picture.text(place, 10.0, Anchor::Middle, FAINT, &minute(second));
        }
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Window, *};
    use crate::judgement::Findings;

    #[test]
    fn phases_are_a_table_and_a_line_of_time() {
        let window = |began_s, rate, p99| Window { began_s, seconds: 2.0, rate, p99, errors: 3 };
        let passed = |phase, whole| Passed {
            phase,
            done: "nothing".to_owned(),
            whole,
            gap: Some(Duration::from_millis(31)),
            recovery: Duration::from_millis(7),
        };
        let line =
            vec![window(0.0, 100.0, Some(Duration::from_millis(90))), window(2.0, 60.0, None)];
        let phases = vec![passed(Phase::Baseline, line[0]), passed(Phase::RegionLoss, line[1])];
        let run = Adversity { phases, line, findings: Findings::default() };
        let text = run.markdown("A machine.");
        assert!(text.contains("| baseline | 100 | 100 % | 90 | 3 | 31 | 7 | nothing |"), "{text}");
        assert!(text.contains("| region loss | 60 | 60 % | – | 3 | 31 | 7 | nothing |"), "{text}");
        let picture = run.picture().to_string();
        assert!(picture.contains("region loss") && picture.contains("half of the baseline"));
    }
}
