/* The search for NaN, infinity and numbers that are too large, in a form that a compiler turns into vector code. */
#ifndef WDT_UNUSABLE_H
#define WDT_UNUSABLE_H

#include "half.h"
#include "wdt_attention.h"

/* 1 for what is beyond +-limit. Without the sign bit, a float's bits as an integer are in its order, NaN above all. */
static inline int32_t wdt_is_beyond(float x, int32_t limit)
{
    return (int32_t)(wdt_float_bits(x) & 0x7FFFFFFFu) > limit;
}

static inline ptrdiff_t wdt_find_unusable(const float *x, size_t n)
{
    enum { RUN = 256 }; /* numbers looked at without a branch */
    const int32_t limit = (int32_t)wdt_float_bits(WDT_MAX_VALUE);
    for (size_t begin = 0; begin < n; begin += RUN) {
        const size_t end = n - begin < RUN ? n : begin + RUN;
        int32_t found = 0;
        for (size_t j = begin; j < end; j++) {
            found |= wdt_is_beyond(x[j], limit);
        }
        for (size_t j = begin; found && j < end; j++) {
            if (wdt_is_beyond(x[j], limit)) {
                return (ptrdiff_t)j;
            }
        }
    }
    return -1;
}

#endif
