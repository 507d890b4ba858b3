//! The picture: how fast each system is, beside the fastest of the others.

use std::fmt::Write;

use crate::document::rate_of;
use crate::results::{Line, Sample};
use crate::summary::{Summary, summarize};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 190.0;
const BAR: f64 = 13.0;
const GAP: f64 = 10.0;
const TOP: f64 = 64.0;

/// The work that is shown, in this order.
const SHOWN: &[&str] = &[
    "put-1g",
    "get-1g",
    "put-8x128m",
    "get-8x128m",
    "put-1k-64",
    "get-1k-64",
    "put-4k-64",
    "get-4k-64",
    "put-64k-16",
    "get-64k-16",
    "put-1k-r",
    "get-1k-r",
    "list-10k",
    "list-100k",
];

/// Draws it. Bars end at `MOST` times the fastest other.
pub(crate) fn draw(lines: &[Line]) -> String {
    const MOST: f64 = 6.0;
    let samples: Vec<Sample> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Sample(sample) => Some(sample.clone()),
            Line::Run(_) => None,
        })
        .collect();
    let all = summarize(&samples);
    let scale = (WIDTH - LEFT - RIGHT) / MOST;
    let (mut bars, mut y) = (String::new(), TOP);
    for work in SHOWN {
        let group: Vec<&Summary> = all.iter().filter(|one| one.workload == *work).collect();
        let others = group.iter().filter(|one| one.system != "dfs");
        let Some(best) = others.filter_map(|one| one.rate()).reduce(f64::max) else { continue };
        text(&mut bars, LEFT - 8.0, y + BAR - 3.0, "end", "bold", work);
        for one in group {
            let Some(rate) = one.rate() else { continue };
            let ratio = rate / best;
            let width = ratio.min(MOST) * scale;
            let _ = writeln!(
                bars,
                r#"<rect x="{LEFT}" y="{y:.0}" width="{width:.1}" height="{:.0}" fill="{}"/>"#,
                BAR - 2.0,
                colour(&one.system)
            );
            let label = format!("{} {} ({ratio:.1} ×)", one.system, rate_of(one));
            text(&mut bars, LEFT + width + 5.0, y + BAR - 4.0, "start", "normal", &label);
            y += BAR;
        }
        y += GAP;
    }
    let mut picture = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{:.0}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="#ffffff"/>
"##,
        y + GAP
    );
    text(&mut picture, 16.0, 24.0, "start", "bold", "Rate beside the fastest other system");
    let note = "median of the rounds of one run; dfs syncs what it acknowledges, the others as they come do \
                not; longer is faster";
    text(&mut picture, 16.0, 42.0, "start", "normal", note);
    let one = LEFT + scale;
    let _ = writeln!(
        picture,
        r##"<line x1="{one:.1}" y1="{:.0}" x2="{one:.1}" y2="{y:.0}" stroke="#999999" stroke-dasharray="3 3"/>"##,
        TOP - 6.0
    );
    picture + &bars + "</svg>\n"
}

fn colour(system: &str) -> &'static str {
    match system.split(' ').next() {
        Some("dfs") => "#1f5fa8",
        Some("garage") => "#c9892b",
        _ if system.contains("s3") => "#6f9e6f",
        _ => "#3f7a4a",
    }
}

fn text(to: &mut String, x: f64, y: f64, anchor: &str, weight: &str, words: &str) {
    let _ = writeln!(
        to,
        r#"<text x="{x:.0}" y="{y:.0}" text-anchor="{anchor}" font-weight="{weight}">{words}</text>"#
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_system_is_fast() {
        let sample = |system: &str, seconds| {
            Line::Sample(Sample {
                workload: "put-1k-64".to_owned(),
                system: system.to_owned(),
                seconds,
                files: 1000,
                ..Sample::default()
            })
        };
        let picture = draw(&[sample("dfs", 1.0), sample("garage s3", 2.0)]);
        assert!(picture.contains("dfs 1,000 files/s (2.0 ×)"), "{picture}");
        assert!(picture.contains("garage s3 500 files/s (1.0 ×)"), "{picture}");
    }
}
