/* What integer.c and integer_int8.c have of each other. */
#ifndef WDT_INTEGER_INT8_H
#define WDT_INTEGER_INT8_H

#include <stddef.h>
#include <stdint.h>

/* The product of kernels.h with int8 weights W, or the one with their transpose. */
void wdt_integer_int8(const float *x, int32_t n, const void *W, int transposed, int32_t n_in, int32_t n_out, int add,
                      float *y);

/* wdt_block_exponent(): one copy of it for all rows, as it is long, for being unrolled. */
int32_t wdt_integer_exponent(const void *row, int half, ptrdiff_t n);

#endif
