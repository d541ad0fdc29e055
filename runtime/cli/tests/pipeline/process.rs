//! The command as a process, in a folder of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use serde_json::Value;

/// An empty folder that commands run in.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder of the test called `test`.
    pub(crate) fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pipeline").join(test);
        if path.exists() {
            fs::remove_dir_all(&path).expect("the folder of an earlier run goes");
        }
        fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, with the folders it lies in.
    pub(crate) fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::write(path, bytes).expect("a file can be written");
    }

    /// The bytes of a file.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// When a file was written.
    pub(crate) fn written(&self, name: &str) -> SystemTime {
        let written = fs::metadata(self.path(name)).and_then(|found| found.modified());
        written.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Names of the files, sorted.
    pub(crate) fn files(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry reads").file_name();
        let mut files: Vec<String> =
            entries.map(|entry| file(entry).into_string().expect("our names are UTF-8")).collect();
        files.sort_unstable();
        files
    }

    /// Runs `ingraft` with the words of `line`.
    pub(crate) fn run(&self, line: &str) -> Done {
        self.feed(line, &[])
    }

    /// Starts `ingraft` with the words of `line`; nobody listens.
    pub(crate) fn start(&self, line: &str) -> Child {
        let mut command = self.command(line);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the command starts")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ingraft"));
        command.args(line.split_whitespace()).current_dir(&self.0);
        command
    }

    /// Runs `ingraft` with the words of `line` and `stdin` as its input.
    pub(crate) fn feed(&self, line: &str, stdin: &[u8]) -> Done {
        let mut child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut pipe = child.stdin.take().expect("stdin is a pipe");
        let stdin = stdin.to_vec();
        // A command that refuses does not read what it is fed.
        let feeder = std::thread::spawn(move || pipe.write_all(&stdin).is_ok());
        let output = child.wait_with_output().expect("the command ends");
        feeder.join().expect("feeding does not panic");
        Done {
            line: line.to_owned(),
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("data on stdout is text"),
            err: String::from_utf8(output.stderr).expect("messages are text"),
        }
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// What was asked, for messages.
    #[allow(dead_code, reason = "shown by `Debug`")]
    line: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Asserts success.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert!(!self.err.contains("error:") && !self.err.contains("panicked"), "{self:#?}");
        self
    }

    /// Asserts success and that stdout is one JSON value.
    pub(crate) fn json(self) -> Value {
        let done = self.ok();
        serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:#?}"))
    }

    /// Asserts success and that every line of stdout is a JSON value.
    pub(crate) fn json_lines(self) -> Vec<Value> {
        let done = self.ok();
        let value = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        done.out.lines().map(value).collect()
    }

    /// Asserts exit code 1, silence on stdout and a message with all of `parts`.
    pub(crate) fn refused(self, parts: &[&str]) {
        self.failed(1, parts);
    }

    /// Asserts exit code 2, silence on stdout and a message with all of `parts`.
    pub(crate) fn misused(self, parts: &[&str]) {
        self.failed(2, parts);
    }

    fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:#?}");
        let message = self.err.lines().any(|line| line.starts_with("error: "));
        assert!(message && !self.err.contains("panicked"), "{self:#?}");
        parts.iter().for_each(|part| assert!(self.err.contains(part), "{part:?}: {self:#?}"));
    }
}
