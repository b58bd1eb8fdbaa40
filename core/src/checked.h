/* Sizes of memory from sizes that may be anyone's: what does not fit a size_t is SIZE_MAX, and stays it. */
#ifndef WDT_CHECKED_H
#define WDT_CHECKED_H

#include <stddef.h>
#include <stdint.h>

static inline size_t wdt_product(size_t a, size_t b)
{
    return a == SIZE_MAX || b == SIZE_MAX || (b != 0 && a > (SIZE_MAX - 1) / b) ? SIZE_MAX : a * b;
}

static inline size_t wdt_sum(size_t a, size_t b)
{
    return a == SIZE_MAX || b == SIZE_MAX || a > SIZE_MAX - 1 - b ? SIZE_MAX : a + b;
}

#endif
