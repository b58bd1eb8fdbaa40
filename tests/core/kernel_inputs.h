/* What the tests of kernels draw and look at. */
#ifndef WDT_KERNEL_INPUTS_H
#define WDT_KERNEL_INPUTS_H

#include <math.h>

#include "kernels.h"
#include "half.h"
#include "random.h"

#ifndef WDT_ROUNDS
#define WDT_ROUNDS 120 /* of drawn inputs; fewer where it is slow (CMakeLists.txt) */
#endif

static inline float largest(const float *x, size_t n)
{
    float most = 0.0f;
    for (size_t j = 0; j < n; j++) {
        most = isnan(x[j]) ? INFINITY : fmaxf(most, fabsf(x[j]));
    }
    return most;
}

/* x [n] in float16; x becomes what that says. */
static inline uint16_t *to_half(float *x, size_t n)
{
    uint16_t *const half = malloc(n ? n * sizeof *half : 1);
    CHECK(half != NULL);
    wdt_to_half(x, (ptrdiff_t)n, half);
    for (size_t j = 0; j < n; j++) {
        x[j] = wdt_half_to_float(half[j]);
    }
    return half;
}

#endif
