/* Cortex-M4F: vector table, start-up, semihosting call and counter. */
#include "host.h"
#include "semihosting.h"

extern uint32_t stack_top[], bss_begin[], bss_end[];

#define COPROCESSORS (*(volatile uint32_t *)0xE000ED88) /* CPACR */
#define FAULT_STATUS (*(volatile uint32_t *)0xE000ED28) /* CFSR */
#define SYSTICK ((volatile uint32_t *)0xE000E010)       /* control, reload, value */

void start(void);

static void trapped(void)
{
    const uint32_t *stacked; /* r0..r3, r12, lr, pc, xpsr */
    __asm__ volatile("mov %0, sp" : "=r"(stacked));
    image_trapped(FAULT_STATUS, (uint32_t)(uintptr_t)stacked);
}

/* The first 16 entries: the stack, the start, and every exception is a trap. */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (const void *)start, (const void *)trapped, (const void *)trapped, (const void *)trapped,
    (const void *)trapped, (const void *)trapped,
};

void start(void)
{
    COPROCESSORS |= 0xFu << 20; /* full access to CP10 and CP11, the floating-point unit */
    __asm__ volatile("dsb\n isb");
    for (uint32_t *at = bss_begin; at < bss_end; at++) {
        *at = 0;
    }
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* on, at the processor's clock, without an interrupt */
    image_main();
}

uint32_t host_counter(void)
{
    return 0xFFFFFF - SYSTICK[2]; /* it counts down */
}

uint32_t host_call(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
