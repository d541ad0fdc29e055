//! Writes what every target starts from: the committed seeds to `seeds/TARGET/NAME`, and what is packed from files that
//! are committed elsewhere to `corpus/TARGET/NAME`.

use std::fs;
use std::io;
use std::path::Path;

use ingraft_fuzz::seeds;

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packed = seeds::packed(&root.join("../golden/import"))?;
    for (parent, seeds) in [("seeds", seeds::written()), ("corpus", packed)] {
        for (target, name, bytes) in seeds {
            let folder = root.join(parent).join(target);
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
