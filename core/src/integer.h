/* What the files of the integer kernels have of each other. */
#ifndef WDT_INTEGER_H
#define WDT_INTEGER_H

#include <stddef.h>
#include <stdint.h>

/* The products of kernels.h (integer_product.c). */
void wdt_integer_product(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add,
                         float *y);
void wdt_integer_product_transposed(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out,
                                    int add, float *y);

/* Either, with int8 weights (integer_int8.c). */
void wdt_integer_int8(const float *x, int32_t n, const void *W, int transposed, int32_t n_in, int32_t n_out, int add,
                      float *y);

/* wdt_block_exponent(): one copy of it for all rows, as it is long, for being unrolled. */
int32_t wdt_integer_exponent(const void *row, int half, ptrdiff_t n);

#endif
