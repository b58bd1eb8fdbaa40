/* A window pass position by position. */
#include "positions.h"

#include "checked.h"
#include "window.h"

size_t wdt_positions_prepared_bytes(const wdt_head *head, ptrdiff_t T)
{
    const size_t row = wdt_product((size_t)head->head_dim, 2 * sizeof(float));
    return wdt_product(row, (size_t)wdt_block_count(head, T));
}

size_t wdt_positions_scratch_bytes(const wdt_head *head, ptrdiff_t T)
{
    (void)head, (void)T;
    return 0;
}

void wdt_positions_prepare(const wdt_window *window, int share, int shares)
{
    const ptrdiff_t blocks = wdt_block_count(window->head, window->T);
    const ptrdiff_t first = wdt_share_begin(blocks, share, shares), last = wdt_share_begin(blocks, share + 1, shares);
    float *const mean_k = window->prepared;
    if (first < last) {
        wdt_mean_blocks(window, window->k, first, last, mean_k);
        wdt_mean_blocks(window, window->v, first, last, mean_k + blocks * window->head->head_dim);
    }
}

void wdt_positions_attend(const wdt_window *window, int share, int shares, wdt_attend_group *attend)
{
    if (wdt_share_begin(window->T, share, shares) == wdt_share_begin(window->T, share + 1, shares)) {
        return; /* an empty share, of which nothing need be prepared */
    }
    const wdt_head *const head = window->head;
    const ptrdiff_t Hq = head->q_heads, Hkv = head->kv_heads, group = Hq / Hkv, D = head->head_dim, T = window->T;
    const ptrdiff_t blocks = wdt_block_count(head, T), at = window->kv_head * D; /* `at`: within a row of k or v */
    const float *const mean_k = window->prepared, *const mean_v = blocks ? mean_k + blocks * D : NULL;
    const wdt_rows token_rows = {window->k + at, window->v + at, Hkv * D, 0, WDT_NO_RING};
    const wdt_rows landmark_rows = {mean_k, mean_v, D, 0, WDT_NO_RING};

    for (ptrdiff_t i = wdt_share_begin(T, share, shares); i < wdt_share_begin(T, share + 1, shares); i++) {
        wdt_candidates tokens, landmarks;
        wdt_token_candidates(head, i, T, &tokens);
        wdt_landmark_candidates(head, i, T, &landmarks);
        const ptrdiff_t query = i * Hq + window->kv_head * group;
        attend(window->q + query * D, (int)group, (int)D, &token_rows, &tokens, &landmark_rows, &landmarks,
               window->out + query * D, window->log_sum ? window->log_sum + query : NULL);
    }
}
