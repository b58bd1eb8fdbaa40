/* The model's projections, and rows on their way into a float16 cache. */
#include "table.h"

#include "../half.h"

WDT_INLINE vec load_weights(const void *W, ptrdiff_t at, int half)
{
    return half ? vec_load_half((const uint16_t *)W + at) : vec_load((const float *)W + at);
}

/* N vecs of outputs from j on, in registers over all inputs. */
WDT_INLINE void multiply_outputs(int N, const float *x, const void *W, int half, ptrdiff_t n_in, ptrdiff_t n_out,
                                 ptrdiff_t j, int add, float *y)
{
    vec sums[8];
    WDT_UNROLL
    for (int s = 0; s < N; s++) {
        sums[s] = add ? vec_load(y + j + s * WDT_LANES) : vec_set1(0.0f);
    }
    for (ptrdiff_t i = 0; i < n_in; i++) {
        const vec input = vec_set1(x[i]);
        WDT_UNROLL
        for (int s = 0; s < N; s++) {
            sums[s] = vec_fma(input, load_weights(W, i * n_out + j + s * WDT_LANES, half), sums[s]);
        }
    }
    WDT_UNROLL
    for (int s = 0; s < N; s++) {
        vec_store(y + j + s * WDT_LANES, sums[s]);
    }
}

WDT_INLINE void multiply_row(const float *x, const void *W, int half, ptrdiff_t n_in, ptrdiff_t n_out, int add, float *y)
{
    ptrdiff_t j = 0;
    for (; j + 8 * WDT_LANES <= n_out; j += 8 * WDT_LANES) {
        multiply_outputs(8, x, W, half, n_in, n_out, j, add, y);
    }
    for (; j + 2 * WDT_LANES <= n_out; j += 2 * WDT_LANES) {
        multiply_outputs(2, x, W, half, n_in, n_out, j, add, y);
    }
    for (; j + WDT_LANES <= n_out; j += WDT_LANES) {
        multiply_outputs(1, x, W, half, n_in, n_out, j, add, y);
    }
    for (; j < n_out; j++) { /* fewer outputs than lanes are left: a classifier's few classes */
        float sum = add ? y[j] : 0.0f;
        for (ptrdiff_t i = 0; i < n_in; i++) {
            sum += x[i] * wdt_number_at(W, half, i * n_out + j);
        }
        y[j] = sum;
    }
}

void WDT_NAME(product)(const float *x, int32_t n, const void *W, int half, int32_t n_in, int32_t n_out, int add, float *y)
{
    for (int32_t r = 0; r < n; r++, x += n_in, y += n_out) {
        if (half) {
            multiply_row(x, W, 1, n_in, n_out, add, y);
        } else {
            multiply_row(x, W, 0, n_in, n_out, add, y);
        }
    }
}

/* Row W [n_in] . x, vecs along the inputs. */
WDT_INLINE float row_product(const float *x, const void *W, int half, ptrdiff_t n_in)
{
    vec sums = vec_set1(0.0f);
    ptrdiff_t i = 0;
    for (; i + WDT_LANES <= n_in; i += WDT_LANES) {
        sums = vec_fma(vec_load(x + i), load_weights(W, i, half), sums);
    }
    float sum = vec_sum(sums);
    for (; i < n_in; i++) {
        sum += x[i] * wdt_number_at(W, half, i);
    }
    return sum;
}

void WDT_NAME(product_transposed)(const float *x, int32_t n, const void *W, int half, int32_t n_in, int32_t n_out,
                                  int add, float *y)
{
    for (int32_t r = 0; r < n; r++, x += n_in, y += n_out) {
        for (ptrdiff_t j = 0; j < n_out; j++) {
            const ptrdiff_t at = j * n_in;
            const float sum = half ? row_product(x, (const uint16_t *)W + at, 1, n_in)
                                   : row_product(x, (const float *)W + at, 0, n_in);
            y[j] = add ? y[j] + sum : sum;
        }
    }
}

void WDT_NAME(to_half)(const float *x, ptrdiff_t n, uint16_t *half)
{
    ptrdiff_t j = 0;
    for (; j + WDT_LANES <= n; j += WDT_LANES) {
        vec_store_half(half + j, vec_load(x + j));
    }
    for (; j < n; j++) {
        half[j] = wdt_float_to_half(x[j]);
    }
}
