//! Stacks: training beside adapters that stay as they are.

use std::path::Path;

use ingraft_import::{Base, Compression, Member, Tensors, compress, members, stack};
use ingraft_plan::PlanView;

use crate::plan_file::ArtifactFile;
use crate::report::hex;
use crate::training::Stacked;
use crate::{CliError, Console};

/// The members of the stack that is trained, and what the frozen ones do together.
#[derive(Debug)]
pub(super) struct Stack {
    /// One weight a site, beside which another adapter is trained; `None` where no member is frozen.
    merged: Option<ArtifactFile>,
    /// Content hash of the file that the frozen ones were found in.
    hash: String,
    members: Vec<Member>,
    /// The one that is trained, among them.
    trained: usize,
}

impl Stack {
    /// All that is in `on` is frozen, and a new member is trained, called as `output` is.
    pub(super) fn on(
        plan: &PlanView<'_>,
        on: &ArtifactFile,
        output: &Path,
        console: &mut Console<'_>,
    ) -> Result<Self, CliError> {
        on.attach(plan)?;
        let mut members = members_of(on)?;
        if members.is_empty() {
            let (name, bytes) = (member_name(on.path()), on.bytes().to_vec());
            members.push(Member { name, frozen: true, bytes });
        }
        members.iter_mut().for_each(|member| member.frozen = true);
        let name = free_name(&members, member_name(output));
        members.push(Member { name, frozen: false, bytes: Vec::new() });
        Self::new(plan, on, members, console)
    }

    /// The stack in `from`, of which the one member that is not frozen is trained; `None` where it is no stack.
    pub(super) fn from(
        plan: &PlanView<'_>,
        from: &ArtifactFile,
        console: &mut Console<'_>,
    ) -> Result<Option<Self>, CliError> {
        from.attach(plan)?;
        let members = members_of(from)?;
        if members.is_empty() { Ok(None) } else { Self::new(plan, from, members, console).map(Some) }
    }

    fn new(
        plan: &PlanView<'_>,
        file: &ArtifactFile,
        members: Vec<Member>,
        console: &mut Console<'_>,
    ) -> Result<Self, CliError> {
        let live: Vec<usize> = (0..members.len()).filter(|at| !members[*at].frozen).collect();
        let [trained] = live[..] else {
            let named = |frozen: bool| {
                let of: Vec<&str> =
                    members.iter().filter(|m| m.frozen == frozen).map(|m| m.name.as_str()).collect();
                of.join(", ")
            };
            return Err(CliError::Setting {
                option: "--from",
                value: file.path().display().to_string(),
                expected: format!(
                    "one method is trained at a time: the gradients of a site go to the parameters of one (frozen: {}; not: {}); \
                     leave one member unfrozen with `ingraft compose --by stack --freeze`, and train the others in turn",
                    named(true),
                    named(false)
                ),
            });
        };
        let merged = merged(plan, file, &members, console)?;
        Ok(Self { merged, hash: hex(file.adapter()?.hash()), members, trained })
    }

    /// The file of the member that is trained on.
    pub(super) fn trained(&self) -> ArtifactFile {
        let member = &self.members[self.trained];
        ArtifactFile::from_bytes(&member.name, &member.bytes)
    }

    /// As a course has it.
    pub(super) fn stacked(&self, plan: &PlanView<'_>) -> Result<Stacked<'_>, CliError> {
        let terms = self.merged.as_ref().map(|file| file.attach(plan)).transpose()?;
        Ok(Stacked { terms, hash: &self.hash, members: &self.members, trained: self.trained })
    }
}

/// The members of the stack in `file`; none where it is no stack.
pub(in crate::command) fn members_of(file: &ArtifactFile) -> Result<Vec<Member>, CliError> {
    members(file.bytes())
        .map_err(|error| CliError::Import { path: file.path().to_owned(), error: Box::new(error) })
}

/// What an adapter is called as a member: its file without the ending.
pub(in crate::command) fn member_name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// `name`, or the first of `name-2`, `name-3`, … that no member has.
fn free_name(members: &[Member], name: String) -> String {
    let taken = |name: &String| members.iter().any(|member| member.name == *name);
    let others = (2..).map(|count| format!("{name}-{count}"));
    core::iter::once(name.clone()).chain(others).find(|name| !taken(name)).unwrap_or(name)
}

/// The frozen `members` of `file` with one weight a site in the base's place, beside which another is trained.
fn merged(
    plan: &PlanView<'_>,
    file: &ArtifactFile,
    members: &[Member],
    console: &mut Console<'_>,
) -> Result<Option<ArtifactFile>, CliError> {
    let base = Base { plan: *plan, initializers: Tensors::new() };
    let frozen: Vec<Member> = members.iter().filter(|member| member.frozen).cloned().collect();
    let refused = |error| CliError::Import { path: file.path().to_owned(), error: Box::new(error) };
    let fuse = |bytes: &[u8]| compress(&base, bytes, Compression::Fuse).map_err(refused);
    let merged = match &frozen[..] {
        [] => return Ok(None),
        [one] => fuse(&one.bytes)?,
        several => fuse(&stack(&base, several).map_err(refused)?.bytes)?,
    };
    let worst = merged.sites.iter().fold(0.0f64, |worst, site| worst.max(site.error));
    console.note(format_args!(
        "beside {}, merged at {} sites, {worst:.3} apart at most",
        file.path().display(),
        merged.sites.len()
    ));
    Ok(Some(ArtifactFile::from_bytes("the merged adapter", &merged.bytes)))
}
