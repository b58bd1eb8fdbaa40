/* The window pass: attention of a whole sequence at once, sparse or dense, with the kernels in use.
 *
 *   1. prepare    block means, and whatever layout of keys and values the kernels want
 *   2. attend     every query position over its candidates
 *
 * The scalar kernels (scalar.c) are the reference and read like the definition; vector/prefill.c is the fast form. */
#include "window.h"

#include <string.h>

#include "checked.h"
#include "kernels.h"

size_t wdt_window_prepared_bytes(const wdt_head *head, ptrdiff_t T)
{
    return wdt_window_kernels_in_use()->prepared_bytes(head, T);
}

size_t wdt_window_scratch_bytes(const wdt_head *head, ptrdiff_t T)
{
    return wdt_window_kernels_in_use()->scratch_bytes(head, T);
}

void wdt_window_prepare(const wdt_window *window, int share, int shares)
{
    wdt_window_kernels_in_use()->prepare(window, share, shares);
}

void wdt_window_attend(const wdt_window *window, int share, int shares, void *scratch)
{
    wdt_window_kernels_in_use()->attend(window, share, shares, scratch);
}

size_t wdt_window_backward_bytes(const wdt_head *head, ptrdiff_t T)
{
    return wdt_window_kernels_in_use()->backward_bytes(head, T);
}

void wdt_window_backward(const wdt_window *window, const float *d_out, float *dq, float *dk, float *dv, void *scratch)
{
    wdt_window_kernels_in_use()->backward(window, d_out, dq, dk, dv, scratch);
}

size_t wdt_forward_scratch_bytes(const wdt_head *head, ptrdiff_t T)
{
    return wdt_sum(wdt_window_prepared_bytes(head, T), wdt_window_scratch_bytes(head, T));
}

void wdt_forward(const wdt_head *head, ptrdiff_t T, const float *q, const float *k, const float *v, float *out,
                 void *scratch)
{
    char *const own = (char *)scratch + wdt_window_prepared_bytes(head, T);
    wdt_window window = {.head = head, .T = T, .q = q, .k = k, .v = v, .out = out, .prepared = scratch};
    for (; window.kv_head < head->kv_heads; window.kv_head++) {
        wdt_window_prepare(&window, 0, 1);
        wdt_window_attend(&window, 0, 1, own);
    }
}

void wdt_mean_blocks(const wdt_window *window, const float *x, ptrdiff_t first, ptrdiff_t last, float *means)
{
    const ptrdiff_t B = window->head->block_size, D = window->head->head_dim, row = window->head->kv_heads * D;
    const float *const rows = x + window->kv_head * D;
    for (ptrdiff_t b = first; b < last; b++) {
        const ptrdiff_t begin = b * B, end = window->T - begin < B ? window->T : begin + B;
        float *const mean = means + b * D;
        memcpy(mean, rows + begin * row, (size_t)D * sizeof *mean);
        for (ptrdiff_t t = begin + 1; t < end; t++) {
            for (ptrdiff_t d = 0; d < D; d++) {
                mean[d] += rows[t * row + d];
            }
        }
        const float inverse = 1.0f / (float)(end - begin);
        for (ptrdiff_t d = 0; d < D; d++) {
            mean[d] *= inverse;
        }
    }
}

void wdt_spread_block_gradients(const wdt_window *window, const float *d_means, float *dx)
{
    const ptrdiff_t B = window->head->block_size, D = window->head->head_dim, row = window->head->kv_heads * D;
    const ptrdiff_t blocks = wdt_block_count(window->head, window->T);
    float *const rows = dx + window->kv_head * D;
    for (ptrdiff_t b = 0; b < blocks; b++) {
        const ptrdiff_t begin = b * B, end = window->T - begin < B ? window->T : begin + B;
        const float inverse = 1.0f / (float)(end - begin);
        for (ptrdiff_t t = begin; t < end; t++) {
            for (ptrdiff_t d = 0; d < D; d++) {
                rows[t * row + d] += d_means[b * D + d] * inverse;
            }
        }
    }
}

ptrdiff_t wdt_first_unusable(const float *x, size_t n)
{
    return wdt_kernels_in_use()->first_unusable(x, n);
}
