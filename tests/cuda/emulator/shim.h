// What the CUDA sources use of CUDA, for a compiler of the host: sm_72's paths, a thread after the other. The driver
// beside it switches threads at barriers, shuffles and ballots.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <cstdio>
#include <cstdlib>
#include <immintrin.h>
#define __global__ __attribute__((visibility("default")))
#define __device__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __CUDA_ARCH__ 720
struct uint3_ {
    unsigned x, y, z;
};
extern uint3_ threadIdx, blockIdx, blockDim, gridDim;
void em_sync();
void em_named(int id, int count);
void em_warp();
extern unsigned char em_exchange[32][32][8];
#define __syncthreads em_sync
struct __align__(16) float4 {
    float x, y, z, w;
};
struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) int4 {
    int x, y, z, w;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};
struct __align__(8) uint2 {
    unsigned x, y;
};
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
template <class T>
static inline T __ldg(const T* p) {
    if ((uintptr_t)p % sizeof(T)) {
        fprintf(stderr, "misaligned ldg %p of %zu\n", (const void*)p, sizeof(T));
        abort();
    }
    return *p;
}
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __ll2float_rn(long long a) { return (float)a; }
static inline float __uint_as_float(unsigned a) {
    float f;
    memcpy(&f, &a, 4);
    return f;
}
static inline float __int_as_float(int a) {
    float f;
    memcpy(&f, &a, 4);
    return f;
}
static inline unsigned __float_as_uint(float a) {
    unsigned f;
    memcpy(&f, &a, 4);
    return f;
}
__attribute__((target("f16c"))) static inline unsigned short em_half(float a) { return _cvtss_sh(a, 0); }
__attribute__((target("f16c"))) static inline float em_float(unsigned short a) { return _cvtsh_ss(a); }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline long long max(long long a, long long b) { return a > b ? a : b; }
template <class T>
static inline T em_shfl(T v, unsigned from) {
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    memcpy(em_exchange[warp][lane], &v, sizeof(T));
    em_warp();
    T out;
    memcpy(&out, em_exchange[warp][from], sizeof(T));
    em_warp();
    return out;
}
template <class T>
static inline T __shfl_down_sync(unsigned, T v, unsigned by) {
    unsigned lane = threadIdx.x % 32;
    return em_shfl(v, lane + by < 32 ? lane + by : lane);
}
void em_lanes(unsigned lanes);
static inline unsigned __ballot_sync(unsigned lanes, bool v) {
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, out = 0;
    if (!(lanes >> lane & 1)) {
        fprintf(stderr, "ballot of a lane that is not named\n");
        abort();
    }
    em_exchange[warp][lane][0] = v;
    em_lanes(lanes);
    for (unsigned i = 0; i < 32; i++)
        if ((lanes >> i & 1) && em_exchange[warp][i][0]) out |= 1u << i;
    em_lanes(lanes);
    return out;
}
static inline void __syncwarp() { em_warp(); }
static inline unsigned atomicOr(unsigned* p, unsigned v) {
    if ((uintptr_t)p % 4) {
        fprintf(stderr, "misaligned atomic\n");
        abort();
    }
    unsigned old = *p;
    *p |= v;
    return old;
}
static inline unsigned atomicAnd(unsigned* p, unsigned v) {
    if ((uintptr_t)p % 4) {
        fprintf(stderr, "misaligned atomic\n");
        abort();
    }
    unsigned old = *p;
    *p &= v;
    return old;
}
template <class T>
static inline T __shfl_xor_sync(unsigned, T v, int mask) {
    return em_shfl(v, (threadIdx.x % 32) ^ mask);
}
template <class T>
static inline T __shfl_sync(unsigned, T v, int from) {
    return em_shfl(v, from & 31);
}
