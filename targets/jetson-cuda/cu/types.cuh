// What host and device agree on: parameter records, term tables, rounding.
//
// Records are passed by value as kernel parameters. `src/params.rs` and `src/terms.rs` hold
// the same records in Rust; a test compares their sizes with `record_sizes` below.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

/// The active terms of one site for one sample: device addresses, 0 where a term is absent.
struct Terms {
    u64 weight, bias;                      // another weight in the base's place
    u64 down, up, down_scale, up_scale;    // two factors; the scales only for integer ones
    u64 indptr, indices, values;           // a sparse delta in compressed rows
    u64 scale, shift;                      // affine
    u64 dense;                             // a delta of every weight
    u32 rank;
    u32 factors;                           // 0 none, 1 f32, 2 int8
    u32 sparse;                            // 0 none, 1 int16, 2 f32
    u32 reserved;
};

struct Window {
    i32 kernel[2], stride[2], dilation[2], pad[2];
};

/// int8 convolution and depthwise convolution.
struct QConv {
    u64 input, weight, bias, multiplier, output, terms, mask;
    i32 n, h, w, c, oh, ow, o;
    Window window;
    i32 groups, in_group, out_group, row;
    i32 in_zero_point, out_zero_point;
    float lo, hi, in_scale, inv_out_scale;
    i32 out_kind;                          // 0 int8, 1 f32, 2 i32
    i32 linear;                            // 1 where output pixels are the input's
    i32 raw;                               // 1 leaves scale and shift out
    i32 samples;                           // entries of terms, one behind the other, each for as many images
    i32 reserved;
};

struct Pool {
    u64 input, output, mask;
    i32 n, h, w, c, oh, ow;
    Window window;
    i32 pad_end[2];
    i32 kind, in_zero_point, out_zero_point;
    float ratio, lo, hi;
};

const int MAX_RANK = 6;

/// Two operands that broadcast to an output; strides in elements, 0 where an operand repeats.
struct Pair {
    u64 lhs, rhs, output, mask;
    i32 count, rank;
    i32 extents[MAX_RANK], lhs_strides[MAX_RANK], rhs_strides[MAX_RANK];
    i32 zero_points[2], out_zero_point;
    float factors[2], lo, hi;
};

struct Rescale {
    u64 input, output, mask;
    i32 count, in_zero_point, out_zero_point;
    float in_scale, out_scale, lo, hi;
};

struct Lookup {
    u64 input, table, output;
    i32 count, reserved;
};

struct QSoftmax {
    u64 input, table, output;
    i32 rows, len, out_zero_point;
    float inv_scale;
};

struct Copy {
    u64 input, output;
    i32 count, rank, size, reserved;
    i32 extents[MAX_RANK], in_strides[MAX_RANK], out_strides[MAX_RANK];
};

struct Fill {
    u64 output, value;
    i32 count, size;
};

struct Head {
    u64 input, weight, bias, output;
    i32 n, h, w, c, classes, features, pool_h, pool_w, is_code, zero_point;
    float scale, reserved;
};

/// The gradient of a layer and of the terms at its site; 0 for what is not wanted or not there.
struct LayerBackward {
    u64 dy, mask, input, weight, bias, multiplier, dx, terms;
    u64 run_scale, run_zero, row_sums;                          // of input quantized at run time, in place of the scales below
    u64 down, up, sparse, scale, shift, dense;                  // sums of gradients
    u64 latents, dlatents, weights, values, parts, stage;       // scratch
    i32 n, h, w, c, oh, ow, o;
    Window window;
    i32 groups, in_group, out_group, row;
    i32 zero_point;
    float in_scale, out_scale, value_scale;
    i32 codes;                             // 1 int8 operands, 0 f32
    i32 linear, depthwise, accumulate;
    i32 staged;                            // 1 where dy is dz already
    i32 rank, entries, splits;
};

/// A group of parameters that moves alike, and how; in a table in device memory.
struct Moved {
    u64 parameters, gradients, first, second;   // `first` and `second` are the rule's state
    i32 len, rule;                              // 0 descent, 1 momentum, 2 Adam
    i32 penalized, shrinks;
    float gradient, scale, penalty, keep, reach;
    float momentum, new_first, second_beta, new_second, root_bias, epsilon, threshold;
};

/// Groups, the group and first element of each piece, and a sum of squares a group.
struct Descent {
    u64 groups, pieces, totals;
};

/// Most lanes of a session.
const i32 MAX_LANES = 16;

/// Gradients of lanes that are added to the sums, in order, and forgotten.
struct Lanes {
    u64 sums, parts[MAX_LANES];
    i32 count, lanes;
};

