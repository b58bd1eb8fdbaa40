/* Caches that fill: what is taken back, refused, copied or kept once (WDT_CACHE_SHARED) is as if it had not been, at any
 * moment; and what is held stays within its bounds. What is attended to is compared in tests/test_eviction.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "random.h"
#include "wdt_attention.h"
#include "wdt_kernels.h"

static const wdt_policy *const policies[] = {&wdt_sliding, &wdt_heavy_hitter, &wdt_h2o_compact};

typedef struct subject {
    wdt_head head;
    wdt_cache_config config;
    size_t query, key; /* numbers */
    float *q, *k, *v, *scores;
} subject;

static subject random_subject(const wdt_policy *policy)
{
    subject s = {.head = random_head()};
    s.head.causal = 1;
    s.config = (wdt_cache_config){.capacity = 1 + (ptrdiff_t)draw(25), .policy = policy};
    s.config.landmark_blocks = 1 + (ptrdiff_t)draw(5);
    s.config.form = (draw(2) ? WDT_CACHE_HALF : 0u) | (draw(3) ? 0u : WDT_CACHE_SHARED);
    s.query = (size_t)(s.head.q_heads * s.head.head_dim);
    s.key = (size_t)(s.head.kv_heads * s.head.head_dim);
    s.scores = random_floats((size_t)s.config.capacity);
    return s;
}

static void next_token(subject *s)
{
    s->q = random_floats(s->query), s->k = random_floats(s->key), s->v = random_floats(s->key);
}

static void drop_token(subject *s)
{
    free(s->q), free(s->k), free(s->v);
}

static void *make(const subject *s, wdt_cache *cache)
{
    void *memory = malloc(wdt_cache_bytes(&s->head, &s->config));
    CHECK(memory != NULL && wdt_cache_init(cache, &s->head, &s->config, memory) == WDT_OK);
    return memory;
}

static wdt_status step(const subject *s, wdt_cache *cache, float *out)
{
    return cache->policy == &wdt_h2o_compact
               ? wdt_step_with_scores(&s->head, cache, s->q, s->k, s->v, s->scores, out)
               : wdt_step(&s->head, cache, s->q, s->k, s->v, out);
}

static void *copy_of(const wdt_cache *cache, wdt_cache *copy)
{
    void *memory = malloc(wdt_cache_copy_bytes(cache, cache->capacity));
    CHECK(memory != NULL);
    wdt_cache_copy(copy, cache, cache->capacity, memory);
    return memory;
}

