//! A figure, its goal, and the line they make: name, value, goal, met or by how much not, and what stands beside it.

use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Printed only.
    None,
}

#[derive(Clone, Debug)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    pub goal: Goal,
    /// What else belongs to the figure: the time of DataFusion, the number of checkpoints.
    pub beside: Vec<String>,
}

impl Figure {
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, goal: Goal) -> Figure {
        Figure { name: name.into(), value, unit, goal, beside: Vec::new() }
    }

    pub fn beside(mut self, text: impl Into<String>) -> Figure {
        self.beside.push(text.into());
        self
    }

    /// What DataFusion took for the same rows, and our time as a multiple of it.
    pub fn datafusion(self, ours: Duration, theirs: Duration) -> Figure {
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9);
        self.beside(format!("DataFusion {} s, ratio {ratio:.2}", rounded(theirs.as_secs_f64())))
    }

    #[allow(clippy::print_stdout)] // the program's whole purpose
    pub fn print(&self) {
        println!("{self}");
    }

    fn verdict(&self) -> String {
        let percent = |missing: f64| if missing <= 0.0 { "met".to_string() } else { format!("missed by {:.1} %", missing * 100.0) };
        match self.goal {
            Goal::AtLeast(goal) => percent(1.0 - self.value / goal),
            Goal::AtMost(goal) => percent(self.value / goal - 1.0),
            Goal::None => "no goal".to_string(),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44} {:>12} {:<10}", self.name, rounded(self.value), self.unit)?;
        let goal = match self.goal {
            Goal::AtLeast(goal) => format!(">= {}", rounded(goal)),
            Goal::AtMost(goal) => format!("<= {}", rounded(goal)),
            Goal::None => "-".to_string(),
        };
        write!(f, "  goal {goal:<12} {:<18}", self.verdict())?;
        if !self.beside.is_empty() {
            write!(f, " {}", self.beside.join("; "))?;
        }
        Ok(())
    }
}

/// Whole numbers from a thousand on, with groups of digits; three significant digits below.
fn rounded(value: f64) -> String {
    if value.abs() < 1000.0 {
        let decimals = if value.abs() >= 100.0 {
            0
        } else if value.abs() >= 10.0 {
            1
        } else if value.abs() >= 1.0 {
            2
        } else {
            3
        };
        return format!("{value:.decimals$}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("-{grouped}") } else { grouped }
}

/// A line of a run's own course, beside its figures.
#[allow(clippy::print_stdout)] // the program's whole purpose
pub fn trace(line: &str) {
    println!("{line}");
}

/// The value below which `share` of the samples lie. `sorted` is ascending and not empty.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_by_how_much_a_goal_is_missed() {
        let line = Figure::new("x", 3_000_000.0, "rows/s", Goal::AtLeast(4e6)).to_string();
        assert!(line.contains("3 000 000") && line.contains(">= 4 000 000") && line.contains("missed by 25.0 %"), "{line}");
        assert!(Figure::new("x", 1.5, "ms", Goal::AtMost(2.0)).to_string().contains("met"));
    }

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&samples, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&samples, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&samples[..1], 0.99), Duration::from_millis(1));
    }
}