struct SumParts {
    u64 parts, sums;
    i32 count, splits;
};

/// The gradient of what a step copied or broadcast: `count` elements, each read `repeats` times.
struct GatherBack {
    u64 dy, mask, dx;
    i32 count, repeats, rank, accumulate, dy_first, dx_first;
    i32 extents[MAX_RANK], dy_strides[MAX_RANK], dx_strides[MAX_RANK];
    i32 repeat_extents[MAX_RANK], repeat_strides[MAX_RANK];
};

struct LookupBack {
    u64 dy, input, table, dx;
    i32 count, accumulate;
};

struct PoolBack {
    u64 dy, mask, input, dx;
    i32 n, h, w, c, oh, ow;
    Window window;
    i32 pad_end[2];
    i32 kind, codes, accumulate, reserved;
};

/// In a recording the driver may begin a kernel before the end of the one it follows (sm_90 and later). Here every kernel waits
/// until that one is done with all it wrote, and lets the next one come as far. Ahead of it a kernel may read what none of a
/// recording writes: constants of the plan, terms, packed weights. The next one is let come no sooner, so that at most two are
/// under way: blocks of more would crowd where the first ones left room.
__device__ __forceinline__ void follow() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;\n\tgriddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Lets the next kernel come at once, ahead of the wait, and so the one behind it. For integer layers, which are short: of a net in
/// f32, whose blocks are large and many, those that wait would stand where others could work.
__device__ __forceinline__ void lead() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Has two values found ahead of what comes next, where the compiler would find them behind a wait for want of a need. Neither may be the
/// least there is: the barrier of memory that then comes would do no harm.
__device__ __forceinline__ void settled(i32 a, i32 b) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n\t.reg .pred p;\n\tsetp.eq.s32 p, %0, -2147483648;\n\tsetp.eq.and.s32 p, %1, -2147483648, p;\n\t@p membar.cta;\n\t}" ::"r"(a),
        "r"(b)
        : "memory");
#endif
}

template <typename T> __device__ __forceinline__ T* at(u64 address) { return reinterpret_cast<T*>(address); }

/// What a kernel of the same recording may have written. `__ldg` is for what none writes while another may be under way:
/// the compiler moves such loads ahead of `follow`, and the hardware need not bring them up to date.
template <typename T> __device__ __forceinline__ T fresh(const T* from) { return *from; }

/// Whether the straight-through gradient passes.
__device__ __forceinline__ bool passes(float v, float lo, float hi) { return v > lo && v < hi; }

/// Writes a bit an element of a mask, `open` of lanes whose element is `known`. `whole`: lanes hold consecutive elements,
/// every eighth of which begins a byte. All of `lanes` come here. Bits of no element stay as they are.
__device__ __forceinline__ void put_mask(u64 mask, i32 index, bool whole, u32 lanes, bool known, bool open) {
    if (!whole) {
        u32* word = at<u32>(mask) + (index >> 5);
        if (known && open) atomicOr(word, 1u << (index & 31));
        else if (known) atomicAnd(word, ~(1u << (index & 31)));
        return;
    }
    u32 word = __ballot_sync(lanes, known && open);
    i32 lane = threadIdx.x & 31;
    u8 held = (u8)(__ballot_sync(lanes, known) >> lane);
    if (!known || lane & 7) return;
    u8* byte = at<u8>(mask) + (index >> 3);
    *byte = (u8)(word >> lane) | (held == 0xff ? 0 : *byte & ~held);
}

/// NaN becomes `lo`, and `hi` wins when they cross.
__device__ __forceinline__ float clamp(float v, float lo, float hi) {
    v = v > lo ? v : lo;
    return v < hi ? v : hi;
}

/// Half to even, for |v| < 2^22: the sum with 1.5 * 2^23 has no fraction bits.
__device__ __forceinline__ i32 round_even(float v) {
    return (i32)__fsub_rn(__fadd_rn(v, 12582912.0f), 12582912.0f);
}

__device__ __forceinline__ i8 to_code(float v, float lo, float hi, i32 zero_point) {
    return (i8)(round_even(clamp(v, lo, hi)) + zero_point);
}

/// Offsets of element `index` of a row-major block in two operands.
__device__ __forceinline__ void offsets(i32 index, i32 rank, const i32* extents, const i32* a, const i32* b,
                                        i32& in_a, i32& in_b) {
    in_a = 0;
    in_b = 0;
    for (i32 d = rank - 1; d >= 0; d--) {
        i32 i = index % extents[d];
        index /= extents[d];
        in_a += i * a[d];
        in_b += i * b[d];
    }
}
