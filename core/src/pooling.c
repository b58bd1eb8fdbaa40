/* Pooling over the frames so far, O(1) in their number (last n: O(n)).
 *
 * A plain float32 sum stops growing after about 10^7 frames, which is a day at 100 Hz. So sums carry their rounding
 * error along (Kahan 1965), and the spread is Welford's (1962) with the same care. Both need the operations in the
 * order written here: never compile this file with -ffast-math. */
#include "pooling.h"

#include <math.h>
#include <string.h>

size_t wdt_pool_floats(const wdt_model *model)
{
    const size_t d = (size_t)model->width;
    switch (model->pooling.kind) {
    case WDT_POOL_MEAN:
        return 2 * d; /* sum, carry */
    case WDT_POOL_LAST_N:
        return model->pooling.frames * d; /* ring, at most WDT_MAX_POOL_FLOATS */
    case WDT_POOL_MEAN_SPREAD:
        return 4 * d; /* mean, carry, squares, carry */
    default:
        return 0;
    }
}

size_t wdt_pool_used_floats(const wdt_model *model, ptrdiff_t count)
{
    const size_t all = wdt_pool_floats(model);
    if (model->pooling.kind == WDT_POOL_LAST_N && count < (ptrdiff_t)model->pooling.frames) {
        return (size_t)count * (size_t)model->width;
    }
    return count ? all : 0;
}

ptrdiff_t wdt_model_pooled_frames(const wdt_model *model)
{
    switch (model->pooling.kind) {
    case WDT_POOL_LAST:
        return 1;
    case WDT_POOL_LAST_N:
        return (ptrdiff_t)model->pooling.frames;
    default:
        return 0;
    }
}

/* *sum += x, with the part that was rounded off kept in *carry. */
static void add_exactly(float *sum, float *carry, float x)
{
    const float corrected = x - *carry, next = *sum + corrected;
    *carry = (next - *sum) - corrected;
    *sum = next;
}

static void pool_mean(float *state, int32_t d, float n, const float *h, float *pooled)
{
    for (int32_t c = 0; c < d; c++) {
        add_exactly(&state[c], &state[d + c], h[c]);
        pooled[c] = state[c] / n;
    }
}

/* pooled = mean of the newest min(count + 1, frames) rows of the ring, which is written before it is read. */
static void pool_last_n(float *ring, int32_t d, ptrdiff_t frames, ptrdiff_t count, const float *h, float *pooled)
{
    const ptrdiff_t held = count + 1 < frames ? count + 1 : frames;
    memcpy(ring + count % frames * d, h, (size_t)d * sizeof *h);
    for (int32_t c = 0; c < d; c++) {
        float sum = 0.0f, carry = 0.0f;
        for (ptrdiff_t row = 0; row < held; row++) {
            add_exactly(&sum, &carry, ring[row * d + c]);
        }
        pooled[c] = sum / (float)held;
    }
}

/* pooled = mean, then spread: the standard deviation (of the population, so 0 at the first frame). */
static void pool_mean_spread(float *state, int32_t d, float n, const float *h, float *pooled)
{
    float *const mean = state, *const mean_carry = state + d, *const squares = state + 2 * d;
    float *const squares_carry = state + 3 * d;
    for (int32_t c = 0; c < d; c++) {
        const float before = h[c] - mean[c];
        add_exactly(&mean[c], &mean_carry[c], before / n);
        add_exactly(&squares[c], &squares_carry[c], before * (h[c] - mean[c]));
        pooled[c] = mean[c];
        pooled[d + c] = sqrtf(squares[c] > 0.0f ? squares[c] / n : 0.0f);
    }
}

void wdt_pool(const wdt_model *model, float *state, ptrdiff_t count, const float *h, float *pooled)
{
    const int32_t d = model->width;
    const float n = (float)(count + 1);
    if (count == 0 && model->pooling.kind != WDT_POOL_LAST_N) {
        memset(state, 0, wdt_pool_floats(model) * sizeof *state);
    }
    switch (model->pooling.kind) {
    case WDT_POOL_MEAN:
        pool_mean(state, d, n, h, pooled);
        break;
    case WDT_POOL_LAST_N:
        pool_last_n(state, d, (ptrdiff_t)model->pooling.frames, count, h, pooled);
        break;
    case WDT_POOL_MEAN_SPREAD:
        pool_mean_spread(state, d, n, h, pooled);
        break;
    default:
        memcpy(pooled, h, (size_t)d * sizeof *h);
    }
}
