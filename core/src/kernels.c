/* Chooses the instruction set: what the build holds, what the processor has, what the caller asks for. */
#include "kernels.h"

#include <string.h>

/* What a build without vector units starts with. Nothing but the functions that choose by name refers to the other sets,
 * and nothing but window passes to the second table, so that a linker which drops unused sections leaves both out. */
#if !defined(WDT_SCALAR)
#define FIRST scalar
#elif (defined(__riscv) && !defined(__riscv_flen)) || defined(__SOFTFP__) || defined(__XTENSA_SOFT_FLOAT__)
#define FIRST integer
#else
#define FIRST portable
#endif
#define PASTE(a, b) a##_##b
#define EXPAND(a, b) PASTE(a, b)

/* The core's only variables: set by the caller at load, read by every kernel. */
static const wdt_kernels *in_use = &EXPAND(wdt_kernels, FIRST);
static const wdt_window_kernels *windows_in_use = &EXPAND(wdt_window_kernels, FIRST);

typedef struct set {
    const wdt_kernels *kernels;
    const wdt_window_kernels *of_windows;
} set;

#define SET(name) ((set){&PASTE(wdt_kernels, name), &PASTE(wdt_window_kernels, name)})

/* Those that can run here, the fastest first. */
static int usable(set sets[WDT_MAX_INSTRUCTION_SETS])
{
    int n = 0;
#if !defined(WDT_SCALAR) && defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq")) {
        sets[n++] = SET(avx512);
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) { /* all that have AVX2 have F16C */
        sets[n++] = SET(avx2);
    }
    sets[n++] = SET(sse2); /* every x86-64 has it */
#elif !defined(WDT_SCALAR) && defined(__aarch64__)
    sets[n++] = SET(neon); /* every aarch64 has it */
#endif
    sets[n++] = SET(portable);
    sets[n++] = SET(integer);
    sets[n++] = SET(scalar);
    return n;
}

int wdt_instruction_sets(const char *names[WDT_MAX_INSTRUCTION_SETS])
{
    set sets[WDT_MAX_INSTRUCTION_SETS];
    const int n = usable(sets);
    for (int s = 0; s < n; s++) {
        names[s] = sets[s].kernels->name;
    }
    return n;
}

const char *wdt_instruction_set(void)
{
    return in_use->name;
}

wdt_status wdt_use_instruction_set(const char *name)
{
    set sets[WDT_MAX_INSTRUCTION_SETS];
    const int n = usable(sets);
    for (int s = 0; s < n; s++) {
        if (strcmp(sets[s].kernels->name, name) == 0) {
            in_use = sets[s].kernels;
            windows_in_use = sets[s].of_windows;
            return WDT_OK;
        }
    }
    return WDT_E_CONFIG;
}

const wdt_kernels *wdt_kernels_in_use(void)
{
    return in_use;
}

const wdt_window_kernels *wdt_window_kernels_in_use(void)
{
    return windows_in_use;
}

double wdt_multiply_add(int64_t rounds, float *sink)
{
    return windows_in_use->multiply_add(rounds, sink);
}
