/* This instruction set's tables of ../kernels.h. */
#include "table.h"

#include "../unusable.h"

static double multiply_add(int64_t rounds, float *sink)
{
    vec sums[WDT_ACCUMULATORS];
    const vec factor = vec_set1(0.999f), summand = vec_set1(1.0f);
    WDT_UNROLL
    for (int s = 0; s < WDT_ACCUMULATORS; s++) {
        sums[s] = vec_set1((float)s);
    }
    for (int64_t round = 0; round < rounds; round++) {
        WDT_UNROLL
        for (int s = 0; s < WDT_ACCUMULATORS; s++) {
            sums[s] = vec_fma(sums[s], factor, summand);
        }
    }
    *sink = 0.0f;
    for (int s = 0; s < WDT_ACCUMULATORS; s++) {
        *sink += vec_sum(sums[s]);
    }
    return 2.0 * WDT_LANES * WDT_ACCUMULATORS * (double)rounds;
}

const wdt_kernels WDT_NAME(wdt_kernels) = {
    .name = WDT_QUOTE(WDT_SET),
    .attend = WDT_NAME(attend),
    .product = WDT_NAME(product),
    .product_transposed = WDT_NAME(product_transposed),
    .to_half = WDT_NAME(to_half),
    .first_unusable = wdt_find_unusable,
};

const wdt_window_kernels WDT_NAME(wdt_window_kernels) = {
    .prepared_bytes = WDT_NAME(prepared_bytes),
    .scratch_bytes = WDT_NAME(scratch_bytes),
    .prepare = WDT_NAME(prepare),
    .attend = WDT_NAME(attend_window),
    .backward_bytes = WDT_NAME(backward_bytes),
    .backward = WDT_NAME(backward),
    .multiply_add = multiply_add,
};
