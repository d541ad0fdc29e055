//! Small images copied with zero points around them: each line of the output is one run then, and not one of the pixels
//! inside and one for every pixel at the border, of which each costs as much as three or four pixels.

use ingraft_kernel::qdepthwise::QDepthwise;
use ingraft_kernel::window::ConvShape;

/// Codes of the largest copy: what stays in the first level of any cache together with the output.
const LARGEST: usize = 16 * 1024;

/// Codes that copying takes; none for images that are read where they are.
pub(super) fn bytes(shape: &ConvShape) -> usize {
    let codes = around(shape).input.iter().product();
    let at_a_side = shape.pad[1] > 0 || around(shape).input[2] > shape.input[2];
    if at_a_side && codes <= LARGEST { codes } else { 0 }
}

/// The same windows over an image that ends where they do.
fn around(shape: &ConvShape) -> ConvShape {
    let [samples, _, _, channels] = shape.input;
    let extent = |axis: usize| {
        let last = shape.output[axis + 1].saturating_sub(1) * shape.stride[axis];
        last + (shape.kernel[axis] - 1) * shape.dilation[axis] + 1
    };
    ConvShape { input: [samples, extent(0), extent(1), channels], pad: [0; 2], ..*shape }
}

/// The convolution over a copy in `memory`, of as many codes as [`bytes`] says; `None` when it has fewer.
pub(super) fn copy<'a>(conv: &QDepthwise<'a>, memory: &'a mut [i8]) -> Option<QDepthwise<'a>> {
    let (from, shape) = (conv.shape, around(&conv.shape));
    let [_, height, width, channels] = shape.input;
    let memory = memory.get_mut(..shape.input.iter().product())?;
    memory.fill(conv.attrs.in_zero_point as i8);
    let [_, lines, columns, _] = from.input;
    let len = columns.min(width.saturating_sub(from.pad[1])) * channels;
    let images = memory.chunks_exact_mut((height * width * channels).max(1));
    for (image, from_image) in images.zip(conv.input.chunks_exact((lines * columns * channels).max(1))) {
        let rows = image.chunks_exact_mut((width * channels).max(1)).skip(from.pad[0]);
        for (row, line) in rows.zip(from_image.chunks_exact((columns * channels).max(1))) {
            row.get_mut(from.pad[1] * channels..)?.get_mut(..len)?.copy_from_slice(line.get(..len)?);
        }
    }
    Some(QDepthwise { shape, input: memory, ..*conv })
}
