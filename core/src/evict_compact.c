/* wdt_h2o_compact: what leaves is chosen by the caller's scores, and what stays is moved together and renumbered, as
 * evict_and_append() of the Rust crate ruvllm_sparse_attention has it. A plain cache otherwise. */
#include "evict.h"

const wdt_policy wdt_h2o_compact = {.by_scores = 1};

/* The lowest score, the first on a tie, of the tokens before the newest `window` that are not global; 0 without any. */
static ptrdiff_t victim_of(const wdt_head *head, ptrdiff_t length, const float *scores)
{
    wdt_keeping keeping;
    ptrdiff_t victim = -1;
    wdt_keeping_start(&keeping, head);
    for (ptrdiff_t j = 0; j < length - head->window; j++) {
        if ((victim < 0 || scores[j] < scores[victim]) && wdt_global_at(&keeping, j) < 0) {
            victim = j;
        }
    }
    return victim < 0 ? 0 : victim;
}

/* The sums and means of a head's blocks from `first` on, of the tokens that are held: the operations of as many
 * appends. */
static void make_blocks(const wdt_cache *cache, ptrdiff_t h, ptrdiff_t first)
{
    const ptrdiff_t B = cache->block_size, numbers = wdt_cache_stride(cache);
    const float inverse = 1.0f / (float)B;
    for (ptrdiff_t t = first * B; t < cache->length; t++) {
        const void *const token = wdt_token_at(cache, h, t, 0);
        float *const row = wdt_landmark_at(cache, h, t / B, 0);
        for (ptrdiff_t n = 0; n < numbers; n++) {
            const float x = wdt_number_at(token, cache->half, n), sum = t % B == 0 ? x : row[n] + x;
            row[n] = t % B == B - 1 ? sum * inverse : sum;
        }
    }
}

/* Lets token `victim` go. Blocks before its own have the tokens that they had. */
static void close_gap(wdt_cache *cache, ptrdiff_t victim)
{
    const size_t row = (size_t)wdt_cache_stride(cache) * wdt_number_bytes(cache->half);
    cache->length--;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++) {
        memmove(wdt_token_at(cache, h, victim, 0), wdt_token_at(cache, h, victim + 1, 0),
                (size_t)(cache->length - victim) * row);
        if (cache->blocks) {
            make_blocks(cache, h, victim / cache->block_size);
        }
    }
}

wdt_status wdt_step_with_scores(const wdt_head *head, wdt_cache *cache, const float *q, const float *k, const float *v,
                                const float *scores, float *out)
{
    if (!cache->policy->by_scores || !wdt_cache_fits(cache, head)) {
        return WDT_E_CONFIG;
    }
    const wdt_status refusal = wdt_cache_refusal(cache, k, v);
    if (refusal != WDT_OK) {
        return refusal;
    }
    if (wdt_cache_is_full(cache)) {
        close_gap(cache, victim_of(head, cache->length, scores));
    }
    return wdt_step(head, cache, q, k, v, out);
}
