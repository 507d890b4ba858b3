//! The status page as HTML: one document without scripts that loads nothing else.

use std::fmt::{self, Write};
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::view::{
    Cell, Event, Files, Level, Loss, NodeStatus, Report, State, Status, count, names,
};

const STYLE: &str = include_str!("style.css");
/// Seconds after which the page loads itself again.
const REFRESH: u32 = 10;

/// What a browser may do with the page: show it in its own style, nothing else.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

/// The whole page.
pub(super) fn page(status: &Status) -> String {
    let mut html = String::with_capacity(16 << 10);
    // Writing to a text does not fail.
    let _ = write_page(&mut html, status);
    html
}

fn write_page(html: &mut String, status: &Status) -> fmt::Result {
    let Status { cluster, node, now_ms, verdict, .. } = status;
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\">\
         <title>{} · {}</title><style>{STYLE}</style></head><body><main>\n\
         <header><h1>{}</h1><span class=\"dim\">as node {node} sees it · {} · again every \
         {REFRESH} s</span></header>\n",
        Text(&verdict.title),
        Text(cluster),
        Text(cluster),
        Moment(*now_ms),
    )?;
    writeln!(
        html,
        "<section class=\"card verdict {}\"><b>{}</b><p>{}</p></section>",
        class(verdict.level),
        Text(&verdict.title),
        Text(&verdict.text)
    )?;
    html.write_str("<h2>Nodes</h2><div class=\"grid\">\n")?;
    for node in &status.nodes {
        write_node(html, node, *now_ms)?;
    }
    html.write_str("</div>\n<h2>Files</h2>\n")?;
    write_files(html, status)?;
    write_losses(html, &status.losses)?;
    html.write_str("<h2>Placement</h2>\n")?;
    write_placement(html, status)?;
    html.write_str("<h2>Recent warnings and errors of this node</h2>\n")?;
    write_recent(html, &status.recent, *now_ms)?;
    html.write_str(
        "<p class=\"dim\"><a href=\"/status.json\">/status.json</a> · \
         <a href=\"/metrics\">/metrics</a></p>\n</main></body></html>\n",
    )
}

fn write_node(html: &mut String, node: &NodeStatus, now_ms: u64) -> fmt::Result {
    let (level, word) = match node.state {
        State::Serving => (Level::Good, "serving"),
        State::Restoring => (Level::Warn, "new disk, filling"),
        State::Rejoining => (Level::Warn, "rejoining"),
        State::Down => (Level::Bad, "down"),
    };
    let class = class(level);
    write!(
        html,
        "<section class=\"card node\"><h3>Node {}<span class=\"pill {class} {class}bg\">{word}\
         </span></h3><p class=\"dim\">{}</p>",
        node.position,
        Text(&node.address)
    )?;
    if let Some(note) = &node.note {
        write!(html, "<p class=\"{class}\">{}</p>", Text(note))?;
    }
    match &node.report {
        Some(report) => write_report(html, report, now_ms)?,
        None => write!(
            html,
            "<dl><dt>last met</dt><dd>{}</dd></dl>",
            Ago(node.last_seen_ms, now_ms, "not since this node's start")
        )?,
    }
    html.write_str("</section>\n")
}

