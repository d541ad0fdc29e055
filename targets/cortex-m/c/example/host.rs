//! What the example in C is given, and what must come of it: compiles the firmware's model, lets the host's reference learn,
//! and writes the files of `files.S` and the sizes of `model.h` to a folder.

use std::path::Path;
use std::{env, fs};

use ingraft_adapter::Base;
use ingraft_tensor::bytes;

use lesson::{Lesson, codes, stored};

#[path = "../../firmware/build/aligned.rs"]
mod aligned;
#[path = "../../firmware/src/learn.rs"]
#[allow(dead_code, unreachable_pub, reason = "the firmware uses the rest")]
mod learn;
#[path = "../../firmware/build/lesson.rs"]
mod lesson;
#[path = "../../firmware/build/recorded.rs"]
mod recorded;
#[path = "../../firmware/build/sources/mod.rs"]
#[allow(dead_code, reason = "the firmware senses frames")]
mod sources;

fn main() {
    let folder = env::args().nth(1).expect("a folder to write to");
    let folder = Path::new(&folder);
    fs::create_dir_all(folder).expect("the folder can be made");
    let write =
        |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("the folder is writable");
    let lesson = Lesson::new(sources::chosen(Path::new(env!("CARGO_MANIFEST_DIR"))));
    let (_, first) = lesson.clips.held_out.first().expect("there are clips");
    let (_, base_output) = lesson.classify(first, &Base);
    write("base.plan", lesson.file.bytes());
    write("laboratory.adapter", lesson.laboratory.bytes());
    write("learned.adapter", lesson.learned.bytes());
    write("examples", &stored(&lesson.clips.examples));
    write("held_out", &stored(&lesson.clips.held_out));
    write("model.h", sizes(&lesson, base_output.len() / 4).as_bytes());
    write("base.out", &base_output);
}

/// The constants of the example.
fn sizes(lesson: &Lesson, logits: usize) -> String {
    let (codes, [laboratory, learned]) = (codes(&lesson.plan()), lesson.right());
    let (_, memory) = lesson.memory(&ingraft_cortex_m::dsp());
    let examples = lesson.clips.examples.len();
    let numbers = [
        ("CLASSES", lesson.model.labels.len()),
        ("LOGITS", logits),
        ("WINDOW", lesson.model.window()),
        ("EXAMPLES", examples),
        ("FEATURES", lesson.feature_values() / examples),
        ("MEMORY_BYTES", memory),
        ("ADAPTER_BYTES", bytes::align_up(lesson.adapter_bytes())),
        ("RIGHT_WITH_LABORATORY", laboratory as usize),
        ("RIGHT_WITH_LEARNED", learned as usize),
    ];
    let mut text = format!("/* {} */\n", lesson.model.name);
    numbers.iter().for_each(|(name, value)| text.push_str(&format!("#define {name} {value}\n")));
    text.push_str(&format!("#define SCALE {:?}f\n#define ZERO_POINT ({})\n", codes.scale, codes.zero_point));
    text.push_str(&format!("#define LABELS {:?}\n", lesson.model.labels.join("\n")));
    text
}