static int is_later(const void *a, const void *b)
{
    const int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

/* 1 if both hold the same positions with the same keys and values. */
static int hold_the_same(const wdt_cache *cache, const wdt_cache *other)
{
    const ptrdiff_t held = wdt_cache_held(cache);
    const size_t key = (size_t)(cache->kv_heads * cache->head_dim);
    if (held != wdt_cache_held(other) || cache->length != other->length) {
        return 0;
    }
    int64_t *positions = malloc(((size_t)held + 1) * sizeof *positions);
    int64_t *others = malloc(((size_t)held + 1) * sizeof *others);
    float *rows = random_floats(4 * key);
    wdt_cache_positions(cache, positions), wdt_cache_positions(other, others);
    if (cache->policy == &wdt_heavy_hitter) {
        qsort(positions, (size_t)held, sizeof *positions, is_later);
        qsort(others, (size_t)held, sizeof *others, is_later);
    }
    int same = memcmp(positions, others, (size_t)held * sizeof *positions) == 0;
    for (ptrdiff_t n = 0; same && n < held; n++) {
        CHECK(positions[n] >= 0 && positions[n] < cache->length && (n == 0 || positions[n] > positions[n - 1]));
        wdt_cache_read(cache, (ptrdiff_t)positions[n], rows, rows + key);
        wdt_cache_read(other, (ptrdiff_t)positions[n], rows + 2 * key, rows + 3 * key);
        same = memcmp(rows, rows + 2 * key, 2 * key * sizeof *rows) == 0;
    }
    free(positions), free(others), free(rows);
    return same;
}

/* Steps `plain` and `disturbed`, the second with appends that are taken back before each of its steps, with refusals, and
 * as a copy of itself from time to time: they never differ by a bit. */
static void what_is_taken_back_leaves_no_trace(const wdt_policy *policy)
{
    subject s = random_subject(policy);
    wdt_cache plain, disturbed;
    void *memory = make(&s, &plain), *other = make(&s, &disturbed);
    float *out = malloc(s.query * sizeof *out), *again = malloc(s.query * sizeof *again);
    for (int t = 0; t < 120; t++) {
        if (draw(3) == 0 && !wdt_cache_is_full(&disturbed)) {
            next_token(&s);
            CHECK(draw(2) ? wdt_step(&s.head, &disturbed, s.q, s.k, s.v, again) == WDT_OK
                          : wdt_cache_append(&disturbed, s.k, s.v) == WDT_OK);
            wdt_cache_undo(&disturbed);
            drop_token(&s);
            CHECK(hold_the_same(&plain, &disturbed));
        }
        next_token(&s);
        if (s.config.form & WDT_CACHE_HALF) {
            const float own = s.k[0];
            s.k[0] = 65520.0f;
            const int refused = (int)step(&s, &disturbed, again);
            CHECK(refused == WDT_E_HALF_RANGE || (refused == WDT_E_FULL && wdt_cache_is_full(&disturbed)));
            s.k[0] = own;
        }
        if (draw(9) == 0) {
            wdt_cache copy;
            void *third = copy_of(&disturbed, &copy);
            free(other);
            other = third, disturbed = copy;
        }
        wdt_cache_prefetch(&disturbed, &s.head);
        const wdt_status status = step(&s, &plain, out);
        CHECK(step(&s, &disturbed, again) == status);
        CHECK(status == WDT_OK ? memcmp(out, again, s.query * sizeof *out) == 0
                               : status == WDT_E_FULL && policy == &wdt_heavy_hitter);
        CHECK(hold_the_same(&plain, &disturbed) && wdt_cache_held(&plain) <= s.config.capacity + s.head.n_global_tokens);
        drop_token(&s);
    }
    wdt_cache_clear(&plain);
    CHECK(plain.length == 0 && wdt_cache_held(&plain) == 0);
    free(memory), free(other), free(out), free(again), free(s.scores);
}

static void a_shared_cache_is_one_of_keys_twice(const wdt_policy *policy)
{
    subject s = random_subject(policy), twice = s;
    wdt_cache shared, plain;
    s.config.form |= WDT_CACHE_SHARED, twice.config.form &= WDT_CACHE_HALF;
    void *memory = make(&s, &shared), *other = make(&twice, &plain);
    float *out = malloc(s.query * sizeof *out), *expected = malloc(s.query * sizeof *expected);
    for (int t = 0; t < 80; t++) {
        next_token(&s);
        free(s.v);
        s.v = NULL; /* it is not read */
        twice.q = s.q, twice.k = twice.v = s.k;
        const wdt_status status = step(&s, &shared, out);
        CHECK(step(&twice, &plain, expected) == status);
        CHECK(status != WDT_OK || memcmp(out, expected, s.query * sizeof *out) == 0);
        CHECK(hold_the_same(&shared, &plain));
        drop_token(&s);
    }
    free(memory), free(other), free(out), free(expected), free(s.scores);
}

static void before_anything_leaves_sliding_has_the_bits_of_refusing(void)
{
    subject slides = random_subject(&wdt_sliding), refuses = slides;
    wdt_cache cache, expected;
    slides.config.landmark_blocks = 0;
    refuses.config.policy = NULL;
    void *memory = make(&slides, &cache), *other = make(&refuses, &expected);
    float *out = malloc(slides.query * sizeof *out), *again = malloc(slides.query * sizeof *again);
    for (ptrdiff_t t = 0; t < slides.config.capacity; t++) {
        next_token(&slides);
        CHECK(wdt_step(&slides.head, &cache, slides.q, slides.k, slides.v, out) == WDT_OK);
        CHECK(wdt_step(&slides.head, &expected, slides.q, slides.k, slides.v, again) == WDT_OK);
        CHECK(memcmp(out, again, slides.query * sizeof *out) == 0 && hold_the_same(&cache, &expected));
        drop_token(&slides);
    }
    free(memory), free(other), free(out), free(again), free(slides.scores);
}

static void sizes_that_no_cache_has_are_refused(void)
{
    const wdt_head head = wdt_head_default();
    wdt_cache cache;
    for (int p = 0; p < 2; p++) {
        const wdt_cache_config refused[] = {
            {.capacity = 0},
            {.capacity = -1},
            {.capacity = PTRDIFF_MAX},
            {.capacity = INT32_MAX},
            {.capacity = 1, .landmark_blocks = -1},
            {.capacity = 1, .landmark_blocks = PTRDIFF_MAX},
        };
        for (size_t c = 0; c < sizeof refused / sizeof *refused; c++) {
            wdt_cache_config config = refused[c];
            config.policy = policies[p];
            CHECK(wdt_cache_bytes(&head, &config) == SIZE_MAX);
            CHECK(wdt_cache_init(&cache, &head, &config, NULL) == WDT_E_CONFIG);
        }
    }
}

/* Its rows and slots have 32 bits: beyond that there is no cache, and no search for a size either. */
static void a_heavy_hitter_has_at_most_half_of_what_others_have(void)
{
    const wdt_head head = wdt_head_default();
    const ptrdiff_t refused[] = {WDT_MAX_EXTENT / 2 + 1, WDT_MAX_EXTENT - 1, WDT_MAX_EXTENT};
    for (int c = 0; c < 3; c++) {
        const wdt_cache_config config = {.capacity = refused[c], .policy = &wdt_heavy_hitter};
        CHECK(wdt_cache_bytes(&head, &config) == SIZE_MAX);
    }
}

static void scores_are_for_compacting_alone(void)
{
    const wdt_policy *const others[] = {&wdt_refuse, &wdt_sliding, &wdt_heavy_hitter};
    for (int p = 0; p < 3; p++) {
        subject s = random_subject(others[p]);
        wdt_cache cache;
        void *memory = make(&s, &cache);
        next_token(&s);
        float *out = random_floats(s.query);
        CHECK(wdt_step_with_scores(&s.head, &cache, s.q, s.k, s.v, s.scores, out) == WDT_E_CONFIG && cache.length == 0);
        drop_token(&s);
        free(memory), free(out), free(s.scores);
    }
}

int main(void)
{
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    for (int set = wdt_instruction_sets(names) - 1; set >= 0; set--) {
        CHECK(wdt_use_instruction_set(names[set]) == WDT_OK);
        for (int round = 0; round < 25; round++) {
            for (int p = 0; p < 3; p++) {
                what_is_taken_back_leaves_no_trace(policies[p]);
                a_shared_cache_is_one_of_keys_twice(policies[p]);
            }
            before_anything_leaves_sliding_has_the_bits_of_refusing();
        }
        sizes_that_no_cache_has_are_refused();
        a_heavy_hitter_has_at_most_half_of_what_others_have();
        scores_are_for_compacting_alone();
    }
    return 0;
}
