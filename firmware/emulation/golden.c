/* One head over given q, k, v. numbers: T, Hq, Hkv, D, window, block, dense, causal, log_stride, landmarks, then how
 * many global tokens, and those. parts: q [T, Hq, D], k and v [T, Hkv, D]. Prints rows [Hq, D]: "forward" and, of a
 * causal head, "step" and "half" (the steps with a float16 cache). */
#include "input.h"
#include "memory.h"
#include "print.h"
#include "tasks.h"
#include "wdt_attention.h"

static wdt_head read_head(void)
{
    const int32_t *const n = input.number;
    wdt_head head = {.q_heads = n[1], .kv_heads = n[2], .head_dim = n[3], .window = n[4], .block_size = n[5],
                     .dense = (uint8_t)n[6], .causal = (uint8_t)n[7], .log_stride = (uint8_t)n[8],
                     .landmarks = (uint8_t)n[9], .n_global_tokens = n[10]};
    for (int g = 0; g < head.n_global_tokens; g++) {
        head.global_tokens[g] = n[11 + g];
    }
    if (wdt_head_rule(&head)) {
        fail(wdt_head_rule(&head), 0);
    }
    return head;
}

static void print_row(const char *word, const float *row, const wdt_head *head)
{
    print_begin(word);
    print_floats(row, (size_t)(head->q_heads * head->head_dim));
    print_end();
}

static void print_steps(const char *word, const wdt_head *head, int32_t T, const float *q, const float *k,
                        const float *v, uint8_t half)
{
    const int32_t dq = head->q_heads * head->head_dim, dkv = head->kv_heads * head->head_dim;
    const wdt_cache_config config = {.capacity = T, .form = half ? WDT_CACHE_HALF : 0};
    wdt_cache cache;
    float *const row = heap_take((size_t)dq * sizeof *row);
    if (wdt_cache_init(&cache, head, &config, heap_take(wdt_cache_bytes(head, &config))) != WDT_OK) {
        fail("wdt_cache_init", 0);
    }
    for (int32_t t = 0; t < T; t++) {
        const wdt_status status = wdt_step(head, &cache, q + t * dq, k + t * dkv, v + t * dkv, row);
        if (status != WDT_OK) {
            fail("wdt_step", (int)status);
        }
        print_row(word, row, head);
    }
}

void golden(void)
{
    const wdt_head head = read_head();
    const int32_t T = input.number[0], dq = head.q_heads * head.head_dim;
    const float *const q = input_at(0), *const k = input_at(1), *const v = input_at(2);
    float *const out = heap_take((size_t)(T * dq) * sizeof *out);
    wdt_forward(&head, T, q, k, v, out, heap_take(wdt_forward_scratch_bytes(&head, T)));
    for (int32_t t = 0; t < T; t++) {
        print_row("forward", out + t * dq, &head);
    }
    if (head.causal) {
        print_steps("step", &head, T, q, k, v, 0);
        print_steps("half", &head, T, q, k, v, 1);
    }
}
