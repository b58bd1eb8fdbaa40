/* Chooses the instruction set: what the build holds, what the processor has, what the caller asks for. */
#include "kernels.h"

#include <string.h>

/* What a build without vector units starts with. Nothing but the functions that choose by name refers to the other
 * tables, so a linker that drops unused sections leaves them out of firmware that does not choose. */
#if !defined(WDT_SCALAR)
#define FIRST wdt_kernels_scalar
#elif (defined(__riscv) && !defined(__riscv_flen)) || defined(__SOFTFP__) || defined(__XTENSA_SOFT_FLOAT__)
#define FIRST wdt_kernels_integer
#else
#define FIRST wdt_kernels_portable
#endif

/* The core's only variable: set by the caller at load, read by every kernel. */
static const wdt_kernels *in_use = &FIRST;

/* Those that can run here, the fastest first. */
static int usable(const wdt_kernels *tables[WDT_MAX_INSTRUCTION_SETS])
{
    int n = 0;
#if !defined(WDT_SCALAR) && defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq")) {
        tables[n++] = &wdt_kernels_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) { /* all that have AVX2 have F16C */
        tables[n++] = &wdt_kernels_avx2;
    }
    tables[n++] = &wdt_kernels_sse2; /* every x86-64 has it */
#elif !defined(WDT_SCALAR) && defined(__aarch64__)
    tables[n++] = &wdt_kernels_neon; /* every aarch64 has it */
#endif
    tables[n++] = &wdt_kernels_portable;
    tables[n++] = &wdt_kernels_integer;
    tables[n++] = &wdt_kernels_scalar;
    return n;
}

int wdt_instruction_sets(const char *names[WDT_MAX_INSTRUCTION_SETS])
{
    const wdt_kernels *tables[WDT_MAX_INSTRUCTION_SETS];
    const int n = usable(tables);
    for (int t = 0; t < n; t++) {
        names[t] = tables[t]->name;
    }
    return n;
}

const char *wdt_instruction_set(void)
{
    return in_use->name;
}

wdt_status wdt_use_instruction_set(const char *name)
{
    const wdt_kernels *tables[WDT_MAX_INSTRUCTION_SETS];
    const int n = usable(tables);
    for (int t = 0; t < n; t++) {
        if (strcmp(tables[t]->name, name) == 0) {
            in_use = tables[t];
            return WDT_OK;
        }
    }
    return WDT_E_CONFIG;
}

const wdt_kernels *wdt_kernels_in_use(void)
{
    return in_use;
}

double wdt_multiply_add(int64_t rounds, float *sink)
{
    return in_use->multiply_add(rounds, sink);
}