fn write_report(html: &mut String, report: &Report, now_ms: u64) -> fmt::Result {
    let used = report.disk_total_bytes.saturating_sub(report.disk_free_bytes);
    let total = report.disk_total_bytes;
    write!(
        html,
        "<meter min=\"0\" max=\"{total}\" high=\"{}\" value=\"{used}\">{used} of {total}</meter>\
         <dl><dt>free</dt><dd>{} of {}</dd>",
        total / 10 * 9,
        Bytes(report.disk_free_bytes),
        Bytes(total),
    )?;
    let rows: [(&str, &dyn fmt::Display); 8] = [
        ("index", &Bytes(report.index_bytes)),
        ("version", &Text(&report.version)),
        ("up for", &Span(report.uptime_seconds)),
        ("start", &report.boot),
        ("disk's life", &Text(report.incarnation.get(..8).unwrap_or_default())),
        ("scrubbed", &Ago(report.last_scrub_ms, now_ms, "never")),
        ("pending uploads", &report.pending_uploads),
        ("bad chunks found", &report.bad_chunks),
    ];
    for (name, value) in rows {
        write!(html, "<dt>{name}</dt><dd>{value}</dd>")?;
    }
    let off = if report.heals { "" } else { " (heal_every is off)" };
    write!(html, "<dt>to heal</dt><dd>{}{off}</dd>", report.backlog)?;
    // Less than a second may be the time that the answer took.
    if report.clock_ahead_ms.unsigned_abs() >= 1000 {
        let seconds = report.clock_ahead_ms / 1000;
        write!(html, "<dt>clock</dt><dd class=\"warn\">{seconds:+} s</dd>")?;
    }
    html.write_str("</dl>")
}

fn write_files(html: &mut String, status: &Status) -> fmt::Result {
    let Some(files) = &status.files else {
        let why = status.files_unknown.unwrap_or("nothing is known of them");
        return writeln!(html, "<p class=\"card\">Unknown: {}.</p>", Text(why));
    };
    let Files { as_of_ms, total, complete, degraded, incomplete, unknown, bytes, took_part } =
        files;
    html.write_str("<div class=\"card\"><div class=\"figures\">")?;
    let level = |number, level| if number == 0 { "" } else { class(level) };
    for (name, number, class) in [
        ("complete", *complete, level(*complete, Level::Good)),
        ("degraded", *degraded, level(*degraded, Level::Warn)),
        ("incomplete", *incomplete, level(*incomplete, Level::Bad)),
        ("unknown", *unknown, level(*unknown, Level::Warn)),
    ] {
        write!(html, "<div><b class=\"{class}\">{number}</b>{name}</div>")?;
    }
    let absent: Vec<String> = took_part
        .iter()
        .zip(1..)
        .filter(|(took_part, _)| !**took_part)
        .map(|(_, position): (_, u8)| format!("node {position}"))
        .collect();
    let absent = match &absent[..] {
        [] => String::new(),
        absent => format!("; without {}", absent.join(" and ")),
    };
    writeln!(
        html,
        "</div><p class=\"dim\">As of {}: {}, {}{absent}. What came or went since is not counted.\
         </p></div>",
        Ago(*as_of_ms, status.now_ms, "never"),
        count(*total, "file"),
        Bytes(*bytes),
    )
}

fn write_losses(html: &mut String, losses: &[Loss]) -> fmt::Result {
    html.write_str("<h2>If more failed now</h2>\n")?;
    if losses.is_empty() {
        return html.write_str("<p class=\"card\">Unknown, as the files are.</p>\n");
    }
    html.write_str("<ul class=\"card\">")?;
    for loss in losses {
        let (class, cost) = match (loss.is_harmless(), loss.enough_nodes) {
            (true, _) => ("good", "✓ no file is lost".to_owned()),
            (false, true) => {
                ("bad", format!("✗ {} could not be read", count(loss.unreadable, "file")))
            }
            (false, false) => ("bad", "✗ too few nodes to read anything".to_owned()),
        };
        write!(html, "<li>{}: <span class=\"{class}\">{cost}</span></li>", names(&loss.nodes))?;
    }
    html.write_str("</ul>\n")
}

fn write_placement(html: &mut String, status: &Status) -> fmt::Result {
    html.write_str("<div class=\"card\"><table><tr><th>x</th>")?;
    for node in &status.nodes {
        write!(html, "<th>node {}</th>", node.position)?;
    }
    html.write_str("</tr>")?;
    for (row, x) in status.placement.iter().zip(0..) {
        let x: u8 = x;
        write!(html, "<tr><th>{x}</th>")?;
        for (cell, node) in row.iter().zip(&status.nodes) {
            write_cell(html, cell, node.state)?;
        }
        html.write_str("</tr>")?;
    }
    html.write_str(
        "</table><p class=\"dim\">Which two chunks of a file with that x each node keeps, and of \
         how many of those files it held both.</p></div>\n",
    )
}

