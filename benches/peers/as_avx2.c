/* Hides AVX-512, AVX-VNNI and AMX from a process, so that runtimes that ask `cpuid` take their AVX2 kernels.
 *
 *     cc -O2 -shared -fPIC -o as_avx2.so as_avx2.c && LD_PRELOAD=./as_avx2.so PROGRAM
 *
 * Linux on Intel processors (`cpuid_fault` in /proc/cpuinfo). The kernel is told that `cpuid` faults; the handler of the
 * fault executes it and clears bits of leaf 7. New threads inherit this; programs that are started load the library
 * themselves. What asked before the library was loaded (the C library, for its copies) keeps its answer. */

#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012 };

#define BIT(n) (1u << (n))

/* By register of leaf 7, subleaf 0: AVX-512 foundation and its extensions, AMX. */
static const unsigned EBX_0 = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
static const unsigned ECX_0 = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
static const unsigned EDX_0 = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
/* Subleaf 1: AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA; AVX-VNNI-INT8 and -INT16, AVX-NE-CONVERT, AMX-COMPLEX, AVX10. */
static const unsigned EAX_1 = BIT(4) | BIT(5) | BIT(21) | BIT(23);
static const unsigned EDX_1 = BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19);

static long allow_cpuid(int allowed) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, allowed); }

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    (void)info;
    /* Another fault than this one: it comes again, without a handler. */
    if (registers[REG_TRAPNO] != 13 || code[0] != 0x0f || code[1] != 0xa2) {
        signal(number, SIG_DFL);
        return;
    }
    unsigned leaf = (unsigned)registers[REG_RAX], subleaf = (unsigned)registers[REG_RCX], a, b, c, d;
    allow_cpuid(1);
    __cpuid_count(leaf, subleaf, a, b, c, d);
    allow_cpuid(0);
    if (leaf == 7 && subleaf == 0) {
        b &= ~EBX_0, c &= ~ECX_0, d &= ~EDX_0;
    } else if (leaf == 7 && subleaf == 1) {
        a &= ~EAX_1, d &= ~EDX_1;
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    if (allow_cpuid(0) != 0) {
        fputs("as_avx2: this kernel or processor does not let cpuid fault\n", stderr);
        _exit(1);
    }
}
