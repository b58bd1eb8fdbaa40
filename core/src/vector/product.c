/* The model's projections, and rows on their way into a float16 cache. */
#include "table.h"

#include "../weights.h"

WDT_INLINE vec load_weights(const void *numbers, ptrdiff_t at, int dtype)
{
    return dtype == WDT_INT8      ? vec_load_int8((const int8_t *)numbers + at)
           : dtype == WDT_FLOAT16 ? vec_load_half((const uint16_t *)numbers + at)
                                  : vec_load((const float *)numbers + at);
}

/* N vecs of outputs from j on, in registers over all inputs. */
WDT_INLINE void multiply_outputs(int N, const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out,
                                 ptrdiff_t j, int add, float *y)
{
    const void *const numbers = wdt_tensor_numbers(W, dtype);
    const vec scale = vec_set1(wdt_tensor_scale(W, dtype));
    vec sums[8];
    WDT_UNROLL
    for (int s = 0; s < N; s++) {
        sums[s] = add && dtype != WDT_INT8 ? vec_load(y + j + s * WDT_LANES) : vec_set1(0.0f);
    }
    for (ptrdiff_t i = 0; i < n_in; i++) {
        const vec input = vec_set1(x[i]);
        WDT_UNROLL
        for (int s = 0; s < N; s++) {
            sums[s] = vec_fma(input, load_weights(numbers, i * n_out + j + s * WDT_LANES, dtype), sums[s]);
        }
    }
    WDT_UNROLL
    for (int s = 0; s < N; s++) {
        float *const at = y + j + s * WDT_LANES;
        const vec sum = dtype != WDT_INT8 ? sums[s] : vec_mul(sums[s], scale);
        vec_store(at, add && dtype == WDT_INT8 ? vec_add(vec_load(at), sum) : sum);
    }
}

WDT_INLINE void multiply_row(const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, int add,
                             float *y)
{
    const void *const numbers = wdt_tensor_numbers(W, dtype);
    ptrdiff_t j = 0;
    for (; j + 8 * WDT_LANES <= n_out; j += 8 * WDT_LANES) {
        multiply_outputs(8, x, W, dtype, n_in, n_out, j, add, y);
    }
    for (; j + 2 * WDT_LANES <= n_out; j += 2 * WDT_LANES) {
        multiply_outputs(2, x, W, dtype, n_in, n_out, j, add, y);
    }
    for (; j + WDT_LANES <= n_out; j += WDT_LANES) {
        multiply_outputs(1, x, W, dtype, n_in, n_out, j, add, y);
    }
    for (; j < n_out; j++) { /* fewer outputs than lanes are left: a classifier's few classes */
        const float before = add ? y[j] : 0.0f;
        float sum = dtype == WDT_INT8 ? 0.0f : before;
        for (ptrdiff_t i = 0; i < n_in; i++) {
            sum += x[i] * wdt_weight_at(numbers, dtype, i * n_out + j);
        }
        y[j] = dtype == WDT_INT8 ? before + sum * wdt_tensor_scale(W, dtype) : sum;
    }
}

void WDT_NAME(product)(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add,
                       float *y)
{
    for (int32_t r = 0; r < n; r++, x += n_in, y += n_out) {
        if (dtype == WDT_INT8) {
            multiply_row(x, W, WDT_INT8, n_in, n_out, add, y);
        } else if (dtype == WDT_FLOAT16) {
            multiply_row(x, W, WDT_FLOAT16, n_in, n_out, add, y);
        } else {
            multiply_row(x, W, WDT_FLOAT32, n_in, n_out, add, y);
        }
    }
}

/* Row W [n_in] . x, vecs along the inputs. */
WDT_INLINE float row_product(const float *x, const void *W, int dtype, ptrdiff_t n_in)
{
    vec sums = vec_set1(0.0f);
    ptrdiff_t i = 0;
    for (; i + WDT_LANES <= n_in; i += WDT_LANES) {
        sums = vec_fma(vec_load(x + i), load_weights(W, i, dtype), sums);
    }
    float sum = vec_sum(sums);
    for (; i < n_in; i++) {
        sum += x[i] * wdt_weight_at(W, dtype, i);
    }
    return sum;
}

void WDT_NAME(product_transposed)(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out,
                                  int add, float *y)
{
    const char *const numbers = wdt_tensor_numbers(W, dtype);
    const float scale = wdt_tensor_scale(W, dtype);
    for (int32_t r = 0; r < n; r++, x += n_in, y += n_out) {
        for (ptrdiff_t j = 0; j < n_out; j++) {
            const void *const row = numbers + (size_t)(j * n_in) * wdt_weight_bytes(dtype);
            const float sum = dtype == WDT_INT8      ? scale * row_product(x, row, WDT_INT8, n_in)
                              : dtype == WDT_FLOAT16 ? row_product(x, row, WDT_FLOAT16, n_in)
                                                     : row_product(x, row, WDT_FLOAT32, n_in);
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
