/* Heads and inputs drawn at random, the same in every run. */
#ifndef WDT_RANDOM_H
#define WDT_RANDOM_H

#include <stdlib.h>

#include "check.h"
#include "draw.h"
#include "wdt_attention.h"

static inline float *random_floats(size_t n)
{
    float *x = malloc(n ? n * sizeof *x : 1);
    CHECK(x != NULL);
    for (size_t j = 0; j < n; j++) {
        x[j] = (float)draw(2001) / 1000.0f - 1.0f;
    }
    return x;
}

static inline wdt_head random_head(void)
{
    wdt_head head = wdt_head_default();
    head.kv_heads = 1 + (int32_t)draw(3);
    head.q_heads = head.kv_heads * (1 + (int32_t)draw(3));
    head.head_dim = 1 + (int32_t)draw(20);
    head.window = (int32_t)draw(12);
    head.block_size = 1 + (int32_t)draw(9);
    head.n_global_tokens = (int32_t)draw(4);
    for (int32_t g = 0; g < head.n_global_tokens; g++) {
        head.global_tokens[g] = 7 * g + (int32_t)draw(7);
    }
    if (draw(4) == 0) { /* around the widths of vectors and registers */
        head.q_heads = head.kv_heads * (1 + (int32_t)draw(9));
        head.head_dim = 1 + (int32_t)draw(70);
        head.window = (int32_t)draw(100);
        head.block_size = 1 + (int32_t)draw(40);
    }
    head.dense = draw(5) == 0;
    head.causal = draw(3) != 0;
    head.log_stride = draw(4) != 0;
    head.landmarks = draw(4) != 0;
    CHECK(wdt_head_rule(&head) == NULL);
    return head;
}

#endif
