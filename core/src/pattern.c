/* The sparse pattern: which tokens and landmarks a query attends to, and how many pairs that makes.
 *
 * Everything here is arithmetic on positions; no array is touched. Both the window pass and the step read their
 * candidates from here, so the two cannot disagree. Definition: docs/semantics.md. */
#include "pattern.h"

wdt_head wdt_head_default(void)
{
    wdt_head head = {
        .q_heads = WDT_DEFAULT_Q_HEADS,
        .kv_heads = WDT_DEFAULT_KV_HEADS,
        .head_dim = WDT_DEFAULT_HEAD_DIM,
        .window = WDT_DEFAULT_WINDOW,
        .block_size = WDT_DEFAULT_BLOCK_SIZE,
        .n_global_tokens = 1,
        .global_tokens = {WDT_DEFAULT_GLOBAL_TOKEN},
        .causal = 1,
        .log_stride = 1,
        .landmarks = 1,
    };
    return head;
}

const char *wdt_head_rule(const wdt_head *head)
{
    if (head->q_heads < 1 || head->kv_heads < 1 || head->head_dim < 1) {
        return "q_heads, kv_heads and head_dim must be at least 1";
    }
    if (head->q_heads > WDT_MAX_EXTENT || head->head_dim > WDT_MAX_EXTENT || head->window > WDT_MAX_EXTENT ||
        head->block_size > WDT_MAX_EXTENT) {
        return "q_heads, head_dim, window and block_size must be at most 2^30";
    }
    if (head->q_heads % head->kv_heads != 0) {
        return "q_heads must be a multiple of kv_heads";
    }
    if (head->window < 0) {
        return "window must be at least 0";
    }
    if (head->block_size < 1) {
        return "block_size must be at least 1";
    }
    if (head->n_global_tokens < 0 || head->n_global_tokens > WDT_MAX_GLOBAL_TOKENS) {
        return "global_tokens must hold at most 64 positions";
    }
    for (int32_t g = 0; g < head->n_global_tokens; g++) {
        if (head->global_tokens[g] < 0 || head->global_tokens[g] > WDT_MAX_EXTENT) {
            return "global_tokens must be positions from 0 to 2^30";
        }
        if (g > 0 && head->global_tokens[g] <= head->global_tokens[g - 1]) {
            return "global_tokens must be strictly ascending";
        }
    }
    return NULL;
}

static void add_single(wdt_candidates *candidates, ptrdiff_t position)
{
    candidates->singles[candidates->n_singles++] = position;
}

/* Adds center - 2^s >= 0 and, with `ahead`, center + 2^s < n, for all 2^s > beyond. */
static void add_strides(wdt_candidates *candidates, ptrdiff_t center, ptrdiff_t n, ptrdiff_t beyond, int ahead)
{
    for (int s = 0; s < WDT_INDEX_BITS; s++) {
        const ptrdiff_t stride = (ptrdiff_t)1 << s;
        if (stride <= beyond) {
            continue;
        }
        const int back_open = stride <= center, ahead_open = ahead && stride < n - center;
        if (!back_open && !ahead_open) {
            break;
        }
        if (back_open) {
            add_single(candidates, center - stride);
        }
        if (ahead_open) {
            add_single(candidates, center + stride);
        }
    }
}

/* Adds the global tokens that a query at i sees and that are candidates for no other reason. */
static void add_globals(const wdt_head *head, ptrdiff_t i, ptrdiff_t T, wdt_candidates *tokens)
{
    for (int32_t k = 0; k < head->n_global_tokens; k++) {
        if (wdt_global_is_single(head, head->global_tokens[k], i, T)) {
            add_single(tokens, head->global_tokens[k]);
        }
    }
}

void wdt_token_candidates(const wdt_head *head, ptrdiff_t i, ptrdiff_t T, wdt_candidates *tokens)
{
    const int ahead = !head->causal;
    const ptrdiff_t window = head->window;
    tokens->n_singles = 0;
    if (head->dense) {
        tokens->begin = 0;
        tokens->end = ahead ? T : i + 1;
        return;
    }
    tokens->begin = i > window ? i - window : 0;
    tokens->end = !ahead ? i + 1 : (T - 1 - i < window ? T : i + window + 1);
    if (head->log_stride) {
        add_strides(tokens, i, T, window, ahead);
    }
    add_globals(head, i, T, tokens);
}

ptrdiff_t wdt_block_count(const wdt_head *head, ptrdiff_t n)
{
    return head->dense || !head->landmarks || n == 0 ? 0 : (n - 1) / head->block_size + 1;
}

void wdt_landmark_candidates(const wdt_head *head, ptrdiff_t i, ptrdiff_t T, wdt_candidates *landmarks)
{
    const ptrdiff_t B = head->block_size;
    landmarks->begin = landmarks->end = 0;
    landmarks->n_singles = 0;
    if (head->dense || !head->landmarks) {
        return;
    }
    if (head->causal) {
        /* Only complete blocks: a partial mean would change while the sequence grows. */
        const ptrdiff_t pivot = (i + 1) / B - 1;
        if (pivot < 0) {
            return;
        }
        landmarks->begin = pivot > 0 ? pivot - 1 : 0;
        landmarks->end = pivot + 1;
        if (head->log_stride) {
            add_strides(landmarks, pivot, pivot + 1, 1, 0);
        }
        return;
    }
    /* The neighbours of the query's own block, which itself is left out. */
    const ptrdiff_t blocks = wdt_block_count(head, T), pivot = i / B;
    landmarks->begin = pivot > 0 ? pivot - 1 : 0;
    landmarks->end = pivot;
    if (pivot + 1 < blocks) {
        add_single(landmarks, pivot + 1);
    }
    if (head->log_stride) {
        add_strides(landmarks, pivot, blocks, 1, 1);
    }
}

int64_t wdt_edge_count(const wdt_head *head, ptrdiff_t T)
{
    wdt_candidates tokens, landmarks;
    int64_t pairs = 0;
    for (ptrdiff_t i = 0; i < T; i++) {
        wdt_token_candidates(head, i, T, &tokens);
        wdt_landmark_candidates(head, i, T, &landmarks);
        pairs += tokens.end - tokens.begin + tokens.n_singles;
        pairs += landmarks.end - landmarks.begin + landmarks.n_singles;
    }
    return pairs;
}
