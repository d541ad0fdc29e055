use std::fs;

use super::table::{Names, parse};
use super::*;

/// A folder that is removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
        let root = std::env::temp_dir().join(format!("ingraft-dataset-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        for (path, content) in files {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
        Self(root)
    }

    fn refusal(&self) -> LabelError {
        match Dataset::open(&self.0) {
            Err(DatasetError::Label { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn paths(dataset: &Dataset) -> Vec<&str> {
    dataset.items().iter().map(|item| item.path.as_str()).collect()
}

#[test]
fn class_folders_are_read_in_sorted_order() {
    let files = [
        "b/2.wav",
        "b/10.WAV",
        "a b/1.wav",
        "c/x/1.wav",
        "c/x-y/1.wav",
        "README.md",
        "b/notes.txt",
        "b/.3.wav",
    ];
    let folder = Scratch::new("folders", &files.map(|file| (file, &b""[..])));
    let dataset = Dataset::open(&folder.0).unwrap();
    assert_eq!(dataset.classes(), ["a b", "b", "c/x", "c/x-y"]);
    assert_eq!(paths(&dataset), ["a b/1.wav", "b/10.WAV", "b/2.wav", "c/x-y/1.wav", "c/x/1.wav"]);
    assert_eq!(dataset.labels().unwrap(), [0, 1, 1, 3, 2]);
    assert_eq!(dataset.groups(), [0, 1, 2, 3, 4]);
    assert_eq!(dataset.content(), &Content::Audio);
    let refused = dataset.image(0).unwrap_err().to_string();
    assert!(refused.ends_with("holds 5 recordings"), "{refused}");
    assert!(matches!(dataset.audio(0, 16_000), Err(DatasetError::Audio { .. })));
    assert!(matches!(dataset.audio(5, 16_000), Err(DatasetError::Label { .. })));
}

#[test]
fn groups_may_follow_from_names() {
    let folder =
        Scratch::new("groups", &["a/1_x.wav", "a/2_y.wav", "b/1_x.wav"].map(|file| (file, &b""[..])));
    let mut dataset = Dataset::open(&folder.0).unwrap();
    dataset.group_by(|path| path.rsplit_once('_').map(|(_, speaker)| speaker.to_owned()));
    assert_eq!(dataset.groups(), [0, 1, 0]);
}

#[test]
fn folders_that_are_no_data_set_are_refused() {
    assert_eq!(Scratch::new("empty", &[("a/notes.txt", b"")]).refusal(), LabelError::NothingThere);
    assert_eq!(Scratch::new("flat", &[("1.wav", b"")]).refusal(), LabelError::Unlabelled("1.wav".into()));
    let mixed = LabelError::Mixed { picture: "b/2.png".into(), recording: "a/1.wav".into() };
    assert_eq!(Scratch::new("mixed", &[("a/1.wav", b""), ("b/2.png", b"")]).refusal(), mixed);
    let deep = LabelError::TooDeep("a/b/c/d/e".into());
    assert_eq!(Scratch::new("deep", &[("a/b/c/d/e/1.wav", b"")]).refusal(), deep);
    assert!(matches!(Dataset::open(Path::new("no such folder")), Err(DatasetError::Io { .. })));
}

#[test]
fn a_table_labels_files() {
    let table = "file,label,group,task,features\nx/1.png,dog;cat,g1,pets,indoor;day\n2.png,,g1,,\n";
    let folder = Scratch::new("table", &[("x/1.png", b""), ("2.png", b""), ("labels.csv", table.as_bytes())]);
    let dataset = Dataset::open(&folder.0).unwrap();
    assert_eq!(
        (dataset.classes(), dataset.content()),
        (&["cat".to_owned(), "dog".to_owned()][..], &Content::Images)
    );
    let first = &dataset.items()[0];
    assert_eq!((&first.labels[..], first.label()), (&[0, 1][..], None));
    assert_eq!((first.group.as_deref(), first.task.as_deref()), (Some("g1"), Some("pets")));
    assert_eq!(first.features, ["indoor", "day"]);
    assert_eq!((dataset.items()[1].labels.len(), dataset.groups()), (0, vec![0, 0]));
    assert!(dataset.labels().unwrap_err().to_string().contains("x/1.png has 2 labels"));
}

#[test]
fn a_table_labels_features() {
    let features =
        npy::to_npy_bytes(&Array::from_values(&[3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap());
    let table = b"row,label_id,label\n0,2,yes\n1,0,no\n2,2,yes\n";
    let folder = Scratch::new("features", &[("features.npy", &features), ("labels.csv", table)]);
    let dataset = Dataset::open(&folder.0).unwrap();
    assert_eq!(dataset.classes(), ["no", "1", "yes"]);
    assert_eq!((dataset.labels().unwrap(), paths(&dataset)), (vec![2, 0, 2], vec!["0", "1", "2"]));
    assert_eq!(dataset.row(1).unwrap().to_vec::<f32>().unwrap(), [3.0, 4.0]);
    assert!(dataset.row(3).is_err());
    fs::write(folder.0.join("labels.csv"), "label\na\n").unwrap();
    assert_eq!(folder.refusal(), LabelError::RowCount { rows: 1, features: 3 });
}

#[test]
fn tables_name_their_faults() {
    let folder = Scratch::new("faults", &[("a.wav", b"")]);
    let file = |line, file: &str| LabelError::File { line, file: file.into() };
    let faults = [
        ("file\na.wav\n", LabelError::Column("label")),
        ("label\nx\n", LabelError::Column("file")),
        ("file,label\na.wav\n", LabelError::Table { line: 2 }),
        ("file,label\na.wav,x\nb.wav,x\n", file(3, "b.wav")),
        ("file,label\n../a.wav,x\n", file(2, "../a.wav")),
        ("file,label\n/a.wav,x\n", file(2, "/a.wav")),
        ("file,label\na.txt,x\n", file(2, "a.txt")),
        ("file,label\n,x\n", file(2, "")),
        ("file,label,label_id\na.wav,x,1\na.wav,y,1\n", LabelError::LabelId { line: 3 }),
        ("file,label,label_id\na.wav,x,1\na.wav,x,2\n", LabelError::LabelId { line: 3 }),
        ("file,label,label_id\na.wav,x,99999\n", LabelError::LabelId { line: 2 }),
        ("file,label,label_id\na.wav,,1\n", LabelError::LabelId { line: 2 }),
    ];
    for (text, fault) in faults {
        assert_eq!(parse(text, Names::FilesIn(&folder.0)), Err(fault), "{text}");
    }
}
