/* The window pass: attention of a whole sequence at once, sparse or dense.
 *
 *   1. block means   the landmarks' keys and values, summed in token order (the order in which a step sums them)
 *   2. candidates    once per query position, the same for all heads
 *   3. attend        per query head, one running softmax over tokens and landmarks
 *
 * This is the reference that faster kernels are held against; it is meant to be read, not to be the fastest. */
#include <math.h>
#include <string.h>

#include "attend.h"
#include "checked.h"

size_t wdt_forward_scratch_bytes(const wdt_head *head, ptrdiff_t T)
{
    const size_t row = wdt_product((size_t)head->kv_heads, (size_t)head->head_dim);
    const size_t blocks = (size_t)wdt_block_count(head, T);
    return blocks == 0 ? 0 : wdt_product(row, wdt_product(blocks, 2 * sizeof(float)));
}

/* means [blocks, row] of x [T, row]; the last block may be partial, and its mean is over the tokens it has. */
static void mean_blocks(const float *x, ptrdiff_t T, ptrdiff_t B, ptrdiff_t row, float *means)
{
    for (ptrdiff_t begin = 0; begin < T; begin += B, means += row) {
        const ptrdiff_t end = T - begin < B ? T : begin + B;
        memcpy(means, x + begin * row, (size_t)row * sizeof *means);
        for (ptrdiff_t t = begin + 1; t < end; t++) {
            for (ptrdiff_t c = 0; c < row; c++) {
                means[c] += x[t * row + c];
            }
        }
        const float inverse = 1.0f / (float)(end - begin);
        for (ptrdiff_t c = 0; c < row; c++) {
            means[c] *= inverse;
        }
    }
}

void wdt_forward(const wdt_head *head, ptrdiff_t T, const float *q, const float *k, const float *v, float *out,
                 void *scratch)
{
    const ptrdiff_t Hq = head->q_heads, group = Hq / head->kv_heads, D = head->head_dim;
    const ptrdiff_t row = head->kv_heads * D, blocks = wdt_block_count(head, T);
    float *const mean_k = scratch, *const mean_v = blocks ? mean_k + blocks * row : NULL; /* [blocks, Hkv, D] */

    if (blocks) {
        mean_blocks(k, T, head->block_size, row, mean_k);
        mean_blocks(v, T, head->block_size, row, mean_v);
    }
    for (ptrdiff_t i = 0; i < T; i++) {
        wdt_candidates tokens, landmarks;
        wdt_token_candidates(head, i, T, &tokens);
        wdt_landmark_candidates(head, i, T, &landmarks);
        for (ptrdiff_t h = 0; h < Hq; h++) {
            const ptrdiff_t at = h / group * D; /* of the key/value head, within a row */
            const wdt_rows token_rows = {k + at, v + at, row, 0};
            const wdt_rows landmark_rows = {blocks ? mean_k + at : NULL, blocks ? mean_v + at : NULL, row, 0};
            const ptrdiff_t query = (i * Hq + h) * D;
            wdt_attend(q + query, (int)D, &token_rows, &tokens, &landmark_rows, &landmarks, out + query);
        }
    }
}

static int is_unusable(float x)
{
    return !(fabsf(x) <= WDT_MAX_VALUE); /* the negation holds for NaN too */
}

ptrdiff_t wdt_first_unusable(const float *x, size_t n)
{
    enum { RUN = 256 }; /* numbers looked at without a branch, so that the compiler can vectorise */
    for (size_t begin = 0; begin < n; begin += RUN) {
        const size_t end = n - begin < RUN ? n : begin + RUN;
        int found = 0;
        for (size_t j = begin; j < end; j++) {
            found |= is_unusable(x[j]);
        }
        for (size_t j = begin; found && j < end; j++) {
            if (is_unusable(x[j])) {
                return (ptrdiff_t)j;
            }
        }
    }
    return -1;
}
