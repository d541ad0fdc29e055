/* Start of a Cortex-M4F without a C library, and its console by semihosting. */
#include "board.h"

#include <stdint.h>

extern uint32_t data_start, data_end, data_load, bss_start, bss_end, stack_top;

int main(void);

enum { SYS_WRITE0 = 0x04, SYS_EXIT = 0x18, STOPPED = 0x20026, RUN_TIME_ERROR = 0x20023 };

static void semihosting(uintptr_t call, uintptr_t argument) {
    register uintptr_t r0 __asm__("r0") = call;
    register uintptr_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void say(const char *text) {
    semihosting(SYS_WRITE0, (uintptr_t)text);
}

void say_number(const char *text, unsigned number) {
    char digits[12] = "          \n";
    for (char *digit = digits + 9; digit >= digits; digit--) {
        *digit = (char)('0' + number % 10);
        number /= 10;
        if (number == 0) break;
    }
    say(text);
    say(digits);
}

_Noreturn void finish(int passed) {
    semihosting(SYS_EXIT, passed ? STOPPED : RUN_TIME_ERROR);
    for (;;) {
    }
}

_Noreturn static void fault(void) {
    say("fault\n");
    finish(0);
}

_Noreturn void reset(void) {
    /* The library computes in floating point: switch its unit on before anything else. */
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;
    __asm__ volatile("dsb\n isb");
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;) *to++ = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end;) *to++ = 0;
    finish(main());
}

/* What the core reads first: where the stack begins, then handlers of reset, NMI and faults. */
__attribute__((section(".vectors"), used)) static const struct {
    const void *stack;
    void (*handlers[6])(void);
} vectors = {&stack_top, {reset, fault, fault, fault, fault, fault}};
