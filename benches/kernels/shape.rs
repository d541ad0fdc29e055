//! The shapes of real layers, read from `benches/shapes`.

use ingraft::kernel::attrs::Window;

/// A convolution, depthwise convolution or linear layer on one sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    /// Height, width, channels.
    pub(crate) input: [u32; 3],
    /// Output channels.
    pub(crate) out: u32,
    pub(crate) window: Window,
    /// One filter per channel.
    pub(crate) depthwise: bool,
}

impl Layer {
    /// Output height and width.
    pub(crate) fn pixels(&self) -> [u32; 2] {
        let [height, width, _] = self.input;
        [(0, height), (1, width)].map(|(axis, extent)| {
            let output = self.window.output(axis, extent as usize);
            output.unwrap_or_else(|| panic!("{}: the window does not fit", self.name)) as u32
        })
    }
}

/// `[batch, m, k]` times `[batch, k, n]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) name: &'static str,
    pub(crate) batch: u32,
    pub(crate) m: u32,
    pub(crate) k: u32,
    pub(crate) n: u32,
}

/// The layers of `conv.txt`.
pub(crate) fn dense() -> Vec<Layer> {
    let layer = |(name, [h, w, c, out, geometry @ ..]): (_, [u32; 12])| Layer {
        name,
        input: [h, w, c],
        out,
        window: window(geometry),
        depthwise: false,
    };
    rows(include_str!("../shapes/conv.txt")).map(layer).collect()
}

/// The layers of `depthwise.txt`.
pub(crate) fn depthwise() -> Vec<Layer> {
    let layer = |(name, [h, w, c, geometry @ ..]): (_, [u32; 11])| Layer {
        name,
        input: [h, w, c],
        out: c,
        window: window(geometry),
        depthwise: true,
    };
    rows(include_str!("../shapes/depthwise.txt")).map(layer).collect()
}

/// The products of `matmul.txt`.
pub(crate) fn products() -> Vec<Product> {
    let product = |(name, [batch, m, k, n]): (_, [u32; 4])| Product { name, batch, m, k, n };
    rows(include_str!("../shapes/matmul.txt")).map(product).collect()
}

fn window([kh, kw, sh, sw, pad @ ..]: [u32; 8]) -> Window {
    Window { kernel: [kh, kw], stride: [sh, sw], dilation: [1, 1], pad }
}

/// A name and `N` numbers on every line that is no comment.
fn rows<const N: usize>(text: &'static str) -> impl Iterator<Item = (&'static str, [u32; N])> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, numbers) = line.split_once(' ').unwrap_or((line, ""));
        let parsed: Vec<u32> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (name, parsed.try_into().unwrap_or_else(|_| panic!("{N} numbers expected: {line}")))
    })
}
