//! Keys, seals, and whom they convince.

use std::fs;

use serde_json::json;

use crate::fixture::lay_out;
use crate::process::Folder;

/// A folder with an adapter, a key pair and another.
fn prepared(test: &str) -> Folder {
    let folder = Folder::new(test);
    lay_out(&folder, 1);
    folder
        .run("compile base.onnx -o base.plan --dim N=1 --front-end yamnet --train-from late --head-classes 4")
        .ok();
    folder.run("train base.plan --data clips --method head --epochs 1 -o site-a.adapter").ok();
    for name in ["ours", "theirs"] {
        folder.run(&format!("keygen -o {name}")).ok();
    }
    folder
}

#[test]
fn a_signed_adapter_convinces_those_who_trust_the_key() {
    let folder = prepared("signing");
    let before = folder.read("site-a.adapter");
    folder.run("sign site-a.adapter --key ours --version 7 --expires 2999-12-31").ok();
    assert!(folder.read("site-a.adapter") == before, "the adapter stays as it is");
    assert_eq!(folder.read("site-a.adapter.seal").len(), 216);
    let report = folder
        .run("verify site-a.adapter --trust theirs.pub --trust ours.pub --base base.plan --json")
        .json();
    assert_eq!(report["policy"], json!("signed"));
    assert_eq!(report["seal"], json!({ "name": "site-a", "version": 7, "expires": 32_503_593_600_u64 }));
    let verify = |options: &str| folder.run(&format!("verify site-a.adapter --trust ours.pub {options}"));
    verify("--floor 7 --name site-a --at 2999-12-30").ok();
    verify("--floor 8").refused(&["site-a.adapter", "version 7 is older than 8"]);
    verify("--name site-b").refused(&["for the key site-a"]);
    verify("--at 2999-12-31").refused(&["expired"]);
    verify("--at 2999-02-29").misused(&["YYYY-MM-DD"]);
    folder.run("verify site-a.adapter --trust theirs.pub").refused(&["not trusted"]);
    folder.run("verify site-a.adapter").misused(&["--trust"]);
    folder.run("verify site-a.adapter --policy hashed").ok();
    folder.run("verify base.plan --policy hashed").refused(&["base.plan: not an adapter"]);
    folder.run("verify base.plan --policy any").ok();
    let mut seal = folder.read("site-a.adapter.seal");
    seal[16] = 9;
    folder.write("site-a.adapter.seal", &seal);
    verify("").refused(&["forged or damaged"]);
    folder.write("site-a.adapter.seal", &seal[1..]);
    verify("").refused(&["site-a.adapter.seal: not a seal"]);
    fs::remove_file(folder.path("site-a.adapter.seal")).expect("it is there");
    verify("").refused(&["site-a.adapter.seal: No such file"]);
}

#[test]
fn keys_are_private_and_stay() {
    let folder = prepared("keys");
    let secret = String::from_utf8(folder.read("ours")).expect("a line of text");
    let digits = secret.trim_end().strip_prefix("ingraft-secret-key-1 ").expect("what it is");
    assert_eq!(digits.len(), 64);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(folder.path("ours")).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    folder.run("keygen -o ours").refused(&["ours: File exists"]);
    assert_eq!(folder.read("ours"), secret.as_bytes());
    let printed = [
        folder.run("sign site-a.adapter --key ours --version 1 --json").ok(),
        folder.run("keygen -o more --json").ok(),
    ];
    let more = String::from_utf8(folder.read("more")).expect("a line of text");
    for done in printed {
        for secret in [digits, &more["ingraft-secret-key-1 ".len()..more.len() - 1]] {
            assert!(
                !done.out.contains(secret) && !done.err.contains(secret),
                "key material is never printed"
            );
        }
    }
    let sign = |key: &str| folder.run(&format!("sign site-a.adapter --version 1 --key {key}"));
    sign("ours.pub").refused(&["ours.pub: no key file", "ingraft-secret-key-1"]);
    sign("none").refused(&["none: No such file"]);
    for (number, text) in
        [&secret[..60], &format!("{}0", secret.trim_end()), &secret.replace(&digits[..1], "g"), ""]
            .iter()
            .enumerate()
    {
        folder.write(format!("bad{number}"), text.as_bytes());
        sign(&format!("bad{number}")).refused(&["no key file"]);
    }
    folder
        .run("sign site-a.adapter --version 1 --key ours --name Site_A")
        .misused(&["--name Site_A", "a to z"]);
    folder.run("verify site-a.adapter --trust ours").refused(&["ours: no key file", "ingraft-public-key-1"]);
}
