//! A study as one page of HTML that needs nothing else.

use core::fmt::Write;

use super::plot::{self, Spread, escape};
use super::report::{COLUMNS, Facts, MethodReport, StudyReport};
use crate::report::bytes;

/// The page of `report`.
pub(super) fn render(report: &StudyReport) -> String {
    let measured: Vec<&MethodReport> = report.measured().collect();
    let titles: Vec<String> = measured.iter().map(|method| method.title()).collect();
    let mut page =
        format!("{HEAD}<style>{STYLE}</style></head><body><h1>Adaptation methods, one budget</h1>");
    page += &facts(&report.facts);
    page += &table(report);
    let spread = |(method, title): (&&'_ MethodReport, &'_ String)| {
        let figures = &method.figures;
        (
            title.clone(),
            figures.accuracy.unwrap_or(0.0),
            figures.interval.unwrap_or([0.0, 1.0]),
            figures.by_run.clone(),
        )
    };
    let spreads: Vec<_> = measured.iter().zip(&titles).map(spread).collect();
    let rows: Vec<Spread<'_>> = spreads
        .iter()
        .map(|(name, mean, interval, values)| Spread { name, mean: *mean, interval: *interval, values })
        .collect();
    section(
        &mut page,
        "Accuracy",
        "Mean over runs, 95 % interval over clips, and every run.",
        &plot::spreads(&rows),
    );
    let bars = |of: fn(&MethodReport) -> (f64, String)| {
        let rows: Vec<(&str, f64, String)> = measured
            .iter()
            .zip(&titles)
            .map(|(method, title)| {
                let (value, text) = of(method);
                (title.as_str(), value, text)
            })
            .collect();
        plot::bars(&rows)
    };
    let memory = bars(|method| {
        let count = method.figures.arena_bytes.unwrap_or(0);
        (count as f64, bytes(count))
    });
    section(&mut page, "Training memory", "All of it, known before the first step.", &memory);
    let seconds = bars(|method| {
        let seconds = method.figures.seconds.unwrap_or(0.0);
        (seconds, format!("{seconds:.1} s"))
    });
    section(&mut page, "Training time", "Mean of a run, reading and export included.", &seconds);
    section(&mut page, "Training loss", "Mean over runs, by epoch.", &curves(&measured, &titles));
    section(
        &mut page,
        "Confusion",
        "True class by row, predicted class by column, over all runs.",
        &matrices(report, &titles),
    );
    page + "</body></html>\n"
}

fn facts(facts: &Facts) -> String {
    format!(
        "<p>{} clips of {} classes, {} runs of each method, at most {} epochs, {} versions of each clip, target {}.<br>\
         Base <code>{}</code></p>",
        facts.clips,
        facts.classes.len(),
        facts.runs,
        facts.epochs,
        facts.views,
        escape(&facts.target),
        escape(&facts.base_hash)
    )
}

fn table(report: &StudyReport) -> String {
    let mut html = "<div class='wide'><table><thead><tr>".to_owned();
    COLUMNS.iter().for_each(|title| {
        let _ = write!(html, "<th>{}</th>", escape(title));
    });
    html += "</tr></thead><tbody>";
    for method in &report.methods {
        html += "<tr>";
        method.cells().iter().for_each(|cell| {
            let _ = write!(html, "<td>{}</td>", escape(cell));
        });
        html += "</tr>";
    }
    html + "</tbody></table></div>"
}

fn curves(measured: &[&MethodReport], titles: &[String]) -> String {
    let most = measured.iter().flat_map(|method| method.figures.losses.iter().copied()).fold(0.0, f64::max);
    let one = |(method, title): (&&MethodReport, &String)| {
        let curve = plot::curve(&method.figures.losses, most);
        format!("<figure><figcaption>{}</figcaption>{curve}</figure>", escape(title))
    };
    let all: String = measured.iter().zip(titles).map(one).collect();
    format!("<div class='grid'>{all}</div>")
}

fn matrices(report: &StudyReport, titles: &[String]) -> String {
    let one = |(at, (method, title)): (usize, (&MethodReport, &String))| {
        let matrix = plot::matrix(&report.facts.classes, &method.figures.confusion);
        let open = if at == 0 { " open" } else { "" };
        format!("<details{open}><summary>{}</summary>{matrix}</details>", escape(title))
    };
    report.measured().zip(titles).enumerate().map(one).collect()
}

fn section(page: &mut String, title: &str, note: &str, content: &str) {
    let _ = write!(page, "<h2>{title}</h2><p>{note}</p>{content}");
}

const HEAD: &str = "<!doctype html><html lang='en'><head><meta charset='utf-8'>\
<meta name='viewport' content='width=device-width, initial-scale=1'><title>ingraft study</title>";

const STYLE: &str = "\
:root{--ink:#1b1f24;--paper:#fff;--line:#d8dde3;--mark:#1f6feb;--soft:#9ec1f7}\
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ed;--paper:#14181d;--line:#38404a;--mark:#6ea8ff;--soft:#35557f}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2rem 0 .2rem}p{margin:.2rem 0 .6rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}\
th,td{border-bottom:1px solid var(--line);padding:.2rem .5rem;text-align:right;white-space:nowrap}\
th:first-child,td:first-child,th:last-child,td:last-child{text-align:left}td:last-child{white-space:normal;min-width:16rem}\
svg{max-width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}svg text.on{fill:var(--paper)}\
line.axis{stroke:var(--line)}line.mark{stroke:var(--mark);stroke-width:2}circle.mark,rect.mark,rect.cell{fill:var(--mark)}\
circle.soft{fill:var(--soft)}polyline.mark{fill:none;stroke:var(--mark);stroke-width:1.5}\
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:.5rem}figure{margin:0}figcaption{font-size:12px}\
summary{cursor:pointer}code{word-break:break-all}";
