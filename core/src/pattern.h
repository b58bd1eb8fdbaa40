/* A rule of the pattern that the window kernels need in a form of their own. */
#ifndef WDT_PATTERN_H
#define WDT_PATTERN_H

#include "wdt_attention.h"

/* 1 if global token g is a candidate of the query at i, and neither in its window nor a power of two away. */
static inline int wdt_global_is_single(const wdt_head *head, ptrdiff_t g, ptrdiff_t i, ptrdiff_t T)
{
    const ptrdiff_t distance = g < i ? i - g : g - i;
    const int power_of_two = distance > 0 && (distance & (distance - 1)) == 0;
    return g < (head->causal ? i + 1 : T) && distance > head->window && !(head->log_stride && power_of_two);
}

#endif
