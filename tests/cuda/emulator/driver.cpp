// A CUDA driver that runs kernels on the CPU: what `cudarc` loads as libcuda.so.1. Each thread of a block is a fiber; a
// warp that is incomplete, an access past an allocation, a copy while recording and a barrier that not all reach end
// the process.
#include "shim.h"
#include <map>
#include <string>
#include <vector>
#include <sys/mman.h>
uint3_ threadIdx, blockIdx, blockDim, gridDim;
unsigned char em_exchange[32][32][8];
struct Kernel {
    const char* name;
    void (*run)(void*);
    size_t size;
};
extern Kernel em_kernels[];

// Fibers: stacks of their own, left and entered by hand.
struct Barrier {
    int arrived;
    unsigned generation;
};
struct Fiber {
    void* sp;
    bool done;
};
static Fiber fibers[1024];
static char* stacks;
static void* main_sp;
static int current, total, alive;
static int warp_alive[32];
static Barrier block_barrier, named[16], warps[32];
static void (*body)(void*);
static void* record;
static const size_t STACK = 64 * 1024;
extern "C" void em_switch(void** save, void* to);
asm(".text\n.globl em_switch\nem_switch:\n push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n mov "
    "%rsp,(%rdi)\n mov %rsi,%rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");
static void next_fiber(bool finished) {
    int from = current, to = current;
    for (int i = 1; i <= total; i++) {
        int t = (from + i) % total;
        if (!fibers[t].done) {
            to = t;
            goto found;
        }
    }
    {
        void* dummy;
        em_switch(&dummy, main_sp);
    }
found:
    if (to == from) return;
    current = to;
    threadIdx.x = to;
    em_switch(&fibers[from].sp, fibers[to].sp);
    threadIdx.x = current;
}
static void release(Barrier& b, int want) {
    if (b.arrived && b.arrived == want) {
        b.arrived = 0;
        b.generation++;
    }
}
static void entry() {
    body(record);
    fibers[current].done = true;
    alive--;
    warp_alive[current / 32]--;
    release(block_barrier, alive);
    next_fiber(true);
    abort();
}
static void wait_on(Barrier& b, int want) {
    unsigned g = b.generation;
    b.arrived++;
    if (b.arrived == want) {
        b.arrived = 0;
        b.generation++;
        return;
    }
    long spins = 0;
    int me = current;
    while (b.generation == g) {
        next_fiber(false);
        if (current != me) abort();
        if (++spins > 100000) {
            fprintf(stderr, "deadlock: barrier arrived %d want %d alive %d\n", b.arrived, want, alive);
            abort();
        }
    }
}
void em_sync() { wait_on(block_barrier, alive); }
void em_named(int id, int count) { wait_on(named[id], count); }
void em_warp() {
    int w = threadIdx.x / 32;
    if (warp_alive[w] != 32) {
        fprintf(stderr, "shuffle with %d lanes\n", warp_alive[w]);
        abort();
    }
    wait_on(warps[w], 32);
}
void em_lanes(unsigned lanes) {
    int w = threadIdx.x / 32, n = __builtin_popcount(lanes);
    if (warp_alive[w] < n) {
        fprintf(stderr, "ballot of %d lanes with %d\n", n, warp_alive[w]);
        abort();
    }
    wait_on(warps[w], n);
}
static void run_block(void (*f)(void*), void* r, int threads) {
    if (!stacks) stacks = (char*)mmap(0, STACK * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    body = f;
    record = r;
    total = alive = threads;
    memset(&block_barrier, 0, sizeof block_barrier);
    memset(named, 0, sizeof named);
    memset(warps, 0, sizeof warps);
    for (int w = 0; w < 32; w++)
        warp_alive[w] = threads - w * 32 < 0 ? 0 : threads - w * 32 > 32 ? 32 : threads - w * 32;
    for (int t = 0; t < threads; t++) {
        void** top = (void**)(stacks + STACK * (t + 1));
        top -= 1;
        *--top = (void*)entry;
        for (int i = 0; i < 6; i++) *--top = 0;
        fibers[t].sp = top;
        fibers[t].done = false;
    }
    current = 0;
    threadIdx = {0, 0, 0};
    em_switch(&main_sp, fibers[0].sp);
}

// The driver's functions; 0 is success.
typedef int R;
typedef unsigned long long u64_;
struct Launch {
    Kernel* k;
    uint3_ grid;
    int threads;
    std::vector<char> record;
};
static void run(Launch& l) {
    gridDim = l.grid;
    blockDim = {(unsigned)l.threads, 1, 1};
    if (l.grid.y > 65535 || l.grid.z > 65535) {
        fprintf(stderr, "grid\n");
        abort();
    }
    for (unsigned z = 0; z < l.grid.z; z++)
        for (unsigned y = 0; y < l.grid.y; y++)
            for (unsigned x = 0; x < l.grid.x; x++) {
                blockIdx = {x, y, z};
                run_block(l.k->run, l.record.data(), l.threads);
            }
}
struct Graph {
    std::vector<Launch> launches;
};
struct Stream {
    Graph* capture = 0;
};
static std::map<u64_, std::pair<void*, size_t>> allocs;
/// Bytes of its memory, and the code of what has no room in it.
static const size_t MEMORY = (size_t)1 << 34;
static const R NO_ROOM = 2;
static R alloc(u64_* out, size_t n) {
    if (n > MEMORY) return NO_ROOM;
    size_t pages = (n + 4095) / 4096 + 1;
    char* p = (char*)mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(p + (pages - 1) * 4096, 4096, PROT_NONE);
    size_t off = ((pages - 1) * 4096 - n) / 16 * 16;
    *out = (u64_)(p + off);
    memset(p, 0xcd, (pages - 1) * 4096);
    allocs[*out] = {p, pages * 4096};
    return 0;
}
static R release_(u64_ p) {
    auto it = allocs.find(p);
    if (it != allocs.end()) {
        munmap(it->second.first, it->second.second);
        allocs.erase(it);
    }
    return 0;
}
#define X extern "C" __attribute__((visibility("default"))) R
X cuInit(unsigned) { return 0; }
X cuDriverGetVersion(int* v) {
    *v = 11080;
    return 0;
}
X cuDeviceGet(int* d, int o) {
    if (o) return 101;
    *d = 0;
    return 0;
}
X cuDeviceGetCount(int* d) {
    *d = 1;
    return 0;
}
X cuDevicePrimaryCtxRetain(void** c, int) {
    *c = (void*)1;
    return 0;
}
X cuDevicePrimaryCtxRelease_v2(int) { return 0; }
X cuCtxSetCurrent(void*) { return 0; }
X cuCtxGetCurrent(void** c) {
    *c = (void*)1;
    return 0;
}
X cuCtxSynchronize() { return 0; }
X cuDeviceGetAttribute(int* v, int a, int) {
    *v = a == 75 ? 9 : a == 76 ? 0 : 0;
    return 0;
}
X cuDeviceGetName(char* n, int l, int) {
    snprintf(n, l, "emulator");
    return 0;
}
X cuDeviceTotalMem_v2(size_t* n, int) {
    *n = MEMORY;
    return 0;
}
X cuModuleLoadData(void** m, const void*) {
    *m = (void*)2;
    return 0;
}
X cuModuleUnload(void*) { return 0; }
X cuModuleGetFunction(void** f, void*, const char* name) {
    for (Kernel* k = em_kernels; k->name; k++)
        if (!strcmp(k->name, name)) {
            *f = k;
            return 0;
        }
    fprintf(stderr, "no kernel %s\n", name);
    return 500;
}
X cuStreamCreate(void** s, unsigned) {
    *s = new Stream;
    return 0;
}
X cuStreamCreateWithPriority(void** s, unsigned, int) {
    *s = new Stream;
    return 0;
}
X cuStreamDestroy_v2(void* s) { return 0; }
X cuStreamSynchronize(void* s) {
    if (s && ((Stream*)s)->capture) {
        fprintf(stderr, "sync in capture\n");
        return 900;
    }
    return 0;
}
X cuStreamBeginCapture_v2(void* s, int) {
    ((Stream*)s)->capture = new Graph;
    return 0;
}
X cuStreamEndCapture(void* s, void** g) {
    *g = ((Stream*)s)->capture;
    ((Stream*)s)->capture = 0;
    return *g ? 0 : 901;
}
X cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
X cuGraphInstantiateWithFlags(void** e, void* g, u64_) {
    *e = g;
    return 0;
}
X cuGraphInstantiate_v2(void** e, void* g, void*, char*, size_t) {
    *e = g;
    return 0;
}
X cuGraphUpload(void*, void*) { return 0; }
X cuGraphLaunch(void* e, void*) {
    for (auto& l : ((Graph*)e)->launches) run(l);
    return 0;
}
X cuGraphDestroy(void*) { return 0; }
X cuGraphExecDestroy(void*) { return 0; }
X cuMemAlloc_v2(u64_* p, size_t n) { return alloc(p, n); }
X cuMemAllocAsync(u64_* p, size_t n, void*) { return alloc(p, n); }
X cuMemFree_v2(u64_ p) { return release_(p); }
X cuMemFreeAsync(u64_ p, void*) { return release_(p); }
static bool captured(void* s) {
    if (s && ((Stream*)s)->capture) {
        fprintf(stderr, "copy in capture\n");
        return true;
    }
    return false;
}
X cuMemcpyHtoDAsync_v2(u64_ d, const void* s, size_t n, void* st) {
    if (captured(st)) return 900;
    memcpy((void*)d, s, n);
    return 0;
}
X cuMemcpyDtoHAsync_v2(void* d, u64_ s, size_t n, void* st) {
    if (captured(st)) return 900;
    memcpy(d, (void*)s, n);
    return 0;
}
X cuMemcpyDtoDAsync_v2(u64_ d, u64_ s, size_t n, void* st) {
    if (captured(st)) return 900;
    memcpy((void*)d, (void*)s, n);
    return 0;
}
X cuMemsetD8Async(u64_ d, unsigned char v, size_t n, void* st) {
    if (captured(st)) return 900;
    memset((void*)d, v, n);
    return 0;
}
X cuMemsetD8_v2(u64_ d, unsigned char v, size_t n) {
    memset((void*)d, v, n);
    return 0;
}
X cuEventCreate(void** e, unsigned) {
    *e = (void*)3;
    return 0;
}
X cuEventRecord(void*, void*) { return 0; }
X cuEventDestroy_v2(void*) { return 0; }
X cuEventSynchronize(void*) { return 0; }
X cuGetErrorName(int, const char** s) {
    *s = "error";
    return 0;
}
X cuGetErrorString(int, const char** s) {
    *s = "error";
    return 0;
}
X cuFuncGetAttribute(int* v, int, void*) {
    *v = 0;
    return 0;
}
X cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned, unsigned, unsigned, void* s,
                 void** params, void**) {
    Kernel* k = (Kernel*)f;
    Launch l{k, {gx, gy, gz}, (int)bx, std::vector<char>((char*)params[0], (char*)params[0] + k->size)};
    if (s && ((Stream*)s)->capture)
        ((Stream*)s)->capture->launches.push_back(l);
    else
        run(l);
    return 0;
}