fn write_cell(html: &mut String, cell: &Cell, state: State) -> fmt::Result {
    let [first, second] = cell.chunks;
    let (class, held) = match (state, cell.held) {
        (State::Down, _) => ("bad", "✗ down".to_owned()),
        (State::Rejoining, _) => ("warn", "rejoining".to_owned()),
        (_, None) => ("warn", "?".to_owned()),
        (_, Some([0, _])) => ("good", "✓".to_owned()),
        (_, Some([files, held])) if files == held => ("good", format!("✓ {held}")),
        (_, Some([files, held])) => ("warn", format!("{held} of {files}")),
    };
    write!(html, "<td class=\"{class} {class}bg\">{first}, {second}<small>{held}</small></td>")
}

fn write_recent(html: &mut String, recent: &[Event], now_ms: u64) -> fmt::Result {
    if recent.is_empty() {
        return html.write_str("<p class=\"card\">None since its start.</p>\n");
    }
    html.write_str("<ul class=\"card\">")?;
    for event in recent {
        let times =
            if event.times > 1 { format!(" ({} times)", event.times) } else { String::new() };
        write!(
            html,
            "<li><span class=\"{}\">{}</span> <span class=\"dim\">{}{times}</span></li>",
            class(event.level),
            Text(&event.text),
            Ago(event.at_ms, now_ms, "")
        )?;
    }
    html.write_str("</ul>\n")
}

const fn class(level: Level) -> &'static str {
    match level {
        Level::Good => "good",
        Level::Warn => "warn",
        Level::Bad => "bad",
    }
}

/// Text in which nothing is markup.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number of bytes for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Some(unit) = self.0.max(1).ilog2().checked_div(10).filter(|unit| *unit > 0) else {
            return write!(f, "{} B", self.0);
        };
        // Tenths, cut off.
        let tenths = (u128::from(self.0) * 10) >> (10 * unit);
        let name = usize::try_from(unit - 1).ok().and_then(|unit| units.get(unit));
        write!(f, "{}.{} {}", tenths / 10, tenths % 10, name.unwrap_or(&"EiB"))
    }
}

/// A number of seconds for people.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds @ 120..7200 => write!(f, "{} min", seconds / 60),
            seconds @ 7200..172_800 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// How long ago something was, or a word for 0.
struct Ago(u64, u64, &'static str);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(at_ms, now_ms, never) = *self;
        match at_ms {
            0 => f.write_str(never),
            at_ms => write!(f, "{} ago", Span(now_ms.saturating_sub(at_ms) / 1000)),
        }
    }
}

/// A time of the day in UTC.
struct Moment(u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_day = self.0 / 1000 % 86_400;
        write!(f, "{:02}:{:02}:{:02} UTC", of_day / 3600, of_day / 60 % 60, of_day % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_is_markup() {
        assert_eq!(Text("<a href='x'>&\"").to_string(), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }

    #[test]
    fn numbers_are_written_for_people() {
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 30, "1.0 GiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Span(119).to_string(), "119 s");
        assert_eq!(Span(7199).to_string(), "119 min");
        assert_eq!(Span(86_400 * 3).to_string(), "3 days");
        assert_eq!(Ago(0, 5000, "never").to_string(), "never");
        assert_eq!(Ago(3000, 5000, "never").to_string(), "2 s ago");
        assert_eq!(Ago(9000, 5000, "never").to_string(), "0 s ago", "a clock that went back");
        assert_eq!(Moment(86_400_000 * 5 + 3_723_000).to_string(), "01:02:03 UTC");
    }

    #[test]
    fn the_style_is_the_one_that_is_allowed() {
        assert!(POLICY.contains("default-src 'none'; style-src 'sha256-"));
        assert!(!STYLE.contains("</") && !STYLE.contains("url("), "it loads nothing");
    }
}
