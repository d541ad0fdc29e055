//! Numbers of trained parameters, as published.

use alloc::string::String;

use ingraft_kernel::{SiteDesc, SiteKind};

/// What `method` with settings `text` trains at `site`; `None` for those counted beside their own file.
pub(super) fn published(method: &str, text: &dyn Fn(&str) -> String, site: &SiteDesc<'_>) -> Option<usize> {
    let set = |name: &str| text(name).parse::<usize>().unwrap_or(usize::from(text(name) == "true"));
    let (out, row) = (site.out, site.row());
    let (r, side, both) = (set("rank"), out.min(row), out + row);
    let parts = |group: usize| (out * row).checked_div(group).unwrap_or(out);
    let qubits = |n: usize| n.next_power_of_two().trailing_zeros() as usize;
    let circuit = |n: usize| match qubits(n) {
        0 => 0,
        q => (2 * set("layers") + 1) * q - 2 * set("layers"),
    };
    let pairs = |n: usize| {
        let m = (1..=n).rfind(|m| m * m <= n && n.is_multiple_of(*m)).unwrap();
        [m, n / m]
    };
    let ([o1, o2], [i1, i2]) = (pairs(out), pairs(row));
    let largest = |limit: usize, fits: &dyn Fn(usize) -> bool| (1..=limit).rev().find(|n| fits(*n)).unwrap();
    Some(match method {
        "abba" => (set("rank1").min(side) + set("rank2")) * both,
        "adalora" | "s2lora" | "sora" => r * both + r,
        "beft" | "bitfit" => out,
        "boft" => {
            let m = set("factors");
            let fits = |b: usize| row.is_multiple_of(b << (m - 1)) && (m == 1 || b.is_multiple_of(2));
            m * row * largest(set("block").min(row), &fits) + out
        }
        "bone" => r * out,
        "bora" => r * both + both,
        "c3a" => {
            let fits = |b: usize| out.is_multiple_of(b) && row.is_multiple_of(b);
            out * row / largest(set("block").min(side), &fits)
        }
        "context-peft" => set("domains") * (r * both + set("bias") * out),
        "deft" if set("para") == 1 => r.min(out) * out,
        "deft" => r.min(out) * both,
        "delora" => r * both + 1,
        "diablo" => {
            let (high, wide) = (out.div_ceil(set("blocks")), row.div_ceil(set("blocks")));
            out.div_ceil(high).max(row.div_ceil(wide)) * high * wide
        }
        "dora" => r * both + out,
        "edora" => r.min(side).pow(2) + out,
        "ether" if text("side") == "out" => out,
        "ether" => row,
        "ether+" => {
            2 * match text("side").as_str() {
                "in" => row,
                "out" => out,
                _ => both,
            }
        }
        "flix" => set("features") * r * both,
        "gralora" => (r + set("hybrid_rank")) * both,
        "hd-pissa" => (set("slices") * r).min(side) * both,
        "hira" | "melora" | "sqft" => r * both,
        "id3" => out * row,
        "snell" => r * both,
        "snella" => r * both + 3,
        "hut" => r * both * if text("form") == "scale" { 1 } else { 2 },
        "hra" => r * row,
        "kradapter" => {
            let k1 = (side as f64).sqrt().floor() as usize;
            side * (k1 + (k1..).find(|k2| k1 * k2 >= out.max(row)).unwrap())
        }
        "l4q" => r * both + 2 * parts(set("group")),
        "loha" => 2 * r * both,
        "lorat" if site.kind == SiteKind::Linear && row == set("types") => out * row,
        "lorat" => r * both,
        "map" if text("delta") == "lora" => r * both + 2,
        "map" if text("delta") == "loha" => 2 * 8 * both + 2,
        "mhr" => set("skills") * r * both + set("tasks") * set("splits") * set("skills"),
        "miss" => r.min(row) * out,
        "peqa" => parts(set("group")),
        "msplora" => both * (set("global_rank") + 3 * set("group_rank") + set("layer_rank")),
        "pissa" => r.min(side) * both,
        "poly" => set("skills") * r * both + set("tasks") * set("skills"),
        "psoft" => r.min(side) * (r.min(side) - 1) / 2 + 2 * r.min(side),
        "quantum-peft" => circuit(out) + circuit(row) + r.min(side),
        "qwha" => (r * both).min(out * row.next_power_of_two()),
        "randlora" => side.div_ceil(r) * (r + side),
        "road" => out * set("variant"),
        "sketchtune" => parts(set("group")) << set("bits"),
        "soka" => {
            let r = r.min(o1 * i1).min(o2 * i2);
            r * (o1 * i1 + o2 * i2)
        }
        "spectral-adapter" => {
            let r = r.min(side).min(side - set("slice") * r.min(side));
            if text("kind") == "additive" { r * both } else { 2 * r * r + r }
        }
        "surm" => match text("kind").as_str() {
            "kronecker" => both,
            "toeplitz" => 4 * out.max(row) - 2,
            _ => 2 * out.max(row),
        },
        "tinylora" => set("coefficients"),
        "tlora" => {
            let (t, d) = (set("ring").pow(2), set("residual_ring").pow(2));
            t * (i1 * i1 + i2 * i2) + d * (o1 + o2 + i1 + i2)
        }
        "unilora" => set("theta_d_length"),
        "vblora" => set("vectors") * (r * both / set("vector_length") + set("vector_length")),
        "vectorfit" => side + out,
        "vera" => out + r,
        "wara" => 4 * r * (out.div_ceil(2) + row.div_ceil(2)),
        _ => return None,
    })
}
