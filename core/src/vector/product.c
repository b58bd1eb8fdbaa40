/* The model's projections, and rows on their way into a float16 cache. */
#include "table.h"

#include "../weights.h"

enum {
    ROWS = 4,    /* of x at once */
    PER_ROW = 3, /* vecs of outputs of each: their sums stay in registers, of which every set has WDT_ACCUMULATORS */
};

WDT_INLINE vec load_weights(const void *numbers, ptrdiff_t at, int dtype)
{
    return dtype == WDT_INT8      ? vec_load_int8((const int8_t *)numbers + at)
           : dtype == WDT_FLOAT16 ? vec_load_half((const uint16_t *)numbers + at)
                                  : vec_load((const float *)numbers + at);
}

/* N vecs of outputs from j on of R rows of x, in registers over all inputs: a weight is loaded once for R of them. */
WDT_INLINE void multiply_outputs(int R, int N, const float *x, const void *W, int dtype, ptrdiff_t n_in,
                                 ptrdiff_t n_out, ptrdiff_t j, int add, float *y)
{
    const void *const numbers = wdt_tensor_numbers(W, dtype);
    const vec scale = vec_set1(wdt_tensor_scale(W, dtype));
    vec sums[ROWS * PER_ROW];
    WDT_UNROLL
    for (int s = 0; s < R * N; s++) {
        sums[s] = add && dtype != WDT_INT8 ? vec_load(y + s / N * n_out + j + s % N * WDT_LANES) : vec_set1(0.0f);
    }
    for (ptrdiff_t i = 0; i < n_in; i++) {
        vec weights[8];
        WDT_UNROLL
        for (int s = 0; s < N; s++) {
            weights[s] = load_weights(numbers, i * n_out + j + s * WDT_LANES, dtype);
        }
        WDT_UNROLL
        for (int r = 0; r < R; r++) {
            const vec input = vec_set1(x[r * n_in + i]);
            WDT_UNROLL
            for (int s = 0; s < N; s++) {
                sums[r * N + s] = vec_fma(input, weights[s], sums[r * N + s]);
            }
        }
    }
    WDT_UNROLL
    for (int s = 0; s < R * N; s++) {
        float *const at = y + s / N * n_out + j + s % N * WDT_LANES;
        const vec sum = dtype != WDT_INT8 ? sums[s] : vec_mul(sums[s], scale);
        vec_store(at, add && dtype == WDT_INT8 ? vec_add(vec_load(at), sum) : sum);
    }
}

/* The last outputs, fewer than lanes, of one row: a classifier's few classes. */
WDT_INLINE void multiply_last(const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, ptrdiff_t j,
                              int add, float *y)
{
    const void *const numbers = wdt_tensor_numbers(W, dtype);
    for (; j < n_out; j++) {
        const float before = add ? y[j] : 0.0f;
        float sum = dtype == WDT_INT8 ? 0.0f : before;
        for (ptrdiff_t i = 0; i < n_in; i++) {
            sum += x[i] * wdt_weight_at(numbers, dtype, i * n_out + j);
        }
        y[j] = dtype == WDT_INT8 ? before + sum * wdt_tensor_scale(W, dtype) : sum;
    }
}

/* The same of ROWS rows, a lane an output, with multiply_last()'s roundings: multiplied, and then added. The lanes
 * beyond the outputs hold weights of the next input; the last input's, behind which nothing may be read, go by single
 * numbers. */
WDT_INLINE void multiply_last_of_rows(const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out,
                                      ptrdiff_t j, int add, float *y)
{
    const void *const numbers = wdt_tensor_numbers(W, dtype);
    const ptrdiff_t left = n_out - j;
    const vec scale = vec_set1(wdt_tensor_scale(W, dtype));
    vec sums[ROWS], before[ROWS];
    WDT_UNROLL
    for (int r = 0; r < ROWS; r++) {
        before[r] = add ? vec_load_first(y + r * n_out + j, left) : vec_set1(0.0f);
        sums[r] = dtype == WDT_INT8 ? vec_set1(0.0f) : before[r];
    }
    for (ptrdiff_t i = 0; i < n_in; i++) {
        vec weights;
        if (i * n_out + j + WDT_LANES <= n_in * n_out) {
            weights = load_weights(numbers, i * n_out + j, dtype);
        } else {
            float lanes[WDT_LANES] = {0};
            for (ptrdiff_t l = 0; l < left; l++) {
                lanes[l] = wdt_weight_at(numbers, dtype, i * n_out + j + l);
            }
            weights = vec_load(lanes);
        }
        WDT_UNROLL
        for (int r = 0; r < ROWS; r++) {
            sums[r] = vec_add(sums[r], vec_mul(vec_set1(x[r * n_in + i]), weights));
        }
    }
    WDT_UNROLL
    for (int r = 0; r < ROWS; r++) {
        vec_store_first(y + r * n_out + j, dtype == WDT_INT8 ? vec_add(before[r], vec_mul(sums[r], scale)) : sums[r],
                        left);
    }
}

WDT_INLINE void multiply_row(const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, int add,
                             float *y)
{
    ptrdiff_t j = 0;
    for (; j + 8 * WDT_LANES <= n_out; j += 8 * WDT_LANES) {
        multiply_outputs(1, 8, x, W, dtype, n_in, n_out, j, add, y);
    }
    for (; j + 2 * WDT_LANES <= n_out; j += 2 * WDT_LANES) {
        multiply_outputs(1, 2, x, W, dtype, n_in, n_out, j, add, y);
    }
    for (; j + WDT_LANES <= n_out; j += WDT_LANES) {
        multiply_outputs(1, 1, x, W, dtype, n_in, n_out, j, add, y);
    }
    multiply_last(x, W, dtype, n_in, n_out, j, add, y);
}

/* ROWS rows, with the bits of each alone: an output's products are added in the same order. */
WDT_INLINE void multiply_rows(const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, int add,
                              float *y)
{
    ptrdiff_t j = 0;
    for (; j + PER_ROW * WDT_LANES <= n_out; j += PER_ROW * WDT_LANES) {
        multiply_outputs(ROWS, PER_ROW, x, W, dtype, n_in, n_out, j, add, y);
    }
    for (; j + WDT_LANES <= n_out; j += WDT_LANES) {
        multiply_outputs(ROWS, 1, x, W, dtype, n_in, n_out, j, add, y);
    }
    if (j < n_out) {
        multiply_last_of_rows(x, W, dtype, n_in, n_out, j, add, y);
    }
}

WDT_INLINE void multiply(const float *x, int32_t n, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, int add,
                         float *y)
{
    int32_t r = 0;
    for (; r + ROWS <= n; r += ROWS) {
        multiply_rows(x + r * n_in, W, dtype, n_in, n_out, add, y + r * n_out);
    }
    for (; r < n; r++) {
        multiply_row(x + r * n_in, W, dtype, n_in, n_out, add, y + r * n_out);
    }
}

void WDT_NAME(product)(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add,
                       float *y)
{
    if (dtype == WDT_INT8) {
        multiply(x, n, W, WDT_INT8, n_in, n_out, add, y);
    } else if (dtype == WDT_FLOAT16) {
        multiply(x, n, W, WDT_FLOAT16, n_in, n_out, add, y);
    } else {
        multiply(x, n, W, WDT_FLOAT32, n_in, n_out, add, y);
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
