/* The integer kernels' products with int8 weights, as kernels.h has them. */
#ifndef WDT_INTEGER_INT8_H
#define WDT_INTEGER_INT8_H

#include <stdint.h>

void wdt_integer_int8_product(const float *x, int32_t n, const void *W, int32_t n_in, int32_t n_out, int add, float *y);
void wdt_integer_int8_transposed(const float *x, int32_t n, const void *W, int32_t n_in, int32_t n_out, int add,
                                 float *y);

#endif
