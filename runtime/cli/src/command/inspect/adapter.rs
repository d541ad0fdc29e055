//! The report on an adapter.

use core::fmt;
use std::collections::BTreeMap;

use ingraft_adapter::{Adapter, Link, TermSource};
use ingraft_kernel::NO_SITE;
use serde::Serialize;

use crate::command::train::private::PrivacyReport;
use crate::report::{bytes, hex};

/// What `inspect A.adapter --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct AdapterReport {
    /// `adapter`.
    kind: &'static str,
    /// Content hash of the adapter.
    adapter_hash: String,
    /// Content hash of the base it belongs to.
    base_hash: String,
    /// Bytes of the file.
    file_bytes: usize,
    /// The method that made it.
    method: String,
    /// The method's settings.
    settings: BTreeMap<String, String>,
    /// Who made it, from what.
    provenance: String,
    /// What it promises of the privacy of its clips; null where it promises nothing.
    privacy: Option<PrivacyReport>,
    /// Names of the sites it acts on.
    sites: Vec<String>,
    /// What replaces the last linear layer; null for none.
    head: Option<HeadReport>,
    /// The members of a stack, in order; empty for what is none.
    members: Vec<MemberReport>,
}

/// A member in `inspect A.adapter --json`.
#[derive(Debug, Serialize)]
struct MemberReport {
    /// What it is called.
    name: String,
    /// Whether it stays as it is when training goes on.
    frozen: bool,
    /// Bytes of its file.
    file_bytes: usize,
}

/// The head in `inspect A.adapter --json`.
#[derive(Debug, Serialize)]
struct HeadReport {
    /// Number of classes.
    classes: usize,
    /// Features of one sample.
    features: usize,
    /// Index of the site whose output it reads; null for the input of the last linear layer.
    site: Option<u32>,
    /// Class names, where given.
    labels: Vec<String>,
    /// `softmax`, `sigmoid` or `identity`.
    link: &'static str,
}

impl AdapterReport {
    pub(super) fn new(adapter: &Adapter<'_>) -> Self {
        let setting =
            |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let head = adapter.head().map(|head| HeadReport {
            classes: head.classes,
            features: head.weight.len().checked_div(head.classes).unwrap_or(0),
            site: (head.site != NO_SITE).then_some(head.site),
            labels: head.labels.lines().map(str::to_owned).collect(),
            link: match head.link {
                Link::Softmax => "softmax",
                Link::Sigmoid => "sigmoid",
                Link::Identity => "identity",
            },
        });
        let section = adapter.parameters();
        let members = section.iter().flat_map(|section| section.members()).map(|member| MemberReport {
            name: member.name.to_owned(),
            frozen: member.frozen,
            file_bytes: member.bytes.len(),
        });
        Self {
            kind: "adapter",
            adapter_hash: hex(adapter.hash()),
            base_hash: hex(adapter.base_hash()),
            file_bytes: adapter.file_bytes(),
            method: adapter.method().to_owned(),
            settings: adapter.hyper().lines().filter_map(setting).collect(),
            provenance: adapter.provenance().to_owned(),
            privacy: adapter.privacy().map(PrivacyReport::from),
            sites: adapter.sites().map(str::to_owned).collect(),
            head,
            members: members.collect(),
        }
    }
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<String> =
            self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        writeln!(f, "adapter     {} ({})", self.adapter_hash, bytes(self.file_bytes))?;
        writeln!(f, "base        {}", self.base_hash)?;
        writeln!(f, "method      {} {}", self.method, settings.join(" "))?;
        writeln!(f, "provenance  {}", self.provenance)?;
        if let Some(privacy) = &self.privacy {
            writeln!(f, "privacy     {}", privacy.summary())?;
        }
        if let Some(head) = &self.head {
            let from =
                head.site.map_or("the last linear layer's input".to_owned(), |site| format!("site {site}"));
            writeln!(
                f,
                "head        {} classes on {} features of {from}, {}",
                head.classes, head.features, head.link
            )?;
            writeln!(f, "labels      {}", head.labels.join(", "))?;
        }
        for member in &self.members {
            let state = if member.frozen { "frozen" } else { "trained on" };
            writeln!(f, "member      {} ({}), {state}", member.name, bytes(member.file_bytes))?;
        }
        write!(f, "sites       {}", self.sites.len())?;
        self.sites.iter().try_for_each(|site| write!(f, "\n  {site}"))
    }
}
