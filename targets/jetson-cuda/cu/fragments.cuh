// Fragments of tensor-core products where there are no tensor cores.
#pragma once
#include "types.cuh"

/// A product of fragments without tensor cores: words travel from the lanes that hold them, `dot` adds what two of them make.
template <class C, class W, class F> __device__ __forceinline__ void shuffled(C* c, const W* a, W b0, W b1, F dot) {
    i32 lane = threadIdx.x & 31, row = lane & ~3, first = (lane & 3) * 8;
#pragma unroll 1
    for (i32 i = 0; i < 4; i++) {
        W a0 = __shfl_sync(~0u, a[0], row + i), a1 = __shfl_sync(~0u, a[1], row + i);
        W a2 = __shfl_sync(~0u, a[2], row + i), a3 = __shfl_sync(~0u, a[3], row + i);
        W left0 = __shfl_sync(~0u, b0, first + i), left1 = __shfl_sync(~0u, b1, first + i);
        W right0 = __shfl_sync(~0u, b0, first + 4 + i), right1 = __shfl_sync(~0u, b1, first + 4 + i);
        c[0] = dot(a2, left1, dot(a0, left0, c[0]));
        c[1] = dot(a2, right1, dot(a0, right0, c[1]));
        c[2] = dot(a3, left1, dot(a1, left0, c[2]));
        c[3] = dot(a3, right1, dot(a1, right0, c[3]));
    }
}
